"""The commands ``evaluate`` and ``embed``: duplicates, tables of embeddings, and standard input."""

import datetime
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import finetuner
from finetuner import ClassDataset, PairDataset
from finetuner.cli.commands import app
from finetuner.cli.embedding_files import check_writable, write_embeddings
from finetuner.data.reading import load_inputs_and_columns

from .commands import error, folder, model, run  # noqa: F401  (folder and model are fixtures)
from .toy import TEST, D

# Duplicates ------------------------------------------------------------------------------------------------

TWICE = ClassDataset(np.repeat(TEST.x, 2, axis=0), np.repeat(TEST.classes[TEST.labels], 2))  # each item twice
NAMES = ["hit@1", "mAP@R"]


def test_exclude_duplicates(backend):
    pytest.importorskip("faiss")
    embed_model = backend.mlp(D, 32, 8)
    options = {"metrics": NAMES, "batch_size": len(TWICE)}  # one batch: equal items have equal embeddings
    assert finetuner.evaluate(embed_model, TWICE, **options)["hit@1"] == 1
    excluded = finetuner.evaluate(embed_model, TWICE, exclude_duplicates=True, **options)
    expected = finetuner.evaluate(embed_model, TEST, **options)
    assert excluded["hit@1"] == pytest.approx(expected["hit@1"])
    assert excluded["hit@1"] < 1
    tuner = backend.Tuner(embed_model)
    assert tuner.evaluate(TWICE, exclude_duplicates=True, **options) == excluded
    in_index = finetuner.evaluate(embed_model, TEST, TEST, exclude_duplicates=True, **options)
    assert in_index == pytest.approx(expected)
    pairs = PairDataset(TEST.x, TEST.x, score=np.arange(len(TEST)))
    with pytest.raises(ValueError, match="exclude_duplicates must be used with data that is searched .*spearman"):
        finetuner.evaluate(embed_model, pairs, exclude_duplicates=True)


def test_evaluate_without_duplicates(model, folder):
    np.savez("twice.npz", x=TWICE.x, y=TWICE.classes[TWICE.labels])
    chosen = ("evaluate", "--model", f"{model}:make", "--metric", "hit@1", "--json")
    with_duplicates, without, expected = (
        json.loads(run(*chosen, *more).stdout)["hit@1"]
        for more in (
            ("--data", "twice.npz"),
            ("--data", "twice.npz", "--exclude-duplicates"),
            ("--data", "test.npz"),
        )
    )
    assert with_duplicates == 1
    assert without == pytest.approx(expected)
    assert without < 1


# Tables of embeddings --------------------------------------------------------------------------------------

ROWS = [
    {"text": "aab", "id": "01", "note": ""},
    {"text": "bcd", "id": "2", "note": 'x, "y"'},
    {"text": "h", "id": "3", "note": "ü"},
]
CSV = 'text,id,note\naab,01,\nbcd,2,"x, ""y"""\nh,3,ü\n'


def embed(model, *arguments, code=0, stdin=None):
    chosen = ("--model", f"{model}:make", "--collate", f"{model}:words", *arguments)
    result = CliRunner().invoke(app, ["embed", *map(str, chosen)], prog_name="finetuner", input=stdin)
    assert result.exit_code == code, result.output + str(result.exception)
    return result


def read_rows(path):
    """The rows of a table of embeddings, and the embeddings."""
    if Path(path).suffix == ".jsonl":
        rows = [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]
    else:
        rows = pytest.importorskip("pyarrow.parquet").read_table(path).to_pylist()
    return rows, np.array([row.pop("embedding") for row in rows], np.float32)


@pytest.fixture
def embedded(model, folder):
    """The embeddings of the rows as an .npz has them, and their file ``d.csv``."""
    Path("d.csv").write_text(CSV, encoding="utf-8")
    embed(model, "--data", "d.csv", "--input-column", "text", "--output", "e.npz")
    with np.load("e.npz") as file:
        assert file.files == ["embeddings"]
        return file["embeddings"]


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_embed_to_a_table(model, folder, embedded, suffix):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    result = embed(model, "--data", "d.csv", "--input-column", "text", "--output", f"new/e{suffix}")
    assert result.stdout == f"new/e{suffix}  embedding [3, 8], text, id, note\n"
    rows, embeddings = read_rows(f"new/e{suffix}")
    assert rows == ROWS
    assert np.array_equal(embeddings, embedded)  # all bits of float32
    assert [path.name for path in Path("new").iterdir()] == [f"e{suffix}"]


def test_the_type_of_the_column_of_embeddings(tmp_path):
    pa = pytest.importorskip("pyarrow")
    embeddings = np.arange(6, dtype=np.float32).reshape(3, 2)
    days = [datetime.date(2020, 1, day) for day in (1, 2, 3)]
    columns = {
        "n": np.array([1, 2, 3], np.int8),
        "v": np.eye(3),
        "day": pa.chunked_array([days]),
        "s": ["a", None, "b"],
    }
    check_writable(tmp_path / "e.parquet", columns)
    write_embeddings(tmp_path / "e.parquet", embeddings, columns)
    table = pytest.importorskip("pyarrow.parquet").read_table(tmp_path / "e.parquet")
    assert table.schema.field("embedding").type.value_type == pa.float32()
    assert pa.types.is_list(table.schema.field("embedding").type)
    assert table.schema.field("n").type == pa.int8()
    assert table.schema.field("day").type == pa.date32()
    assert table["v"].to_pylist() == np.eye(3).tolist()
    assert table["embedding"].to_pylist() == embeddings.tolist()
    write_embeddings(tmp_path / "e.jsonl", embeddings, {**columns, "f": [1.5, float("nan"), {"a": [float("inf")]}]})
    second = json.loads((tmp_path / "e.jsonl").read_text().splitlines()[1])
    assert second == {"n": 2, "v": [0, 1, 0], "day": "2020-01-02", "s": None, "f": None, "embedding": [2, 3]}


def test_the_rows_of_a_split_and_of_shards(folder):
    Path("a.csv").write_text("x,split,y\na,train,1\nb,test,2\n")
    Path("b.jsonl").write_text('{"x": "c", "split": "test", "z": null}\n{"x": "d", "split": "train", "z": 0.5}\n')
    items, columns = load_inputs_and_columns(["a.csv", "b.jsonl"], input_column="x", split="test")
    assert items == ["b", "c"]
    assert columns == {"x": ["b", "c"], "split": ["test", "test"], "y": ["2", None], "z": [None, None]}
    items, columns = load_inputs_and_columns("train.npz", input_column="x")
    assert np.array_equal(columns["x"], items)
    assert list(columns) == ["x", "y"]


def test_parquet_keeps_its_types(folder):
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    features = {"info": {"features": {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}}
    table = pa.table({"x": ["a", "b", "c"], "label": [1, None, 0], "more": [{"k": [1]}, None, {"k": []}]})
    parquet.write_table(table.replace_schema_metadata({"huggingface": json.dumps(features)}), "t.parquet")
    items, columns = load_inputs_and_columns("t.parquet", input_column="x")
    assert items == ["a", "b", "c"]
    assert columns["label"].to_pylist() == ["dog", None, "cat"]
    assert columns["more"].type == table["more"].type
    items, columns = load_inputs_and_columns(["t.parquet", "t.parquet"], input_column="x")
    assert columns["more"].to_pylist() == table["more"].to_pylist() * 2


def test_images_and_their_names_in_a_table(model, folder, pillow):
    for i in range(3):
        Path("images").mkdir(exist_ok=True)
        pillow.new("L", (D, D), color=i).save(Path("images", f"{i}.png"))
    Path("images", "1.png").write_bytes(b"broken")
    with pytest.warns(UserWarning, match="1 of 3"):
        run_with_warnings(model)
    rows, embeddings = read_rows("e.jsonl")
    assert rows == [{"name": "0.png"}, {"name": "2.png"}]
    assert embeddings.shape == (2, 8)


def run_with_warnings(model):
    import warnings

    chosen = ("--image-mode", "L", "--preprocess", f"{model}:grey", "--skip-broken")
    run("embed", "--model", f"{model}:make", "--data", "images", *chosen, "--output", "e.jsonl")
    warnings.warn("1 of 3", stacklevel=1)  # for pytest.warns: the program printed its own


@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        (
            "text,embedding\na,1\n",
            ["--output", "e.jsonl"],
            "--data must have no column 'embedding', which e.jsonl is to",
        ),
        ("text,y\na,1\n", ["--output", "e.jsonl", "--label-column", "z"], "--label-column must be a column of --data"),
        ("text,y\na,1\n", ["--output", "e.csv"], "--output must end in .npz, .npy, .parquet or .jsonl, got e.csv"),
        ("text,y\na,1\n", ["--output", "d.csv"], "--output must end in .npz, .npy, .parquet or .jsonl, got d.csv"),
        ("text,y\na,1\n", ["--output", "old.jsonl"], "old.jsonl must be a new file, and it exists"),
    ],
)
def test_tables_that_cannot_be_written(model, folder, content, arguments, message):
    Path("d.csv").write_text(content)
    Path("old.jsonl").write_text("important")
    result = embed(model, "--data", "d.csv", "--input-column", "text", *arguments, code=1)
    assert error(result).startswith(message)
    assert Path("old.jsonl").read_text() == "important"


def test_columns_that_a_format_cannot_hold(tmp_path):
    with pytest.raises(ValueError, match="column 'b' of --data must have no bytes to be written as JSON"):
        check_writable(tmp_path / "e.jsonl", {"b": [b"x"]})
    pytest.importorskip("pyarrow")
    for values in ([1, "a"], [2**70, 1]):
        with pytest.raises(
            ValueError, match="column 'b' of --data must have values of one type to be written to Parqu"
        ):
            check_writable(tmp_path / "e.parquet", {"b": values})
    with pytest.raises(ValueError, match="'b' of --data must have no bytes"):
        write_embeddings(tmp_path / "e.jsonl", np.ones((2, 1), np.float32), {"b": ["a", b"x"]})
    assert not list(tmp_path.iterdir())  # no unfinished file


def test_parquet_without_pyarrow(model, folder, embedded, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    result = embed(model, "--data", "d.csv", "--input-column", "text", "--output", "e.parquet", code=1)
    assert error(result) == 'writing Parquet needs pyarrow: pip install "finetuner[data]"'


# Parts -----------------------------------------------------------------------------------------------------


def write_table(count=700):
    """A table ``long.jsonl`` of texts of different lengths: three windows at a batch size of 4."""
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(list("abcdefgh"), size)) for size in rng.integers(1, 30, count)]
    rows = [{"text": text, "number": None if i < 300 else i, "topic": "ab"[i % 2]} for i, text in enumerate(texts)]
    Path("long.jsonl").write_text("\n".join(map(json.dumps, rows)))


def embed_parts(model, suffix, parts, *arguments):
    """The whole and the parts as files of a format."""
    chosen = ("--data", "long.jsonl", "--input-column", "text", "--batch-size", 4, *arguments)
    embed(model, *chosen, "--output", f"whole{suffix}")
    for number in range(1, parts + 1):
        result = embed(model, *chosen, "--part", f"{number}/{parts}", "--output", f"part-{number}{suffix}")
        assert result.stdout.endswith(f"; part {number}/{parts}\n")
    return f"whole{suffix}", [f"part-{number}{suffix}" for number in range(1, parts + 1)]


@pytest.mark.parametrize("parts", [2, 5])
def test_parts_are_the_arrays_of_one_process(model, folder, parts):
    write_table()
    whole, pieces = embed_parts(model, ".npz", parts, "--label-column", "topic")
    with np.load(whole) as file:
        expected = {name: file[name] for name in file.files}
    found = []
    for piece in pieces:
        with np.load(piece) as file:
            found.append({name: file[name] for name in file.files})
    assert list(expected) == ["embeddings", "labels"]
    assert [one.pop("part").tolist() for one in found] == [[number, parts] for number in range(1, parts + 1)]
    for name, array in expected.items():
        joined = np.concatenate([one[name] for one in found])
        assert joined.dtype == array.dtype
        assert np.array_equal(joined, array)
    assert [len(one["embeddings"]) for one in found] == {2: [256, 444], 5: [0, 256, 0, 256, 188]}[parts]
    whole, pieces = embed_parts(model, ".npy", parts)
    joined = np.concatenate([np.load(piece, mmap_mode="r") for piece in pieces])
    assert np.array_equal(joined, expected["embeddings"])
    assert np.array_equal(np.load(whole), expected["embeddings"])


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_parts_are_the_rows_of_one_process(model, folder, suffix):
    write_table()
    if suffix == ".parquet":
        pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    whole, pieces = embed_parts(model, suffix, 4)
    if suffix == ".parquet":
        tables = [parquet.read_table(piece) for piece in pieces]
        assert pa.concat_tables(tables).equals(parquet.read_table(whole))  # one type, also of an empty part
        assert [table.schema.metadata[b"part"] for table in tables] == [b"1/4", b"2/4", b"3/4", b"4/4"]
        assert [len(table) for table in tables] == [0, 256, 256, 188]
    else:
        assert "".join(Path(piece).read_text() for piece in pieces) == Path(whole).read_text()


def test_parts_of_label_sets_and_of_images(model, folder, pillow):
    lines = [json.dumps({"text": "abc"[: 1 + i % 3], "topic": ["a", "b"][: 1 + i % 2]}) for i in range(10)]
    Path("sets.jsonl").write_text("\n".join(lines))
    Path("images").mkdir()
    for i in range(5):
        pillow.new("L", (D, D), color=i).save(Path("images", f"{i}.png"))
    images = ("--model", f"{model}:make", "--image-mode", "L", "--preprocess", f"{model}:grey", "--data", "images")
    rows = []
    for number in (1, 2):
        part = ("--part", f"{number}/2", "--batch-size", 2)
        table = ("--data", "sets.jsonl", "--input-column", "text", "--label-column", "topic")
        embed(model, *table, *part, "--output", f"sets-{number}.npz")
        run("embed", *images, *map(str, part), "--output", f"images-{number}.npz")
        with np.load(f"images-{number}.npz") as file:
            rows += file["names"].tolist()
            assert len(file["names"]) == len(file["embeddings"])
    assert rows == [f"{i}.png" for i in range(5)]
    with np.load("sets-1.npz") as first, np.load("sets-2.npz") as second:  # fewer texts than a window: all in the last
        assert first["label_names"].tolist() == second["label_names"].tolist() == ["a", "b"]
        assert [len(first["labels"]), len(second["labels"])] == [0, 10]
        assert first["embeddings"].shape == (0, 8)


@pytest.mark.parametrize("part", ["0/8", "9/8", "3", "3/0", "-1/2", "1/-2", "1/2/3", "a/b", "", "1.0/2", "3 / 8"])
def test_wrong_parts(model, folder, part):
    chosen = ("--data", "train.npz", "--input-column", "x", "--output", "e.npz")
    result = embed(model, *chosen, f"--part={part}", code=1)
    assert error(result) == f"--part must be NUMBER/PARTS, such as 3/8 for the third of eight parts, got {part!r}"
    assert not Path("e.npz").exists()


def test_parts_that_cannot_be_written(model, folder):
    chosen = ("--data", "train.npz", "--input-column", "x")
    result = embed(model, *chosen, "--part", "1/2", "--dtype", "int8", "--output", "e.npz", code=1)
    assert error(result).startswith("--dtype must be float32, binary or ubinary with --part, got 'int8'")
    result = embed(model, *chosen, "--label-column", "y", "--output", "e.npy", code=1)
    assert error(result) == "--output must end in .npz with --label-column, got e.npy, which holds embeddings alone"


# Standard input --------------------------------------------------------------------------------------------


def test_standard_input(model, folder, embedded):
    column = ("--input-column", "text")
    embed(model, "--data", "-", "--format", "csv", *column, "--output", "1.jsonl", stdin=CSV.encode())
    embed(model, "--data", "-", "--format", "tsv", *column, "--output", "2.jsonl", stdin="text\tn\naab\t\nbcd\t\nh\t\n")
    lines = "\n".join(map(json.dumps, ROWS))
    embed(model, "--data", "-", "--format", "jsonl", *column, "--output", "3.jsonl", stdin=lines)
    embed(model, "--data", "-", "--format", "txt", "--output", "4.jsonl", stdin="aab\nbcd\nh\n")
    assert read_rows("1.jsonl")[0] == read_rows("3.jsonl")[0] == ROWS
    assert read_rows("4.jsonl")[0] == [{"text": row["text"]} for row in ROWS]
    for number in range(1, 5):
        assert np.array_equal(read_rows(f"{number}.jsonl")[1], embedded)
    Path("data.npz").write_bytes(Path("test.npz").read_bytes())
    chosen = ("embed", "--model", f"{model}:make", "--data", "-", "--format", "npz", "--input-column", "x")
    done = CliRunner().invoke(app, [*chosen, "--output", "5.npz"], input=Path("test.npz").read_bytes())
    assert done.exit_code == 0
    with np.load("5.npz") as file:
        assert file["embeddings"].shape == (48, 8)


@pytest.mark.parametrize(
    ("arguments", "stdin", "message"),
    [
        (
            ["--data", "-"],
            "a\n",
            "--format must be given with --data -: csv, tsv, jsonl, json, txt, parquet, npz or npy",
        ),
        (
            ["--data", "d.csv", "--format", "csv"],
            "",
            "--format must be used with --data -, got 'csv' with --data d.csv",
        ),
        (["--data", "-", "--data", "d.csv", "--format", "csv"], "", "--data - must be the only --data, got others"),
        (["--data", "-", "--format", "csv", "--image-column", "x"], "x\n", "--image-column must be used with a file"),
        (["--data", "-", "--format", "csv"], "", "standard input must not be empty, and is"),
        (["--data", "-", "--format", "csv"], "a,b\n1,2,3\n", "input_column must name a column of standard input"),
        (["--data", "-", "--format", "jsonl"], '{"a": 1', "standard input cannot be read: JSON error in line 1"),
        (["--data", "-", "--format", "txt"], b"\xff\xfea", "standard input cannot be read as UTF-16-LE"),
    ],
)
def test_standard_input_that_cannot_be_used(model, folder, arguments, stdin, message):
    Path("d.csv").write_text(CSV, encoding="utf-8")
    assert error(embed(model, *arguments, "--output", "e.jsonl", code=1, stdin=stdin)).startswith(message)
    assert not Path("e.jsonl").exists()


def test_an_unknown_format(model, folder):
    result = embed(model, "--data", "-", "--format", "xml", "--output", "e.jsonl", code=2)
    assert "Invalid value for --format" in result.stderr
