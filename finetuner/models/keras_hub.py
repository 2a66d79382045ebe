"""Presets of KerasHub, for Keras on any engine: text and image models with their preprocessors."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import checks
from ..tuner.base.registry import create, describe
from ..tuner.base.training.encoder import Encoder
from ..tuner.base.training.framework import Framework
from ..tuner.base.training.model_source import ModelSource
from .heads import new_head, saved_head
from .hub import import_library, one_line_errors, read_config
from .images import ImageTransform, both_sides
from .text import Tokenize, prompts_by_side
from .vision import build, reopen

__all__ = ["is_preset", "open_folder", "open_name", "open_saved"]

FILES = "preset"  # the folder of a saved run that has configuration and tokenizer
CONFIG = "config.json"
POOLERS = {"mean": "AveragePooling", "cls": "CLSPooling", "max": "MaxPooling", "last": "LastPooling"}


class TokenizePreset(Tokenize):
    """Tokenizes a list of texts by a preprocessor of KerasHub: a ``collate_fn``.

    Returns:
        A mapping of int32 arrays ``[N, T]``. T is a power of two, as each shape is compiled, or ``max_length``.

    Raises:
        TypeError: If an item is not a text.
    """

    def __call__(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        """Tokenize a batch."""
        found = self.tokenizer(self.prepared(texts))
        arrays = {name: np.asarray(values).astype(np.int32) for name, values in found.items()}
        longest = int(np.flatnonzero(arrays["padding_mask"].any(axis=0)).max(initial=0)) + 1
        length = min(self.max_length, max(8, 1 << (longest - 1).bit_length()))
        return {name: np.ascontiguousarray(values[:, :length]) for name, values in arrays.items()}

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """The number of tokens of each text, if it were not cut."""
        special = int(np.asarray(self.tokenizer([""])["padding_mask"]).sum())
        return [len(tokens) + special for tokens in self.tokenizer.tokenizer(self.prepared(texts))]


def is_preset(folder: Path) -> bool:
    """Whether a folder was written by ``save_to_preset`` of KerasHub."""
    config = read_config(folder / CONFIG) if (folder / CONFIG).is_file() else {}
    return str(config.get("registered_name", "")).startswith("keras_hub>") and "class_name" in config


def open_name(name: str, framework: Framework, options: Mapping[str, Any]) -> Encoder:
    """The encoder of a preset by its name in KerasHub, or by its folder."""
    folder = Path(name).expanduser()
    if folder.is_dir():
        return open_folder(folder, framework, name, options)
    if "/" in name or folder.exists():
        raise FileNotFoundError(f"a preset of KerasHub must be a name or an existing folder, got {name}")
    hub = import_library("keras_hub", "keras-hub")
    known = hub.models.Backbone.presets
    if name not in known:
        raise ValueError(f"keras_hub has no preset {name!r}; {checks.closest_match(name, known)}")
    return open_preset(name, framework, f"kerashub:{name}", options)


def open_folder(folder: Path, framework: Framework, name: str, options: Mapping[str, Any]) -> Encoder:
    """The encoder of a preset in a folder."""
    if not is_preset(folder):
        raise ValueError(f"{name} must be the folder of a preset of KerasHub, and its {CONFIG} names no class of it")
    return open_preset(str(folder), framework, name, options)


def open_preset(preset: str, framework: Framework, title: str, options: Mapping[str, Any]) -> Encoder:
    """The encoder of a preset, by its kind."""
    backbone = load_backbone(preset, title, options.get("pretrained") is not False, bool(options.get("trust_code")))
    if is_of_texts(backbone):
        return open_texts(preset, backbone, framework, title, options)
    model = pooled(backbone, title)
    transform = transform_of(preset, backbone, title, options.get("image_size"))
    write = lambda folder: save_config(backbone, folder)  # noqa: E731
    return build(model, framework, title, transform, options, "keras_hub", {}, write)


def open_saved(folder: Path, recipe: Mapping[str, Any], framework: Framework, trust_code: bool) -> Encoder:
    """The encoder of a saved run, without its weights."""
    if not is_preset(folder / FILES):
        raise ValueError(f"{folder} must have the preset of its model in the folder {FILES}")
    preset, title = str(folder / FILES), str(folder)
    backbone = load_backbone(preset, title, False, trust_code)
    if is_of_texts(backbone):
        options = {key: recipe.get(key) for key in ("pooler", "pooler_options", "max_length", "prompts")}
        head = saved_head(framework, recipe.get("head"), folder)
        return open_texts(preset, backbone, framework, title, options, head)
    return reopen(pooled(backbone, title), framework, folder, recipe, "keras_hub", lambda to: save_config(backbone, to))


def load_backbone(preset: str, title: str, weights: bool, trust_code: bool) -> Any:
    """The backbone of a preset in float32.

    Raises:
        ValueError: If it cannot be read, or a file of its folder names code that is neither Keras' nor KerasHub's.
    """
    from ..tuner.keras.models import check_config

    hub = import_library("keras_hub", "keras-hub")
    for path in Path(preset).glob("*.json") if not trust_code else ():
        check_config(read_config(path))
    with one_line_errors(title):
        return hub.models.Backbone.from_preset(preset, load_weights=weights, dtype="float32")


def is_of_texts(backbone: Any) -> bool:
    """Whether a backbone takes tokens."""
    return isinstance(backbone.input, Mapping) and "token_ids" in backbone.input


def save_config(backbone: Any, folder: Path) -> None:
    """Write the configuration of a backbone."""
    keras = import_library("keras", "keras")
    (folder / FILES).mkdir(exist_ok=True)
    config = keras.saving.serialize_keras_object(backbone)
    (folder / FILES / CONFIG).write_text(json.dumps(config, indent=2), encoding="utf-8")


# Texts -----------------------------------------------------------------------------------------------------------


def open_texts(
    preset: str, backbone: Any, framework: Framework, title: str, options: Mapping[str, Any], head: Any = None
) -> Encoder:
    """The encoder of a text model. A ``head`` is one of a saved run."""
    from ..tuner.keras.poolers import Pooler
    from ..tuner.keras.text import INPUTS, LastPooling, TextModel

    if options.get("image_size") is not None:
        raise ValueError(f"image_size must be used with an image model; {title} is a model of texts")
    for option in ("tokenizer", "padding_token"):
        if options.get(option) is not None:
            raise ValueError(f"{option} must be used with a model of transformers; {title} has a preprocessor")
    states = backbone.output.get("sequence_output") if isinstance(backbone.output, dict) else backbone.output
    if "padding_mask" not in backbone.input or not set(backbone.input) <= set(INPUTS) or states is None:
        raise ValueError(f"{title} must take {', '.join(INPUTS)} and return the states of the tokens, and its inputs "
                         f"are {', '.join(backbone.input)}")  # fmt: skip
    hub = import_library("keras_hub", "keras-hub")
    with one_line_errors(title):
        preprocessor = hub.models.TextClassifierPreprocessor.from_preset(preset)
    positions = getattr(backbone, "max_sequence_length", None)
    longest = min(preprocessor.sequence_length, positions or preprocessor.sequence_length)
    asked = options.get("max_length")
    max_length = longest if asked is None else checks.integer("max_length", asked, 3)
    if positions and max_length > positions:
        raise ValueError(f"max_length must be at most {positions}, the positions of {title}, got {max_length}")
    preprocessor.sequence_length = max_length
    prompts = prompts_by_side(options.get("prompts"), {}, None)
    sides = [TokenizePreset(preprocessor, max_length, prompt) for prompt in prompts]
    pooler, pooler_options = options.get("pooler"), options.get("pooler_options")
    if pooler is None and pooler_options:
        raise ValueError(f"pooler_options must be used with a pooler, got {dict(pooler_options)} and no pooler")
    known: dict[str, Any] = {**framework.registry("pooler"), "LastPooling": LastPooling}
    known |= {short: known[name] for short, name in POOLERS.items()}
    pooling = create("pooler", "mean" if pooler is None else pooler, known, pooler_options)
    if not isinstance(pooling, Pooler):
        raise TypeError(f"pooler must be a name or a pooler of finetuner, got {type(pooling).__name__}")
    if head is None:
        head = new_head(framework, options, lambda: int(states.shape[-1]))
    described: Any = describe(pooling)
    recipe = {
        "pooler": described["name"],
        "pooler_options": described["options"],
        "max_length": max_length,
        "prompts": list(prompts),
        "head": describe(head),
    }

    def write_files(folder: Path) -> None:
        save_config(backbone, folder)
        preprocessor.save_to_preset(str(folder / FILES))

    source = ModelSource("keras_hub", "transformer", recipe, write_files, sides[0].check)
    collate: Any = sides[0] if prompts[0] == prompts[1] else tuple(sides)
    return Encoder(TextModel(backbone, pooling, head), framework, collate_fn=collate, source=source)


# Images ----------------------------------------------------------------------------------------------------------


def pooled(backbone: Any, title: str) -> Any:
    """A model from images to features ``[N, C]``: the mean of the maps of a backbone, or its class token."""
    from ..tuner.keras.poolers import CLSPooling

    keras = import_library("keras", "keras")
    output = backbone.output
    rank = len(output.shape) if isinstance(output, keras.KerasTensor) else 0
    if len(backbone.inputs) != 1 or len(backbone.inputs[0].shape) != 4 or rank not in (3, 4):
        raise ValueError(f"{title} must take texts, or images and return maps of features, and is a "
                         f"{type(backbone).__name__}")  # fmt: skip
    if rank == 4:
        data_format = "channels_first" if channels_first(backbone) else "channels_last"
        layer = keras.layers.GlobalAveragePooling2D(data_format=data_format, name="avg_pool")
    elif getattr(backbone, "use_class_token", False):
        layer = CLSPooling()
    else:
        raise ValueError(f"{title} must have a class token or return maps of features, and is a "
                         f"{type(backbone).__name__}")  # fmt: skip
    return keras.Model(backbone.inputs[0], layer(output))


def channels_first(backbone: Any) -> bool:
    """Whether the images of a backbone are ``[C, H, W]``."""
    keras = import_library("keras", "keras")
    return getattr(backbone, "data_format", keras.config.image_data_format()) == "channels_first"


def transform_of(preset: str, backbone: Any, title: str, image_size: Any) -> ImageTransform:
    """The transform that the image converter of a preset describes: pixels times ``scale``, plus ``offset``."""
    base = import_library("keras_hub", "keras-hub").layers.ImageConverter
    with one_line_errors(title):
        converter = base.from_preset(preset)
    if any(getattr(type(converter), name) is not getattr(base, name) for name in ("call", "_call_python", "_call_tf")):
        raise ValueError(f"{title} must have a plain image converter, got {type(converter).__name__}")
    shape, first = backbone.inputs[0].shape[1:], channels_first(backbone)
    channels, own = (shape[0], shape[1:]) if first else (shape[2], shape[:2])
    size = image_size or (own if None not in own else converter.image_size)
    if size is None:
        raise ValueError(f"image_size must be given for {title}, which takes images of any size")
    scale, offset = (np.float64(default if one is None else one)
                     for one, default in ((converter.scale, 1.0), (converter.offset, 0.0)))  # fmt: skip
    crop = "center" if converter.crop_to_aspect_ratio else "border" if converter.pad_to_aspect_ratio else "squash"
    return ImageTransform(
        both_sides("image_size", size),
        mean=np.ravel(-offset / scale).tolist(),
        std=np.ravel(1 / scale).tolist(),
        scale=1.0,
        interpolation=converter.interpolation.rstrip("35"),
        crop=crop,
        channels=channels,
        channels_first=first,
    )
