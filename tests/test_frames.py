"""Tables in memory by the names of their columns: datasets of Hugging Face, frames of pandas and Polars, Arrow tables."""

import importlib

import numpy as np
import pytest

import finetuner
from finetuner import ClassDataset, PairDataset, TripletDataset
from finetuner.data.frames import read_frame

pytest.importorskip("pyarrow")
TEXTS = ["meow", "woof", "purr", "bark", "hiss", "growl"] * 2
LABELS = ["cat", "dog"] * 6
SCORES = [0.5, 1.0, 0.0] * 4
LIBRARIES = {"pandas": "DataFrame", "polars": "DataFrame", "pyarrow": "table", "datasets": "Dataset.from_dict"}


@pytest.fixture(params=LIBRARIES)
def frame(request):
    """Makes a table from columns by name."""
    make = pytest.importorskip(request.param)
    for name in LIBRARIES[request.param].split("."):
        make = getattr(make, name)
    return make


def letters(texts):
    """A collate function: how often each letter is in a text."""
    return np.array([[text.count(chr(97 + number)) for number in range(26)] for text in texts], np.float32)


def model_of(backend):
    return backend.mlp(26, 16, 4)


def test_classes(frame):
    found = read_frame(frame({"text": TEXTS, "label": LABELS}), "data")
    assert isinstance(found, ClassDataset)
    assert found.x == TEXTS
    assert found.classes[found.labels].tolist() == LABELS
    table = frame({"a": TEXTS, "text": TEXTS[::-1], "label": LABELS, "b": LABELS[::-1]})
    assert read_frame(table, "data").x == TEXTS[::-1]
    found = read_frame(table, "data", input_column="a", label_column="b")
    assert (found.x, found.classes[found.labels].tolist()) == (TEXTS, LABELS[::-1])
    found = read_frame(table, "data", input_column=["a", "text"], label_column="b")
    assert found.x == {"a": TEXTS, "text": TEXTS[::-1]}
    found = read_frame(frame({"vector": [[0.5, 1.0], [2.0, 3.0]], "label": [1, 0]}), "data")
    np.testing.assert_array_equal(found.x, np.array([[0.5, 1], [2, 3]], np.float32))


def test_pairs_and_triplets(frame):
    columns = {"question": TEXTS, "answer": TEXTS[::-1], "other": LABELS, "score": SCORES}
    found = read_frame(frame(columns), "data", input_column=("question", "answer"))
    assert isinstance(found, PairDataset)
    assert found.sides == (TEXTS, TEXTS[::-1])
    scored = read_frame(frame(columns), "data", input_column=("question", "answer"), score_column="score")
    assert (found.scored, scored.scored) == (False, True)
    triplets = read_frame(frame(columns), "data", input_column=["question", "answer", "other"])
    assert isinstance(triplets, TripletDataset)
    named = {"anchor": TEXTS, "positive": TEXTS[::-1]}
    assert read_frame(frame(named), "data").sides == found.sides
    assert read_frame(frame({**named, "score": SCORES}), "data").scored
    assert isinstance(read_frame(frame({**named, "negative": LABELS}), "data"), TripletDataset)


def test_errors_name_the_columns(frame):
    table = frame({"words": TEXTS, "kind": LABELS, "score": SCORES})
    known = "'words', 'kind', 'score'"
    with pytest.raises(ValueError, match=f"label_column must name a column of train_data, which has {known}"):
        read_frame(table, "train_data")
    with pytest.raises(ValueError, match=f"input_column must name a column of train_data, which has {known}"):
        read_frame(table, "train_data", label_column="kind")
    with pytest.raises(
        ValueError, match="label_column must be a column of train_data, got 'kinds'; did you mean 'kind'"
    ):
        read_frame(table, "train_data", input_column="words", label_column="kinds")
    with pytest.raises(ValueError, match="score_column must be used with two columns as input_column, got 'words'"):
        read_frame(table, "train_data", input_column="words", label_column="kind", score_column="score")
    with pytest.raises(
        ValueError, match=r"column 'label' of train_data must not have missing values, got them at rows .*1"
    ):
        read_frame(frame({"text": ["a", "b"], "label": ["x", None]}), "train_data")


def test_features_of_datasets():
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})
    table = datasets.Dataset.from_dict({"text": TEXTS, "label": [0, 1] * 6}, features=features)
    assert read_frame(table, "data").classes.tolist() == ["no", "yes"]
    found = read_frame(table.select([3, 0]), "data")  # rows by indices
    assert found.x == [TEXTS[3], TEXTS[0]]
    assert found.classes[found.labels].tolist() == ["yes", "no"]


def test_training_and_evaluation(backend, frame):
    """The same numbers as from a pair of lists; also by a tuner, for several evaluation sets, and with an adapter."""
    columns = {"text": TEXTS, "kind": LABELS, "other": SCORES}
    table, pair = frame(columns), (TEXTS, LABELS)
    names = {"input_column": "text", "label_column": "kind"}
    options = {"epochs": 2, "collate_fn": letters, "callbacks": []}
    expected = finetuner.fit(model_of(backend), pair, pair, **options)
    run = finetuner.fit(model_of(backend), table, table, **names, **options)
    assert run.metrics == expected.metrics
    sets = {"a": (table, table), "b": table, "c": ClassDataset(*pair)}
    run = finetuner.fit(model_of(backend), table, sets, **names, **options)
    assert {name.partition("/")[0] for name in run.metrics["after"]} >= {"a", "b", "c"}
    tuner = backend.Tuner(model_of(backend), callbacks=[])
    tuner.fit(table, table, None, letters, epochs=2, **names)
    assert tuner.evaluate(table, **names) == expected.tuner.evaluate(pair)
    assert tuner.evaluate(table, table, **names) == expected.tuner.evaluate(pair, pair)
    np.testing.assert_array_equal(tuner.embed(table, input_column="text"), expected.tuner.embed(TEXTS))
    metrics = finetuner.evaluate(tuner.model, table, collate_fn=letters, **names)
    assert metrics == finetuner.evaluate(tuner.model, pair, collate_fn=letters)
    found = finetuner.embed(tuner.model, table, input_column="text", collate_fn=letters)
    np.testing.assert_array_equal(found, expected.tuner.embed(TEXTS))
    run = finetuner.fit(model_of(backend), table, table, adapter="linear", **names, **options)
    assert run.metrics["after"]


def test_columns_without_a_table(backend):
    with pytest.raises(TypeError, match="label_column must be used with a datasets.Dataset or a frame as train_data"):
        finetuner.fit(model_of(backend), (TEXTS, LABELS), label_column="kind")
    with pytest.raises(
        TypeError, match="input_column must be used with a datasets.Dataset or a frame as x, got 'text'"
    ):
        finetuner.embed(model_of(backend), TEXTS, input_column="text", collate_fn=letters)
    with pytest.raises(
        TypeError, match="score_column must be used with a datasets.Dataset or a frame as data, got 'a'"
    ):
        finetuner.evaluate(model_of(backend), (TEXTS, LABELS), score_column="a", collate_fn=letters)


def test_a_dataset_of_several_splits(backend):
    datasets = pytest.importorskip("datasets")
    table = datasets.Dataset.from_dict({"text": TEXTS, "label": LABELS})
    splits = datasets.DatasetDict(train=table, test=table)
    for names in ({}, {"label_column": "label"}):
        with pytest.raises(ValueError, match="train_data must be one split of a DatasetDict, which has .*train.*test"):
            finetuner.fit(model_of(backend), splits, collate_fn=letters, **names)
    run = finetuner.fit(
        model_of(backend), splits["train"], datasets.DatasetDict(test=table), collate_fn=letters, epochs=1, callbacks=[]
    )
    assert any(name.startswith("test/") for name in run.metrics["after"])


def test_nothing_is_imported_for_other_data(monkeypatch):
    monkeypatch.setattr(importlib, "import_module", None)
    from finetuner.tuner.base.data.frames import read_tables

    data = (TEXTS, LABELS)
    assert read_tables(data, None, None, None, None) == (data, None)
