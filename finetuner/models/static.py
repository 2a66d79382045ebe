"""Static embeddings: folders of model2vec, sentence-transformers and wordllama, in each framework."""

import copy
import importlib.util
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import checks
from ..tuner import load_subpackage
from ..tuner.base.training.encoder import Encoder
from ..tuner.base.training.framework import Framework
from ..tuner.base.training.model_source import ModelSource
from .hub import import_library, one_line_errors, read_config
from .text import TokenizeStatic, prompts_by_side

__all__ = [
    "is_static",
    "is_static_object",
    "open_folder",
    "open_object",
    "open_saved",
    "package_folder",
    "read_modules",
]

TOKENIZER, WEIGHTS = "tokenizer.json", "model.safetensors"
WORDLLAMA = ("weights/l2_supercat_256.safetensors", "tokenizers/l2_supercat_tokenizer_config.json")
ORIGINS = ("model2vec", "sentence-transformers", "wordllama")
MAX_LENGTH = 512  # of model2vec, for a model that names none
PACKAGES = {"pytorch": "torch", "keras": "keras", "paddle": "paddle"}
RECIPE = {"shape", "normalize", "origin", "max_length", "prompts"}
OF_TRANSFORMERS = ("pooler", "pooler_options", "tokenizer", "padding_token")  # options without a meaning here


def package_folder(name: str) -> Path | None:
    """The folder of the installed package ``wordllama``, which is not imported; None for any other name.

    Raises:
        ImportError: If it is not installed.
    """
    if name != "wordllama" or Path(name).is_dir():
        return None
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("this model needs wordllama: pip install wordllama")
    return Path(next(iter(spec.submodule_search_locations)))


def is_static(folder: Path) -> bool:
    """Whether a folder has static embeddings."""
    if (folder / WORDLLAMA[0]).is_file():
        return True
    if (folder / "modules.json").is_file():
        return read_modules(folder)[0][0] == "StaticEmbedding"
    config = read_config(folder / "config.json") if (folder / "config.json").is_file() else {}
    if "model_type" in config or not (folder / WEIGHTS).is_file():
        return config.get("model_type") == "model2vec"
    safetensors = import_library("safetensors", "text")
    with one_line_errors(str(folder / WEIGHTS)), safetensors.safe_open(folder / WEIGHTS, framework="np") as file:
        return "embeddings" in file.keys()  # noqa: SIM118 (it is no mapping)


def is_static_object(model: Any) -> bool:
    """Whether a ``SentenceTransformer`` has static embeddings."""
    return type(next(iter(model.children()), None)).__name__ == "StaticEmbedding" if is_module(model) else False


def is_module(model: Any) -> bool:
    """Whether an object is a module of sentence-transformers."""
    return any(cls.__module__.startswith("sentence_transformers") for cls in type(model).__mro__)


def open_folder(
    folder: Path, framework: Framework | None, device: str, name: str, options: Mapping[str, Any]
) -> Encoder:
    """The encoder of static embeddings in a folder.

    Args:
        folder: A folder of model2vec, of sentence-transformers, or the package wordllama.
        framework: Where the model is opened; None for the first of PyTorch, Keras and Paddle that is installed.
        device: Where to compute, without a framework.
        name: What the user called it, for messages.
        options: ``max_length`` and ``prompts``.
    """
    refuse_options(name, options)
    kinds = read_modules(folder) if (folder / "modules.json").is_file() else [("StaticEmbedding", "")]
    is_wordllama = (folder / WORDLLAMA[0]).is_file()
    inner = folder / kinds[0][1].lstrip("/")
    weights, tokens = (folder / file for file in WORDLLAMA) if is_wordllama else (inner / WEIGHTS, inner / TOKENIZER)
    tensors, tokenizer = read_tensors(weights), read_tokenizer(tokens)
    normalize = any(kind == "Normalize" for kind, _ in kinds)
    if "embeddings" in tensors:
        config = read_config(folder / "config.json") if (folder / "config.json").is_file() else {}
        table = fold(name, tensors["embeddings"], tensors.get("mapping"), tensors.get("weights"))
        settings = {"origin": "model2vec", "max_length": config.get("max_length", MAX_LENGTH)}
        normalize = bool(config.get("normalize", normalize))
    elif "embedding.weight" in tensors:
        table, truncation = tensors["embedding.weight"], tokenizer.truncation or {}
        settings = {"origin": "wordllama" if is_wordllama else "sentence-transformers"}
        settings["max_length"] = None if is_wordllama else truncation.get("max_length")
    else:
        raise ValueError(
            f"{name} must have the table as 'embeddings' or 'embedding.weight', got {checks.preview(tensors)}"
        )
    whole = folder / "config_sentence_transformers.json"
    known = read_config(whole) if whole.is_file() else {}
    prompts = prompts_by_side(options.get("prompts"), known.get("prompts") or {}, known.get("default_prompt_name"))
    if options.get("max_length") is not None:
        settings["max_length"] = checks.integer("max_length", options["max_length"], 1)
    settings |= {"prompts": prompts, "normalize": normalize}
    return build(table, tokenizer, framework or installed_framework(name, device), name, settings)


def open_object(model: Any, framework: Framework, options: Mapping[str, Any]) -> Encoder:
    """The encoder of a ``SentenceTransformer`` with static embeddings, whose table is trained in place."""
    name = type(model).__name__
    refuse_options(name, options)
    first, *others = list(model)
    check_kinds(name, [type(module).__name__ for module in (first, *others)])
    tokenizer = copy.deepcopy(first.tokenizer)
    weight = first.embedding.weight
    settings = {
        "origin": "sentence-transformers",
        "max_length": options.get("max_length") or (tokenizer.truncation or {}).get("max_length"),
        "prompts": prompts_by_side(options.get("prompts"), dict(model.prompts), model.default_prompt_name),
        "normalize": any(type(module).__name__ == "Normalize" for module in others),
    }
    encoder = build(tuple(weight.shape), tokenizer, framework, name, settings)
    encoder.embed_model.table = weight
    return encoder


def open_saved(folder: Path, recipe: Mapping[str, Any], framework: Framework, trust_code: bool) -> Encoder:
    """The encoder of a saved run, without its weights."""
    if missing := RECIPE - recipe.keys():
        raise ValueError(f"the model of {folder} must say its {checks.preview(sorted(missing))}")
    if not isinstance(recipe["shape"], list) or not all(isinstance(size, int) for size in recipe["shape"]):
        raise ValueError(f"the table of {folder} must have two sizes, got {recipe['shape']!r:.80}")
    prompts = prompts_by_side(recipe["prompts"], {}, None)
    settings = {**{name: recipe[name] for name in RECIPE}, "prompts": prompts}
    return build(recipe["shape"], read_tokenizer(folder / TOKENIZER), framework, str(folder), settings)


def build(table: Any, tokenizer: Any, framework: Framework, name: str, settings: Mapping[str, Any]) -> Encoder:
    """The encoder of a table ``[V, D]``, or of its two sizes, with a tokenizer."""
    cls = importlib.import_module(f"finetuner.tuner.{framework.name}.static").StaticEmbedding
    model = cls(table, settings["normalize"])
    origin = checks.one_of("the origin of static embeddings", settings["origin"], ORIGINS)
    max_length, prompts = settings["max_length"], settings["prompts"]
    vocabulary = tokenizer.get_vocab()
    rows, tokens = model.arguments()["table"][0], max(vocabulary.values(), default=-1) + 1
    if tokens > rows:
        raise ValueError(f"the table of {name} must have a row for each of the {tokens:,} tokens, got {rows:,} rows")
    tokenizer.no_padding()
    if max_length is None:
        tokenizer.no_truncation()
    else:
        direction = (tokenizer.truncation or {}).get("direction", "right")
        checks.integer("max_length", max_length, 1)
        tokenizer.enable_truncation(max_length, direction=direction if origin != "model2vec" else "right")
    sides: list[TokenizeStatic] = []
    for prompt in prompts:
        one = TokenizeStatic(tokenizer, max_length, prompt)
        if origin == "model2vec":  # as this library does
            one.unknown = unknown_token(tokenizer)
            one.max_characters = max_length and max_length * int(np.median([len(token) for token in vocabulary]))
        if framework.name == "keras":
            one.dtype, one.few_lengths = "int32", True
        sides.append(one)
    recipe = {
        "shape": model.arguments()["table"],
        "normalize": model.normalize,
        "origin": origin,
        "max_length": max_length,
        "prompts": list(prompts),
    }
    source = ModelSource(
        "static", "static", recipe, lambda folder: tokenizer.save(str(folder / TOKENIZER)), sides[0].check
    )
    collate: Any = sides[0] if prompts[0] == prompts[1] else tuple(sides)
    return Encoder(model, framework, collate_fn=collate, source=source)


# Files ----------------------------------------------------------------------------------------------------------


def refuse_options(name: str, options: Mapping[str, Any]) -> None:
    """Raise ``ValueError`` for an option of another kind of model."""
    for option in OF_TRANSFORMERS:
        if options.get(option) is not None:
            raise ValueError(f"{option} must be used with a model of transformers; {name} has static embeddings")


def read_modules(folder: Path) -> list[tuple[str, str]]:
    """The kinds of the modules of a folder of sentence-transformers, and their folders.

    Raises:
        ValueError: If the file is damaged, or a module after static embeddings is not supported.
    """
    path = folder / "modules.json"
    try:
        modules = json.loads(path.read_text(encoding="utf-8"))
        found = [(str(one["type"]).rpartition(".")[2], str(one["path"])) for one in modules]
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path} must list modules with type and path: {error}") from None
    if not found:
        raise ValueError(f"{path} must list at least one module, got none")
    if found[0][0] == "StaticEmbedding":
        check_kinds(str(folder), [kind for kind, _ in found])
    return found


def check_kinds(name: str, kinds: Sequence[str]) -> None:
    """Raise ``ValueError`` for a module that is not supported after static embeddings."""
    for kind in kinds[1:]:
        checks.one_of(f"a module after the static embeddings of {name}", kind, ("Normalize", "Dropout"))


def read_tokenizer(path: Path) -> Any:
    """A ``tokenizers.Tokenizer`` from its file."""
    tokenizers = import_library("tokenizers", "text")
    if not path.is_file():
        raise FileNotFoundError(f"{path.parent} must have the file {path.name}, and has none")
    with one_line_errors(str(path)):
        return tokenizers.Tokenizer.from_file(str(path))


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a safetensors file. BFloat16, which numpy does not have, becomes float32."""
    safetensors = import_library("safetensors", "text")
    if not path.is_file():
        raise FileNotFoundError(f"{path.parent} must have its weights as {path.name}, and pickles are not read")
    numpy_types = importlib.import_module("safetensors.numpy")._TYPES
    found = {}
    with one_line_errors(str(path)):
        for name, entry in safetensors.deserialize(path.read_bytes()):
            if entry["dtype"] == "BF16":
                values = (np.frombuffer(entry["data"], "<u2").astype("<u4") << 16).view("<f4")
            else:
                values = np.frombuffer(entry["data"], numpy_types[entry["dtype"]])
            found[name] = values.reshape(entry["shape"])
    return found


def fold(name: str, table: np.ndarray, mapping: np.ndarray | None, weights: np.ndarray | None) -> np.ndarray:
    """The table with a row for each token: row ``i`` is ``table[mapping[i]] * weights[i]``."""
    table = table.astype(np.float32)
    if mapping is not None:
        if mapping.ndim != 1 or mapping.min(initial=0) < 0 or mapping.max(initial=0) >= len(table):
            raise ValueError(f"the mapping of {name} must have rows of its table, 0 to {len(table) - 1}")
        table = table[mapping]
    if weights is None:
        return table
    if weights.shape != table.shape[:1]:
        raise ValueError(f"the weights of {name} must be {len(table):,} numbers, got {list(weights.shape)}")
    return (table * weights[:, None]).astype(np.float32)


def unknown_token(tokenizer: Any) -> int | None:
    """The id of the token for unknown words; None if there is none."""
    if hasattr(tokenizer.model, "unk_token"):
        token = tokenizer.model.unk_token
        return None if token is None else tokenizer.token_to_id(token)
    found = json.loads(tokenizer.to_str())["model"].get("unk_id")  # of a Unigram model
    return None if found is None else int(found)


def installed_framework(name: str, device: str) -> Framework:
    """The first of the frameworks that is installed. No other is imported."""
    for subpackage, package in PACKAGES.items():
        if importlib.util.find_spec(package) is not None:
            return load_subpackage(subpackage).Framework(device)
    raise ImportError(f'{name} needs a framework: pip install "finetuner[pytorch]"')
