"""Images that lie in a column of a table as the bytes of their files."""

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from .common import require
from .image_decoding import Decoder
from .image_folders import Listing
from .images import ImageFiles

__all__ = ["EncodedImages", "ImageBytes"]


class ImageBytes(list[bytes]):
    """The files of the images of a column, with the column and the table as ``title``."""

    def __init__(self, files: Iterable[bytes], path: Path | None = None):
        super().__init__(files)
        self.path = path or Path()


class EncodedImages(ImageFiles):
    """A sequence of images whose files are in memory. Each access decodes an image.

    Args:
        files: The content of each file.
        check: Whether to check now that the images have one size, from the headers of a few.
        **options: ``image_size`` and the others, see :class:`ImageFiles`.

    Raises:
        ValueError: As for :class:`ImageFiles`. An access raises it if an image is broken.
    """

    def __init__(self, files: Sequence[bytes], *, check: bool = True, **options: Any):
        require("PIL.Image", "images")
        transform = options.pop("transform", None)
        defaults = {"image_size": None, "image_mode": None, "channels_first": True, "max_pixels": None}
        decoder = Decoder.of(**{**defaults, **options})
        names = [f"row {row}" for row in range(len(files))]
        self._files = dict(zip(names, files, strict=True))
        self._begin(getattr(files, "path", Path()), Listing(names, {}, []), decoder, transform, check=check)

    def __repr__(self) -> str:
        return f"EncodedImages({len(self)} images)"

    def _file(self, name: str) -> Any:
        return io.BytesIO(self._files[name])
