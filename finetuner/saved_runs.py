"""Opening a saved run or encoder, of any framework."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import checks
from .files import read_json
from .tuner import SUBPACKAGES, load_subpackage
from .tuner.base import Encoder
from .tuner.base.training.checkpoint import find_run
from .tuner.base.training.encoder_files import MODEL, read_config
from .tuner.base.training.opening import open_saved_model

__all__ = ["load"]


def load(
    path: str | Path,
    model: Any = None,
    *,
    preprocess_fn: Callable[[Any], Any] | None = None,
    collate_fn: Callable[[list[Any]], Any] | None = None,
    device: str = "auto",
    trust_code: bool = False,
) -> Encoder:
    """Open a saved run or encoder.

    A Keras model says how it is made, so the folder is enough. Any other model must be given; it gets the weights.

    Args:
        path: The folder, or a folder of checkpoints, of which the newest is opened.
        model: The model; None if the folder says how it is made.
        preprocess_fn: A function from an item to a row of the model's input.
        collate_fn: A function from a list of (preprocessed) items to the model's input, such as a tokenizer.
        device: Where to compute; ``"auto"`` uses an accelerator if there is one.
        trust_code: Whether code that the folder names may run, such as that of a layer of your own. Do not trust the
            folder of somebody you do not know.

    Returns:
        The encoder, with the weights of the run.

    Raises:
        FileNotFoundError: If ``path`` is not the folder of a saved run.
        ValueError: If the folder is damaged, its model must be given, or it names code and is not trusted.

    Example:
        >>> run = train_a_model(epochs=1)
        >>> run.save("run").name
        'run'
        >>> encoder = finetuner.load("run", model=run.model)
        >>> encoder.embed(np.zeros((2, 8), np.float32)).shape
        (2, 8)
    """
    path = find_run(path)
    config = read_config(path)
    made = read_json(path / MODEL, dict) if (path / MODEL).exists() else None
    backend = checks.one_of("the backend of the run", str(config.get("backend")), tuple(SUBPACKAGES.values()))
    framework = load_subpackage(backend).Framework(device)
    distance = config.get("distance", "cosine")
    if made is not None and "library" in made and (model is None or made["library"] in ("adapter", "lora")):
        encoder = open_saved_model(path, made, framework, trust_code, model)
        encoder.distance = distance
        encoder.use_functions(preprocess_fn, collate_fn)
        encoder.load(path)
        if encoder.source is not None:
            encoder.source.origin = str(path.resolve())
        return encoder
    if model is None:
        if made is None:
            raise ValueError(
                f"{path} does not say how its model {config.get('model')} is made, so it must be given: "
                "finetuner.load(path, model=...)"
            )
        model = framework.model_from_config(made, trust_code)
        pooler = None
    else:
        pooler = missing_pooler(model, config.get("pooler"))
    encoder = Encoder(
        model, framework, distance=distance, preprocess_fn=preprocess_fn, collate_fn=collate_fn, **(pooler or {})
    )
    return encoder.load(path)


def missing_pooler(model: Any, pooler: Any) -> dict[str, Any] | None:
    """The arguments of an encoder for the pooler of a run, if the given model does not have one of its class.

    A pooler without weights leaves no trace in the weights: without this, the model would pool as it did before.
    """
    name, options = (pooler.get("name"), pooler.get("options")) if isinstance(pooler, dict) else (None, None)
    if not isinstance(name, str) or not isinstance(options, dict):
        return None
    layers = next(
        (getattr(model, one) for one in ("modules", "sublayers", "_flatten_layers") if hasattr(model, one)), None
    )
    if layers is None or any(type(layer).__name__ == name for layer in layers()):
        return None
    return {"pooler": name, "pooler_options": options}
