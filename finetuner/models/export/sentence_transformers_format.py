"""The folder of sentence-transformers: loads there, with the same embeddings."""

import importlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...files import write_json
from ...tuner.base.training.encoder import Encoder
from ..adapter import AdaptedEncoder
from ..hub import import_library
from .dense_layers import DenseLayer, dense_layers
from .inputs import base_of, collate_of, write_tokenizer
from .model_card import model_card

__all__ = ["write_sentence_transformers"]

WEIGHTS, TABLE = "model.safetensors", "embedding.weight"
MIN_NORM = 1e-12  # of Normalize
Run = Callable[[Any], np.ndarray]


class Modules:
    """The modules of a folder, which are written one after the other.

    Args:
        path: The folder, which is made.
    """

    def __init__(self, path: Path):
        self.path, self.kinds = path, list[tuple[str, str]]()
        path.mkdir()

    def add(self, kind: str, config: Mapping[str, Any], tensors: Mapping[str, np.ndarray] | None = None) -> None:
        """Write a module after the first one, which is in the folder itself."""
        name = f"{len(self.kinds)}_{kind}"
        self.kinds.append((kind, name))
        (self.path / name).mkdir()
        write_json(self.path / name / "config.json", dict(config))
        if tensors is not None:
            save(tensors, self.path / name / WEIGHTS)

    def add_dense(self, layer: DenseLayer) -> None:
        """Write a dense layer."""
        activation = {"Identity": "linear", "ReLU": "activation"}[layer.activation]
        config = {
            "in_features": layer.weight.shape[1],
            "out_features": layer.weight.shape[0],
            "bias": True,
            "activation_function": f"torch.nn.modules.{activation}.{layer.activation}",
        }
        self.add("Dense", config, {"linear.weight": layer.weight, "linear.bias": layer.bias})

    def finish(self) -> None:
        """Write the list of the modules."""
        listed = [
            {"idx": number, "name": str(number), "path": name, "type": f"sentence_transformers.models.{kind}"}
            for number, (kind, name) in enumerate(self.kinds)
        ]
        (self.path / "modules.json").write_text(json.dumps(listed, indent=2))


def write_sentence_transformers(encoder: Encoder, path: Path, sample: Any) -> Run:
    """Write the folder, and return a function that embeds with it.

    The folder of a model of PyTorch is opened by sentence-transformers. The others are not installed beside it: their
    files are read here, and computed with numpy.
    """
    base = base_of(encoder)
    source = base.source
    if source is None or source.library not in ("huggingface", "static"):
        raise ValueError(
            "the model must be one of transformers or sentence-transformers, or static embeddings, to be exported as "
            "one of sentence-transformers"
        )
    collate: Any = collate_of(base)
    if not hasattr(collate, "tokenizer"):
        raise ValueError("the collate_fn must be the model's own to be exported, got one of yours")
    uses_library = base.framework.name == "pytorch"
    library = import_library("sentence_transformers", "sentence-transformers") if uses_library else None
    modules = Modules(path)
    (write_transformer if source.library == "huggingface" else write_static)(base, collate, modules)
    for adapter in adapters_of(encoder):
        for layer in dense_layers(adapter, base.framework.as_array):
            modules.add_dense(layer)
    modules.finish()
    query, passage = source.recipe["prompts"]
    names = {"query": query, "document": passage} if query != passage else {"query": query, "document": query}
    similarity = encoder.distance if encoder.distance in ("cosine", "euclidean") else "euclidean"
    whole = {"prompts": names, "default_prompt_name": "query" if query and query == passage else None}
    write_json(path / "config_sentence_transformers.json", {**whole, "similarity_fn_name": similarity})
    (path / "README.md").write_text(model_card(encoder, path.name))
    if library is None:
        return static_runner(path, query)
    loaded = library.SentenceTransformer(str(path), device="cpu", local_files_only=True)
    return lambda items: loaded.encode(list(items), prompt=query or None, show_progress_bar=False)


def adapters_of(encoder: Any) -> list[Any]:
    """The adapters after the model, in their order."""
    return [*adapters_of(encoder.base), encoder.adapter] if isinstance(encoder, AdaptedEncoder) else []


def write_transformer(encoder: Encoder, collate: Any, modules: Modules) -> None:
    """Write a transformer, its pooling, dense layers and head."""
    assert encoder.source is not None
    recipe, model, path = encoder.source.recipe, encoder.embed_model, modules.path
    settings = recipe["settings"]
    if settings["pooling"] is None:
        raise ValueError(f"sentence-transformers has no {recipe['pooler']} to pool tokens with")
    model.transformer.save_pretrained(path)
    collate.tokenizer.save_pretrained(path)
    limits = {"max_seq_length": recipe["max_length"], "do_lower_case": settings["lowercase"]}
    write_json(path / "sentence_bert_config.json", limits)
    modules.kinds.append(("Transformer", ""))
    modes = settings["pooling"]
    pooling = {"embedding_dimension": int(model.transformer.config.hidden_size)}
    pooling |= {"pooling_mode": modes[0] if len(modes) == 1 else modes, "include_prompt": settings["include_prompt"]}
    modules.add("Pooling", pooling)
    as_array = encoder.framework.as_array
    for layer, config in zip(model.dense, settings["dense"], strict=True):
        activation = type(layer.activation)
        known = {name: config[name] for name in ("in_features", "out_features", "bias")}
        known["activation_function"] = f"{activation.__module__}.{activation.__qualname__}"
        weights = layer.linear.named_parameters()
        modules.add("Dense", known, {f"linear.{name}": as_array(value) for name, value in weights})
    if model.head is not None:
        for layer in dense_layers(model.head, as_array):
            modules.add_dense(layer)
    if settings["normalize"]:
        modules.add("Normalize", {})


def write_static(encoder: Encoder, collate: Any, modules: Modules) -> None:
    """Write static embeddings: the table and the tokenizer.

    A model of model2vec leaves out unknown words. Here the vector of the unknown token becomes zeros. This changes the
    length of a mean but not its direction.
    """
    model = encoder.embed_model
    table = np.array(encoder.framework.as_array(model.table))
    if collate.unknown is not None:
        if not model.normalize:
            raise ValueError(
                "the embeddings must have length 1 to be exported to sentence-transformers, as the model leaves out "
                "unknown words, which it counts in the mean; 'onnx' can hold it"
            )
        table[collate.unknown] = 0
    save({TABLE: table}, modules.path / WEIGHTS)
    write_tokenizer(encoder, modules.path)
    modules.kinds.append(("StaticEmbedding", ""))
    if model.normalize:
        modules.add("Normalize", {})


def save(tensors: Mapping[str, np.ndarray], path: Path) -> None:
    """Write arrays in float32 as safetensors."""
    arrays = {name: np.ascontiguousarray(value, np.float32) for name, value in tensors.items()}
    importlib.import_module("safetensors.numpy").save_file(arrays, path)


def static_runner(path: Path, prompt: str) -> Run:
    """A function that embeds with the files of static embeddings."""
    load_file = importlib.import_module("safetensors.numpy").load_file
    tokenizer = import_library("tokenizers", "text").Tokenizer.from_file(str(path / "tokenizer.json"))
    tokenizer.no_padding()
    table = load_file(path / WEIGHTS)[TABLE]
    others = json.loads((path / "modules.json").read_text())[1:]

    def run(items: Any) -> np.ndarray:
        rows = tokenizer.encode_batch([prompt + text for text in items], add_special_tokens=False)
        x = np.stack([table[one.ids].mean(axis=0) if one.ids else np.zeros_like(table[0]) for one in rows])
        for module in others:
            if module["type"].endswith("Normalize"):
                x = x / np.linalg.norm(x, axis=1, keepdims=True).clip(MIN_NORM)
                continue
            weights = load_file(path / module["path"] / WEIGHTS)
            x = x @ weights["linear.weight"].T + weights["linear.bias"]
            config = json.loads((path / module["path"] / "config.json").read_text())
            x = np.maximum(x, 0) if config["activation_function"].endswith("ReLU") else x
        return x

    return run
