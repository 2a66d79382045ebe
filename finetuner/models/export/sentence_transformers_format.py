"""The folder of sentence-transformers: loads there, with the same embeddings."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ...files import write_json
from ...tuner.base.training.encoder import Encoder
from ..hub import import_library
from .model_card import model_card

__all__ = ["write_sentence_transformers"]

MODULES = {
    "Transformer": "sentence_transformers.models.Transformer",
    "Pooling": "sentence_transformers.models.Pooling",
    "Dense": "sentence_transformers.models.Dense",
    "Normalize": "sentence_transformers.models.Normalize",
}


def write_sentence_transformers(encoder: Encoder, path: Path, sample: Any) -> Callable[[Any], np.ndarray]:
    """Write the folder, and return a function that embeds with it."""
    library = import_library("sentence_transformers", "sentence-transformers")
    source = encoder.source
    if source is None or source.library != "huggingface":
        raise ValueError("the model must be one of transformers or sentence-transformers to be exported as one")
    settings, prompts = source.recipe["settings"], source.recipe["prompts"]
    if settings["pooling"] is None:
        raise ValueError(f"sentence-transformers has no {source.recipe['pooler']} to pool tokens with")
    from safetensors.torch import save_file

    model = encoder.embed_model
    collate: Any = encoder.collate_fn[0] if isinstance(encoder.collate_fn, tuple) else encoder.collate_fn
    path.mkdir()
    model.transformer.save_pretrained(path)
    collate.tokenizer.save_pretrained(path)
    limits = {"max_seq_length": source.recipe["max_length"], "do_lower_case": settings["lowercase"]}
    write_json(path / "sentence_bert_config.json", limits)
    modules = [("Transformer", "")]

    def add(kind: str, config: dict[str, Any]) -> Path:
        folder = f"{len(modules)}_{kind}"
        modules.append((kind, folder))
        (path / folder).mkdir()
        write_json(path / folder / "config.json", config)
        return path / folder

    width = int(model.transformer.config.hidden_size)
    modes = settings["pooling"]
    add(
        "Pooling",
        {
            "embedding_dimension": width,
            "pooling_mode": modes[0] if len(modes) == 1 else modes,
            "include_prompt": settings["include_prompt"],
        },
    )
    for layer, config in zip(model.dense, settings["dense"], strict=True):
        activation = type(layer.activation)
        known = {name: config[name] for name in ("in_features", "out_features", "bias")}
        known["activation_function"] = f"{activation.__module__}.{activation.__qualname__}"
        folder = add("Dense", known)
        save_file({f"linear.{k}": v.detach().contiguous() for k, v in layer.linear.state_dict().items()},
                  folder / "model.safetensors")  # fmt: skip
    if settings["normalize"]:
        add("Normalize", {})
    listed = [
        {"idx": number, "name": str(number), "path": folder, "type": MODULES[kind]}
        for number, (kind, folder) in enumerate(modules)
    ]
    (path / "modules.json").write_text(json.dumps(listed, indent=2))
    query, passage = prompts
    names = {"query": query, "document": passage} if query != passage else {"query": query, "document": query}
    similarity = encoder.distance if encoder.distance in ("cosine", "euclidean") else "euclidean"
    whole = {"prompts": names, "default_prompt_name": "query" if query and query == passage else None}
    write_json(path / "config_sentence_transformers.json", {**whole, "similarity_fn_name": similarity})
    (path / "README.md").write_text(model_card(encoder, path.name))
    loaded = library.SentenceTransformer(str(path), device="cpu", local_files_only=True)
    return lambda items: loaded.encode(list(items), prompt=query or None, show_progress_bar=False)
