"""Read files into a dataset."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from ..tuner.base.data import ClassDataset, Dataset, InstanceDataset
from .common import refuse_options
from .image_tables import ImageColumns, select_rows
from .images import ImageFiles
from .kinds import COLUMNS, kind_of_data, read_dataset, same_item
from .selection import ItemReader, select_classes
from .sources import PathLike, are_images, find_files
from .tables import Table, read_numpy, read_table, table_options
from .values import as_items
from .whole_tables import whole_columns

__all__ = ["load", "load_inputs", "load_inputs_and_columns"]


def load(
    path: PathLike | Sequence[PathLike],
    *,
    input_column: str | Sequence[str] | None = None,
    image_column: str | Sequence[str] | None = None,
    label_column: str | None = None,
    session_column: str | None = None,
    role_column: str | None = None,
    anchor_column: str | None = None,
    positive_column: str | None = None,
    negative_column: str | None = None,
    score_column: str | None = None,
    target_column: str | Sequence[str] | None = None,
    query_column: str | None = None,
    relevance_column: str | None = None,
    unlabelled: bool = False,
    augment: Callable[..., Any] | None = None,
    classes: str | Sequence[str] | None = None,
    split: str | None = None,
    part: str | None = None,
    numeric: bool | Sequence[str] = False,
    encoding: str | None = None,
    separator: str | None = None,
    column_names: Sequence[str] | None = None,
    max_bytes: int | None = None,
    image_size: int | tuple[int, int] | None = None,
    image_mode: str | None = None,
    channels_first: bool = True,
    in_memory: bool = False,
    max_pixels: int | None = None,
    transform: Callable[..., Any] | None = None,
    skip_broken: bool = False,
) -> Dataset:
    r"""Read files into a dataset. The columns that are named decide which dataset it is.

    ====================================================================  ==============================
    columns                                                               result
    ====================================================================  ==============================
    ``label_column``, or images with one folder for each class            :class:`ClassDataset`
    ``session_column``, ``role_column``                                   :class:`SessionDataset`
    ``anchor_column``, ``positive_column``, perhaps ``score_column``      :class:`PairDataset`
    ``anchor_column``, ``positive_column``, ``negative_column``           :class:`TripletDataset`
    ``target_column``                                                     :class:`TargetDataset`
    ``query_column``, ``relevance_column``                                :class:`RankingDataset`
    ``unlabelled=True``                                                   :class:`InstanceDataset`
    ====================================================================  ==============================

    Cells of CSV and TSV files are text. As labels they are compared to the letter: ``01`` and ``1`` are two classes. A
    column of items with digits stays text unless ``numeric`` is given. Values of typed files (JSON, Parquet, arrays)
    keep their type; dates and decimals of Parquet become labels as text. Float64 items become float32. What the
    reader inferred, such as a separator, is logged by the logger ``finetuner.data``.

    Args:
        path: A table (CSV, TSV, JSON, JSON Lines, Parquet), an ``.npz``, a folder of shards of a table, a folder that
            ``datasets.Dataset.save_to_disk`` wrote, or images in a folder or ``.zip``. A pattern such as
            ``"train-*.parquet"``, or a list of paths, is read as one table. Tables may be compressed by gzip, bzip2
            or xz.
        input_column: The column with the items. Several columns give a mapping of arrays and lists. It may be omitted
            if the labels leave only one column. Text becomes a list of ``str``, numbers become an array ``[N]``, lists
            of numbers become an array ``[N, D]``, or a list of lists if they differ in length. A Parquet column of
            image files becomes images.
        image_column: The column with the items if these are images: paths relative to the folder of the table. Several
            columns may be named, of which ``input_column``, ``anchor_column`` and the others then say what they are.
        label_column: The column with the classes, numbers or strings, or lists of these for several labels per item.
        session_column: The column with the sessions.
        role_column: The column with the roles of the items in their session: 0 for an anchor, 1 for a match, -1 for no
            match.
        anchor_column: The column with the first items of pairs or triplets; ``input_column`` is used without it.
        positive_column: The column with the items that belong to the anchors, or that are compared with them.
        negative_column: The column with the items that do not belong to the anchors.
        score_column: The column with the similarity of each pair, a number.
        target_column: The column with a number or a vector for each item. Several columns of numbers give vectors.
        query_column: The column with the query of each item.
        relevance_column: The column with the relevance of each item to its query, a number.
        unlabelled: Whether to read items without labels. Two views of an item belong together.
        augment: A function that varies an item in training, see :class:`ClassDataset`. Without it the views of
            unlabelled data are equal, and only the model's dropout makes them differ.
        classes: Class names or shell patterns, such as ``["Greek/*", "Latin/*"]``. Items of other classes are dropped.
        split: Use only the rows of a table whose column ``split`` has this value.
        part: ``"query"`` or ``"gallery"``: use only the rows of a table whose column ``is_query`` or ``is_gallery`` is
            true. None uses all rows.
        numeric: Whether text in columns of items is read as numbers: True, or the names of these columns.
        encoding: The encoding of text files, such as ``"cp1252"``. The default is UTF-8, or UTF-16 or UTF-32 if the
            file begins with a byte order mark.
        separator: The character between the cells of a CSV or TSV, or ``"tab"``. The default of a CSV is a comma, or
            what its first line is separated by (``;``, tab or ``|``). A TSV is read without quoting, except if a
            program has quoted its cells; with a ``separator`` it is read by the rules of CSV.
        column_names: The names of all columns of a CSV or TSV without a header.
        max_bytes: The most bytes that a compressed file may unpack to. The default is 200 times its size, at least
            64 MiB.
        image_size: ``(height, width)`` in pixels, or one integer for both. None keeps the size of the images.
        image_mode: ``"RGB"`` (the default), ``"L"`` (grey) or ``"RGBA"``.
        channels_first: Whether an image is ``[C, H, W]`` or ``[H, W, C]``.
        in_memory: Whether to decode all images now, rather than on each access.
        max_pixels: The largest number of pixels of an image that is decoded. None is Pillow's limit, about 89 million.
        transform: A function of an image for evaluation, and for training without ``augment``, see
            :class:`ImageFiles`.
        skip_broken: Whether to look through all images now and leave out those that cannot be read, with a warning.

    Returns:
        The dataset. Its items are a list, an array, a mapping of these, an :class:`ImageFiles`, or, if ``in_memory``,
        an :class:`ImageArray`.

    Raises:
        FileNotFoundError: If ``path`` does not exist, or a pattern has no match.
        ImportError: If the library that reads this format is not installed.
        TypeError: If ``image_size`` is not an integer or a pair of integers.
        ValueError: If the format is unknown, the file is broken or empty, a column is not given, is unknown or has
            missing values, a value is of the wrong type, a pattern matches no class, or images differ in size.

    Example:
        >>> from pathlib import Path
        >>> _ = Path("animals.csv").write_text("text,label\nmeow,cat\nwoof,dog\npurr,cat\n")
        >>> data = load("animals.csv", input_column="text", label_column="label")
        >>> data
        ClassDataset(3 items, 2 classes)
        >>> data.x
        ['meow', 'woof', 'purr']
        >>> load("animals.csv", label_column="label", classes="c*").x
        ['meow', 'purr']
        >>> _ = Path("pairs.tsv").write_text("a\tb\tscore\na plane\tan aircraft\t5.0\na dog\ta cat\t1.5\n")
        >>> load("pairs.tsv", anchor_column="a", positive_column="b", score_column="score")
        PairDataset(2 pairs, scored)
    """
    options = {name: value for name, value in locals().items() if name in (*COLUMNS, "unlabelled")}
    kind = kind_of_data(options)
    if classes is not None and kind != "classes":
        raise ValueError(f"classes is only for data with classes, got {classes!r} for {kind}")
    files = find_files(path)
    images = _image_options(image_size, image_mode, channels_first, max_pixels, transform)
    layout = table_options(encoding, separator, column_names, max_bytes)
    data: Dataset
    if are_images(files):
        given = {name: value for name, value in options.items() if name != "unlabelled"}
        given |= {"input_column": input_column, "image_column": image_column, "split": split, "part": part}
        refuse_options("tables", files[0], **given, **layout._asdict())
        found = ImageFiles(files[0], skip_broken=skip_broken, **images)
        if classes is None and not unlabelled:
            found.warn_of_splits()
        if unlabelled:
            data = InstanceDataset(found, augment or same_item)
        else:
            data = ClassDataset(found, found.class_names(), augment=augment)
    else:
        table = read_table(files, layout)
        select_rows(table, split, part)
        reader = ItemReader(table, numeric, ImageColumns(table, _list(image_column), images, skip_broken))
        input_column = image_column if input_column is None and anchor_column is None else input_column
        data = read_dataset(table, options, input_column, reader.items, augment)
        reader.refuse_unused()
    if classes is not None:
        data = select_classes(data, [classes] if isinstance(classes, str) else list(classes), files[0])
    if in_memory and isinstance(data.x, ImageFiles):
        data.x = data.x.in_memory()
    return data


def load_inputs(
    path: PathLike | Sequence[PathLike],
    *,
    input_column: str | Sequence[str] | None = None,
    image_column: str | Sequence[str] | None = None,
    split: str | None = None,
    part: str | None = None,
    numeric: bool | Sequence[str] = False,
    encoding: str | None = None,
    separator: str | None = None,
    column_names: Sequence[str] | None = None,
    max_bytes: int | None = None,
    image_size: int | tuple[int, int] | None = None,
    image_mode: str | None = None,
    channels_first: bool = True,
    in_memory: bool = False,
    max_pixels: int | None = None,
    transform: Callable[..., Any] | None = None,
    skip_broken: bool = False,
) -> Any:
    """Read items without labels.

    The data may also have labels; then ``input_column`` selects the items. Images may be anywhere in their folder.

    Args:
        path: A table, an ``.npz``, an ``.npy``, a ``.txt`` with one item a line (blank lines are no items), or images
            in a folder or ``.zip``. Several paths and patterns are one table, see :func:`load`.
        input_column: The column with the items, see :func:`load`.
        image_column: The column with the paths of images, see :func:`load`.
        split: Which rows of a table are read, see :func:`load`.
        part: ``"query"``, ``"gallery"`` or None, see :func:`load`.
        numeric: Whether text is read as numbers, see :func:`load`.
        encoding: The encoding of text files, see :func:`load`.
        separator: The character between the cells of a CSV or TSV, see :func:`load`.
        column_names: The names of all columns of a CSV or TSV without a header.
        max_bytes: The most bytes that a compressed file may unpack to, see :func:`load`.
        image_size: The size of the images, see :func:`load`.
        image_mode: ``"RGB"`` (the default), ``"L"`` (grey) or ``"RGBA"``.
        channels_first: Whether an image is ``[C, H, W]`` or ``[H, W, C]``.
        in_memory: Whether to decode all images now, rather than on each access.
        max_pixels: The largest number of pixels of an image that is decoded, see :func:`load`.
        transform: A function of an image, see :class:`ImageFiles`.
        skip_broken: Whether images that cannot be read are left out, see :func:`load`.

    Returns:
        A list, an array, a mapping of these, an :class:`ImageFiles`, or, if ``in_memory``, an :class:`ImageArray`.

    Raises:
        FileNotFoundError: If ``path`` does not exist.
        ImportError: If the library that reads this format is not installed.
        TypeError: If ``image_size`` is not an integer or a pair of integers.
        ValueError: If the data cannot be read, see :func:`load`.

    Example:
        >>> np.save("vectors.npy", np.eye(2))
        >>> load_inputs("vectors.npy")
        array([[1., 0.],
               [0., 1.]], dtype=float32)
    """
    return _read_items(**locals())[0]


def load_inputs_and_columns(path: PathLike | Sequence[PathLike], **options: Any) -> tuple[Any, dict[str, Any]]:
    """Read items without labels, and all columns of their rows.

    Args:
        path: See :func:`load_inputs`.
        **options: The other arguments of :func:`load_inputs`.

    Returns:
        The items, and the columns by name, see :func:`~finetuner.data.whole_tables.whole_columns`. Images in a folder
        have the column ``name``, and an ``.npy`` has no columns.

    Raises:
        FileNotFoundError, ImportError, TypeError, ValueError: See :func:`load_inputs`.
    """
    arguments = inspect.signature(load_inputs).bind(path, **options)
    arguments.apply_defaults()
    items, table = _read_items(**arguments.arguments)
    if table is not None:
        names = ("encoding", "separator", "column_names", "max_bytes")
        return items, whole_columns(table, table_options(*(arguments.arguments[name] for name in names)))
    return items, {"name": list(items.names)} if hasattr(items, "names") else {}


def _read_items(
    path: PathLike | Sequence[PathLike],
    *,
    input_column: str | Sequence[str] | None,
    image_column: str | Sequence[str] | None,
    split: str | None,
    part: str | None,
    numeric: bool | Sequence[str],
    encoding: str | None,
    separator: str | None,
    column_names: Sequence[str] | None,
    max_bytes: int | None,
    in_memory: bool,
    skip_broken: bool,
    **image_options: Any,
) -> tuple[Any, Table | None]:
    """The items, and the table that they are from; None if they are from none."""
    files = find_files(path)
    images = _image_options(**image_options)
    layout = table_options(encoding, separator, column_names, max_bytes)
    if are_images(files):
        given = {"input_column": input_column, "image_column": image_column, "split": split, "part": part}
        refuse_options("tables", files[0], **given, **layout._asdict())
        found = ImageFiles(files[0], skip_broken=skip_broken, **images)
        return found.in_memory() if in_memory else found, None
    if len(files) == 1 and files[0].suffix.lower() == ".npy":
        refuse_options("tables", files[0], input_column=input_column)
        refuse_options("images", files[0], image_size=images["image_size"], image_mode=images["image_mode"])
        return as_items(str(files[0]), read_numpy(files[0], lambda array: array, max_bytes)), None
    table = read_table(files, layout)
    select_rows(table, split, part)
    reader = ItemReader(table, numeric, ImageColumns(table, _list(image_column), images, skip_broken))
    input_column = image_column if input_column is None else input_column
    names = table.input_names(input_column, ())
    table.read([names] if isinstance(names, str) else names)
    items = reader.items(names)
    reader.refuse_unused()
    return items.in_memory() if in_memory and isinstance(items, ImageFiles) else items, table


def _image_options(
    image_size: Any, image_mode: str | None, channels_first: bool, max_pixels: int | None, transform: Any
) -> dict[str, Any]:
    return {
        "image_size": image_size,
        "image_mode": image_mode,
        "channels_first": channels_first,
        "max_pixels": max_pixels,
        "transform": transform,
    }


def _list(names: str | Sequence[str] | None) -> list[str]:
    return [names] if isinstance(names, str) else list(names or [])
