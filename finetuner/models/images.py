"""Images as items: from a file, an image of Pillow or an array to what a model takes."""

import copy
import functools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import checks
from ..arrays import as_list, num_items
from ..containers import from_container
from ..data.image_decoding import Decoder, height_and_width
from ..tuner.base.data.augmentation import layout_of
from ..tuner.base.data.datasets import Dataset

__all__ = ["ImageBatch", "ImageTransform", "both_sides", "resized", "check_images"]

CROPS = ("center", "squash", "border")
FILTERS = ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")
MODES = {1: "L", 3: "RGB", 4: "RGBA"}
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".jp2", ".avif", ".heic")


class ImageTransform:
    """Makes the input of a model of one image. It needs Pillow alone.

    Args:
        size: Height and width of the input, or one integer for both.
        mean: Of each channel, in the order of the input.
        std: Of each channel.
        interpolation: ``"bilinear"``, ``"bicubic"`` or another filter of Pillow.
        resize: The size to which the image is resized before it is cropped to ``size``; the default is ``size``.
        crop: ``"center"`` resizes the shorter side and cuts the rest off, ``"squash"`` resizes both sides, and
            ``"border"`` resizes the longer side and adds borders in the color of the mean.
        scale: What a pixel from 0 to 255 is multiplied by, before the mean is subtracted.
        channels: 1 (grey), 3 or 4.
        reverse: Whether the channels are blue, green, red.
        channels_first: Whether the input is ``[C, H, W]`` or ``[H, W, C]``.

    Returns:
        float32 ``[C, H, W]`` or ``[H, W, C]``, for the path of a file, an image of Pillow, or a uint8 array
        ``[H, W, C]``, ``[C, H, W]`` or ``[H, W]``. A floating-point array in the shape of the input is final.

    Raises:
        FileNotFoundError: If there is no such file.
        TypeError: If an item is not an image.
        ValueError: If an image cannot be read, or an array has another shape.

    Example:
        >>> transform = ImageTransform(2, mean=0.5, std=0.5)
        >>> transform(np.full((4, 6, 3), 255, np.uint8)).shape
        (3, 2, 2)
    """

    def __init__(
        self,
        size: int | Sequence[int],
        *,
        mean: float | Sequence[float] = 0.0,
        std: float | Sequence[float] = 1.0,
        interpolation: str = "bicubic",
        resize: int | Sequence[int] | None = None,
        crop: str = "center",
        scale: float = 1 / 255,
        channels: int = 3,
        reverse: bool = False,
        channels_first: bool = True,
    ):
        self.size = both_sides("size", size)
        self.resize = self.size if resize is None else both_sides("resize", resize)
        self.interpolation = checks.one_of("interpolation", interpolation, FILTERS)
        self.crop = checks.one_of("crop", crop, CROPS)
        self.channels = checks.one_of("channels", channels, tuple(MODES))
        self.mean, self.std = per_channel("mean", mean, channels), per_channel("std", std, channels)
        if not (self.std > 0).all():
            raise ValueError(f"std must be above 0, got {self.std.tolist()}")
        self.scale, self.reverse, self.channels_first = float(scale), bool(reverse), bool(channels_first)

    def arguments(self) -> dict[str, Any]:
        """The arguments of an equal transform, as JSON can hold them."""
        return {
            "size": list(self.size), "resize": list(self.resize), "mean": self.mean.tolist(), "std": self.std.tolist(),
            "interpolation": self.interpolation, "crop": self.crop, "scale": self.scale, "channels": self.channels,
            "reverse": self.reverse, "channels_first": self.channels_first,
        }  # fmt: skip

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of the input."""
        return (self.channels, *self.size) if self.channels_first else (*self.size, self.channels)

    def __repr__(self) -> str:
        return f"ImageTransform({list(self.shape)}, {self.interpolation}, {self.crop})"

    def __call__(self, item: Any) -> np.ndarray:
        """The input for one item."""
        if isinstance(item, str | os.PathLike):
            return self.normalized(read_image(item, MODES[self.channels]))
        if hasattr(item, "getbands"):
            return self.normalized(item)
        array = from_container("an image", item)
        if not isinstance(array, np.ndarray):
            raise TypeError(not_an_image(item))
        if array.dtype.kind == "f":
            if array.shape != self.shape:
                raise ValueError(
                    f"a floating-point image must be ready for the model, {list(self.shape)}, got {list(array.shape)}; "
                    "pass uint8, an image of Pillow or a file for one that is to be resized and normalized"
                )
            return np.ascontiguousarray(array, np.float32)
        layout = layout_of(array.shape)
        if layout is None and array.shape[2:] == (self.channels,) and array.shape[0] != self.channels:
            layout = "HWC"
        if array.dtype != np.uint8 or layout is None:
            raise ValueError(
                f"an image must be uint8 [H, W, C], [C, H, W] or [H, W], got {array.dtype} {list(array.shape)}"
            )
        array = array.transpose(1, 2, 0) if layout == "CHW" else array
        from PIL import Image

        return self.normalized(
            Image.fromarray(np.ascontiguousarray(array[..., 0] if array.shape[2:] == (1,) else array))
        )

    def normalized(self, image: Any) -> np.ndarray:
        """The input for an image of Pillow."""
        pixels = np.asarray(self.resized(with_mode(image, MODES[self.channels])), np.float32)
        pixels = pixels.reshape(*self.size, self.channels)[..., :: -1 if self.reverse else 1] * np.float32(self.scale)
        pixels = (pixels - self.mean) / self.std
        return np.ascontiguousarray(pixels.transpose(2, 0, 1) if self.channels_first else pixels)

    def resized(self, image: Any) -> Any:
        """An image in the size of the input."""
        from PIL import Image

        height, width = self.resize
        ratios = height / image.height, width / image.width
        if self.crop == "center":  # exact on the side that decides, and rounded down on the other, as in torchvision
            if ratios[0] >= ratios[1]:
                width = max(1, int(image.width * height / image.height))
            else:
                height = max(1, int(image.height * width / image.width))
        elif self.crop == "border":  # as in timm
            height, width = (max(1, round(side * min(ratios))) for side in (image.height, image.width))
        if (width, height) != image.size:
            image = image.resize((width, height), Image.Resampling[self.interpolation.upper()])
        if (height, width) == self.size:
            return image
        spare = height - self.size[0], width - self.size[1]
        top, left = (round(one / 2) if one >= 0 else -(-one // 2) for one in spare)
        if self.crop != "border":
            return image.crop((left, top, left + self.size[1], top + self.size[0]))  # what is outside becomes black
        fill = tuple(int(round(float(value) / self.scale)) for value in self.mean[:: -1 if self.reverse else 1])
        whole = Image.new(image.mode, self.size[::-1], fill if len(fill) > 1 else fill[0])
        whole.paste(image, (-left, -top))
        return whole


class ImageBatch:
    """Makes the input of a model of a list of images: a ``collate_fn``.

    Args:
        transform: What makes the input of one image.
    """

    def __init__(self, transform: ImageTransform):
        self.transform = transform

    def arguments(self) -> dict[str, Any]:
        """What describes this in the settings of a run."""
        return {"transform": self.transform.arguments()}

    def __call__(self, items: Sequence[Any]) -> np.ndarray:
        """The input of a batch."""
        return np.stack([self.transform(item) for item in items])

    def adapt(self, dataset: Dataset) -> Dataset:
        """The dataset with images from files as they are, which become the input after the augmentation."""
        sides = getattr(dataset, "sides", None)
        if not any(hasattr(x, "for_model") for x in (dataset.x, *(sides or ()))):
            return dataset
        adapted: Any = copy.copy(dataset)
        adapted.x = self.adapted(dataset.x)
        if sides is not None:
            adapted.sides = tuple(map(self.adapted, sides))
        return adapted

    def adapted(self, x: Any) -> Any:
        """The items with images from files as they are."""
        return x.for_model(self.transform, self.transform.channels_first) if hasattr(x, "for_model") else x

    def check(self, items: Any) -> None:
        """Raise an error unless all items are images."""
        check_images(items)


def check_images(items: Any) -> None:
    """Raise an error unless all items can be images. No file is opened.

    Raises:
        FileNotFoundError: If there is no such file.
        TypeError: If an item is not an image. The message names the first one.
    """
    if isinstance(items, Mapping):
        raise TypeError(f"items must be images, got a mapping with {checks.preview(list(items))}")
    if hasattr(items, "augmented"):
        return
    if isinstance(items, np.ndarray) and items.dtype.kind in "biufc":
        if items.ndim not in (3, 4):
            raise ValueError(f"items must be images [N, C, H, W] or [N, H, W, C], got {list(items.shape)}")
        return
    for number, item in enumerate(as_list(items, num_items(items))):
        if isinstance(item, str | os.PathLike):
            if os.path.exists(item):
                continue
            if isinstance(item, str) and not item.lower().endswith(SUFFIXES):
                raise TypeError(f"items must be images, got the text {item!r:.80} at item {number}, which is no file")
            raise FileNotFoundError(f"items must be images, and there is no file {str(item)!r:.200} (item {number})")
        if not hasattr(item, "getbands") and not hasattr(item, "shape"):
            raise TypeError(f"{not_an_image(item)} at item {number}")


def not_an_image(item: Any) -> str:
    return f"items must be images: files, images of Pillow or arrays, got {type(item).__name__}"


def read_image(path: Any, mode: str) -> Any:
    """The image in a file."""
    decoder = Decoder(mode=mode)
    if not os.path.exists(path):
        raise FileNotFoundError(f"items must be images, and there is no file {str(path)!r:.200}")
    with decoder.open(functools.partial(open, Path(path), "rb"), path) as opened:
        image = decoder.image(opened)
        image.load()
        if image.mode == "F":  # of 16 bits
            return with_mode(image.point(lambda value: value * (1 / 65535) + 0), mode)
        return image


def with_mode(image: Any, mode: str) -> Any:
    """An image with these channels and 8 bits. One of mode ``"F"`` has values from 0 to 1."""
    if image.mode == "F":
        from PIL import Image

        image = Image.fromarray(np.rint(np.clip(np.asarray(image), 0, 1) * 255).astype(np.uint8))
    if image.mode == mode:
        return image
    return (image.convert("RGBA") if image.mode == "P" else image).convert(mode)


def resized(sides: Any, before: Any, image_size: Any) -> tuple[tuple[int, int], tuple[int, int]]:
    """Another size, and the size before the crop in the same proportion."""
    asked = both_sides("image_size", image_size)
    return asked, (asked[0] * before[0] // sides[0], asked[1] * before[1] // sides[1])


def both_sides(name: str, size: Any) -> tuple[int, int]:
    """Height and width."""
    sides = height_and_width(list(size) if isinstance(size, Sequence) else size)
    if sides is None:
        raise TypeError(f"{name} must be an integer or (height, width), got None")
    return sides


def per_channel(name: str, values: Any, channels: int) -> np.ndarray:
    """One number per channel."""
    array = np.asarray(values, np.float32)
    if array.ndim > 1 or array.size not in (1, channels) or not np.isfinite(array).all():
        raise ValueError(f"{name} must be one number, or one for each of the {channels} channels, got {values!r:.80}")
    return np.broadcast_to(array, (channels,)).copy()
