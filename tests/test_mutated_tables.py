"""Tests that a damaged table is read or refused in one line, whatever is damaged."""

import bz2
import gzip
import json
import random
import warnings

import numpy as np
import pytest

from finetuner.data import load

from .files import write_file

ROWS = [{"text": 'a, "b"', "label": "x", "n": [1, 2]}, {"text": "é", "label": "y", "n": [3, 4.5]}]
CSV = 'text,label,n\n"a, ""b""",x,1\né,y,2\n\nd,"x\nz",3\n'
TEXT_FILES = {
    "a.csv": CSV.encode(),
    "a.tsv": b'text\tlabel\tn\n"a ""b"""\tx\t1\nc\ty\t2\nd"\tx\t3\n',
    "b.csv": "text;label;n\né;x;1\nc;y;2\n".encode("utf-16"),
    "a.jsonl": "\n".join(map(json.dumps, ROWS)).encode(),
    "a.json": json.dumps(ROWS).encode(),
    "a.csv.gz": gzip.compress(CSV.encode()),
    "a.csv.bz2": bz2.compress(CSV.encode()),
}
TOKENS = [
    *(b'"', b'""', b",", b"\t", b"\n", b"\r", b";", b"\0", b"\xff", b"{", b"}", b"[", b"]", b"-", b"1e999", b"9" * 400),
    *(b"null", b"NaN", b"true", b"\xef\xbb\xbf", b"\xff\xfe", b"sep=;\n", b"\\ud800", "é".encode()),
]
COLUMNS = [
    {"input_column": "text", "label_column": "label"},
    {"input_column": "n", "label_column": "label"},
    {"input_column": "n", "label_column": "label", "numeric": True},
    {"input_column": "text", "label_column": "n"},
    {"input_column": "text", "target_column": "n"},
    {"anchor_column": "text", "positive_column": "label", "score_column": "n"},
    {"input_column": "text", "unlabelled": True},
]


def damaged(content, generator):
    """``content`` after a few random changes."""
    content = bytearray(content)
    for _ in range(generator.choice([0, 1, 1, 2, 3, 8])):
        place = generator.randrange(len(content) + 1)
        change = generator.randrange(5)
        if change == 0:
            content[place : place + 1] = bytes([generator.randrange(256)])
        elif change == 1:
            content[place:place] = generator.choice(TOKENS)
        elif change == 2:
            del content[place : place + generator.randrange(1, 6)]
        elif change == 3:
            content[place:place] = content[generator.randrange(len(content) + 1) :][:20]
        else:
            del content[place:]
    return bytes(content) or b"x"


def try_damaged(tmp_path, files, count):
    """How many damaged files are read, and how many refused."""
    generator, read, errors = random.Random(0), 0, []
    for _ in range(count):
        name = generator.choice(sorted(files))
        path = write_file(tmp_path / name, damaged(files[name], generator))
        try:
            data = load(path, **generator.choice(COLUMNS))
            assert len(data)
            read += 1
        except ValueError as error:
            errors.append(error)
    print(f"{read} read, {len(errors)} refused")
    assert [error for error in errors if type(error) is not ValueError or "\n" in str(error)] == []
    return read, len(errors)


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def test_damaged_text(tmp_path):
    read, refused = try_damaged(tmp_path, TEXT_FILES, 1500)
    assert read > 150
    assert refused > 500


def test_damaged_arrays(tmp_path):
    np.savez(tmp_path / "s.npz", text=np.array(["a", "b"]), label=np.array([1, 2]), n=np.eye(2))
    read, refused = try_damaged(tmp_path, {"a.npz": (tmp_path / "s.npz").read_bytes()}, 300)
    assert read > 30
    assert refused > 100


def test_damaged_arrow(tmp_path):
    """Arrow would read beyond its memory, and end the interpreter, if the table were not checked."""
    pa = pytest.importorskip("pyarrow")
    import pyarrow.ipc
    import pyarrow.parquet

    table = pa.table({"text": ["a", "b", "c"], "label": ["x", "y", "x"], "n": [1, 2, 3]})
    pyarrow.parquet.write_table(table, tmp_path / "s.parquet")
    with pyarrow.ipc.new_stream(tmp_path / "s.arrow", table.schema) as stream:
        stream.write_table(table)
    files = {f"a{suffix}": (tmp_path / f"s{suffix}").read_bytes() for suffix in (".parquet", ".arrow")}
    read, refused = try_damaged(tmp_path, files, 600)
    assert read > 60
    assert refused > 200
