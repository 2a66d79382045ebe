"""Look through data once, and report what is broken or looks wrong."""

import hashlib
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from ..arrays import as_list, num_items
from .image_folders import split_folders
from .image_tables import ImageColumns, select_rows
from .images import ImageFiles
from .sources import PathLike, are_images, find_files, title_of
from .tables import Table, read_table, table_options

__all__ = ["Inspection", "inspect_data"]


@dataclass
class Inspection:
    """What was found in one set of data. Positions are those of the items, from 0.

    Attributes:
        title: The path.
        items: The number of items that were looked at.
        broken: What cannot be read or used, by item: a name or a position.
        classes: The number of classes; None without labels.
        smallest_class: The number of items of the smallest class; None without labels.
        largest_class: The number of items of the largest class; None without labels.
        single_item_classes: Classes with one item, which has no positive.
        similar_labels: Groups of labels that differ only in case, spaces or the form of Unicode.
        sizes: How many images have which size, ``"HEIGHTxWIDTH"``.
        left_out: How many files of a folder are no images, by suffix or reason.
        splits: Folders that look like splits, but are read as classes.
        duplicates: Groups of items that are exactly equal.
        conflicts: Those of the groups whose items have different labels.
        shared: How many items of this set are in another one, too, by its title.
    """

    title: str
    items: int = 0
    broken: dict[str, str] = field(default_factory=dict)
    classes: int | None = None
    smallest_class: int | None = None
    largest_class: int | None = None
    single_item_classes: list[str] = field(default_factory=list)
    similar_labels: list[list[str]] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)
    splits: list[str] = field(default_factory=list)
    duplicates: list[list[str]] = field(default_factory=list)
    conflicts: list[list[str]] = field(default_factory=list)
    shared: dict[str, int] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """All attributes, for JSON."""
        return asdict(self)


def inspect_data(
    paths: Sequence[PathLike],
    *,
    input_column: str | Sequence[str] | None = None,
    image_column: str | Sequence[str] | None = None,
    label_column: str | None = None,
    split: str | None = None,
    encoding: str | None = None,
    separator: str | None = None,
    column_names: Sequence[str] | None = None,
    max_bytes: int | None = None,
    max_pixels: int | None = None,
) -> list[Inspection]:
    r"""Read sets of data once, and report what is broken or looks wrong.

    Args:
        paths: A path for each set, such as the training and the test data. Items that are in several sets are reported.
        input_column: The column with the items, see :func:`~finetuner.data.load`. The default is all other columns.
        image_column: The column with paths of images.
        label_column: The column with the classes; None for items without labels.
        split: Which rows of the tables are read, see :func:`~finetuner.data.load`.
        encoding: The encoding of text files.
        separator: The character between the cells of a CSV or TSV.
        column_names: The names of all columns of a CSV or TSV without a header.
        max_bytes: The most bytes that a compressed file may unpack to.
        max_pixels: The largest number of pixels of an image.

    Returns:
        What was found in each set. Data that cannot be read at all is reported as broken.

    Raises:
        FileNotFoundError: If there is nothing at a path.

    Example:
        >>> from pathlib import Path
        >>> _ = Path("a.csv").write_text("text,label\nhello,x\nhello,X\nbye,y\n")
        >>> report = inspect_data(["a.csv"], label_column="label")[0]
        >>> report.items, report.similar_labels, report.single_item_classes
        (3, [['X', 'x']], ['X', 'x', 'y'])
        >>> report.conflicts
        [['row 0', 'row 1']]
    """
    layout = table_options(encoding, separator, column_names, max_bytes)
    reports, digests = [], []
    for path in paths:
        files = find_files(path)
        report, found = Inspection(title_of(files)), dict[str, bytes]()
        try:
            if are_images(files):
                _inspect_images(report, found, files[0], max_pixels)
            else:
                table = read_table(files, layout)
                select_rows(table, split)
                names = [image_column] if isinstance(image_column, str) else list(image_column or [])
                columns = ImageColumns(table, names, {"max_pixels": max_pixels, "transform": _unchanged})
                _inspect_table(report, found, table, columns, input_column or image_column, label_column)
        except ValueError as error:
            report.broken[report.title] = str(error)
        reports.append(report)
        digests.append(found)
    for i, report in enumerate(reports):
        for j, other in enumerate(reports):
            if i != j and (count := sum(map(set(digests[j].values()).__contains__, digests[i].values()))):
                report.shared[other.title] = count
    return reports


def _inspect_images(report: Inspection, found: dict[str, bytes], path: Any, max_pixels: int | None) -> None:
    images = ImageFiles(path, max_pixels=max_pixels, transform=_unchanged)
    report.left_out = images.left_out
    has_classes = all("/" in name for name in images.names)  # else some are not in the folder of a class
    labels = images.class_names() if has_classes else None
    report.splits = split_folders(labels or [])
    _inspect_items(report, found, [*images.names], _digests_of_images(report, images), labels)


def _inspect_table(
    report: Inspection,
    found: dict[str, bytes],
    table: Table,
    columns: ImageColumns,
    input_column: Any,
    label_column: str | None,
) -> None:
    labels = [] if label_column is None else [table.resolve("label_column", label_column)]
    left = [name for name in table.names if name not in labels]
    names = table.input_names(left if input_column is None else input_column, labels)
    names = [names] if isinstance(names, str) else names
    table.read([*names, *labels])
    parts: list[Iterable[bytes | None]] = []
    for name in names:
        if columns.hold(name):
            parts.append(_digests_of_images(report, columns.images(name)))
        else:
            parts.append(_digests_of_values(report, table.column(name)))
    count = num_items(table.column(names[0]))
    rows = [f"row {row}" for row in range(count)]
    joined = (None if None in row else _digest(*row) for row in zip(*parts, strict=True))
    _inspect_items(report, found, rows, joined, list(table.labels(labels[0])) if labels else None)


def _inspect_items(
    report: Inspection,
    found: dict[str, bytes],
    names: Sequence[str],
    digests: Iterable[bytes | None],
    labels: Sequence[Any] | None,
) -> None:
    """Fill in what is known of items by their names, digests (None for one that is broken) and labels."""
    groups: defaultdict[bytes, list[int]] = defaultdict(list)
    report.items = len(names)
    for position, digest in enumerate(digests):
        if digest is not None:
            groups[digest].append(position)
            found[names[position]] = digest
    equal = [group for group in groups.values() if len(group) > 1]
    report.duplicates = [[names[i] for i in group] for group in equal]
    if labels is None:
        return
    sets = [label if isinstance(label, set) else {label} for label in labels]
    report.conflicts = [[names[i] for i in group] for group in equal if any(sets[i] != sets[group[0]] for i in group)]
    counts = Counter(str(label) for labels_of_item in sets for label in labels_of_item)
    sizes = counts.values()
    report.classes, report.smallest_class, report.largest_class = len(counts), min(sizes), max(sizes)
    report.single_item_classes = sorted(name for name, count in counts.items() if count == 1)
    report.similar_labels = _similar(counts)


def _similar(labels: Iterable[str]) -> list[list[str]]:
    """Groups of labels that are equal but for case, spaces and the form of Unicode."""
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for label in labels:
        plain = unicodedata.normalize("NFKC", label).casefold()
        groups[" ".join(plain.split())].append(label)
    return sorted(sorted(group) for group in groups.values() if len(group) > 1)


def _digests_of_images(report: Inspection, images: ImageFiles) -> Iterator[bytes | None]:
    """A digest of the pixels of each image; None if it cannot be read."""
    sizes: Counter[str] = Counter()
    for name, pixels in zip(images.names, images.decoded(), strict=True):
        if isinstance(pixels, ValueError):
            report.broken[name] = str(pixels)
            yield None
        else:
            sizes[f"{pixels.shape[1]}x{pixels.shape[2]}"] += 1
            yield _digest(pixels)
    report.sizes = dict(sizes.most_common())


def _digests_of_values(report: Inspection, values: Any) -> Iterator[bytes | None]:
    """A digest of each value of a column; None if it has NaN or infinity."""
    for row, value in enumerate(as_list(values, len(values))):
        if isinstance(value, np.ndarray | np.generic) and value.dtype.kind == "f" and not np.isfinite(value).all():
            report.broken[f"row {row}"] = "numbers must be finite, and are not"
            yield None
        else:
            yield _digest(value)


def _digest(*values: Any) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for value in values:
        if isinstance(value, np.ndarray | np.generic):
            digest.update(f"{value.dtype.str}{np.shape(value)}".encode())
            content = np.ascontiguousarray(value).tobytes()
        else:
            content = value if isinstance(value, bytes) else repr(value).encode("utf-8", "surrogatepass")
        digest.update(len(content).to_bytes(8, "little"))
        digest.update(content)
    return digest.digest()


def _unchanged(image: Any) -> Any:
    """The image. As a transform it allows images of several sizes."""
    return image
