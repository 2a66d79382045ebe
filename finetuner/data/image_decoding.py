"""From an image file to pixels: formats, depth, rotation, size, and limits for files that are larger than they look."""

import functools
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..checks import integer, one_of
from .common import error_line, require
from .image_folders import image_formats

__all__ = ["MODES", "Decoder", "height_and_width", "scale"]

MODES = {"RGB": 3, "L": 1, "RGBA": 4}
ORIENTATION = 0x0112  # of EXIF
BYTES_PER_PIXEL = 8  # of the largest format that is read; a member of an archive may declare at most so many

_opening = threading.Lock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: globals().update(_opening=threading.Lock()))


@dataclass(frozen=True)
class Decoder:
    """How an image file becomes an array.

    Args:
        size: Height and width; None for those of the image.
        mode: A key of :data:`MODES`.
        channels_first: Whether an image is ``[C, H, W]`` or ``[H, W, C]``.
        max_pixels: The largest number of pixels that is decoded; None for Pillow's limit, about 89 million.
    """

    size: tuple[int, int] | None = None
    mode: str = "RGB"
    channels_first: bool = True
    max_pixels: int | None = None

    @classmethod
    def of(cls, image_size: Any, image_mode: str | None, channels_first: bool, max_pixels: int | None) -> "Decoder":
        """Check the options that users give.

        Raises:
            TypeError, ValueError: If one is wrong.
        """
        mode = one_of("image_mode", image_mode or "RGB", list(MODES))
        limit = None if max_pixels is None else integer("max_pixels", max_pixels, 1)
        return cls(height_and_width(image_size), mode, channels_first, limit)

    @property
    def limit(self) -> int:
        """The largest number of pixels that is decoded."""
        if self.max_pixels is not None:
            return self.max_pixels
        with _opening:
            limit = require("PIL.Image", "images").MAX_IMAGE_PIXELS  # a global variable that a user may change
        return 2**62 if limit is None else int(limit)

    @contextmanager
    def open(self, file: Callable[[], Any], title: Any) -> Iterator[Any]:
        """Open a file with Pillow and read its header. Every error names the file by its ``title``."""
        image_module = require("PIL.Image", "images")
        try:
            with file() as opened, self._opened(opened) as image:
                yield image
        except image_module.UnidentifiedImageError:
            raise ValueError(f"{title} cannot be read: Pillow does not recognize it as an image") from None
        except Exception as error:  # decoders raise different errors for broken data
            raise ValueError(f"{title} cannot be read: {error_line(error)}") from None

    def image(self, image: Any) -> Any:
        """Decode an opened image: rotated as EXIF says, in its final mode and size.

        An image with 16 bits per pixel becomes one of mode ``"F"``, with values from 0 to 65535.
        """
        from PIL import Image, ImageOps

        if self.size is not None and image.format in ("JPEG", "MPO"):
            height, width = self.size if not swaps_sides(image) else self.size[::-1]
            image.draft(None, (2 * width, 2 * height))  # the decoder halves the image while that leaves twice the size
        if image.width * image.height > self.limit:
            raise ValueError(
                f"it must have at most {self.limit:,} pixels, got {image.width:,} x {image.height:,}; "
                "a larger max_pixels (--max-pixels) allows it"
            )
        is_png = image.format in ("PNG", "PPM")  # of which older versions of Pillow read 16 bits as 32
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I;16") or (image.mode == "I" and is_png):  # convert() would clip all above 255
            image = Image.fromarray(np.asarray(image).astype(np.float32))
        elif image.mode in ("I", "F"):
            raise ValueError(f"pixels must have 8 or 16 bits, got mode {image.mode!r}")
        else:
            if image.mode == "P":
                image = image.convert("RGBA")  # avoids a warning of Pillow about transparency
            image = image.convert(self.mode)
        if self.size is not None:
            image = image.resize(self.size[::-1], Image.Resampling.BILINEAR)  # with antialiasing
        return image

    def pixels(self, image: Any) -> np.ndarray:
        """The pixels of a decoded image: uint8 or, of mode ``"F"``, uint16; ``[C, H, W]`` or ``[H, W, C]``."""
        if image.mode != "F":
            return self.layout(np.atleast_3d(np.asarray(image)))
        grey = np.clip(np.rint(np.asarray(image)), 0, 65535).astype(np.uint16)
        return self.layout(self._grey_to_mode(grey))

    def to_pillow(self, pixels: np.ndarray) -> Any:
        """The opposite of :meth:`pixels`. Of uint16, the image has values from 0 to 1, and one channel if it is grey.

        Pillow has no image with 16 bits and several channels. One that is not grey comes with 8 bits.
        """
        from PIL import Image

        if self.channels_first:
            pixels = pixels.transpose(1, 2, 0)
        if pixels.dtype == np.uint16:
            if (pixels[..., :3] == pixels[..., :1]).all():
                return Image.fromarray(scale(pixels[..., 0]))
            pixels = np.rint(pixels / 257).astype(np.uint8)
        return Image.fromarray(np.ascontiguousarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels))

    def finish(self, result: Any, function: Any) -> np.ndarray:
        """What a user's function made of an image, as a float32 array in the layout of this decoder.

        Args:
            result: A Pillow image; a uint8 or uint16 array ``[H, W, C]``; a grey image ``[H, W]``; or a floating-point
                array that is final.
            function: The user's function, for the message.

        Raises:
            TypeError: If it is none of these.
            ValueError: If a floating-point array has its channels at the other end.
        """
        if hasattr(result, "getbands"):
            result = np.asarray(result if result.mode == "F" else result.convert(self.mode))
        if isinstance(result, np.ndarray) and result.ndim in (2, 3) and result.dtype in (np.uint8, np.uint16):
            result = scale(result if result.ndim == 2 else self.layout(result))
        if isinstance(result, np.ndarray) and result.ndim == 2 and result.dtype.kind == "f":
            result = self.layout(self._grey_to_mode(np.asarray(result, np.float32)))
        wanted = f"a floating-point array {'[C, H, W]' if self.channels_first else '[H, W, C]'}"
        if not isinstance(result, np.ndarray) or result.dtype.kind != "f":
            kind = f"{result.dtype} {list(result.shape)}" if isinstance(result, np.ndarray) else type(result).__name__
            raise TypeError(
                f"{function!r} must return an image of Pillow, a uint8 array [H, W, C] or {wanted}, got {kind}"
            )
        channels = tuple(MODES.values())
        ends = (result.shape[0], result.shape[-1]) if self.channels_first else (result.shape[-1], result.shape[0])
        if result.ndim != 3 or (ends[0] not in channels and ends[1] in channels):
            raise ValueError(f"{function!r} must return {wanted}, got one of shape {list(result.shape)}")
        return np.ascontiguousarray(result, np.float32)

    def layout(self, pixels: np.ndarray) -> np.ndarray:
        """An array ``[H, W, C]`` in the layout of this decoder."""
        return np.ascontiguousarray(pixels.transpose(2, 0, 1)) if self.channels_first else pixels

    def _grey_to_mode(self, grey: np.ndarray) -> np.ndarray:
        pixels = np.repeat(grey[:, :, None], MODES[self.mode], axis=2)
        if self.mode == "RGBA":
            pixels[:, :, 3] = 65535 if grey.dtype == np.uint16 else 1
        return pixels

    def _opened(self, file: Any) -> Any:
        """Open an image without Pillow's own limit, which warns first, and which only a global variable can raise."""
        image_module = require("PIL.Image", "images")
        formats = formats_in_order(len(image_module.ID))
        with _opening:
            limit, image_module.MAX_IMAGE_PIXELS = image_module.MAX_IMAGE_PIXELS, None
            try:
                return image_module.open(file, formats=formats)
            finally:
                image_module.MAX_IMAGE_PIXELS = limit


@functools.cache
def formats_in_order(count: int) -> list[str]:
    """The formats that are read, in Pillow's order: the common ones first. ``count`` is how many Pillow knows now."""
    known = set(image_formats().values())
    return [name for name in require("PIL.Image", "images").ID if name in known]


def swaps_sides(image: Any) -> bool:
    """Whether EXIF says that an image is rotated by 90 degrees. An unknown orientation does not count."""
    return image.getexif().get(ORIENTATION) in (5, 6, 7, 8)


def scale(pixels: np.ndarray) -> np.ndarray:
    """Pixels of uint8 or uint16 as float32 from 0 to 1."""
    return pixels / np.float32(np.iinfo(pixels.dtype).max)


def height_and_width(image_size: Any) -> tuple[int, int] | None:
    """Height and width, from one integer for both or a pair.

    Raises:
        TypeError: If it is neither.
        ValueError: If a number is below 1, or there are not two.
    """
    if image_size is None:
        return None
    sides = tuple(image_size) if isinstance(image_size, tuple | list) else (image_size, image_size)
    if len(sides) != 2:
        raise ValueError(f"image_size must be an integer or (height, width), got {image_size!r}")
    return integer("image_size", sides[0], 1), integer("image_size", sides[1], 1)
