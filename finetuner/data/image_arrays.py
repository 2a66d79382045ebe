"""Decoded images in memory."""

from typing import Any

import numpy as np

from ..arrays import is_array
from ..tuner.base.data.augmentation import ImageFunction, vary_image
from .image_decoding import MODES, Decoder, scale

__all__ = ["ImageArray", "keep", "varied"]


class ImageArray:
    """Decoded images, stored as uint8 to use a quarter of the memory of float32, or as uint16.

    Indexing returns float32 with values from 0 to 1. ``shape`` and ``dtype`` describe these.

    Args:
        pixels: ``[N, C, H, W]`` or ``[N, H, W, C]``, uint8 or uint16.
        channels_first: Which of the two ``pixels`` are.
        transform: A function of an image, see :class:`~finetuner.data.ImageFiles`.

    Example:
        >>> images = ImageArray(np.full((2, 1, 2, 2), 255, np.uint8))
        >>> images
        ImageArray(shape=[2, 1, 2, 2])
        >>> images[0].tolist()
        [[[1.0, 1.0], [1.0, 1.0]]]
    """

    dtype = np.dtype(np.float32)
    final: ImageFunction | None = None  # makes a model's input of an image, after all other functions

    def __init__(self, pixels: np.ndarray, channels_first: bool = True, transform: ImageFunction | None = None):
        self.pixels, self.channels_first, self.transform = pixels, channels_first, transform

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of all images."""
        return self.pixels.shape if self.transform is None else (len(self), *self[0].shape)

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: Any) -> np.ndarray:
        if self.transform is None:
            return scale(self.pixels[index])
        if isinstance(index, int | np.integer):
            return self.augmented(int(index), self.transform)
        return np.stack([self.augmented(i, self.transform) for i in np.arange(len(self))[index]])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:]).astype(dtype or self.dtype, copy=False)

    def __repr__(self) -> str:
        return f"ImageArray(shape={list(self.shape)})"

    def augmented(self, index: int, function: ImageFunction) -> np.ndarray:
        """The image at ``index``, with a function applied as by :meth:`~finetuner.data.ImageFiles.augmented`."""
        return varied(self._decoder, self.pixels[index], function, self.final)

    def for_model(self, final: ImageFunction, channels_first: bool) -> "ImageArray":
        """The images as a model takes them, see :meth:`finetuner.data.ImageFiles.for_model`."""
        pixels = self.pixels
        if channels_first != self.channels_first:
            pixels = pixels.transpose(0, 2, 3, 1) if self.channels_first else pixels.transpose(0, 3, 1, 2)
        images = ImageArray(pixels, channels_first, self.transform or keep)
        images.final = final
        return images

    @property
    def _decoder(self) -> Decoder:
        channels = self.pixels.shape[1 if self.channels_first else -1]
        modes = [mode for mode, number in MODES.items() if number == channels]
        if not modes:
            raise ValueError(f"images must have 1, 3 or 4 channels to be augmented, got {channels}")
        return Decoder(mode=modes[0], channels_first=self.channels_first)


def varied(
    decoder: Decoder, pixels: np.ndarray, function: ImageFunction, final: ImageFunction | None = None
) -> np.ndarray:
    """Pixels, varied by a user's function of an image; with ``final``, as the input that it makes of an image."""
    result = vary_image(function, decoder.to_pillow(pixels), decoder.channels_first)
    if final is not None and (hasattr(result, "getbands") or (is_array(result) and result.dtype == np.uint8)):
        return np.asarray(final(result))
    return decoder.finish(result, function)


def keep(image: Any) -> Any:
    """The image as it is."""
    return image
