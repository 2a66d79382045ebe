"""Folders and archives of images, decoded when they are asked for."""

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
from .common import needed, reason

__all__ = ["ImageArray", "ImageFiles"]

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")
MODES = ("RGB", "L", "RGBA")


class ImageFiles(Sequence[np.ndarray]):
    """Images of a folder or ``.zip``, in the order of their names, each decoded when it is asked for.

    Item ``i`` is a float32 array ``[C, H, W]`` with values in 0..1, turned upright as its EXIF data says
    and without its transparency. Can be sent to other processes, forked or spawned.

    Args:
        path, image_size, image_mode, channels_first: as for :func:`load`.

    Attributes:
        names: the path of each within the folder or archive, with ``/``.

    Raises:
        ImportError: if Pillow is not installed.
        ValueError: if there is no image, an option is wrong, the archive is broken, or, without
            ``image_size``, the first few images differ in size; and on access, if an image is broken.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        image_size: int | tuple[int, int] | None = None,
        image_mode: str | None = None,
        channels_first: bool = True,
    ):
        needed("PIL.Image", "images")
        self.path = existing_path(path)
        self._zipped = self.path.is_file()
        self.mode = one_of("image_mode", image_mode or "RGB", MODES)
        self.size, self.channels_first = _sides(image_size), channels_first
        self._archive: tuple[int, zipfile.ZipFile] | None = None
        self.names = sorted(filter(_is_image, self._all_names()))
        if not self.names:
            raise ValueError(f"{self.path} must hold images ({', '.join(IMAGES)}), got none")
        if self.size is None:
            self._check_sizes()

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: Any) -> Any:
        """The image at ``index``, or the images of a slice, still undecoded."""
        if isinstance(index, slice):
            return self.only(range(len(self))[index])
        return _scaled(self._decoded(self.names[index]))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_archive": None}

    def __repr__(self) -> str:
        return f"ImageFiles({str(self.path)!r}, {len(self)} images)"

    def only(self, indices: Iterable[int]) -> "ImageFiles":
        """The images at ``indices``, still undecoded."""
        chosen = copy.copy(self)
        chosen.names = [self.names[i] for i in indices]
        return chosen

    def class_names(self) -> list[str]:
        """The class of each: its folder, as ``"Greek/character01"``, without the folders that all share.

        Raises:
            ValueError: if an image lies in no folder.
        """
        folders = [name.split("/")[:-1] for name in self.names]
        if [] in folders:
            loose = preview((name for name in self.names if "/" not in name), 3)
            raise ValueError(f"images of {self.path} must lie in the folder of their class, and not {loose}")
        shared = min(len(os.path.commonprefix(folders)), min(map(len, folders)) - 1)
        return ["/".join(folder[shared:]) for folder in folders]

    def in_memory(self) -> "ImageArray":
        """All images, decoded now.

        Raises:
            ValueError: if an image is broken, or they differ in size.
        """
        first = self._decoded(self.names[0])
        pixels = np.empty((len(self), *first.shape), np.uint8)
        for i, name in enumerate(self.names):
            image = self._decoded(name)
            if image.shape != first.shape:
                raise self._of_sizes(first.shape, image.shape, name)
            pixels[i] = image
        return ImageArray(pixels)

    def _all_names(self) -> Iterable[str]:
        if self._zipped:
            try:
                with zipfile.ZipFile(self.path) as archive:
                    return set(archive.namelist())
            except zipfile.BadZipFile as error:
                raise ValueError(f"{self.path} cannot be read: {reason(error)}") from None
        folders = os.walk(self.path, onerror=_raise, followlinks=True)
        below = ((Path(folder).relative_to(self.path), files) for folder, _, files in folders)
        return [(folder / file).as_posix() for folder, files in below for file in files]

    def _check_sizes(self) -> None:
        """Look at the headers of a few images: to open all would take as long as an epoch."""
        sizes = []
        for name in self.names[:: -(-len(self) // 8)]:
            with self._image(name) as image:
                lies = image.getexif().get(0x0112, 1) > 4  # to be turned by 90 degrees
                sizes.append(image.size if lies else image.size[::-1])
            if sizes[-1] != sizes[0]:
                raise self._of_sizes(sizes[0], sizes[-1], name)

    def _of_sizes(self, first: tuple[int, ...], other: tuple[int, ...], name: str) -> ValueError:
        return ValueError(
            f"images of {self.path} must be of one size, or image_size be given, "
            f"got {list(first)} ({self.names[0]}) and {list(other)} ({name})"
        )

    @contextmanager
    def _image(self, name: str) -> Iterator[Any]:
        """The Pillow image; whatever goes wrong with it names the file."""
        image_module = needed("PIL.Image", "images")
        try:
            with self._file(name) as file, image_module.open(file) as image:
                yield image
        except image_module.UnidentifiedImageError:
            raise ValueError(f"{self.path / name} cannot be read: it is no image that Pillow knows") from None
        except Exception as error:  # what a decoder raises at broken data differs by format
            raise ValueError(f"{self.path / name} cannot be read: {reason(error)}") from None

    def _file(self, name: str) -> Any:
        if not self._zipped:
            return open(self.path / name, "rb")
        # Never the handle of the process that this one was forked from: they share a place in the file.
        if self._archive is None or self._archive[0] != os.getpid():
            self._archive = os.getpid(), zipfile.ZipFile(self.path)
        return self._archive[1].open(name)

    def _decoded(self, name: str) -> np.ndarray:
        """The image as uint8, ``[C, H, W]`` or ``[H, W, C]``."""
        from PIL import Image, ImageOps

        with self._image(name) as image:
            image = ImageOps.exif_transpose(image)
            if image.mode.startswith("I;16"):  # convert() would make white of all that is above 255
                image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
            if image.mode in ("I", "F"):
                raise ValueError(f"pixels must have 8 or 16 bits, got mode {image.mode!r}")
            if image.mode == "P":
                image = image.convert("RGBA")  # else Pillow warns of transparency
            image = image.convert(self.mode)
            if self.size is not None:
                image = image.resize(self.size[::-1], Image.Resampling.BILINEAR)  # antialiased
            pixels = np.atleast_3d(np.asarray(image))
        return np.ascontiguousarray(pixels.transpose(2, 0, 1)) if self.channels_first else pixels


class ImageArray:
    """Decoded images in a quarter of the memory: uint8 inside, float32 in 0..1 when they are indexed.

    Args:
        pixels: ``[N, C, H, W]`` or ``[N, H, W, C]``, uint8.
    """

    dtype = np.dtype(np.float32)

    def __init__(self, pixels: np.ndarray):
        self.pixels, self.shape = pixels, pixels.shape

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: Any) -> np.ndarray:
        return _scaled(self.pixels[index])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return _scaled(self.pixels).astype(dtype or self.dtype, copy=False)

    def __repr__(self) -> str:
        return f"ImageArray(shape={list(self.shape)})"


def _scaled(pixels: np.ndarray) -> np.ndarray:
    return pixels / np.float32(255)


def _sides(image_size: Any) -> tuple[int, int] | None:
    """Height and width."""
    if image_size is None:
        return None
    sides = tuple(image_size) if isinstance(image_size, tuple | list) else (image_size, image_size)
    if len(sides) != 2:
        raise ValueError(f"image_size must be a number or (height, width), got {image_size!r}")
    return integer("image_size", sides[0], 1), integer("image_size", sides[1], 1)


def _is_image(name: str) -> bool:
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))
    return not hidden and name.lower().endswith(IMAGES)


def _raise(error: OSError) -> None:
    raise error
