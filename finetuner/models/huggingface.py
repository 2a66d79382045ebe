"""Text models of transformers and sentence-transformers, for PyTorch: a folder, a name, or an object."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import checks
from ..tuner.base.registry import create, describe
from ..tuner.base.training.encoder import Encoder
from ..tuner.base.training.framework import Framework
from ..tuner.base.training.model_source import ModelSource
from .heads import new_head, saved_head
from .hub import import_library, load_transformer, one_line_errors, quiet, read_config
from .static import read_modules
from .text import Tokenize, prompts_by_side

__all__ = ["is_sentence_transformer", "open_folder", "open_object", "open_saved"]

FILES = "model"  # the folder of a saved run that has configuration and tokenizer
SHORT_NAMES = {"last": "lasttoken"}
DTYPE = "float32"


def is_sentence_transformer(folder: Path) -> bool:
    """Whether a folder was written by sentence-transformers."""
    return (folder / "modules.json").is_file()


def open_folder(folder: Path, framework: Framework, name: str, options: Mapping[str, Any]) -> Encoder:
    """The encoder of a text model in a folder.

    Args:
        folder: A folder of transformers or sentence-transformers.
        framework: That of PyTorch.
        name: What the user called it, for messages.
        options: ``pooler``, ``pooler_options``, ``max_length``, ``prompts``, ``padding_token``, ``head``,
            ``head_type``, ``trust_code``.
    """
    settings = settings_of_modules(folder) if is_sentence_transformer(folder) else plain_settings(folder)
    trust = bool(options.get("trust_code"))
    model, _ = load_transformer(folder, name, trust)
    transformers = import_library("transformers", "text")
    with one_line_errors(name), quiet(transformers):
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=trust, local_files_only=True)
    dense = [read_dense(folder / layer["path"], layer) for layer in settings["dense"]]
    return build(encoder_of(model), tokenizer, framework, name, settings, dense, options)


def open_object(model: Any, framework: Framework, options: Mapping[str, Any]) -> Encoder:
    """The encoder of a ``SentenceTransformer`` or a text model of transformers, which is trained in place."""
    name = type(model).__name__
    if not any(cls.__module__.startswith("sentence_transformers") for cls in type(model).__mro__):
        tokenizer = options.get("tokenizer")
        if tokenizer is None:
            where = getattr(model.config, "_name_or_path", "")
            transformers = import_library("transformers", "text")
            try:
                with one_line_errors(f"the tokenizer of {where or name}"):
                    tokenizer = transformers.AutoTokenizer.from_pretrained(where, local_files_only=True)
            except ValueError as error:
                raise ValueError(
                    f"{name} must come with its tokenizer: load_model(model, tokenizer=...); {error}"
                ) from None
        if getattr(model, "base_model", model) is not model:
            raise ValueError(
                f"a model of transformers must be one without a head, such as model.base_model, got {name}"
            )
        return build(encoder_of(model), tokenizer, framework, name, default_settings(), [], options)
    from ..tuner.pytorch.text import Dense

    first, *others = list(model)
    settings, dense = default_settings(pooling=[]), []
    transformer = getattr(first, "model", getattr(first, "auto_model", None))
    if type(first).__name__ != "Transformer" or transformer is None:
        raise ValueError(f"a SentenceTransformer must begin with a Transformer, got {type(first).__name__}")
    for module in others:
        take_module(settings, type(module).__name__, module.get_config_dict())
        if type(module).__name__ == "Dense":
            dense.append(Dense(module.linear, module.activation_function))
    settings |= {"max_length": model.max_seq_length, "prompts": dict(model.prompts)}
    settings["default_prompt"] = model.default_prompt_name
    settings["lowercase"] = bool(getattr(first, "do_lower_case", False))
    return build(transformer, model.tokenizer, framework, name, settings, dense, options)


def open_saved(folder: Path, recipe: Mapping[str, Any], framework: Framework, trust_code: bool) -> Encoder:
    """The encoder of a saved run, without its weights."""
    transformers, files = import_library("transformers", "text"), folder / FILES
    if "auto_map" in read_config(files / "config.json") and not trust_code:
        raise ValueError(f"{folder} names code of its own: pass trust_code=True to run it")
    with one_line_errors(str(files)), quiet(transformers):
        config = transformers.AutoConfig.from_pretrained(files, trust_remote_code=trust_code)
        model = transformers.AutoModel.from_config(config, trust_remote_code=trust_code, dtype=DTYPE)
        tokenizer = transformers.AutoTokenizer.from_pretrained(files, trust_remote_code=trust_code)
    settings = dict(recipe["settings"])
    dense = [dense_layer(layer) for layer in settings["dense"]]
    options = {key: recipe.get(key) for key in ("pooler", "pooler_options", "max_length", "prompts")}
    head = saved_head(framework, recipe.get("head"), folder)
    return build(encoder_of(model).eval(), tokenizer, framework, str(folder), settings, dense, options, head)


def encoder_of(model: Any) -> Any:
    """The encoder of a model that has an encoder and a decoder; any other model unchanged."""
    return model.get_encoder() if getattr(model.config, "is_encoder_decoder", False) else model


def build(
    model: Any,
    tokenizer: Any,
    framework: Framework,
    name: str,
    settings: dict[str, Any],
    dense: Sequence[Any],
    options: Mapping[str, Any],
    head: Any = None,
) -> Encoder:
    """The encoder of a transformer with pooling and a tokenizer. A ``head`` is one of a saved run."""
    from ..tuner.pytorch.poolers import Pooler
    from ..tuner.pytorch.text import POOLING_MODES, TextModel

    if getattr(model.config, "vision_config", None) is not None or hasattr(model.config, "image_size"):
        raise ValueError(f"{name} must be a text model, and is a model of images")
    check_tokenizer(tokenizer, model, name, options.get("padding_token"))
    pooler, pooler_options = options.get("pooler"), options.get("pooler_options")
    if pooler is None and pooler_options:
        raise ValueError(f"pooler_options must be used with a pooler, got {dict(pooler_options)} and no pooler")
    pooling: Any = settings["pooling"]
    if isinstance(pooler, str) and SHORT_NAMES.get(pooler, pooler) in POOLING_MODES:
        if pooler_options:
            raise ValueError(f"pooler_options must be used with a pooler of finetuner, got {pooler!r}")
        pooling = [SHORT_NAMES.get(pooler, pooler)]
    elif pooler is not None:
        known = {**dict.fromkeys([*POOLING_MODES, "last"]), **framework.registry("pooler")}
        pooling = create("pooler", pooler, known, pooler_options)
        if not isinstance(pooling, list | Pooler):
            raise TypeError(f"pooler must be a name or a pooler of finetuner, got {type(pooling).__name__}")
    for mode in pooling if isinstance(pooling, list) else ():
        checks.one_of("the pooling of the model", mode, POOLING_MODES)
    limits = [settings.get("max_length"), tokenizer.model_max_length]
    limits.append(getattr(model.config, "max_position_embeddings", None))
    longest = min(int(limit) for limit in limits if limit and limit < 10**9) if any(limits) else 512
    asked = options.get("max_length")
    max_length = longest if asked is None else checks.integer("max_length", asked, 3)
    position_limit = limits[-1]
    if position_limit and max_length > position_limit:
        raise ValueError(f"max_length must be at most {position_limit}, the positions of {name}, got {max_length}")
    prompts = prompts_by_side(options.get("prompts"), settings["prompts"], settings["default_prompt"])
    sides = [Tokenize(tokenizer, max_length, p, settings["lowercase"], settings["include_prompt"]) for p in prompts]
    text_model = TextModel(model, pooling, dense, settings["normalize"])

    def count_features() -> int:
        return framework.embed_eagerly(text_model, sides[0]([""]), 1).shape[1]

    text_model.head = new_head(framework, options, count_features) if head is None else head

    def write_files(folder: Path) -> None:
        model.config.save_pretrained(folder / FILES)
        tokenizer.save_pretrained(folder / FILES)

    described = describe(pooling) if not isinstance(pooling, list) else None
    recipe = {
        "settings": {**settings, "pooling": None if described else pooling},
        "pooler": described and described["name"],
        "pooler_options": described and described["options"],
        "max_length": max_length,
        "prompts": list(prompts),
        "head": describe(text_model.head),
    }
    source = ModelSource("huggingface", "transformer", json.loads(json.dumps(recipe)), write_files, sides[0].check)
    collate: Any = sides[0] if prompts[0] == prompts[1] else tuple(sides)
    return Encoder(text_model, framework, collate_fn=collate, source=source)


def check_tokenizer(tokenizer: Any, model: Any, name: str, padding: Any) -> None:
    """Raise ``ValueError`` for a tokenizer that does not fit a model. A ``padding`` token is put into it.

    Without its files, transformers makes a tokenizer that knows no word.
    """
    vocabulary = tokenizer.get_vocab()
    if vocabulary.keys() <= set(tokenizer.all_special_tokens):
        raise ValueError(f"{name} must have the vocabulary of its tokenizer, such as tokenizer.json, and has none")
    rows, tokens = getattr(model.config, "vocab_size", None), max(vocabulary.values()) + 1
    if rows is not None and tokens > rows:
        raise ValueError(f"the tokenizer of {name} must have at most {rows:,} tokens, the rows of its embeddings, "
                         f"got {tokens:,}")  # fmt: skip
    if padding is not None:
        if padding not in vocabulary:
            raise ValueError(f"padding_token must be a token of {name}, got {padding!r:.80}")
        tokenizer.pad_token = padding
    if tokenizer.pad_token is None:
        known = repr(tokenizer.eos_token) if tokenizer.eos_token else "one of its tokens"
        raise ValueError(f"the tokenizer of {name} has no padding token: pass padding_token={known} to load_model")


# Settings of a folder ----------------------------------------------------------------------------------------


def default_settings(**settings: Any) -> dict[str, Any]:
    """Mean pooling without anything after it."""
    return {
        "pooling": ["mean"], "include_prompt": True, "dense": [], "normalize": False, "max_length": None,
        "lowercase": False, "prompts": {}, "default_prompt": None, **settings,
    }  # fmt: skip


def plain_settings(folder: Path) -> dict[str, Any]:
    """The settings of a folder of transformers."""
    config = read_config(folder / "config.json")
    if "model_type" not in config:
        raise ValueError(f"{folder} must be the folder of a model, and its config.json names no model_type")
    return default_settings()


def settings_of_modules(folder: Path) -> dict[str, Any]:
    """The settings of a folder of sentence-transformers."""
    (first, _), *others = read_modules(folder)
    settings = default_settings(pooling=[])
    if first != "Transformer":
        raise ValueError(f"{folder} must begin with a Transformer, got {first}")
    for kind, place in others:
        path = folder / place / "config.json"
        take_module(settings, kind, {**(read_config(path) if path.is_file() else {}), "path": place})
    transformer = folder / "sentence_bert_config.json"
    if transformer.is_file():
        found = read_config(transformer)
        settings["max_length"], settings["lowercase"] = found.get("max_seq_length"), bool(found.get("do_lower_case"))
    whole = folder / "config_sentence_transformers.json"
    if whole.is_file():
        found = read_config(whole)
        settings["prompts"] = found.get("prompts") or {}
        settings["default_prompt"] = found.get("default_prompt_name")
    return settings


def take_module(settings: dict[str, Any], kind: str, config: Mapping[str, Any]) -> None:
    """Add a module of sentence-transformers to the settings; raise ``ValueError`` for one that is not known."""
    for side in ("module_input_name", "module_output_name"):
        if config.get(side) not in (None, "sentence_embedding"):
            raise ValueError(f"the module {kind} of sentence-transformers must have the {side} sentence_embedding, got "
                             f"{config[side]!r}: on tokens it is not supported")  # fmt: skip
    if kind == "Pooling":
        settings["pooling"] = pooling_modes(config)
        settings["include_prompt"] = bool(config.get("include_prompt", True))
    elif kind == "Dense" and config.get("use_residual") is not True and not settings["normalize"]:
        settings["dense"].append({key: config[key] for key in ("in_features", "out_features", "bias")})
        activation = str(config.get("activation_function") or "torch.nn.modules.activation.Tanh")
        settings["dense"][-1] |= {"activation": activation.rpartition(".")[2], "path": config.get("path", "")}
    elif kind == "Normalize":
        settings["normalize"] = True
    elif kind != "Dropout":
        raise ValueError(f"the module {kind} of sentence-transformers is not supported here: use the model in your own")


def pooling_modes(config: Mapping[str, Any]) -> list[str]:
    """The names of pooling modes, of the new and of the old form of a configuration."""
    if "pooling_mode" in config:
        modes = config["pooling_mode"]
        return [modes] if isinstance(modes, str) else list(modes)
    old = {"cls_token": "cls", "max_tokens": "max", "mean_tokens": "mean"}
    names = {**old, **{name: name for name in ("mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")}}
    modes = [mode.removesuffix("_tokens") if mode.startswith("weighted") else mode for name, mode in names.items()
             if config.get(f"pooling_mode_{name}")]  # fmt: skip
    return modes or ["mean"]


def dense_layer(layer: Mapping[str, Any]) -> Any:
    """A dense layer of sentence-transformers, with random weights."""
    from torch import nn

    from ..tuner.pytorch.text import Dense

    activation = getattr(nn, layer["activation"], None)
    if activation is None or not issubclass(activation, nn.Module):
        raise ValueError(f"the activation of a dense layer must be one of torch.nn, got {layer['activation']!r}")
    return Dense(nn.Linear(layer["in_features"], layer["out_features"], layer["bias"]), activation())


def read_dense(folder: Path, layer: Mapping[str, Any]) -> Any:
    """A dense layer of sentence-transformers with the weights in its folder."""
    from safetensors.torch import load_file

    dense = dense_layer(layer)
    if not (folder / "model.safetensors").is_file():
        raise ValueError(f"{folder} must have its weights as model.safetensors")
    dense.load_state_dict(load_file(folder / "model.safetensors"))
    return dense
