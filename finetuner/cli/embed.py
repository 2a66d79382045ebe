"""The command ``embed``."""

from typing import Any

import typer

from . import options as o
from . import sizes as s
from .check import printable
from .embedding_files import COLUMN, SUFFIXES, TABLE_SUFFIXES, check_writable, write_embeddings
from .inputs import COLUMN_OPTIONS, check_inputs, check_output, read_data
from .models import open_encoder, run_settings
from .parts import EmbedPart, check_part_dtype, columns_of_part, parse_part
from .standard_input import check_standard_input, files_of
from .terminal import handle_errors
from .user_code import use_threads

__all__ = ["embed"]


@handle_errors
def embed(
    context: typer.Context,
    *,
    data: o.EmbedData,
    input_column: o.InputColumn = None,
    image_column: o.ImageColumn = None,
    label_column: o.LabelColumn = None,
    format: o.Format = None,
    numeric: o.Numeric = False,
    encoding: o.Encoding = None,
    separator: o.Separator = None,
    column_names: o.ColumnNames = None,
    max_bytes: o.MaxBytes = None,
    split: o.Split = None,
    image_size: o.ImageSize = None,
    image_mode: o.ImageMode = None,
    channels_last: o.ChannelsLast = False,
    max_pixels: o.MaxPixels = None,
    skip_broken: o.SkipBroken = False,
    num_workers: o.NumWorkers = 0,
    run: o.RunFolder = None,
    model: o.OptionalModel = None,
    model_option: o.ModelOption = None,
    preprocess: o.Preprocess = None,
    collate: o.Collate = None,
    trust: o.Trust = False,
    device: o.Device = "auto",
    batch_size: o.BatchSize = 256,
    dim: s.Dim = None,
    dtype: s.Dtype = "float32",
    part: EmbedPart = None,
    output: o.EmbedOutput,
    config: o.Config = None,
    seed: o.WeightSeed = None,
    threads: o.Threads = None,
    debug: o.Debug = False,
) -> None:
    """Write embeddings of data to a file.

    An .npz has an array `embeddings`, with one row per item. With --label-column
    it also has `labels`, and for images it also has `names`.

    A .parquet or .jsonl has all columns of the table, and the column `embedding`.
    An .npy has the embeddings alone.

    With --part, an .npz also has the array `part`.
    """
    settings = run_settings(context, {name: value for name, value in locals().items() if name != "label_column"})
    chosen = parse_part(part)
    check_part_dtype(chosen, dtype)
    check_output(output, SUFFIXES)
    if output.suffix == ".npy" and label_column is not None:
        raise ValueError(f"--output must end in .npz with --label-column, got {output}, which holds embeddings alone")
    check_standard_input(data, format, image_column)
    check_inputs(*(path for path in data if format is None))
    use_threads(threads)
    encoder = open_encoder(settings)
    is_table = output.suffix in TABLE_SUFFIXES
    labelled = label_column is not None and not is_table  # the run's own label column does not count
    data_settings = {
        **settings,
        **dict.fromkeys(name for name in COLUMN_OPTIONS if name != "input_column"),
        "label_column": label_column if labelled else None,
        "in_memory": False,
        "part": None,  # there, it is queries or gallery
    }
    columns: dict[str, Any] = {}
    with files_of(data, format) as files:
        items = read_data(files, data_settings, None, "data", labelled, columns=columns if is_table else None)
    if is_table and label_column is not None and label_column not in columns:
        raise ValueError(f"--label-column must be a column of --data, got {label_column!r}")
    columns = check_writable(output, columns)
    embeddings = encoder.embed(items, batch_size=batch_size, num_workers=num_workers, dim=dim, dtype=dtype, part=chosen)
    if labelled and items.labels.ndim == 2:  # label sets
        columns |= {"labels": items.labels, "label_names": items.label_names}
    elif labelled:
        columns["labels"] = items.classes[items.labels]
    if hasattr(items, "names") and output.suffix == ".npz":
        import numpy as np

        columns["names"] = np.array(items.names)
    if chosen is not None:
        columns = columns_of_part(columns, encoder.rows_of_part(items, chosen, batch_size), is_table)
    write_embeddings(output, embeddings, columns, chosen)
    note = "" if part is None else f"; part {part}"
    if is_table:
        names = "".join(f", {printable(name)}" for name in columns)
        typer.echo(f"{output}  {COLUMN} {list(embeddings.shape)}{names}{note}")
    else:
        arrays = {"embeddings": embeddings, **columns}
        typer.echo(f"{output}  " + ", ".join(f"{name} {list(array.shape)}" for name, array in arrays.items()) + note)
