"""Adapters: a small layer is trained on the embeddings of a base model, which are computed once."""

import copy
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .. import checks
from ..tuner import framework_class, load_subpackage
from ..tuner.base.adapters import Adapter
from ..tuner.base.data.conversion import as_dataset
from ..tuner.base.data.datasets import Dataset
from ..tuner.base.data.embedded import EmbeddedDataset
from ..tuner.base.training.encoder import Encoder
from ..tuner.base.training.framework import Framework
from ..tuner.base.training.model_source import ModelSource, is_source
from ..tuner.base.training.opening import open_model
from ..tuner.base.training.run import Run, Trainer
from ..tuner.base.training.validation import is_dataset
from .static import installed_framework

__all__ = ["AdaptedEncoder", "fit_adapter", "open_saved"]

CLASSES = {"linear": "LinearAdapter", "mlp": "MLPAdapter"}
BASE = "base"  # the folder of the base in that of a run
RECIPE = {"adapter", "dim", "hidden", "has_base"}
# Arguments of fit that are about the layers of the model, which an adapter does not train.
REFUSED = {
    "freeze": "the model is not trained with an adapter",
    "cache_frozen": "the embeddings are computed once",
    "compile": "an adapter is one or two layers",
    "lora": "the model is not trained with an adapter",
    "pooler": "the model stays as it is; give the pooler to finetuner.load_model, and train an adapter of its result",
    "pooler_options": "the model stays as it is",
}


class AdaptedEncoder(Encoder):
    """An encoder and an adapter after it. Its items are those of the encoder, and its weights are the adapter's.

    Args:
        base: The encoder, which is saved with this one.
        adapter: The layer.
        distance: Of retrieval.
    """

    def __init__(self, base: Encoder, adapter: Any, distance: str = "cosine"):
        self.base, self.adapter = base, adapter
        check_items = None if base.source is None else base.source.check_items
        super().__init__(
            load_subpackage(base.framework.name).AdaptedModel(base.embed_model, adapter),
            base.framework,
            distance=distance,
            preprocess_fn=base.preprocess_fn,
            collate_fn=base.collate_fn,
            source=source_of(adapter, base, check_items),
        )

    def state(self) -> dict[str, Any]:
        """A copy of the adapter's weights on the host, by name."""
        return self.framework.state(self.adapter)

    def load_state(self, tensors: dict[str, Any]) -> None:
        """Set the weights that :meth:`state` returned; raise ``ValueError`` if they do not fit."""
        self.framework.load_state(self.adapter, tensors)


class AdapterTrainer:
    """What a run uses of the tuner of an adapter: it saves and blends the adapter, and embeds with the base before it.

    Args:
        tuner: Trained the adapter on embeddings.
        encoder: The base with the adapter.
    """

    def __init__(self, tuner: Trainer, encoder: Encoder):
        self.tuner, self.encoder = tuner, encoder

    def save(self, path: str | Path) -> Path:
        """Save the run."""
        return self.tuner.save(path)

    def blend(self, share: float) -> None:
        """Move the adapter towards what it was before the training."""
        self.tuner.blend(share)


# Training ---------------------------------------------------------------------------------------------------


def fit_adapter(fit: Callable[..., Run], arguments: Mapping[str, Any]) -> Run:
    """Train an adapter.

    Args:
        fit: Trains a model: :func:`finetuner.fit`.
        arguments: Its arguments, with an adapter.

    Returns:
        The run. Its encoder takes the items of the base.

    Raises:
        ValueError: If an argument or the data does not fit an adapter.
        TypeError: If the model or the adapter is of an unknown kind.
    """
    given = dict(arguments)
    for name, reason in REFUSED.items():
        is_option = name.startswith("pooler") and is_source(given["model"])  # an argument of load_model
        if given[name] not in (None, False, {}, []) and not is_option:
            raise ValueError(f"{name} must not be used with an adapter: {reason}")
    adapter = check_adapter(given.pop("adapter"))
    base, framework = open_base(adapter, given)
    embed = partial(embedded, base, framework, given["num_workers"])
    train_data = embed(given["train_data"], "train_data", training=True)
    width = train_data.x.shape[1]
    layer = create_adapter(adapter, framework, width, given["seed"])
    given |= {"train_data": train_data, "eval_data": embedded_eval_data(embed, given["eval_data"])}
    given |= dict.fromkeys(("preprocess_fn", "collate_fn", "pooler", "pooler_options", "model_options"))
    given |= {"num_workers": 0, "model": encoder_of_embeddings(layer, framework, base)}
    run = fit(**given)
    if base is not None:
        tuner = run.trainer("used")
        encoder = AdaptedEncoder(base, layer, tuner.encoder.distance)
        run.model, run.tuner = encoder.embed_model, AdapterTrainer(tuner, encoder)
    return run


def check_adapter(adapter: Any) -> Any:
    """The adapter of a training: a known name, or an instance.

    Raises:
        ValueError: For an unknown name.
        TypeError: If it is neither.
    """
    if isinstance(adapter, str):
        return checks.one_of("adapter", adapter, tuple(CLASSES))
    if not isinstance(adapter, Adapter):
        names = " or ".join(map(repr, CLASSES))
        raise TypeError(f"adapter must be {names}, or a LinearAdapter or MLPAdapter, got {adapter!r:.80}")
    return adapter


def open_base(adapter: Any, given: Mapping[str, Any]) -> tuple[Encoder | None, Framework]:
    """The encoder whose embeddings are adapted, None if the data has embeddings already; and the framework.

    Raises:
        ValueError: If the model is a pair of models or has two inputs.
    """
    device, functions = given["device"], (given["preprocess_fn"], given["collate_fn"])
    if given["model"] is None:
        options = dict(given["model_options"] or {})
        name = options.pop("framework", None)
        if options or any(functions):
            raise ValueError("without a model, the items are embeddings, which take no options of a model and no "
                             "preprocess_fn or collate_fn")  # fmt: skip
        if not isinstance(adapter, str):
            return None, framework_class(adapter)(device)
        if name is None:
            return None, installed_framework("an adapter", device)
        known = ("pytorch", "keras", "paddle")
        return None, load_subpackage(checks.one_of("framework", name, known)).Framework(device)
    model = open_model(given["model"], device, given["pooler"], given["pooler_options"], given["model_options"])[0]
    if isinstance(model, tuple | list):
        raise ValueError(f"an adapter must be used with one model, got {len(model)}")
    base = copy.copy(model) if isinstance(model, Encoder) else Encoder(model, framework_class(model)(device))
    if base.framework.has_two_inputs(base.embed_model):
        raise ValueError("an adapter must be used with a model of one input, got one with two")
    base.use_functions(*functions)
    return base, base.framework


def create_adapter(adapter: Any, framework: Framework, width: int, seed: int) -> Any:
    """The layer for embeddings of this size.

    Raises:
        ValueError: If it is of another size.
        TypeError: If it is of another framework.
    """
    if isinstance(adapter, str):
        options = {"seed": seed} if adapter == "mlp" else {}
        return getattr(load_subpackage(framework.name), CLASSES[adapter])(width, **options)
    if adapter.dim != width:
        raise ValueError(f"the adapter must have dim={width}, the size of the embeddings, got {adapter.dim}")
    return framework.check_model(adapter)


def embedded(
    base: Encoder | None,
    framework: Framework,
    num_workers: int,
    data: Any,
    name: str,
    training: bool = False,
    side: int = 0,
) -> EmbeddedDataset:
    """The data with embeddings in place of its items.

    Raises:
        ValueError: If the items are augmented, so that their embeddings are never the same.
    """
    dataset = as_dataset(framework.convert_dataset(data), name)
    if dataset.views > 1 or (training and dataset.augment is not None):
        raise ValueError(
            f"{name} must have no augment with an adapter, since embeddings are computed once, got {dataset!r}"
        )
    rows = np.arange(dataset.num_rows)
    if base is None:
        return EmbeddedDataset(dataset, as_embeddings(dataset.batch(rows), name))
    base.check_items(dataset)
    return EmbeddedDataset(dataset, base.embed_rows(dataset, rows, num_workers=num_workers, side=side))


def embedded_eval_data(embed: Callable[..., Dataset], data: Any) -> Any:
    """The evaluation data in its form, a dataset, a pair of queries and gallery or a mapping, with embeddings."""
    if data is None:
        return None

    def one(data: Any, name: str) -> Any:
        if isinstance(data, tuple) and len(data) == 2 and any(map(is_dataset, data)):
            return tuple(embed(part, name, side=side) for side, part in enumerate(data))
        return embed(data, name)

    if isinstance(data, Mapping):
        return {name: one(part, f"eval_data[{name!r}]") for name, part in data.items()}
    return one(data, "eval_data")


def as_embeddings(rows: Any, name: str = "items", dim: int | None = None) -> np.ndarray:
    """Rows as an array of embeddings.

    Raises:
        TypeError: If they are not numbers of one length.
        ValueError: If one is not finite, or they have another size.
    """
    try:
        found = np.asarray(rows, np.float32)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be embeddings [N, D] without a model, got {type(rows).__name__}") from None
    if found.ndim != 2 or not found.shape[1] or (dim is not None and found.shape[1] != dim):
        raise ValueError(f"{name} must be embeddings [N, {dim or 'D'}], got an array {list(found.shape)}")
    if not np.isfinite(found).all():
        raise ValueError(f"{name} must be finite, and are not in {int((~np.isfinite(found)).any(axis=1).sum())} rows")
    return found


# Files ------------------------------------------------------------------------------------------------------


def source_of(adapter: Any, base: Encoder | None, check_items: Callable[[Any], None] | None) -> ModelSource:
    """How an adapter is made, with its base."""
    recipe = {"adapter": adapter.kind, **adapter.arguments(), "has_base": base is not None}
    write = None if base is None else lambda folder: base.save(folder / BASE)
    return ModelSource("adapter", "adapter", recipe, write, check_items)


def encoder_of_embeddings(adapter: Any, framework: Framework, base: Encoder | None) -> Encoder:
    """The encoder of an adapter whose items are embeddings. It is saved with the base."""
    source = source_of(adapter, base, lambda items: check_array(items, adapter.dim))
    return Encoder(adapter, framework, collate_fn=as_embeddings, source=source)


def check_array(items: Any, dim: int) -> None:
    """Raise an error unless items are embeddings of this size."""
    as_embeddings(items, dim=dim)


def open_saved(
    folder: Path, recipe: Mapping[str, Any], framework: Framework, trust_code: bool, model: Any = None
) -> Encoder:
    """The encoder of a saved adapter with its base, without the adapter's weights.

    Args:
        folder: The folder of the run.
        recipe: What it says about the adapter.
        framework: That of the run.
        trust_code: Whether code that the base names may run.
        model: The model of the base, if the folder does not say how it is made.
    """
    from ..saved_runs import load

    missing = sorted({"adapter", "dim", "has_base"} - recipe.keys())
    if missing:
        raise ValueError(f"model.json of an adapter must have {', '.join(sorted(RECIPE))}, and lacks {missing[0]}")
    kind = checks.one_of("the adapter in model.json", recipe["adapter"], tuple(CLASSES))
    options = {} if kind == "linear" else {"hidden": recipe.get("hidden")}
    layer = getattr(load_subpackage(framework.name), CLASSES[kind])(recipe["dim"], **options)
    if not checks.boolean("has_base", recipe["has_base"]):
        if model is not None:
            raise ValueError(f"{folder} has an adapter of embeddings without a model, so model must be None")
        return encoder_of_embeddings(layer, framework, None)
    base = load(folder / BASE, model, device=str(framework.device), trust_code=trust_code)
    return AdaptedEncoder(base, layer)
