"""From a name, a folder or an object to an encoder."""

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import checks
from ..tuner import SUBPACKAGES, framework_class, load_subpackage
from ..tuner.base.training.encoder import Encoder
from ..tuner.base.training.framework import Framework
from ..tuner.base.training.model_source import is_source

__all__ = ["load_model"]


def load_model(
    source: Any,
    *,
    pooler: Any = None,
    pooler_options: Mapping[str, Any] | None = None,
    max_length: int | None = None,
    prompts: Any = None,
    tokenizer: Any = None,
    padding_token: str | None = None,
    head: int | None = None,
    head_type: str | None = None,
    image_size: int | Sequence[int] | None = None,
    pretrained: bool | None = None,
    distance: str | None = None,
    device: str = "auto",
    framework: Framework | str | None = None,
    trust_code: bool = False,
) -> Encoder:
    """Open a pre-trained model with all that it needs to embed items as they are.

    Args:
        source: One of

            - the folder of a model of sentence-transformers or transformers, or its name on the Hugging Face hub,
            - the folder or name of static embeddings: of model2vec, of sentence-transformers' ``StaticEmbedding``, or
              ``"wordllama"``, the installed package,
            - an image model by its library and name: ``"timm:resnet18"``, ``"torchvision:resnet18"``,
              ``"keras:MobileNetV3Small"`` (of ``keras.applications``) or ``"paddle:resnet18"``; the folder or name of
              an image model of transformers; a model of timm or torchvision as an object; a ``.keras`` file,
            - a preset of KerasHub: ``"kerashub:bert_tiny_en_uncased"``, or the folder that ``save_to_preset`` wrote,
            - a ``SentenceTransformer``, or a model of transformers, which is trained in place,
            - the folder of a saved run,
            - any model of a framework, or an encoder.
        pooler: How the vectors of an item's tokens or places become one: ``"mean"``, ``"cls"``, ``"max"``, ``"last"``,
            or a pooler of finetuner such as ``"GeM"``. The default is the model's own, and ``"mean"`` if it has none.
        pooler_options: Arguments of a pooler given by name or class.
        max_length: The largest number of tokens of a text. Longer texts are cut. The default is the model's.
        prompts: Text before each text, or a pair of texts: of queries and of passages.
        tokenizer: The tokenizer of a model of transformers that is given as an object.
        padding_token: The padding token of a tokenizer that has none.
        head: The size of the embeddings that a new layer after an image model or a transformer makes; None for no new
            layer. Embeddings that the model normalizes are normalized after this layer.
        head_type: That layer: ``"linear"`` (the default), ``"BNNeck"`` or ``"MLP"``, see
            :mod:`finetuner.tuner.base.heads`.
        image_size: The size of the images that an image model gets, one integer or height and width. The default is the
            model's.
        pretrained: Whether an image model by name has its pre-trained weights, the default, or random ones.
        distance: Of retrieval: ``"cosine"``, ``"euclidean"`` or ``"sqeuclidean"``. The default is that of an
            encoder or a saved run, and else the cosine.
        device: Where to compute; ``"auto"`` uses an accelerator if there is one.
        framework: Where to open the model: ``"pytorch"``, ``"keras"`` or ``"paddle"``, or the framework of a tuner,
            which replaces ``device``. Static embeddings open in each of the three, and by default in the first that is
            installed. Other text models are models of PyTorch. Saved runs and encoders have the one of their training.
        trust_code: Whether code that comes with the model may run, and pickles may be read.

    Returns:
        The encoder. Its ``embed`` takes texts or images, and :func:`finetuner.fit` takes it as its model.

    Raises:
        FileNotFoundError: If there is no such folder, and no such name can be downloaded.
        ValueError: If the folder is no model, or the model does not fit the options.
        ImportError: If a library is missing. The message says how to install it.
    """
    options = {
        "pooler": pooler, "pooler_options": pooler_options, "max_length": max_length, "prompts": prompts,
        "tokenizer": tokenizer, "padding_token": padding_token, "trust_code": trust_code,
        "head": head, "head_type": head_type, "image_size": image_size, "pretrained": pretrained,
    }  # fmt: skip
    chosen: Any = framework
    if isinstance(framework, str):
        names = tuple(SUBPACKAGES.values())
        chosen = load_subpackage(checks.one_of("framework", framework, names)).Framework(device)
    encoder = open_encoder(source, chosen, device, options)
    if distance is not None:
        encoder.distance = checks.one_of("distance", distance, ("cosine", "euclidean", "sqeuclidean"))
    if isinstance(source, str | os.PathLike) and encoder.source is not None and pretrained is not False:
        place = Path(source).expanduser()
        encoder.source.origin = str(place.resolve()) if place.exists() else str(source)
    return encoder


def open_encoder(source: Any, framework: Framework | None, device: str, options: dict[str, Any]) -> Encoder:
    """The encoder of a source, by its kind."""
    from . import huggingface, huggingface_vision, image_models, keras_hub, static
    from .vision import of_framework

    if isinstance(source, Encoder):
        refuse_options(options, (), "an encoder, which is complete")
        check_framework(framework, source.framework.name, "an encoder")
        return source
    opened = image_models.open_source(source, framework, device, options)
    if opened is not None:
        return opened
    if not isinstance(source, str | os.PathLike):
        takes_head = is_source(source) and not static.is_static_object(source)
        image_models.refuse_options(source, options, takes_head)
    if not isinstance(source, str | os.PathLike) and is_source(source):
        library: Any = huggingface if takes_head else static
        return library.open_object(source, of_framework("pytorch", framework, device, type(source).__name__), options)
    if not is_source(source):
        refuse_options(options, ("pooler", "pooler_options"), "a model of your own")
        found = framework or framework_class(source)(device)
        return Encoder(source, found, pooler=options["pooler"], pooler_options=options["pooler_options"])
    from .hub import local_folder, read_config

    name = str(source)
    folder = static.package_folder(name) or local_folder(name)
    if keras_hub.is_preset(folder):
        return keras_hub.open_folder(folder, of_framework("keras", framework, device, name), name, options)
    if huggingface_vision.is_vision(folder):
        return huggingface_vision.open_folder(folder, of_framework("pytorch", framework, device, name), name, options)
    is_static = static.is_static(folder)
    image_models.refuse_options(name, options, not is_static)
    if is_static:
        return static.open_folder(folder, framework, device, name, options)
    if not (folder / "config.json").is_file() and not huggingface.is_sentence_transformer(folder):
        raise ValueError(f"{name} must be the folder of a model, and has no config.json")
    config = read_config(folder / "config.json")
    if "backend" in config:
        from ..saved_runs import load

        refuse_options(options, ("trust_code",), "a saved run, which has its own")
        check_framework(framework, str(config["backend"]), f"{name}, a saved run")
        device = device if framework is None else str(framework.device)
        return load(folder, device=device, trust_code=bool(options["trust_code"]))
    return huggingface.open_folder(folder, of_framework("pytorch", framework, device, name), name, options)


def check_framework(framework: Framework | None, own: str, source: str) -> None:
    """Raise ``ValueError`` if another framework is given than the one that a source has."""
    if framework is not None and framework.name != own:
        raise ValueError(f"framework must be {own!r} for {source} of it, got {framework.name!r}")


def refuse_options(options: Mapping[str, Any], used: Collection[str], source: str) -> None:
    """Raise ``ValueError`` for options that this kind of source does not use."""
    for name, value in options.items():
        if name not in used and value not in (None, False, {}):
            raise ValueError(f"{name} must not be given with {source}, got {value!r:.80}")
