"""Read files and folders into datasets.

:func:`load` reads labelled data into a dataset. :func:`load_inputs` reads items without labels. :func:`inspect_data`
looks through data and reports what is broken. The path decides the format:

- ``.csv``, ``.tsv``, ``.jsonl``, ``.ndjson``, ``.json``, ``.parquet``, ``.arrow``: a table with named columns. Text
  tables may be packed: ``.csv.gz``, ``.jsonl.bz2``, ``.tsv.xz``.
- ``.txt``: an item in each line, without labels.
- ``.npz``: named arrays. The default names are ``x`` and ``y``.
- ``.npy``: an array of items without labels.
- A folder of shards of one table, a folder that ``datasets`` saved, a pattern, or a list of paths: one table.
- A folder or a ``.zip``: images. Each class is a folder, nested to any depth.

Parquet and Arrow need pyarrow, and images need Pillow: ``pip install "finetuner[data]"``.
"""

from .images import ImageArray, ImageFiles
from .inspection import Inspection, inspect_data
from .reading import load, load_inputs

__all__ = ["ImageArray", "ImageFiles", "Inspection", "inspect_data", "load", "load_inputs"]
