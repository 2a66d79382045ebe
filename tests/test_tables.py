"""Tests that the cells of a table are read as they are written, from all forms in which people have tables."""

import bz2
import gzip
import json
import logging
import lzma
import os
import random
import string

import numpy as np
import pytest

from finetuner.data import load, load_inputs
from finetuner.data.values import as_numbers

from .files import write_file

COLUMNS = {"input_column": "text", "label_column": "label"}


def classes_of(path, **options):
    return load(path, **COLUMNS, **options).classes.tolist()


def rows_of(path, **options):
    data = load(path, **COLUMNS, **options)
    return list(zip(data.x, data.classes[data.labels].tolist(), strict=True))


@pytest.fixture
def told(caplog):
    """What the readers tell."""
    caplog.set_level(logging.INFO, "finetuner.data")
    return caplog


# CSV


@pytest.mark.parametrize(
    "labels",
    [
        ["007", "7", "07", "0007"],
        ["1.0", "1", "1.00", "+1"],
        ["2e3", "2000", "2E3", "2e03"],
        ["NaN", "nan", "NA", "None", "null"],
        ["True", "true", "TRUE", "1"],
        [" a", "a", "a "],
        ["2024-02-03", "2024-02-03T00:00:00", "03.02.2024"],
        ["36893488147419103233", "36893488147419103232", "1.5"],
    ],
)
@pytest.mark.parametrize("quote", ["", '"'])
@pytest.mark.parametrize("separator", [",", "\t"])
def test_labels_to_the_letter(tmp_path, labels, quote, separator):
    lines = [f"item{separator}{quote}{label}{quote}" for label in labels]
    path = write_file(tmp_path / "a.csv", "\n".join([f"text{separator}label", *lines]))
    assert sorted(classes_of(path)) == sorted(labels)


@pytest.mark.parametrize("cells", [["2001", "42"], ["0001", "1"], ["3.50", "3.5"], ["1e5", "1e6"], ["-1", "- 1"]])
def test_text_of_digits_stays_text(tmp_path, cells, told):
    path = write_file(tmp_path / "a.csv", "\n".join(["text,label", *(f"{cell},x" for cell in cells)]))
    assert load(path, **COLUMNS).x == cells
    assert load_inputs(path, input_column="text") == cells
    looks_numeric = cells[-1] != "- 1"
    assert (
        told.messages == ["column 'text' is text; numeric (--numeric) reads its cells as numbers"] * 2 * looks_numeric
    )


def test_numbers_on_request(tmp_path):
    path = write_file(tmp_path / "a.csv", "n,v,w,label\n3,0.25,a,x\n-4,1e-2,b,y\n")
    x = load(path, input_column=["n", "v", "w"], label_column="label", numeric=["n", "v"]).x
    assert (x["n"].dtype, x["v"].dtype, x["w"]) == (np.int64, np.float32, ["a", "b"])
    np.testing.assert_array_equal(x["n"], [3, -4])
    np.testing.assert_array_equal(x["v"], np.float32([0.25, 0.01]))
    assert load_inputs(path, input_column="v", numeric=True).dtype == np.float32
    with pytest.raises(ValueError, match=r"column 'w' of .*a.csv must have numbers, got 'a' at row 0 \(from 0\)"):
        load_inputs(path, input_column="w", numeric=True)
    with pytest.raises(ValueError, match="numeric must be a column of .*, got 'z'"):
        load_inputs(path, input_column="w", numeric="z")


@pytest.mark.parametrize(
    "number", ["0,5", "1_000", "0x10", "nan", "inf", "1e999", "", "١", "1 2", "36893488147419103232"]
)
def test_what_is_no_number(tmp_path, number):
    path = write_file(tmp_path / "a.csv", f'v,label\n1,x\n"{number}",y\n')
    with pytest.raises(ValueError, match=r"column 'v' of .*a\.csv must "):
        load(path, input_column="v", label_column="label", numeric=True)


def test_header(tmp_path):
    path = write_file(tmp_path / "a.csv", "text,label,text\na,b,c\n")
    with pytest.raises(ValueError, match=r"columns of .*a\.csv must have names that occur once, got 'text' twice"):
        load(path, **COLUMNS)
    path = write_file(
        tmp_path / "b.csv", ",text,label,,\n0,a,x,,\n1,b,y,,\n"
    )  # the index of pandas, and Excel's columns
    assert load(path, label_column="label").x == ["a", "b"]
    path = write_file(tmp_path / "c.csv", "\n\r\n\ufefftext,label\r\na,x\r\n\r\nb,y\r\n")
    assert rows_of(path) == [("a", "x"), ("b", "y")]


def test_no_header(tmp_path):
    path = write_file(tmp_path / "a.csv", "one;x;1\ntwo;y;2\n")
    assert rows_of(path, column_names=["text", "label", "n"]) == [("one", "x"), ("two", "y")]
    assert rows_of(path, column_names="text,label,n") == [("one", "x"), ("two", "y")]
    path = write_file(tmp_path / "a.tsv", "2.5\ta b\tc\n1.0\td\te\n")
    assert load_inputs(path, column_names=["score", "a", "b"], input_column="a") == ["a b", "d"]
    with pytest.raises(ValueError, match=r"column_names must name the 3 columns of .*a\.tsv, got a, b"):
        load_inputs(path, column_names=["a", "b"])
    with pytest.raises(ValueError, match="column_names is only for CSV and TSV, got"):
        load_inputs(write_file(tmp_path / "a.jsonl", '{"a": 1}'), column_names=["a"])


@pytest.mark.parametrize("separator", [";", "|", "\t"])
def test_separators(tmp_path, separator, told):
    content = f'text{separator}label\n"a{separator}b"{separator}x, y\nc{separator}z\n'
    expected = [(f"a{separator}b", "x, y"), ("c", "z")]
    assert rows_of(write_file(tmp_path / "a.csv", content)) == expected
    assert told.messages == [f"a.csv has the separator {separator!r}"]
    assert rows_of(tmp_path / "a.csv", separator=separator) == expected
    assert rows_of(write_file(tmp_path / "b.csv", f"sep={separator}\n{content}")) == expected
    with pytest.raises(ValueError, match="separator must be one character, or 'tab', got ';;'"):
        load(tmp_path / "a.csv", **COLUMNS, separator=";;")


# TSV


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (['"open', "mid", 'close"'], None),
        (['say "hi" now', "b"], None),
        (['"Title"', "b"], None),
        (['"', '""'], None),
        (['"a "b" c"', "d"], None),
        (['"a ""b"" c"', 'lone "'], None),
        (['"a ""b"" c"', "d"], ['a "b" c', "d"]),
        (['"a, b"', "c"], ["a, b", "c"]),
        (['"a, b"', "c, d"], None),
    ],
)
def test_quotes_in_tsv(tmp_path, cells, expected, told):
    lines = "".join(f"{cell}\tx{i}\n" for i, cell in enumerate(cells))
    assert load(write_file(tmp_path / "a.tsv", f"text\tlabel\n{lines}"), **COLUMNS).x == (expected or cells)
    assert told.messages == ["a.tsv has quoted cells, whose quotes are removed"] * (expected is not None)


def test_quoted_tsv(tmp_path):
    assert rows_of(write_file(tmp_path / "a.tsv", '"text"\t"label"\n"a"\t"x"\n"b"\t"y"\n')) == [("a", "x"), ("b", "y")]
    path = write_file(tmp_path / "b.tsv", 'text\tlabel\n"two\nlines"\tx\n')
    with pytest.raises(ValueError, match=r"must have 2 cells in each row, got 1 in row 0 .*separator='tab'"):
        load(path, **COLUMNS)
    assert rows_of(path, separator="tab") == [("two\nlines", "x")]


def test_random_cells(tmp_path):
    """What Python's own writer writes comes back, and cells of a TSV come back as they are."""
    import csv

    generator = random.Random(0)
    for number in range(200):
        cells = ["".join(generator.choices(string.ascii_letters + '",;|\t 01.-é\n', k=5)) + "." for _ in range(6)]
        with open(tmp_path / "a.csv", "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([["text", "label"], *([cell, str(number)] for cell in cells)])
        assert load(tmp_path / "a.csv", **COLUMNS).x == cells
        plain = [cell.replace("\t", " ").replace("\n", " ") for cell in cells]  # the end is no quote
        write_file(tmp_path / "a.tsv", "".join(["text\tlabel\n", *(f"{cell}\tx\n" for cell in plain)]))
        assert load(tmp_path / "a.tsv", **COLUMNS).x == plain


# Encodings, packed files, and what is no file


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.json", "a.csv.gz"])
def test_byte_order_marks(tmp_path, encoding, name):
    rows = [("naïve", "ß"), ("東京", "x")]
    separator = "\t" if ".tsv" in name else ","
    text = "".join(f"{text}{separator}{label}\n" for text, label in [("text", "label"), *rows])
    if "json" in name:
        text = json.dumps([{"text": text, "label": label} for text, label in rows], ensure_ascii=False)
    content = text.encode(encoding)
    assert rows_of(write_file(tmp_path / name, gzip.compress(content) if "gz" in name else content)) == rows


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "gbk", "shift_jis", "utf-16-le"])
def test_encodings(tmp_path, encoding):
    word = "日本" if encoding in ("gbk", "shift_jis") else "señor"
    path = write_file(tmp_path / "a.csv", f"text,label\n{word},x\n".encode(encoding))
    assert rows_of(path, encoding=encoding) == [(word, "x")]
    with pytest.raises(ValueError, match=r"a\.csv (cannot be read as UTF-8, .*--encoding|must be text, .*encoding=)"):
        load(path, **COLUMNS)
    with pytest.raises(ValueError, match="encoding must be a text encoding that Python knows, .*, got 'base64'"):
        load(path, **COLUMNS, encoding="base64")


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip), (".bz2", bz2), (".xz", lzma), ("", gzip)])
@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl"])
def test_packed(tmp_path, suffix, pack, name):
    separator = "\t" if "tsv" in name else ","
    content = '{"text": "u", "label": "v"}\n' if "json" in name else f"text{separator}label\nu{separator}v\n"
    path = write_file(tmp_path / (name + suffix), pack.compress(content.encode()))
    assert rows_of(path) == [("u", "v")]
    write_file(path, pack.compress(content.encode() * 40)[:-9])
    with pytest.raises(ValueError, match=rf"{name}{suffix} cannot be read: "):
        load(path, **COLUMNS)


def test_bombs(tmp_path):
    path = write_file(tmp_path / "a.csv", gzip.compress(b"text,label\n" + b"0" * 2**27, 1))
    with pytest.raises(ValueError, match=r"a\.csv must not unpack to more than [0-9,]+ bytes, .*--max-bytes"):
        load(path, **COLUMNS)
    path = write_file(tmp_path / "b.csv", gzip.compress(b"text,label\n" + b"a,b\n" * 1000))
    with pytest.raises(ValueError, match="must not unpack to more than 1,000 bytes"):
        load(path, **COLUMNS, max_bytes=1000)
    assert len(load(path, **COLUMNS, max_bytes=5000)) == 1000
    np.savez_compressed(tmp_path / "a.npz", x=np.zeros(2**27, np.uint8))
    with pytest.raises(ValueError, match=r"a\.npz cannot be read: it unpacks to more than [0-9,]+ bytes"):
        load_inputs(tmp_path / "a.npz")
    assert load_inputs(tmp_path / "a.npz", max_bytes=2**28).shape == (2**27,)


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.npz", "a.npy", "a.parquet", "a.zip", "a.txt"])
def test_pipes_and_devices(tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(ValueError, match=f"path must be a regular file, got a pipe at .*{name}"):
        load_inputs(tmp_path / name)
    (tmp_path / name).unlink()
    (tmp_path / name).symlink_to("/dev/zero")
    with pytest.raises(ValueError, match=f"path must be a regular file, got a device at .*{name}"):
        load_inputs(tmp_path / name)


# JSON


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["1999-12-31", "1999-12-31T00:00:00"], ["1999-12-31", "1999-12-31T00:00:00"]),
        (["12:30", "12:30:00"], ["12:30", "12:30:00"]),
        ([2**53 + 1, 2**53], [2**53, 2**53 + 1]),
        ([2**64 - 1, 2**64 - 2], [2**64 - 2, 2**64 - 1]),
        ([True, False], [False, True]),
        ([0.5, 2], [0.5, 2.0]),
    ],
)
def test_json_values(tmp_path, labels, expected):
    lines = [json.dumps({"text": str(label), "label": label}) for label in labels]
    found = load(write_file(tmp_path / "a.jsonl", "\n".join(lines)), **COLUMNS)
    assert found.classes.tolist() == expected
    assert found.x == [str(label) for label in labels]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            '{"text": "a", "label": 18446744073709551616}',
            "'label' of .* must have integers of 64 bits, got 184467440737",
        ),
        ('{"text": "a", "label": 9007199254740995}\n{"text": "b", "label": 0.5}', "'label' of .* must not mix"),
        ('{"text": "a", "label": 1}\n{"text": "b", "label": "1"}', "'label' of .* all of one type, got int, text"),
        ('{"text": "a", "label": 1}\n{"text": "b", "label": true}', "'label' of .* all of one type, got bool, int"),
        ('{"text": "a", "label": {"id": 1}}', "'label' of .* all of one type, got objects"),
        ('{"text": "a", "text": "b", "label": 1}', "JSON error in line 1: the key 'text' occurs twice"),
        ('\n{"text": "a", "label": -Infinity}', "JSON error in line 2: -Infinity is not JSON"),
        ('{"text": "a"}\n{"text": "b", "label": 1}', r"'label' of .* missing values, got them at rows \(from 0\) 0$"),
        ('{"text": "a", "label": ' + "[" * 10**5 + "]" * 10**5 + "}", "cannot be read: "),
        ("3\n4", "must have one JSON object a line, got 3 in line 1"),
        ("[3, 4]", "must be a list of JSON objects, got 3 at 0"),
        ("[]", "must have at least one row, got none"),
    ],
)
def test_refused_json(tmp_path, rows, message):
    with pytest.raises(ValueError, match=message) as caught:
        load(write_file(tmp_path / "a.jsonl", rows), **COLUMNS)
    assert "a.jsonl" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_ragged_lists_and_label_sets(tmp_path):
    lines = [{"text": list(range(i % 3)), "label": ["x", "yz"][: i % 2 + 1]} for i in range(5000)]
    data = load(write_file(tmp_path / "a.jsonl", "\n".join(map(json.dumps, lines))), **COLUMNS)
    assert data.x == [line["text"] for line in lines]
    assert data.label_names.tolist() == ["x", "yz"]
    assert data.labels.sum(axis=1).tolist() == [1, 2] * 2500


# Lines of text


def test_lines_of_text(tmp_path):
    path = write_file(tmp_path / "a.txt", 'one, "two"\r\n\n\tthree\n')
    assert load_inputs(path) == ['one, "two"', "\tthree"]
    with pytest.raises(ValueError, match=r"label_column must name a column of .*a\.txt, which has 'text'"):
        load(path)


def test_names_of_columns_that_the_first_row_lacks(tmp_path):
    path = write_file(tmp_path / "a.csv", "x,1\ny,2,more\n")
    assert rows_of(path, column_names=["text", "label", "remark"]) == [("x", "1"), ("y", "2")]


def test_a_letter_as_the_separator_of_excel(tmp_path):
    path = write_file(tmp_path / "a.csv", "sep=X\ntextXlabel\naX1\nbX2\n")
    assert rows_of(path) == [("a", "1"), ("b", "2")]


def test_one_column_of_numbers(tmp_path):
    path = write_file(tmp_path / "a.csv", "size,text,label\n1,2,a\n3,4,b\n")
    data = load(path, input_column=["size", "text"], label_column="label", numeric="size")
    assert data.x["size"].tolist() == [1, 3]
    assert list(data.x["text"]) == ["2", "4"]


@pytest.mark.parametrize("values", [[[1, 2]], [b"1"], [None]])
def test_what_is_no_number(values):
    with pytest.raises(ValueError, match="the column must have numbers, got"):
        as_numbers("the column", values)
