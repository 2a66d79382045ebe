"""Folders and archives of images."""

import copy
import os
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..checks import integer, one_of, preview
from ..files import existing_path
from .common import error_line, require

__all__ = ["ImageArray", "ImageFiles"]

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")
MODES = ("RGB", "L", "RGBA")


class ImageFiles(Sequence[np.ndarray]):
    """A sequence of the images in a folder or ``.zip``, sorted by name. Each access decodes an image.

    Item ``i`` is a float32 array ``[C, H, W]`` with values from 0 to 1. Its EXIF rotation is applied, and its
    transparency is dropped unless ``image_mode`` is ``"RGBA"``. The sequence can be sent to forked and spawned
    processes.

    Args:
        path: The folder or ``.zip``.
        image_size: ``(height, width)`` in pixels, or one integer for both. None keeps the size of the images.
        image_mode: ``"RGB"`` (the default), ``"L"`` (grey) or ``"RGBA"``.
        channels_first: Whether an image is ``[C, H, W]`` or ``[H, W, C]``.

    Attributes:
        names: The path of each image within the folder or archive, with ``/`` as the separator.

    Raises:
        ImportError: If Pillow is not installed.
        TypeError: If ``image_size`` is not an integer or a pair of integers.
        ValueError: If there is no image, an option is wrong, the archive is broken, or ``image_size`` is None and
            images differ in size (only a few are checked). An access raises it if the image is broken.

    Example:
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> for name in ("cat/1.png", "dog/1.png"):
        ...     Path("pictures", name).parent.mkdir(parents=True)
        ...     Image.new("RGB", (8, 6)).save(Path("pictures", name))
        >>> images = ImageFiles("pictures")
        >>> images
        ImageFiles('pictures', 2 images)
        >>> images.names, images[0].shape
        (['cat/1.png', 'dog/1.png'], (3, 6, 8))
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        image_size: int | tuple[int, int] | None = None,
        image_mode: str | None = None,
        channels_first: bool = True,
    ):
        require("PIL.Image", "images")
        self.path = existing_path(path)
        self._is_zip = self.path.is_file()
        self.mode = one_of("image_mode", image_mode or "RGB", MODES)
        self.size, self.channels_first = _height_and_width(image_size), channels_first
        self._archive: tuple[int, zipfile.ZipFile] | None = None
        self.names = sorted(filter(_is_image, self._all_names()))
        if not self.names:
            raise ValueError(f"{self.path} must contain images ({', '.join(IMAGES)}), got none")
        if self.size is None:
            self._check_same_size()

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: Any) -> Any:
        """The image at ``index``, or an :class:`ImageFiles` of the images in a slice."""
        if isinstance(index, slice):
            return self.subset(range(len(self))[index])
        return _scale(self._decode(self.names[index]))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_archive": None}

    def __repr__(self) -> str:
        return f"ImageFiles({str(self.path)!r}, {len(self)} images)"

    def subset(self, indices: Iterable[int]) -> "ImageFiles":
        """The images at ``indices``. None is decoded."""
        subset = copy.copy(self)
        subset.names = [self.names[i] for i in indices]
        return subset

    def class_names(self) -> list[str]:
        """The class of each image: its folder, such as ``"Greek/character01"``, without the parents common to all.

        Raises:
            ValueError: If an image is not in a folder.
        """
        folders = [name.split("/")[:-1] for name in self.names]
        if [] in folders:
            unlabelled = preview((name for name in self.names if "/" not in name), 3)
            raise ValueError(f"images of {self.path} must be in the folder of their class, and are not: {unlabelled}")
        num_common = min(len(os.path.commonprefix(folders)), min(map(len, folders)) - 1)
        return ["/".join(folder[num_common:]) for folder in folders]

    def in_memory(self) -> "ImageArray":
        """Decode all images.

        Raises:
            ValueError: If an image is broken, or the images differ in size.
        """
        first = self._decode(self.names[0])
        pixels = np.empty((len(self), *first.shape), np.uint8)
        for i, name in enumerate(self.names):
            image = self._decode(name)
            if image.shape != first.shape:
                raise self._size_error(first.shape, image.shape, name)
            pixels[i] = image
        return ImageArray(pixels)

    def _all_names(self) -> Iterable[str]:
        if self._is_zip:
            try:
                with zipfile.ZipFile(self.path) as archive:
                    return set(archive.namelist())
            except zipfile.BadZipFile as error:
                raise ValueError(f"{self.path} cannot be read: {error_line(error)}") from None
        folders = os.walk(self.path, onerror=_raise_error, followlinks=True)
        relative = ((Path(folder).relative_to(self.path), files) for folder, _, files in folders)
        return [(folder / file).as_posix() for folder, files in relative for file in files]

    def _check_same_size(self) -> None:
        """Compare the sizes of up to 8 images, from their headers. To open all would take as long as an epoch."""
        sizes = []
        for name in self.names[:: -(-len(self) // 8)]:
            with self._image(name) as image:
                swap_sides = image.getexif().get(0x0112, 1) > 4  # EXIF orientations with a rotation by 90 degrees
                sizes.append(image.size if swap_sides else image.size[::-1])
            if sizes[-1] != sizes[0]:
                raise self._size_error(sizes[0], sizes[-1], name)

    def _size_error(self, first: tuple[int, ...], other: tuple[int, ...], name: str) -> ValueError:
        return ValueError(
            f"images of {self.path} must have one size unless image_size is given, "
            f"got {list(first)} ({self.names[0]}) and {list(other)} ({name})"
        )

    @contextmanager
    def _image(self, name: str) -> Iterator[Any]:
        """Open an image with Pillow. Every error names the file."""
        image_module = require("PIL.Image", "images")
        try:
            with self._file(name) as file, image_module.open(file) as image:
                yield image
        except image_module.UnidentifiedImageError:
            raise ValueError(f"{self.path / name} cannot be read: Pillow does not recognize it as an image") from None
        except Exception as error:  # decoders raise different errors for broken data
            raise ValueError(f"{self.path / name} cannot be read: {error_line(error)}") from None

    def _file(self, name: str) -> Any:
        if not self._is_zip:
            return open(self.path / name, "rb")
        # A forked process must open the archive again: it would share the file position with its parent.
        if self._archive is None or self._archive[0] != os.getpid():
            self._archive = os.getpid(), zipfile.ZipFile(self.path)
        return self._archive[1].open(name)

    def _decode(self, name: str) -> np.ndarray:
        """Decode an image to uint8, ``[C, H, W]`` or ``[H, W, C]``."""
        from PIL import Image, ImageOps

        with self._image(name) as image:
            image = ImageOps.exif_transpose(image)
            if image.mode.startswith("I;16"):  # convert() would clip all values above 255
                image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
            if image.mode in ("I", "F"):
                raise ValueError(f"pixels must have 8 or 16 bits, got mode {image.mode!r}")
            if image.mode == "P":
                image = image.convert("RGBA")  # avoids a warning of Pillow about transparency
            image = image.convert(self.mode)
            if self.size is not None:
                image = image.resize(self.size[::-1], Image.Resampling.BILINEAR)  # with antialiasing
            pixels = np.atleast_3d(np.asarray(image))
        return np.ascontiguousarray(pixels.transpose(2, 0, 1)) if self.channels_first else pixels


class ImageArray:
    """Decoded images, stored as uint8 to use a quarter of the memory of float32.

    Indexing returns float32 with values from 0 to 1. ``shape`` and ``dtype`` describe these.

    Args:
        pixels: ``[N, C, H, W]`` or ``[N, H, W, C]``, uint8.

    Example:
        >>> images = ImageArray(np.full((2, 1, 2, 2), 255, np.uint8))
        >>> images
        ImageArray(shape=[2, 1, 2, 2])
        >>> images[0].tolist()
        [[[1.0, 1.0], [1.0, 1.0]]]
    """

    dtype = np.dtype(np.float32)

    def __init__(self, pixels: np.ndarray):
        self.pixels, self.shape = pixels, pixels.shape

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: Any) -> np.ndarray:
        return _scale(self.pixels[index])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return _scale(self.pixels).astype(dtype or self.dtype, copy=False)

    def __repr__(self) -> str:
        return f"ImageArray(shape={list(self.shape)})"


def _scale(pixels: np.ndarray) -> np.ndarray:
    return pixels / np.float32(255)


def _height_and_width(image_size: Any) -> tuple[int, int] | None:
    if image_size is None:
        return None
    sides = tuple(image_size) if isinstance(image_size, tuple | list) else (image_size, image_size)
    if len(sides) != 2:
        raise ValueError(f"image_size must be an integer or (height, width), got {image_size!r}")
    return integer("image_size", sides[0], 1), integer("image_size", sides[1], 1)


def _is_image(name: str) -> bool:
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))
    return not hidden and name.lower().endswith(IMAGES)


def _raise_error(error: OSError) -> None:
    raise error
