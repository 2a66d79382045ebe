"""Tests of Parquet, of what other libraries write, and of tables in several files."""

import datetime
import decimal
import json

import numpy as np
import pytest

from finetuner.data import load, load_inputs

from .files import write_file

COLUMNS = {"input_column": "text", "label_column": "label"}


def rows_of(path, **options):
    data = load(path, **COLUMNS, **options)
    return list(zip(data.x, data.classes[data.labels].tolist(), strict=True))


# Parquet


def write_parquet(path, **columns):
    pyarrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    return path


def test_parquet_types(tmp_path):
    pa = pytest.importorskip("pyarrow")
    prices = [decimal.Decimal("12345678901234567890.10"), decimal.Decimal("12345678901234567890.11")]
    columns = {
        "price": pa.array(prices),
        "day": [datetime.date(2020, 2, 29), datetime.date(1900, 1, 1)],
        "when": pa.array([1, 2], pa.timestamp("us")),
        "big": pa.array([2**64 - 1, 2**64 - 2], pa.uint64()),
        "code": pa.array(["07", "7"]).dictionary_encode(),
        "number": pa.array([7, 9], pa.int16()).dictionary_encode(),
        "view": pa.array(["a", "b"], pa.string_view()),
    }
    path = write_parquet(tmp_path / "a.parquet", text=["u", "v"], **columns)
    expected = {
        "price": ["12345678901234567890.10", "12345678901234567890.11"],
        "day": ["1900-01-01", "2020-02-29"],
        "when": ["1970-01-01 00:00:00.000001", "1970-01-01 00:00:00.000002"],
        "big": [2**64 - 2, 2**64 - 1],
        "code": ["07", "7"],
        "number": [7, 9],
        "view": ["a", "b"],
    }
    assert {n: load(path, input_column="text", label_column=n).classes.tolist() for n in columns} == expected
    assert load_inputs(path, input_column="price").dtype == np.float32
    for name, wrong in {"span": pa.array([1, 2], pa.duration("s")), "object": [{"a": 1}] * 2}.items():
        path = write_parquet(tmp_path / "b.parquet", text=["u", "v"], label=wrong)
        with pytest.raises(ValueError, match=r"column 'label' of .*b\.parquet must have text, numbers or lists"):
            load(path, **COLUMNS)
        assert load_inputs(path, input_column="text") == ["u", "v"], name
    path = write_parquet(tmp_path / "c.parquet", text=[[1], [2, 3]], label=[["x"], ["x", "y"]])
    data = load(path, **COLUMNS)
    assert (data.x, data.label_names.tolist()) == ([[1], [2, 3]], ["x", "y"])


def test_parquet_of_pandas_and_same_names(tmp_path):
    pandas, pa = pytest.importorskip("pandas"), pytest.importorskip("pyarrow")
    frame = pandas.DataFrame({"text": ["a", "b"], "label": pandas.array([4, 5], "Int64")}, index=["i", "j"])
    frame.to_parquet(tmp_path / "a.parquet")
    assert rows_of(tmp_path / "a.parquet") == [("a", 4), ("b", 5)]
    assert load(tmp_path / "a.parquet", label_column="label").x == ["a", "b"]  # without the index
    import pyarrow.parquet

    table = pa.table([pa.array([1]), pa.array([2])], names=["label", "label"])
    pyarrow.parquet.write_table(table, tmp_path / "b.parquet")
    with pytest.raises(ValueError, match=r"b\.parquet must have names that occur once, got 'label' twice"):
        load_inputs(tmp_path / "b.parquet", input_column="label")


def test_hugging_face_files(tmp_path, tables, pillow):
    import datasets

    datasets.disable_progress_bars()
    features = datasets.Features(
        {
            "picture": datasets.Image(),
            "kind": datasets.ClassLabel(names=["bee", "ant"]),
            "text": datasets.Value("string"),
        }
    )
    pictures = [pillow.new("L", (5, 3), shade) for shade in (0, 255, 51)]
    columns = {"picture": pictures, "kind": [0, 1, 0], "text": ["a", "b", "c"]}
    data = datasets.Dataset.from_dict(columns, features=features)
    data.to_parquet(str(tmp_path / "a.parquet"))
    data.save_to_disk(str(tmp_path / "saved"))
    datasets.DatasetDict(train=data, test=data).save_to_disk(str(tmp_path / "both"))
    for path in ("a.parquet", "saved", "both/train", [tmp_path / "a.parquet", tmp_path / "saved"]):
        path = path if isinstance(path, list) else tmp_path / path
        found = load(path, input_column="picture", label_column="kind", image_mode="L")
        assert found.classes[found.labels].tolist()[:3] == ["bee", "ant", "bee"]
        assert [image.shape for image in found.x][:3] == [(1, 3, 5)] * 3
        np.testing.assert_allclose([image.mean() for image in found.x][:3], [0, 1, 0.2], atol=1e-7)
    small = load(
        tmp_path / "saved", input_column="picture", label_column="kind", image_size=2, in_memory=True, classes="b*"
    )
    assert small.x.shape == (2, 3, 2, 2)
    with pytest.raises(ValueError, match="path must be one split of .*both, which has test, train"):
        load(tmp_path / "both", input_column="text", label_column="kind")
    with pytest.raises(ValueError, match="image_size is only for images, got 2"):
        load(tmp_path / "saved", input_column="text", label_column="kind", image_size=2)


# Several files


def test_several_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "shards"
    folder.mkdir()
    for i, row in enumerate(["a,07", "b,7", "c,07"]):
        write_file(folder / f"part-{i:05}-of-00003.csv", f"text,label\n{row}\n")
    write_file(folder / "README.md", "about")
    expected = [("a", "07"), ("b", "7"), ("c", "07")]
    (tmp_path / "repository" / "data").mkdir(parents=True)
    write_file(tmp_path / "repository" / "README.md", "about")
    write_file(tmp_path / "repository" / "data" / "train.csv", "text,label\nz,1\n")
    assert rows_of(tmp_path / "repository") == [("z", "1")]
    (tmp_path / "loop" / "a").mkdir(parents=True)
    (tmp_path / "loop" / "a" / "up").symlink_to("..")
    with pytest.raises((ValueError, ImportError), match="must contain images|needs Pillow|is only for tables"):
        load(tmp_path / "loop", **COLUMNS)
    assert rows_of(folder) == expected
    assert rows_of("shards/part-*.csv") == expected
    assert rows_of(sorted(folder.glob("*.csv"))) == expected
    other = write_file(tmp_path / "other.jsonl", '{"label": "8", "text": "d"}')
    assert rows_of([folder, other]) == [*expected, ("d", "8")]
    write_file(other, '{"label": 8, "text": "d"}')
    with pytest.raises(ValueError, match="column 'label' of .* and 3 more must have one type, got text and numbers"):
        load([folder, other], **COLUMNS)
    write_file(other, '{"labels": "8", "text": "d"}')
    with pytest.raises(ValueError, match=r"label_column must be a column of .*other\.jsonl, got 'label'; did you mean"):
        load([folder, other], **COLUMNS)
    with pytest.raises(FileNotFoundError, match=r"there is none for the pattern shards/\*\.tsv"):
        load("shards/*.tsv", **COLUMNS)
    write_file(folder / "test-00000-of-00001.csv", "text,label\na,1\n")
    with pytest.raises(ValueError, match=r"must have the shards of one table, got part\.csv, test\.csv"):
        load(folder, **COLUMNS)


def test_shards_of_numbers(tmp_path):
    write_file(tmp_path / "a.jsonl", '{"x": [1, 2], "y": 1}')
    write_file(tmp_path / "b.jsonl", '{"x": [0.5, 2], "y": 2}')
    data = load([tmp_path / "a.jsonl", tmp_path / "b.jsonl"], input_column="x", target_column="y")
    np.testing.assert_array_equal(data.x, np.float32([[1, 2], [0.5, 2]]))
    np.savez(tmp_path / "a.npz", x=np.eye(2), y=[3, 4])
    np.savez(tmp_path / "b.npz", x=np.ones((1, 2)), y=[3])
    data = load([tmp_path / "a.npz", tmp_path / "b.npz"])
    assert (data.x.shape, data.classes.tolist(), data.labels.tolist()) == ((3, 2), [3, 4], [0, 1, 0])


def test_a_saved_folder_with_another_order_of_rows_is_refused(tmp_path):
    write_file(tmp_path / "dataset_info.json", "{}")
    write_file(tmp_path / "data.arrow", "x")
    state = {"_data_files": [{"filename": "data.arrow"}], "_indices_files": [{"filename": "indices.arrow"}]}
    write_file(tmp_path / "state.json", json.dumps(state))
    with pytest.raises(ValueError, match="has indices; save flatten_indices"):
        load_inputs(tmp_path)
