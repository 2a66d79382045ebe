"""Tests of reading tables and arrays into datasets, and of the errors for data that cannot be read."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from finetuner.data.reading import load, load_inputs
from finetuner.tuner.base import ClassDataset, SessionDataset

from .files import SHARED, write_file


def parquet(path, **columns):
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    return path


# Tables


CSV = 'text,label,extra\n"one, two",b,1\nNA,a,\nNone,b,3\n'
ROWS = [{"text": "one, two", "label": "b"}, {"text": "NA", "label": "a"}, {"text": "None", "label": "b"}]
LINES = "\n".join(map(json.dumps, ROWS))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", CSV),
        ("A.CSV", "\ufeff" + CSV),
        ("a.tsv", CSV.replace(",", "\t").replace("one\t two", "one, two")),
        ("a.jsonl", LINES),
        ("a.ndjson", LINES + "\n"),
        ("a.json", json.dumps(ROWS, indent=1)),
        ("of a[1]* ?::http.csv", CSV),  # must not be read as a pattern or a URL
    ],
)
def test_text_and_labels(tables, tmp_path, name, content, capfd):
    data = load(write_file(tmp_path / name, content), input_column="text", label_column="label")
    assert isinstance(data, ClassDataset)
    assert data.x == ["one, two", "NA", "None"]
    assert list(data.classes[data.labels]) == ["b", "a", "b"]
    assert capfd.readouterr() == ("", "")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_only_other_column_is_the_input(tables, tmp_path):
    path = write_file(tmp_path / "a.jsonl", LINES)
    assert load(str(path), label_column="label").x == ["one, two", "NA", "None"]
    assert load_inputs(write_file(tmp_path / "b.csv", "text\nx\ny\n")) == ["x", "y"]


def test_numbers_and_lists(tables, tmp_path):
    lines = [{"v": [1, 2.5], "n": i, "m": [[i, 2], [3, 4]], "y": i % 2} for i in range(3)]
    path = write_file(tmp_path / "a.jsonl", "\n".join(map(json.dumps, lines)))
    data = load(path, input_column=["v", "n", "m"], label_column="y")
    assert {key: (value.dtype.name, value.shape) for key, value in data.x.items()} == {
        "v": ("float32", (3, 2)),
        "n": ("int64", (3,)),
        "m": ("int64", (3, 2, 2)),
    }
    np.testing.assert_array_equal(data.x["m"][2], [[2, 2], [3, 4]])
    assert data.classes.tolist() == [0, 1]


def test_parquet(tables, tmp_path):
    pa = pytest.importorskip("pyarrow")
    vectors = np.arange(12, dtype=np.float32).reshape(4, 3)
    path = parquet(
        tmp_path / "a.parquet",
        fixed=pa.FixedSizeListArray.from_arrays(vectors.ravel(), 3),
        large=pa.array(vectors.astype(np.float64).tolist(), pa.large_list(pa.float64())),
        kind=pa.array(["b", "a", "b", "a"]).dictionary_encode(),
        flag=[True, False, True, False],
        struct=[{"start": 1, "end": 2}] * 4,
    )
    data = load(path, input_column=["fixed", "large", "flag"], label_column="kind")
    np.testing.assert_array_equal(data.x["fixed"], vectors)
    np.testing.assert_array_equal(data.x["large"], vectors)
    assert data.x["large"].dtype == np.float32
    assert data.x["flag"].dtype == bool
    assert data.classes.tolist() == ["a", "b"]
    with pytest.raises(ValueError, match="must have at least one row, got none"):
        load_inputs(parquet(tmp_path / "b.parquet", text=pa.array([], pa.string())))
    with pytest.raises(
        ValueError, match="column 'struct' of .* must have text, numbers or lists of numbers, got struct"
    ):
        load_inputs(path, input_column="struct")


def test_column_type_depends_on_all_rows(tables, tmp_path):
    lines = "".join(f"t{i},{i if i < 11_000 else 'last'}\n" for i in range(12_000))
    data = load(write_file(tmp_path / "a.csv", "text,label\n" + lines), label_column="label")
    assert data.classes.dtype.kind == "U"
    assert data.labels[-1] == data.labels[-2]


def test_sessions(tables, tmp_path):
    path = write_file(tmp_path / "a.csv", "text,s,r\na,q1,0\nb,q1,1\nc,q1,-1\nd,q2,0\n")
    data = load(path, session_column="s", role_column="r")
    assert isinstance(data, SessionDataset)
    assert data.x == ["a", "b", "c", "d"]
    np.testing.assert_array_equal(data.labels, [[0, 0], [0, 1], [0, -1], [1, 0]])
    with pytest.raises(ValueError, match="role_column must name a column of .*'text', 's', 'r'"):
        load(path, session_column="s")
    with pytest.raises(ValueError, match="session_column must not be used with label_column: data is of one kind"):
        load(path, session_column="s", role_column="r", label_column="r")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.csv",
            "text,label\nhi, there,1\nx,y,2\n",
            r"must have 2 cells in each row, got 3 in row 0 \(from 0\); the separator is ','",
        ),
        ("a.csv", "text,label\nhi,1\nx,y,2\n", r"must have 2 cells in each row, got 3 in row 1 \(from 0\)"),
        ("a.csv", 'text,label\n"hi,1\nx,2\n', "cannot be read: a quote is not closed"),
        ("a.csv", b"text,label\n\xff,1\n", r"cannot be read as UTF-8, it has byte 0xff; encoding \(--encoding\) names"),
        ("a.csv", "text,label\n", "must have at least one row, got none"),
        ("a.csv", "", "must not be empty, and is"),
        ("a.csv", "text,label\na,1\n,2\nb,3\n", r"'text' of .* must not have missing values, .* rows \(from 0\) 1$"),
        ("a.csv", "text,label\na,1\nb\nc\n", r"'label' of .* must not have missing values, .* rows \(from 0\) 1, 2$"),
        ("a.jsonl", '{"text": "a", "label": 1}\n{"text":\n', "cannot be read: JSON error in line 2: "),
        ("a.jsonl", '{"text": "a", "label": 1}\n{"text": "b", "label": "c"}', "all of one type, got int, text"),
        ("a.jsonl", "\n", "must have at least one row, got none"),
        ("a.jsonl", '{"text": [1], "label": 1}\n{"text": [null], "label": 1}', r"rows \(from 0\) 1$"),
        ("a.jsonl", '{"text": ["a"], "label": 1}', "text, numbers or lists of numbers, got lists of text"),
        ("a.parquet", "text,label\n", "cannot be read: Parquet magic bytes not found"),
    ],
)
def test_broken_tables(tables, tmp_path, name, content, message, capfd):
    with pytest.raises(ValueError, match=message) as caught:
        load(write_file(tmp_path / name, content), input_column="text", label_column="label")
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_unknown_columns(tables, tmp_path):
    path = write_file(tmp_path / "a.csv", CSV)
    with pytest.raises(ValueError, match="got 'lable'; did you mean 'label'?"):
        load(path, input_column="text", label_column="lable")
    message = "_column must name a column of .*, which has 'text', 'label', 'extra'"
    with pytest.raises(ValueError, match="label" + message):
        load(path, input_column="text")
    with pytest.raises(ValueError, match="input" + message):
        load(path, label_column="label")
    with pytest.raises(ValueError, match="image_size is only for images, got 28"):
        load(path, label_column="label", image_size=28)


def test_no_files_are_left_and_no_network_is_used(tables, tmp_path):
    home, working = tmp_path / "home", tmp_path / "working"
    home.mkdir()
    working.mkdir()
    path = write_file(tmp_path / "a.csv", CSV)
    code = (
        "import socket, sys\n"
        "def refuse(*args, **kwargs): raise SystemExit('the network was used')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        "from finetuner.data import load\n"
        "assert not {'datasets', 'PIL', 'pyarrow'} & set(sys.modules)\n"
        f"assert len(load({str(path)!r}, input_column='text', label_column='label')) == 3\n"
        "assert not {'torch', 'keras', 'paddle', 'tensorflow', 'jax'} & set(sys.modules)\n"
    )
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "XDG_"))}
    environment |= {"HOME": str(home), "PYTHONPATH": str(Path(__file__).parents[1]), "TMPDIR": str(working)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=working, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(home.rglob("*")) == list(working.rglob("*")) == []


def test_missing_libraries(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.delitem(sys.modules, "PIL.Image", raising=False)
    (tmp_path / "pictures").mkdir()
    with pytest.raises(ImportError, match=r'reading tables needs pyarrow: pip install "finetuner\[data\]"'):
        load(write_file(tmp_path / "a.parquet", "PAR1"), label_column="label")
    assert load(write_file(tmp_path / "a.csv", CSV), input_column="text", label_column="label").x[1] == "NA"
    with pytest.raises(ImportError, match=r'reading images needs Pillow: pip install "finetuner\[data\]"'):
        load(tmp_path / "pictures")


# Arrays


def test_npz(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, x=np.eye(3), y=["a", "b", "a"], words=["u", "v", "w"])
    data = load(path)
    assert data.x.dtype == np.float32
    assert data.classes.tolist() == ["a", "b"]
    assert load(path, input_column="words", label_column="y", classes="a").x == ["u", "w"]
    assert set(load(path, input_column=["x", "words"]).x) == {"x", "words"}
    np.testing.assert_array_equal(load_inputs(path), np.eye(3))
    with pytest.raises(ValueError, match="got 'wrods'; did you mean 'words'?"):
        load(path, input_column="wrods")


def test_npy(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(4))
    assert load_inputs(tmp_path / "a.npy").tolist() == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="path must have labels, and an .npy file has none"):
        load(tmp_path / "a.npy")


def test_broken_arrays(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.array([1, "a", None], object), y=[1, 2, 3])
    assert load_inputs(tmp_path / "a.npz", input_column="y").tolist() == [1, 2, 3]
    with pytest.raises(ValueError, match="a.npz cannot be read: it has arrays of Python objects"):
        load(tmp_path / "a.npz")
    for content in (pickle.dumps([1, 2]), b"PK\x03\x04 and so on", b"\x93NUMPY", b"text"):
        with pytest.raises(ValueError, match="b.npz cannot be read: "):
            load(write_file(tmp_path / "b.npz", content))
    with pytest.raises(ValueError, match="c.npz cannot be read: it is not in numpy's format"):
        load(write_file(tmp_path / "c.npz", pickle.dumps([1, 2])))


def test_wrong_paths(tmp_path):
    with pytest.raises(FileNotFoundError, match="and there is none at .*none.csv"):
        load(tmp_path / "none.csv")
    with pytest.raises(ValueError, match=r"must end in one of \.csv, \.tsv, .* or be a folder .*a\.xlsx"):
        load(write_file(tmp_path / "a.xlsx", "a"))


# Real data


def test_banking77(tables):
    if not (SHARED / "banking77").is_dir():
        pytest.skip("no real data")
    for name, num_items in [("train.csv", 10_003), ("test.csv", 3_080)]:
        data = load(SHARED / "banking77" / name, label_column="category")
        assert (len(data), len(data.classes)) == (num_items, 77)
        assert all(isinstance(text, str) for text in data.x)
