"""Tests of the kinds of data that files can hold: pairs, triplets, targets, relevance, and items without labels."""

import json
import pickle

import numpy as np
import pytest

from finetuner.data import load, load_inputs
from finetuner.tuner.base import (
    ClassDataset,
    InstanceDataset,
    PairDataset,
    RankingDataset,
    SessionDataset,
    TargetDataset,
    TripletDataset,
)

from .commands import error, fit, folder, model, run  # noqa: F401
from .files import write_file
from .toy import D

TABLE = """q,a,b,s,v,w,rel,split
q1,one,1,0.5,1,2.5,2,x
q1,two,22,-1,2,3.5,0,x
01,three,333,1e-1,3,4.5,1,y
1,four,4444,3,4,5.5,0,y
"""


@pytest.fixture
def table(tmp_path):
    return write_file(tmp_path / "a.csv", TABLE)


def test_pairs(table):
    data = load(table, anchor_column="a", positive_column="b")
    assert isinstance(data, PairDataset)
    assert data.sides == (["one", "two", "three", "four"], ["1", "22", "333", "4444"])
    assert not data.scored
    same = load(table, input_column="a", positive_column="b")
    assert same.sides == data.sides


def test_scored_pairs(table):
    data = load(table, anchor_column="a", positive_column="b", score_column="s")
    assert isinstance(data, PairDataset)
    assert data.scored
    np.testing.assert_array_equal(data.labels[::2], np.float32([0.5, -1, 0.1, 3]))
    with pytest.raises(ValueError, match="column 'a' of .* must have numbers, got 'one' at row 0"):
        load(table, anchor_column="a", positive_column="b", score_column="a")


def test_triplets(table):
    data = load(table, anchor_column="a", positive_column="b", negative_column="q", numeric="b")
    assert isinstance(data, TripletDataset)
    assert data.sides[0] == ["one", "two", "three", "four"]
    np.testing.assert_array_equal(data.sides[1], [1, 22, 333, 4444])
    assert data.sides[2] == ["q1", "q1", "01", "1"]


def test_targets(table, tmp_path):
    data = load(table, input_column="a", target_column="w")
    assert isinstance(data, TargetDataset)
    np.testing.assert_array_equal(data.labels, np.float32([2.5, 3.5, 4.5, 5.5]))
    data = load(table, input_column="a", target_column=["v", "w"])
    np.testing.assert_array_equal(data.labels, np.float32([[1, 2.5], [2, 3.5], [3, 4.5], [4, 5.5]]))
    rows = [{"text": "a", "teacher": [1, 0.5]}, {"text": "b", "teacher": [0, 2]}]
    path = write_file(tmp_path / "a.jsonl", "\n".join(map(json.dumps, rows)))
    np.testing.assert_array_equal(load(path, target_column="teacher").labels, np.float32([[1, 0.5], [0, 2]]))


def test_relevance(table):
    data = load(table, input_column=["q", "a"], query_column="q", relevance_column="rel")
    assert isinstance(data, RankingDataset)
    assert data.x == {"q": ["q1", "q1", "01", "1"], "a": ["one", "two", "three", "four"]}
    assert data.classes.tolist() == ["01", "1", "q1"]
    assert data.groups.tolist() == [2, 2, 0, 1]
    np.testing.assert_array_equal(data.labels, np.float32([2, 0, 1, 0]))


def test_sessions_to_the_letter(tmp_path):
    path = write_file(tmp_path / "a.csv", "t,s,r\na,01,0\nb,01,1\nc,1,0\nd,1,-1\n")
    data = load(path, session_column="s", role_column="r")
    assert isinstance(data, SessionDataset)
    assert data.labels.tolist() == [[0, 0], [0, 1], [1, 0], [1, -1]]


def test_unlabelled(table, tmp_path):
    data = load(table, input_column="a", unlabelled=True)
    assert isinstance(data, InstanceDataset)
    assert data.batch(np.array([1, 1]), seed=[0]) == ["two", "two"]
    pickle.dumps(data)  # for worker processes
    data = load(table, input_column="a", unlabelled=True, augment=lambda item, rng: item + str(rng.integers(10)))
    assert data.batch(np.array([1, 1]), seed=[0]) != ["two", "two"]
    data = load(write_file(tmp_path / "a.txt", "u\nv\n"), unlabelled=True)
    assert (data.x, len(data)) == (["u", "v"], 2)


def test_augment(table):
    data = load(table, input_column="a", label_column="q", classes="q*", augment=str.upper)
    assert isinstance(data, ClassDataset)
    assert data.batch(np.array([0, 1]), seed=[0]) == ["ONE", "TWO"]
    assert data.batch(np.array([0, 1])) == ["one", "two"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label_column": "q", "score_column": "s"}, "score_column must not be used with label_column: data is of one"),
        (
            {"unlabelled": True, "label_column": "q"},
            "unlabelled must not be used with label_column: data is of one kind",
        ),
        ({"positive_column": "b", "target_column": "w"}, "target_column must not be used with positive_column"),
        ({"positive_column": "b"}, "anchor_column must name a column of .*, which has 'q', 'a', 'b'"),
        ({"anchor_column": "a"}, "positive_column must name a column of "),
        (
            {"anchor_column": "a", "positive_column": "B"},
            "positive_column must be a column of .*, got 'B'; did you mean",
        ),
        (
            {"anchor_column": "a", "positive_column": "b", "input_column": "a"},
            "input_column must not be used with anchor",
        ),
        ({"input_column": ["a", "q"], "positive_column": "b"}, "anchor_column must be one column, got a, q"),
        (
            {"anchor_column": "a", "positive_column": "b", "negative_column": "q", "score_column": "s"},
            "score_column must be used with pairs, got 's' with negative_column",
        ),
        ({"relevance_column": "rel"}, "query_column must name a column of "),
        ({"session_column": "q"}, "role_column must name a column of "),
        ({"input_column": "a", "target_column": "q"}, "column 'q' of .* must have numbers, got 'q1' at row 0"),
        (
            {"input_column": "a", "target_column": "w", "classes": "q1"},
            "classes is only for data with classes, got 'q1'",
        ),
    ],
)
def test_wrong_columns(table, options, message):
    with pytest.raises(ValueError, match=message):
        load(table, **options)


# The command line


VECTORS = {"x": np.random.default_rng(0).normal(size=(48, D)).astype(np.float32)}


def write_vectors(path, **columns):
    """JSON Lines with vectors ``x`` and ``z``, and other columns."""
    x = VECTORS["x"]
    rows = [
        {"x": x[i].tolist(), "z": (x[i] + 0.1).tolist(), **{name: values[i] for name, values in columns.items()}}
        for i in range(len(x))
    ]
    return write_file(path, "\n".join(map(json.dumps, rows)))


@pytest.mark.parametrize(
    ("options", "title", "metric"),
    [
        (["--anchor-column", "x", "--positive-column", "z", "--loss", "NTXentLoss"], "PairDataset(48 pairs)", "hit@1"),
        (
            ["--anchor-column", "x", "--positive-column", "z", "--score-column", "s", "--loss", "CosineSimilarityLoss"],
            "PairDataset(48 pairs, scored)",
            "spearman",
        ),
        (
            ["--anchor-column", "x", "--positive-column", "z", "--negative-column", "x", "--loss", "TripletLoss"],
            "TripletDataset(48 triplets)",
            "triplet_accuracy",
        ),
    ],
)
def test_kinds_on_the_command_line(model, folder, options, title, metric):
    write_vectors(folder / "a.jsonl", s=np.linspace(-1, 1, 48).tolist())
    result = fit(model, "--data", "a.jsonl", "--eval-data", "a.jsonl", *options)
    assert result.stderr.splitlines()[0] == f"train  {title}"
    history = json.loads((folder / "run" / "history.json").read_text())
    assert metric in history[-1]
    result = run("evaluate", "--data", "a.jsonl", "--run", "run", "--trust", "--json")
    assert json.loads(result.stdout)[metric] == pytest.approx(history[-1][metric], abs=1e-6)
    run("embed", "--data", "a.jsonl", "--run", "run", "--trust", "--input-column", "z", "--output", "e.npz")
    assert np.load("e.npz")["embeddings"].shape == (48, 8)


def test_unlabelled_on_the_command_line(model, folder):
    write_vectors(folder / "a.jsonl", y=[i % 4 for i in range(48)])
    options = ("--data", "a.jsonl", "--input-column", "x", "--unlabelled", "--loss", "NTXentLoss")
    evaluation = ("--eval-data", "a.jsonl", "--label-column", "y")
    result = fit(model, *options, *evaluation, "--augment", f"{model}:same")
    assert result.stderr.splitlines()[:2] == [
        "train  InstanceDataset(48 items, 2 views each)",
        "eval   ClassDataset(48 items, 4 classes)",
    ]
    command = json.loads((folder / "run" / "config.json").read_text())["command"]
    assert command["augment"] == f"{model}:same"
    result = run("fit", "--like", "run", "--output", "again", code=1)
    assert "--augment" in error(result)
    assert "--trust" in error(result)
    run("fit", "--like", "run", "--output", "again", "--trust")


def test_tables_on_the_command_line(model, folder):
    rows = [f"{x};{y};{i % 4:02}" for i, (x, y) in enumerate(VECTORS["x"][:, :2].tolist())]
    write_file(folder / "a-1.csv", "\n".join(rows[:24]))
    write_file(folder / "a-2.csv", "\n".join(rows[24:]))
    options = ("--column-names", "u,v,label", "--input-column", "u", "--input-column", "v", "--label-column", "label")
    wide = f"import numpy as np\ndef wide(item):\n    return np.resize(np.float32([item['u'], item['v']]), {D})\n"
    write_file(folder / "functions.py", wide)
    columns = (*options, "--numeric", "--preprocess", "functions.py:wide")
    for data in (["--data", "a-*.csv"], ["--data", "a-1.csv", "--data", "a-2.csv"]):
        result = fit(model, *data, *columns, "--output", f"run{len(data)}")
        assert result.stderr.splitlines()[0] == "train  ClassDataset(48 items, 4 classes)"
    command = json.loads((folder / "run4" / "config.json").read_text())["command"]
    assert command["data"] == [str(folder / "a-1.csv"), str(folder / "a-2.csv")]
    write_file(folder / "b.csv", "u;v;label\n" + "\n".join(rows))
    result = fit(model, "--data", "b.csv", *columns[2:], "--output", "run5")
    assert result.stderr.splitlines()[0] == "train  ClassDataset(48 items, 4 classes); b.csv has the separator ';'"
    # Options for CSV are left out where no file has a use for them, as in data of another format.
    cells = [row.split(";") for row in rows]
    lines = [json.dumps({"u": u, "v": v, "label": label}) for u, v, label in cells]
    write_file(folder / "d.jsonl", "\n".join(lines))
    result = fit(model, "--data", "a-*.csv", "--eval-data", "d.jsonl", *columns, "--output", "run7")
    assert result.stderr.splitlines()[1] == "eval   ClassDataset(48 items, 4 classes)"
    run("embed", "--data", "d.jsonl", "--run", "run7", "--trust", "--output", "e.npz")
    with pytest.raises(ValueError, match="separator is only for CSV and TSV, got ';' for d.jsonl"):
        load_inputs("d.jsonl", input_column="u", separator=";")
    write_file(folder / "c.csv", "t,label\né,1\n".encode("latin-1"))
    message = error(fit(model, "--data", "c.csv", "--label-column", "label", "--output", "run6", code=1))
    assert message.startswith("c.csv cannot be read as UTF-8, it has byte 0xe9; encoding (--encoding) names")
    assert error(run("evaluate", "--data", "c-*.csv", "--model", f"{model}:make", code=1)).startswith("c-*.csv must be")
    assert load_inputs("b.csv", input_column="label", separator=";") == [f"{i % 4:02}" for i in range(48)]
