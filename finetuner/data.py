"""Files and folders -> datasets.

:func:`load` reads labelled data into a dataset, :func:`load_inputs` reads items alone. What is read is
told by the path:

- ``.csv``, ``.tsv``, ``.jsonl``, ``.ndjson``, ``.json``, ``.parquet``: a table, whose columns have names;
- ``.npz``: arrays with names, ``x`` and ``y`` where none are given; ``.npy``: items without labels;
- a folder or a ``.zip``: images, one folder a class, nested as deep as it likes.

Tables need ``datasets`` and images need Pillow: ``pip install "finetuner[data]"``.
"""

import copy
import fnmatch
import importlib
import logging
import os
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .tuner.base.checks import nearest, one_of, some_of, whole
from .tuner.base.dataset import ClassDataset, Dataset, SessionDataset, rows

__all__ = ["ImageArray", "ImageFiles", "load", "load_inputs"]

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")
MODES = ("RGB", "L", "RGBA")

# Only an empty field is missing ("NA" and "None" are words), no column is an index, and all of a column
# tells its kind, not its first 10,000 rows.
_CSV = {"keep_default_na": False, "na_values": [""], "index_col": False, "chunksize": None}
# Labels of two kinds are an error, not JSON in a string; and a table is never a chat's log.
_JSON = {"on_mixed_types": None, "parse_agent_traces": False}
_TABLES: dict[str, tuple[str, dict[str, Any]]] = {
    ".csv": ("csv", _CSV),
    ".tsv": ("csv", {**_CSV, "sep": "\t"}),
    ".jsonl": ("json", _JSON),
    ".ndjson": ("json", _JSON),
    ".json": ("json", _JSON),
    ".parquet": ("parquet", {"batch_size": 10_000}),  # else that of the first row group, even 0
}


def load(
    path: str | os.PathLike[str],
    *,
    input_column: str | Sequence[str] | None = None,
    label_column: str | None = None,
    session_column: str | None = None,
    role_column: str | None = None,
    classes: str | Sequence[str] | None = None,
    image_size: int | tuple[int, int] | None = None,
    image_mode: str | None = None,
    channels_first: bool = True,
    in_memory: bool = False,
) -> Dataset:
    """Read labelled data: a class for each item, or a session and a role.

    Args:
        path: a table, an ``.npz``, or images in a folder or ``.zip``.
        input_column: the column of the items; several give a mapping with one array or list each. May be
            left out where only one column is left. Text becomes a list of ``str``, numbers an array
            ``[N]``, lists of numbers an array ``[N, D]``; float64 becomes float32.
        label_column: the column of the classes, numbers or strings.
        session_column: instead of classes, the column of the sessions ...
        role_column: ... and that of the roles: 0 for an anchor, 1 for a match, -1 for no match.
        classes: names or shell patterns, such as ``["Greek/*", "Latin/*"]``: only these are kept.
        image_size: ``(height, width)`` in pixels, or one number for both; None leaves images as they are.
        image_mode: ``"RGB"`` (default), ``"L"`` (grey) or ``"RGBA"``.
        channels_first: whether an image is ``[C, H, W]`` or ``[H, W, C]``.
        in_memory: whether images are decoded once, now, and not each time they are asked for.

    Returns:
        A :class:`ClassDataset`, or a :class:`SessionDataset` where sessions are named. Images are
        :class:`ImageFiles`, or an :class:`ImageArray` if ``in_memory``; their class is their folder.

    Raises:
        FileNotFoundError: if there is nothing at ``path``.
        ImportError: if the library that reads this kind is not installed.
        ValueError: if the kind is unknown; the file is broken or holds nothing; a column is not named,
            is unknown or has missing values; a pattern matches no class; or images differ in size.
    """
    path = _existing(path)
    data: Dataset
    if _holds_images(path):
        _only_for("tables", path, input_column=input_column, label_column=label_column)
        _only_for("tables", path, session_column=session_column, role_column=role_column)
        files = ImageFiles(path, image_size=image_size, image_mode=image_mode, channels_first=channels_first)
        data = ClassDataset(files, files.class_names())
    else:
        _only_for("images", path, image_size=image_size, image_mode=image_mode)
        table = _table(path)
        if session_column is None and role_column is None:
            label = table.named("label_column", label_column, default="y")
            data = ClassDataset(table.items(input_column, (label,)), table.column(label))
        else:
            _only_for("data without sessions", path, label_column=label_column, classes=classes)
            session = table.named("session_column", session_column)
            role = table.named("role_column", role_column)
            x = table.items(input_column, (session, role))
            data = SessionDataset(x, table.column(session), table.column(role))
    if classes is not None:
        data = _of_classes(data, [classes] if isinstance(classes, str) else list(classes), path)
    if in_memory and isinstance(data.x, ImageFiles):
        data.x = data.x.in_memory()
    return data


def load_inputs(
    path: str | os.PathLike[str],
    *,
    input_column: str | Sequence[str] | None = None,
    image_size: int | tuple[int, int] | None = None,
    image_mode: str | None = None,
    channels_first: bool = True,
    in_memory: bool = False,
) -> Any:
    """Read items alone, as :func:`load` does, of data with or without labels.

    Images may lie anywhere in their folder here, and ``.npy`` is read too.

    Returns:
        What :func:`load` has for ``x``: a list, an array, a mapping of these, or images.

    Raises:
        FileNotFoundError, ImportError, ValueError: as :func:`load`.
    """
    path = _existing(path)
    if _holds_images(path):
        _only_for("tables", path, input_column=input_column)
        files = ImageFiles(path, image_size=image_size, image_mode=image_mode, channels_first=channels_first)
        return files.in_memory() if in_memory else files
    _only_for("images", path, image_size=image_size, image_mode=image_mode)
    if path.suffix.lower() == ".npy":
        _only_for("tables", path, input_column=input_column)
        return _narrowed(_of_numpy(path, lambda array: array))
    return _table(path).items(input_column, ())


def _existing(path: str | os.PathLike[str]) -> Path:
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"path must be a file or a folder, and there is none at {path}")
    if path.is_file() and not path.stat().st_size:
        raise ValueError(f"{path} must not be empty, and is")
    return path


def _holds_images(path: Path) -> bool:
    return path.is_dir() or path.suffix.lower() == ".zip"


def _only_for(kind: str, path: Path, **options: Any) -> None:
    """Refuse options that would go unheard."""
    for name, value in options.items():
        if value is not None:
            raise ValueError(f"{name} is only for {kind}, got {value!r} for {path}")


def _needed(module: str, kind: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError:
        library = {"tables": "datasets", "images": "Pillow"}[kind]
        raise ImportError(f'reading {kind} needs {library}: pip install "finetuner[data]"') from None


def _reason(error: BaseException) -> str:
    """What a parser has to say, in one line."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _narrowed(values: Any) -> Any:
    """Values as models take them: words in a list, and no float64."""
    if isinstance(values, list):
        return values
    if values.dtype.kind == "U":
        return values.tolist()
    return values.astype(np.float32) if values.dtype == np.float64 else values


def _of_classes(data: Dataset, patterns: list[str], path: Path) -> ClassDataset:
    names = [str(name) for name in data.classes]
    if not patterns:
        raise ValueError("classes must hold at least one name or pattern, got none")
    kept: set[int] = set()
    for pattern in map(str, patterns):
        found = {i for i, name in enumerate(names) if name == pattern or fnmatch.fnmatchcase(name, pattern)}
        if not found:
            hint = nearest(pattern, names)
            hint = hint if hint.startswith("did") else f"there are {some_of(names)}"
            raise ValueError(f"classes must be of {path}, and none there matches {pattern!r}; {hint}")
        kept |= found
    at = np.flatnonzero(np.isin(data.labels, sorted(kept)))
    x = data.x.only(at) if isinstance(data.x, ImageFiles) else rows(data.x, at)
    return ClassDataset(x, data.classes[data.labels[at]])


# Tables -----------------------------------------------------------------------------------------------


class _Table(NamedTuple):
    """Columns by name, each made an array or a list when it is asked for."""

    path: Path
    names: list[str]
    column: Callable[[str], Any]

    def named(self, option: str, name: str | None, default: str | None = None) -> str:
        """The name of the column that ``option`` asks for; only an archive's arrays have defaults."""
        if name is None and self.path.suffix.lower() == ".npz" and default in self.names:
            name = default
        columns = ", ".join(map(repr, self.names))
        if name is None:
            raise ValueError(f"{option} must name a column of {self.path}, which has {columns}")
        if name not in self.names:
            hint = nearest(name, self.names)
            raise ValueError(f"{option} must be a column of {self.path}, got {name!r}; {hint}")
        return name

    def items(self, wanted: str | Sequence[str] | None, taken: Sequence[str]) -> Any:
        """What the columns ``wanted`` hold: one column's values, or a mapping of several's."""
        left = [name for name in self.names if name not in taken]
        if wanted is None and len(left) == 1:
            wanted = left[0]
        if wanted is None or isinstance(wanted, str):
            return _narrowed(self.column(self.named("input_column", wanted, default="x")))
        names = [self.named("input_column", name) for name in wanted]
        if not names:
            raise ValueError("input_column must name at least one column, got none")
        return {name: _narrowed(self.column(name)) for name in names}


def _table(path: Path) -> _Table:
    kind = path.suffix.lower()
    if kind in _TABLES:
        columns = _columns(path, *_TABLES[kind])
        return _Table(path, columns.column_names, lambda name: _values(path, name, columns[name]))
    if kind == ".npz":
        names = _of_numpy(path, lambda arrays: arrays.files)
        return _Table(path, names, lambda name: _of_numpy(path, lambda arrays: arrays[name]))
    if kind == ".npy":
        raise ValueError(f"labels are needed, and an .npy file has none: save x and y in an .npz, got {path}")
    known = ", ".join((*_TABLES, ".npz", ".npy"))
    raise ValueError(f"path must end in one of {known}, or be a folder or .zip of images, got {path}")


def _of_numpy(path: Path, part: Callable[[Any], Any]) -> Any:
    """The part that is wanted of an ``.npz``, whose other arrays stay unread, or of an ``.npy``."""
    try:
        with open(path, "rb") as file:
            return part(np.load(file, allow_pickle=False))
    except Exception as error:  # of zipfile, zlib and numpy
        reason = _reason(error)
        if "Object arrays" in reason:
            reason = "it holds arrays of Python objects, whose pickles are not read; save numbers or strings"
        elif "pickle" in reason:  # numpy's guess at all that it does not know
            reason = "it is not in numpy's format"
        raise ValueError(f"{path} cannot be read: {reason}") from None


def _columns(path: Path, reader: str, options: dict[str, Any]) -> Any:
    """All of a table, as an Arrow table, leaving nothing on the disk."""
    datasets = _needed("datasets", "tables")
    module = _needed(f"datasets.packaged_modules.{reader}.{reader}", "tables")
    known = vars(getattr(module, f"{reader.title()}Config"))  # an older version knows fewer options
    options = {name: value for name, value in options.items() if name in known}
    with tempfile.TemporaryDirectory() as cache, _quiet(datasets):
        # Under a plain name: of a path with "[1]" or "::" in it, the reader would make a pattern or a URL.
        link = Path(cache, f"table{path.suffix.lower()}")
        link.symlink_to(path.resolve())
        try:  # not streaming, which imports torch
            read = getattr(datasets.Dataset, f"from_{reader}")
            found = read(str(link), cache_dir=cache, keep_in_memory=True, **options).with_format("arrow")[:]
        except Exception as error:  # of pandas, pyarrow and datasets
            reason = _reason(error.__cause__ or error)
            empty = isinstance(error, StopIteration) or "corresponds to no data" in reason
            told = "must hold at least one row, got none" if empty else f"cannot be read: {reason}"
            raise ValueError(f"{path} {told}") from None
    return found


@contextmanager
def _quiet(datasets: Any) -> Iterator[None]:
    """Without bars, and without a log of what is raised too; the one warning that matters is raised."""
    logger, bars = logging.getLogger("datasets"), not datasets.are_progress_bars_disabled()
    level = logger.level
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Length of header")  # a row with more fields would be cut
        warnings.filterwarnings("ignore", "Cannot disable progress bars")  # set so by the environment
        logger.setLevel(logging.CRITICAL)
        datasets.disable_progress_bars()
        try:
            yield
        finally:
            logger.setLevel(level)
            if bars:
                datasets.enable_progress_bars()


def _values(path: Path, name: str, column: Any) -> Any:
    """An Arrow column as a list of ``str``, or as an array ``[N]`` or ``[N, D]``."""
    where = f"column {name!r} of {path}"
    types, compute = _needed("pyarrow.types", "tables"), _needed("pyarrow.compute", "tables")
    if types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if types.is_temporal(column.type):  # the reader of JSON makes times of words that look like them
        column = column.cast("string")
    lists = types.is_list, types.is_large_list, types.is_fixed_size_list
    values, shape = column, [len(column)]
    while True:
        if values.null_count:
            missing = np.unique(np.flatnonzero(values.is_null()) * shape[0] // len(values))
            raise ValueError(f"{where} must not miss values, and does at rows (from 0) {some_of(missing)}")
        if not any(is_list(values.type) for is_list in lists):
            break
        lengths = np.unique(compute.list_value_length(values))
        if len(lengths) != 1:
            raise ValueError(f"{where} must hold lists of one length, got {some_of(lengths)}")
        values = compute.list_flatten(values)
        shape.append(int(lengths[0]))
    if len(shape) == 1 and str(values.type) in ("string", "large_string", "string_view"):
        return values.to_pylist()
    if types.is_decimal(values.type):
        values = values.cast("float64")
    if not (types.is_integer(values.type) or types.is_floating(values.type) or types.is_boolean(values.type)):
        raise ValueError(f"{where} must hold text, numbers or lists of numbers, got {column.type}")
    return values.to_numpy().reshape(shape)


# Images -----------------------------------------------------------------------------------------------


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
        _needed("PIL.Image", "images")
        self.path = _existing(path)
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
            loose = some_of((name for name in self.names if "/" not in name), 3)
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
                raise ValueError(f"{self.path} cannot be read: {_reason(error)}") from None
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
        image_module = _needed("PIL.Image", "images")
        try:
            with self._file(name) as file, image_module.open(file) as image:
                yield image
        except image_module.UnidentifiedImageError:
            raise ValueError(f"{self.path / name} cannot be read: it is no image that Pillow knows") from None
        except Exception as error:  # what a decoder raises at broken data differs by format
            raise ValueError(f"{self.path / name} cannot be read: {_reason(error)}") from None

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
    return whole("image_size", sides[0], 1), whole("image_size", sides[1], 1)


def _is_image(name: str) -> bool:
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))
    return not hidden and name.lower().endswith(IMAGES)


def _raise(error: OSError) -> None:
    raise error
