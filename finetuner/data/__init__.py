"""Files and folders -> datasets.

:func:`load` reads labelled data into a dataset, :func:`load_inputs` reads items alone. What is read is
told by the path:

- ``.csv``, ``.tsv``, ``.jsonl``, ``.ndjson``, ``.json``, ``.parquet``: a table, whose columns have names;
- ``.npz``: arrays with names, ``x`` and ``y`` where none are given; ``.npy``: items without labels;
- a folder or a ``.zip``: images, one folder a class, nested as deep as it likes.

Tables need ``datasets`` and images need Pillow: ``pip install "finetuner[data]"``.
"""

from .images import ImageArray, ImageFiles
from .reading import load, load_inputs

__all__ = ["ImageArray", "ImageFiles", "load", "load_inputs"]
