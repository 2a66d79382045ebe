"""Read files and folders into datasets.

:func:`load` reads labelled data into a dataset. :func:`load_inputs` reads items without labels. The path decides the
format:

- ``.csv``, ``.tsv``, ``.jsonl``, ``.ndjson``, ``.json``, ``.parquet``: a table with named columns.
- ``.npz``: named arrays. The default names are ``x`` and ``y``.
- ``.npy``: an array of items without labels.
- A folder or a ``.zip``: images. Each class is a folder, nested to any depth.

Tables need ``datasets`` and images need Pillow: ``pip install "finetuner[data]"``.
"""

from .images import ImageArray, ImageFiles
from .reading import load, load_inputs

__all__ = ["ImageArray", "ImageFiles", "load", "load_inputs"]
