"""Damaged tables: each is read, or refused in one line."""

import importlib.util
import lzma
import random

import numpy as np

from finetuner.data import load

from ..test_mutated_tables import COLUMNS, TEXT_FILES, damaged
from .outcome import RAN, REFUSED, Failure, pick, refusals, require

FILES: dict[str, bytes] = {}
OPTIONS = ({}, {}, {"separator": "tab"}, {"encoding": "latin-1"}, {"column_names": ["text", "label", "n"]})


def files(folder):
    """The contents of whole tables by name. Those that need a library are made once."""
    if not FILES:
        np.savez(folder / "whole.npz", text=np.array(["a", "b"]), label=np.array([1, 2]), n=np.eye(2))
        FILES.update(TEXT_FILES, **{"a.txt": b"one\ntwo\n", "a.tsv.xz": lzma.compress(TEXT_FILES["a.tsv"])})
        FILES["a.npz"] = (folder / "whole.npz").read_bytes()
        if importlib.util.find_spec("pyarrow"):
            import pyarrow.ipc
            import pyarrow.parquet

            table = pyarrow.table({"text": ["a", "b", "c"], "label": ["x", "y", "x"], "n": [1, 2, 3]})
            pyarrow.parquet.write_table(table, folder / "whole.parquet")
            with pyarrow.ipc.new_stream(folder / "whole.arrow", table.schema) as stream:
                stream.write_table(table)
            FILES.update({f"a{s}": (folder / f"whole{s}").read_bytes() for s in (".parquet", ".arrow")})
    return FILES


def table(rng, backend, folder):
    """One damaged file."""
    name = pick(rng, *sorted(files(folder)))
    content = damaged(FILES[name], random.Random(int(rng.integers(2**40))))
    path, options = folder / name, dict(pick(rng, *COLUMNS))
    path.write_bytes(content)
    if name.endswith((".csv", ".tsv")):
        options |= pick(rng, *OPTIONS)
    try:
        with refusals() as refused:
            data = load(path, **options)
            require(len(data) > 0, "a dataset without items")
            data[0]
        require(all(type(error) in (ValueError, TypeError) for error in refused), f"a {type(refused)}")
    except Failure as failure:
        raise Failure(f"{name} {options} {content[:120]!r}: {failure}") from failure
    return REFUSED if refused else RAN


KINDS = {"table": table}
