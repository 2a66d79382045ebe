"""Open files: regular files only, unpacked within a limit, and decoded to text."""

import bz2
import codecs
import csv
import gzip
import io
import lzma
import stat
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from .common import TableOptions, error_line, tell

__all__ = ["check_regular", "find_encoding", "format_suffix", "open_bytes", "open_text", "read_errors"]

COMPRESSED = (".gz", ".bz2", ".xz")
MAGIC: dict[bytes, Callable[[Any], Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
# The longest first: the mark of UTF-16 is the beginning of that of UTF-32.
MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
# Text is seldom packed to less than 1/100, and a file that is made to fill the memory to 1/1000.
MAX_RATIO, ALWAYS_ALLOWED = 200, 2**26
BROKEN: tuple[type[Exception], ...] = (
    csv.Error,
    EOFError,
    OSError,
    RecursionError,
    UnicodeError,
    lzma.LZMAError,
    zlib.error,
)


def format_suffix(path: Path) -> str:
    """The suffix that names the format, in lower case: ``".csv"`` of ``a.CSV`` and of ``a.csv.gz``."""
    suffix = path.suffix.lower()
    return Path(path.stem).suffix.lower() if suffix in COMPRESSED else suffix


def check_regular(path: Path) -> None:
    """Check that ``path`` is a regular file. To read a pipe or a device may never end.

    Raises:
        ValueError: If it is a folder, a pipe, a socket or a device.
    """
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        kinds = {stat.S_ISFIFO: "a pipe", stat.S_ISSOCK: "a socket", stat.S_ISDIR: "a folder"}
        kind = next((name for is_kind, name in kinds.items() if is_kind(mode)), "a device")
        raise ValueError(f"path must be a regular file, got {kind} at {path}")


@contextmanager
def read_errors(path: Path, *more: type[Exception]) -> Iterator[None]:
    """Turn the errors of a broken file, and those in ``more``, into ``ValueError`` in one line that names the file."""
    try:
        yield
    except UnicodeDecodeError as error:
        found = f"byte 0x{error.object[error.start]:02x}" if error.start < len(error.object) else error.reason
        raise ValueError(
            f"{path} cannot be read as {error.encoding.upper()}, it has {found}; encoding (--encoding) names the "
            "encoding, such as cp1252, gbk or utf-16"
        ) from None
    except BROKEN + more as error:
        raise ValueError(f"{path} cannot be read: {error_line(error)}") from None


@contextmanager
def open_bytes(path: Path, max_bytes: int | None = None) -> Iterator[Any]:
    """Open a file in binary mode. A file that is packed by gzip, bzip2 or xz is unpacked, whatever its name is.

    Args:
        path: The file.
        max_bytes: The most bytes that it may unpack to. None for 200 times its size, but at least 64 MiB.

    Raises:
        ValueError: If it is not a regular file. Reading raises it if the file is broken or unpacks to more.
    """
    check_regular(path)
    with read_errors(path), open(path, "rb") as file:
        unpack = next((unpack for magic, unpack in MAGIC.items() if file.peek(8).startswith(magic)), None)
        if unpack is None:
            yield file
            return
        limit = max_bytes or max(ALWAYS_ALLOWED, MAX_RATIO * path.stat().st_size)
        with unpack(file) as unpacked, io.BufferedReader(Limited(unpacked, path, limit), 2**18) as limited:
            yield limited


class Limited(io.RawIOBase):
    """A stream of bytes that raises ``ValueError`` once more than ``limit`` bytes were read."""

    def __init__(self, stream: IO[bytes], path: Path, limit: int):
        self.stream, self.path, self.limit, self.count = stream, path, limit, 0

    def readable(self) -> bool:
        """Always True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read up to ``len(buffer)`` bytes into ``buffer``."""
        data = self.stream.read(len(buffer))
        self.count += len(data)
        if self.count > self.limit:
            raise ValueError(
                f"{self.path} must not unpack to more than {self.limit:,} bytes, and does; "
                "max_bytes (--max-bytes) raises the limit"
            )
        buffer[: len(data)] = data
        return len(data)


def find_encoding(path: Path, options: TableOptions) -> str:
    """The encoding of a text file: ``options.encoding``, or what its byte order mark says, or UTF-8.

    Raises:
        ValueError: If ``options.encoding`` is unknown, or the file cannot be read.
    """
    encoding = options.encoding
    if encoding is None:
        with open_bytes(path, options.max_bytes) as file:
            start = file.peek(4)
        encoding = next((name for mark, name in MARKS.items() if start.startswith(mark)), "utf-8")
        if encoding != "utf-8":
            tell(f"{path.name} has the encoding {encoding.upper()}")
    try:
        "".encode(encoding)
    except LookupError:
        raise ValueError(
            f"encoding must be a text encoding that Python knows, such as cp1252, got {encoding!r}"
        ) from None
    return "utf-8-sig" if codecs.lookup(encoding).name == "utf-8" else encoding


@contextmanager
def open_text(
    path: Path, encoding: str, max_bytes: int | None = None, newline: str | None = None
) -> Iterator[io.TextIOWrapper]:
    """Open a file as text. Packed files are unpacked, see :func:`open_bytes`.

    Raises:
        ValueError: If the file cannot be read. Reading raises it if the file is broken or has another encoding.
    """
    with (
        read_errors(path),
        open_bytes(path, max_bytes) as file,
        io.TextIOWrapper(file, encoding=encoding, newline=newline) as text,
    ):
        yield text
