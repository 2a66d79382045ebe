"""Folders and archives of images."""

import copy
import os
import stat
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..checks import preview
from ..files import existing_path
from ..tuner.base.data.augmentation import ImageFunction
from .common import require, tell
from .image_arrays import ImageArray, keep, varied
from .image_decoding import BYTES_PER_PIXEL, Decoder, scale, swaps_sides
from .image_folders import Listing, image_formats, list_archive, list_folder, split_folders

__all__ = ["ImageArray", "ImageFiles", "rows_without"]


class ImageFiles(Sequence[np.ndarray]):
    """A sequence of the images in a folder or ``.zip``, sorted by name. Each access decodes an image.

    Item ``i`` is a float32 array ``[C, H, W]`` with values from 0 to 1. Its EXIF rotation is applied, and its
    transparency is dropped unless ``image_mode`` is ``"RGBA"``. Grey images with 16 bits per pixel keep their depth.
    All formats are read that the installed Pillow can open, except EPS. The sequence can be sent to forked and spawned
    processes.

    Links are followed, and each folder is read once. Hidden files, and folders that programs leave behind such as
    ``@eaDir``, are ignored.

    Args:
        path: The folder or ``.zip``.
        image_size: ``(height, width)`` in pixels, or one integer for both. None keeps the size of the images. A JPEG
            that is more than twice as large is decoded at a fraction of its size, which is many times as fast.
        image_mode: ``"RGB"`` (the default), ``"L"`` (grey) or ``"RGBA"``.
        channels_first: Whether an image is ``[C, H, W]`` or ``[H, W, C]``.
        max_pixels: The largest number of pixels of an image that is decoded. None is Pillow's limit, about 89 million.
        transform: A function from an image of Pillow to what the model gets, such as the transform of a torchvision
            model. It is used wherever a dataset does not use ``augment``, which takes its place in training. See
            :mod:`finetuner.tuner.base.data.augmentation` for what such a function gets and returns.
        skip_broken: Whether to decode all images once now, and to leave out those that cannot be read, with a warning.

    Attributes:
        names: The path of each image within the folder or archive, with ``/`` as the separator.
        left_out: How many files are left out, by suffix or reason.
        broken: The images that ``skip_broken`` has left out, with the error of each.

    Raises:
        ImportError: If Pillow is not installed.
        TypeError: If ``image_size`` is not an integer or a pair of integers.
        ValueError: If there is no image, an option is wrong, or the archive is broken.
            Each access raises it if an image is broken or too large, or if ``image_size`` and ``transform`` are None
            and images differ in size, unless a model of :func:`finetuner.load_model` resizes them.

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

    final: ImageFunction | None = None  # makes a model's input of an image, after all other functions

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        image_size: int | tuple[int, int] | None = None,
        image_mode: str | None = None,
        channels_first: bool = True,
        max_pixels: int | None = None,
        transform: ImageFunction | None = None,
        skip_broken: bool = False,
    ):
        require("PIL.Image", "images")
        path = existing_path(path)
        decoder = Decoder.of(image_size, image_mode, channels_first, max_pixels)
        listing = list_archive(path) if path.is_file() else list_folder(path)
        self._begin(path, listing, decoder, transform, skip_broken)
        if listing.left_out:
            tell(f"{len(self):,} images, {listing.describe_left_out()}")

    @classmethod
    def of_paths(cls, folder: str | os.PathLike[str], names: Iterable[str], **options: Any) -> "ImageFiles":
        """The images with the given paths, in the given order.

        Args:
            folder: The folder that the paths are relative to.
            names: The paths.
            **options: ``image_size`` and the others, see :class:`ImageFiles`.

        Raises:
            ValueError: As for :class:`ImageFiles`. No file is looked at before :meth:`check_files` or an access.
        """
        require("PIL.Image", "images")
        transform = options.pop("transform", None)
        defaults = {"image_size": None, "image_mode": None, "channels_first": True, "max_pixels": None}
        decoder, names, folder = Decoder.of(**{**defaults, **options}), list(names), Path(folder)
        images = cls.__new__(cls)
        images._begin(folder, Listing(names, {}, []), decoder, transform, check=False)
        return images

    def _begin(
        self,
        path: Path,
        listing: Listing,
        decoder: Decoder,
        transform: ImageFunction | None,
        skip_broken: bool = False,
        check: bool = True,
    ) -> None:
        if transform is not None and not callable(transform):
            raise TypeError(f"transform must be a function of an image, got {transform!r}")
        self.path, self.decoder, self.transform = path, decoder, transform
        self._is_zip = path.is_file()
        self._archive: tuple[int, zipfile.ZipFile] | None = None
        self.names, self.left_out, self.broken = listing.names, listing.left_out, dict[str, str]()
        self._listing = listing
        self._mixed: ValueError | None = None  # the sizes of a few images differ
        self._first: tuple[tuple[int, ...], str] | None = None  # the size that all images must have, and of which one
        if not self.names:
            told = f"; {listing.describe_left_out()}" if listing.left_out else ""
            suffixes = f".png, .jpg and {len(image_formats()) - 2} other suffixes that Pillow reads"
            raise ValueError(f"{path} must contain images ({suffixes}), got none{told}")
        if listing.without_images:
            warnings.warn(
                f"{path} has folders without an image that can be read: {preview(listing.without_images, 5)} "
                f"({listing.describe_left_out()})",
                stacklevel=4,
            )
        if skip_broken:
            self._skip_broken()
        if check:
            self.check_files()

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: Any) -> Any:
        """The image at ``index``, or an :class:`ImageFiles` of the images in a slice."""
        if isinstance(index, slice):
            return self.subset(range(len(self))[index])
        if self.transform is not None:
            return self.augmented(index, self.transform)
        if self._mixed is not None:
            raise self._mixed
        return scale(self._pixels(self.names[index]))

    def augmented(self, index: int, function: ImageFunction) -> np.ndarray:
        """The image at ``index``, with a function applied before it becomes an array.

        Args:
            index: The position.
            function: A function of an image, see :mod:`finetuner.tuner.base.data.augmentation`.

        Returns:
            float32.

        Raises:
            TypeError, ValueError: If the function returns no image, or the image is broken.
        """
        return varied(self.decoder, self._pixels(self.names[index], same_size=False), function, self.final)

    def for_model(self, final: ImageFunction, channels_first: bool) -> "ImageFiles":
        """The images as a model takes them, whatever their size.

        Args:
            final: Makes the model's input of an image of Pillow, after ``transform`` or the augmentation.
            channels_first: The layout of that input.

        Returns:
            The same files. None is decoded.
        """
        images = copy.copy(self)
        images.decoder = replace(self.decoder, channels_first=channels_first)
        images.transform, images.final, images._first, images._mixed = self.transform or keep, final, None, None
        return images

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_archive": None}

    def __repr__(self) -> str:
        return f"ImageFiles({str(self.path)!r}, {len(self)} images)"

    def describe_left_out(self) -> str:
        """``"14 files left out: .heic 9, .txt 5"``, or an empty text if every file is an image."""
        return self._listing.describe_left_out()

    def subset(self, indices: Iterable[int]) -> "ImageFiles":
        """The images at ``indices``. None is decoded."""
        subset = copy.copy(self)
        subset.names = [self.names[i] for i in indices]
        return subset

    def check_files(self) -> None:
        """Check that the files exist, and that the images have one size, from the headers of a few.

        Raises:
            ValueError: If a file is missing. If sizes differ although ``image_size`` and ``transform`` are None, an
                access raises it: a model of :func:`finetuner.load_model` takes images of any size.
        """
        if type(self)._file is ImageFiles._file and not self._is_zip:
            missing = [name for name in self.names if not (self.path / name).exists()]
            if missing:
                raise ValueError(
                    f"images must be files, and {len(missing):,} of {len(self):,} do not exist: "
                    f"{preview((self.path / name for name in missing), 3)}"
                )
        if self.decoder.size is None and self.transform is None:
            self._mixed = self._different_sizes()

    def errors(self) -> Iterator[tuple[int, str]]:
        """Decode all images. Yields the position of each one that cannot be read, with the error."""

        for position, pixels in enumerate(self.decoded()):
            if isinstance(pixels, ValueError):
                yield position, str(pixels)

    def decoded(self) -> Iterator[np.ndarray | ValueError]:
        """The pixels of all images, uint8 or uint16, or the error of one that cannot be read. Threads decode them."""

        def pixels_or_error(name: str) -> np.ndarray | ValueError:
            try:
                return self._pixels(name, same_size=False)
            except ValueError as error:
                return error

        # Archives are read by one thread: a ZipFile has one position.
        threads = 1 if self._is_zip else min(8, os.cpu_count() or 1)
        with ThreadPoolExecutor(threads) as pool:
            for start in range(0, len(self), 8 * threads):  # few at a time, for the sake of memory
                yield from pool.map(pixels_or_error, self.names[start : start + 8 * threads])

    def _skip_broken(self) -> None:
        errors = dict(self.errors())
        kept = rows_without(errors, len(self), f"{self.path}")
        self.broken = {self.names[position]: message for position, message in errors.items()}
        self.names = [self.names[i] for i in kept]

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

    def warn_of_splits(self) -> None:
        """Warn if the classes are in folders such as ``train`` and ``test``, which then are all read as one."""
        splits = split_folders(self.class_names())
        if splits:
            one = next((name for name in splits if "train" in name.lower()), splits[0])
            warnings.warn(
                f"{self.path} has folders that look like splits: {', '.join(splits)}; all of them are read, and their "
                f'names are a part of the classes; classes="{one}/*" reads one of them',
                stacklevel=3,
            )

    def in_memory(self) -> "ImageArray":
        """Decode all images.

        Raises:
            ValueError: If an image is broken, or the images differ in size.
        """
        first = self._pixels(self.names[0])
        pixels = np.empty((len(self), *first.shape), first.dtype)
        for i, name in enumerate(self.names):
            image = self._pixels(name, same_size=False)
            if image.shape != first.shape:
                raise self._size_error(first.shape, self.names[0], image.shape, name)
            if image.dtype != pixels.dtype and pixels.dtype == np.uint8:  # the first image with 16 bits
                pixels = pixels.astype(np.uint16) * np.uint16(257)
            pixels[i] = image if image.dtype == pixels.dtype else image.astype(np.uint16) * np.uint16(257)
        return ImageArray(pixels, channels_first=self.decoder.channels_first, transform=self.transform)

    def _different_sizes(self) -> ValueError | None:
        """Compare the sizes of up to 8 images, from their headers. To open all would take as long as an epoch."""
        for name in self.names[:: -(-len(self) // 8)]:
            with self._image(name) as image:
                size = image.size if swaps_sides(image) else image.size[::-1]
            if self._first is None:
                self._first = size, name
            elif size != self._first[0]:
                return self._size_error(*self._first, size, name)
        return None

    def _size_error(self, first: tuple[int, ...], first_name: str, other: tuple[int, ...], name: str) -> ValueError:
        return ValueError(
            f"images of {self.path} must have one size unless image_size is given, "
            f"got {list(first)} ({first_name}) and {list(other)} ({name})"
        )

    def _pixels(self, name: str, same_size: bool = True) -> np.ndarray:
        """Decode an image to uint8 or uint16."""
        with self._image(name) as opened:
            image = self.decoder.image(opened)
            size, pixels = image.size[::-1], self.decoder.pixels(image)
        if same_size and self._first is not None and size != self._first[0]:
            raise self._size_error(*self._first, size, name)
        return pixels

    @contextmanager
    def _image(self, name: str) -> Iterator[Any]:
        """Open an image with Pillow. Every error names the file."""
        with self.decoder.open(lambda: self._file(name), self.path / name) as image:
            yield image

    def _file(self, name: str) -> Any:
        if not self._is_zip:
            path = self.path / name
            if not stat.S_ISREG(os.stat(path).st_mode):  # to open a FIFO would wait forever
                raise ValueError("it must be a regular file")
            return open(path, "rb")
        # A forked process must open the archive again: it would share the file position with its parent.
        if self._archive is None or self._archive[0] != os.getpid():
            self._archive = os.getpid(), zipfile.ZipFile(self.path)
        size, limit = self._archive[1].getinfo(name).file_size, BYTES_PER_PIXEL * self.decoder.limit
        if size > limit:
            raise ValueError(
                f"it must have at most {limit:,} bytes, got {size:,}; a larger max_pixels (--max-pixels) allows it"
            )
        return self._archive[1].open(name)


def rows_without(errors: Mapping[int, str], count: int, title: str) -> list[int]:
    """The positions of ``count`` images that have no error. A warning says how many have one.

    Raises:
        ValueError: If all have.
    """
    if errors:
        shown = preview(errors.values(), 3)
        if len(errors) == count:
            raise ValueError(f"{title} must contain images that can be read, and all {count:,} cannot: {shown}")
        warnings.warn(f"{len(errors):,} of {count:,} images are broken and left out: {shown}", stacklevel=5)
    return [position for position in range(count) if position not in errors]
