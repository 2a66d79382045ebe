"""What users pass is read by position and before any cast: containers, labels and numbers."""

import datetime
import decimal

import numpy as np
import pytest

from finetuner import ClassDataset, PairDataset, RankingDataset, SessionDataset, TargetDataset
from finetuner.arrays import take, to_float_array
from finetuner.containers import from_container
from finetuner.labels import class_names, encode_labels, rarest_labels, sets_match
from finetuner.tuner.base.data.batches import Batches
from finetuner.tuner.base.data.conversion import align_labels, as_dataset
from finetuner.tuner.base.data.relations import check_labels, has_tuples

# Labels.


@pytest.mark.parametrize(
    ("y", "classes", "codes"),
    [
        (["b", "a", "b"], ["a", "b"], [1, 0, 1]),
        ([np.int64(3), 4, np.int8(3)], [3, 4], [0, 1, 0]),
        ([1, 2.5, 1.0], [1, 2.5], [0, 1, 0]),
        ([2**53, 2**53 + 1], [2**53, 2**53 + 1], [0, 1]),
        ([2**70, -1, 2**70 + 1], [-1, 2**70, 2**70 + 1], [1, 0, 2]),
        ([b"x", b"y"], [b"x", b"y"], [0, 1]),
        ([True, False], [False, True], [1, 0]),
        (["nan", "None", ""], ["", "None", "nan"], [2, 1, 0]),
        ([np.array([3]), np.array(4)], [3, 4], [0, 1]),
        (np.array([[7], [5]]), [5, 7], [1, 0]),
        (np.array(["a", "b"], dtype=object), ["a", "b"], [0, 1]),
        (np.array([2**63, 1], np.uint64), [1, 2**63], [1, 0]),
    ],
)
def test_labels(y, classes, codes):
    found, numbers = encode_labels(y, "y")
    assert found.tolist() == classes
    assert numbers.tolist() == codes
    assert numbers.dtype == np.int32


@pytest.mark.parametrize(
    ("y", "kind", "message"),
    [
        ([1, "1"], TypeError, "must have the same type, got int and str"),
        (["a", True], TypeError, "must have the same type, got bool and str"),
        ([b"a", "a"], TypeError, "must have the same type, got bytes and str"),
        ([1, True], TypeError, "must have the same type, got bool and int"),
        ([2**53 + 1, 0.5], ValueError, "must not mix floats with integers above"),
        (["a", None], ValueError, "y must not be missing, and is at items 1"),
        (["a", float("nan")], ValueError, "y must not be missing, and is at items 1"),
        (np.array([0.0, np.nan]), ValueError, "y must not be missing, and is at items 1"),
        (np.array(["2020", "NaT"], "datetime64[s]"), ValueError, "y must not be missing, and is at items 1"),
        (np.eye(3), ValueError, r"y must have shape \[N\], got \[3, 3\]; for one-hot labels pass argmax"),
        ([[1, 0], [0, 1]], TypeError, "got list; y must have shape"),
        ([(1, 2), (3, 4)], TypeError, "several labels of an item are given as a set"),
        ([datetime.date(2020, 1, 1)], TypeError, "y must be numbers or strings, got date"),
        ([1 + 2j], TypeError, "y must be numbers or strings, got complex"),
        ({1, 2}, TypeError, "y must have an order, got a set"),
        ("ab", TypeError, "y must have a label for each item"),
        ({"a": [1], "b": [2]}, TypeError, "y must have a label for each item"),
        (np.ma.masked_array([1, 2], [False, True]), TypeError, "y must have no masked values"),
    ],
)
def test_labels_that_are_refused(y, kind, message):
    with pytest.raises(kind, match=message):
        encode_labels(y, "y")


def test_names_of_classes_keep_their_types():
    first = ClassDataset(np.zeros((2, 1)), [1, 2])
    names = list(first.classes.tolist())
    other = ClassDataset(np.zeros((2, 1)), ["1", "b"]).relabel(names)
    assert names == [1, 2, "1", "b"]
    assert other.classes.tolist() == names
    assert other.labels.tolist() == [2, 3]
    assert class_names([2**64, 1]).tolist() == [2**64, 1]


# Tables.


@pytest.fixture
def pandas():
    return pytest.importorskip("pandas")


def test_columns_of_pandas_are_read_by_position(pandas):
    order = [3, 0, 2, 1]
    frame = pandas.DataFrame({"x": [0.0, 1.0, 2.0, 3.0], "text": list("abcd"), "y": [5, 6, 5, 7]}).iloc[order]
    for column in ("x", "text"):
        data = ClassDataset(frame[column], frame["y"])
        items = [data[i] for i in range(4)]
        assert [item for item, _ in items] == frame[column].tolist()
        assert data.classes[data.labels].tolist() == frame["y"].tolist()
    assert list(PairDataset(frame["text"], frame["x"]).sides[1]) == order
    assert TargetDataset(frame["x"], frame["x"]).labels.tolist() == order
    data = RankingDataset(frame["x"], relevance=frame["x"], groups=frame["text"], weights=frame["x"])
    assert data.labels.tolist() == data.weights.tolist() == order
    assert SessionDataset(frame["x"], frame["text"], pandas.Series([0, 1, -1, 1], index=order)).labels[
        :, 1
    ].tolist() == [*[0, 1, -1, 1]]


def test_frames(pandas):
    frame = pandas.DataFrame({"a": [1.0, 2.0], "b": [3, 4]}, index=[9, 8])
    assert from_container("x", frame).tolist() == [[1.0, 3.0], [2.0, 4.0]]
    mixed = from_container("x", frame.assign(c=["u", "v"]))
    assert {name: list(column) for name, column in mixed.items()} == {"a": [1.0, 2.0], "b": [3, 4], "c": ["u", "v"]}
    assert encode_labels(frame[["b"]], "y")[0].tolist() == [3, 4]
    with pytest.raises(ValueError, match="columns with different names"):
        from_container("x", pandas.concat([frame, frame], axis=1))


def test_missing_values_of_pandas(pandas):
    for y in (
        ["a", None],
        pandas.array([1, None], "Int64"),
        pandas.Categorical(["a", None]),
        pandas.array([pandas.NaT]),
    ):
        with pytest.raises(ValueError, match="y must not be missing"):
            encode_labels(pandas.Series(y), "y")
    with pytest.raises(ValueError, match="weights must be finite, and are not at items 1"):
        to_float_array("weights", pandas.Series([1, None], dtype="Int64"))
    assert encode_labels(pandas.Series([2**60, 1], dtype="Int64"), "y")[0].tolist() == [1, 2**60]


def test_arrow():
    pyarrow = pytest.importorskip("pyarrow")
    table = pyarrow.table({"text": ["a", "b"], "n": [2**60 + 1, 5], "missing": [1, None]})
    assert from_container("x", table["text"]) == ["a", "b"]
    assert from_container("x", table["n"]).tolist() == [2**60 + 1, 5]
    assert from_container("x", table["missing"]) == [1, None]
    assert list(from_container("x", table)) == ["text", "n", "missing"]


@pytest.fixture
def polars():
    return pytest.importorskip("polars")


def test_columns_of_polars(polars):
    series = polars.Series
    frame = polars.DataFrame({"x": [0.5, 1.5, 2.5], "text": list("abc"), "y": [5, 6, 5]})[[2, 0, 1]]
    data = ClassDataset(frame["text"], frame["y"])
    assert [item for item, _ in map(data.__getitem__, range(3))] == ["c", "a", "b"]
    assert data.classes[data.labels].tolist() == [5, 5, 6]
    assert TargetDataset(frame["x"], frame[["x", "y"]]).labels.tolist() == [[2.5, 5], [0.5, 5], [1.5, 6]]
    assert list(PairDataset(frame["text"], frame["x"]).sides[1]) == [2.5, 0.5, 1.5]
    assert encode_labels(series(["b", "a", "b"], dtype=polars.Categorical), "y")[0].tolist() == ["a", "b"]
    for column, expected in (
        (series([1, 2], dtype=polars.Int8), np.array([1, 2], np.int8)),
        (series([2**63, 1], dtype=polars.UInt64), np.array([2**63, 1], np.uint64)),
        (series([True, False]), np.array([True, False])),
        (series([datetime.date(2020, 1, 2)]), np.array(["2020-01-02"], "datetime64[D]")),
        (series(np.ones((2, 3, 4), np.float32)), np.ones((2, 3, 4), np.float32)),
    ):
        found = from_container("x", column)
        assert found.dtype == expected.dtype
        assert np.array_equal(found, expected)
    for column, values in (
        (series([1, None]), [1, None]),
        (series([[1], [2, 3]]), [[1], [2, 3]]),
        (series([b"a"]), [b"a"]),
        (series([datetime.time(1)]), [datetime.time(1)]),
        (series([decimal.Decimal("0.50")]), [decimal.Decimal("0.50")]),
    ):
        assert from_container("x", column) == values
    with pytest.raises(ValueError, match="y must not be missing, and is at items 1"):
        encode_labels(series(["a", None]), "y")
    with pytest.raises(ValueError, match="weights must be finite, and are not at items 1"):
        to_float_array("weights", series([1, None]))


def test_integers_of_128_bits(polars):
    if not hasattr(polars, "Int128"):
        pytest.skip("this version of Polars has none")
    assert from_container("x", polars.Series([2**100, 1], dtype=polars.Int128)) == [2**100, 1]


def test_frames_of_polars(polars):
    frame = polars.DataFrame({"a": [1.0, 2.0], "b": [3, 4]})
    assert from_container("x", frame).tolist() == [[1.0, 3.0], [2.0, 4.0]]
    assert from_container("x", frame > 2).tolist() == [[False, True], [False, True]]
    mixed = from_container("x", frame.with_columns(c=polars.Series(["u", "v"])))
    assert {name: list(column) for name, column in mixed.items()} == {"a": [1.0, 2.0], "b": [3, 4], "c": ["u", "v"]}
    assert encode_labels(frame[["b"]], "y")[0].tolist() == [3, 4]
    assert as_dataset((frame, frame["b"])).classes.tolist() == [3, 4]
    with pytest.raises(TypeError, match=r"x must have rows, got a LazyFrame, which has none yet; pass x\.collect\(\)"):
        ClassDataset(frame.lazy(), [0, 1])


def test_columns_of_datasets():
    datasets = pytest.importorskip("datasets")
    data = datasets.Dataset.from_dict({"text": ["u", "v", "w"], "label": [1, 0, 1]})
    found = ClassDataset(data["text"], data["label"])
    assert found.x == ["u", "v", "w"]
    assert found.labels.tolist() == [1, 0, 1]


# Numbers.


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 2], [1, 2]),
        (np.array([[1], [2]]), [1, 2]),
        ([decimal.Decimal("0.5"), 2], [0.5, 2]),
        ([np.array(1.5), np.array([2.5])[0]], [1.5, 2.5]),
        ([True, False], [1, 0]),
        ([], []),
    ],
)
def test_numbers(values, expected):
    found = to_float_array("score", values)
    assert found.dtype == np.float32
    assert found.tolist() == expected


@pytest.mark.parametrize(
    ("values", "kind", "message"),
    [
        (["1", "2"], TypeError, "score must be numbers, got str"),
        ([1.0, None], ValueError, "score must be finite, and are not at items 1"),
        ([1.0, 1e39], ValueError, "score must be finite, and are not at items 1"),
        ([1.0, float("nan")], ValueError, "score must be finite, and are not at items 1"),
        ([[1, 2], [3]], TypeError, "score must be numbers"),
        ([1j], TypeError, "score must be numbers, got complex"),
        ([[1.0, 2.0]], ValueError, r"score must have shape \[N\], got \[1, 2\]"),
    ],
)
def test_numbers_that_are_refused(values, kind, message):
    with pytest.raises(kind, match=message):
        to_float_array("score", values)


# Datasets of others.


class Folder:
    """As of torchvision: ``targets`` are raw, and ``__getitem__`` applies ``target_transform``."""

    def __init__(self, targets, yielded):
        self.targets, self.yielded = targets, yielded

    def __len__(self):
        return len(self.yielded)

    def __getitem__(self, index):
        return [float(index)], self.yielded[index]


def test_labels_are_what_a_dataset_yields():
    raw = np.arange(40) % 10
    assert as_dataset(Folder(raw, (raw % 2).tolist())).classes.tolist() == [0, 1]
    assert as_dataset(Folder(raw, raw.tolist())).labels.tolist() == raw.tolist()
    assert as_dataset(Folder(raw[::-1], raw.tolist())).labels.tolist() == raw.tolist()
    assert as_dataset(Folder(raw[:5], [np.array([7])] * 3 + [8])).classes.tolist() == [7, 8]


class Backwards:
    """An array whose integer arrays are not positions, as the labels of some libraries."""

    shape, dtype = (3,), np.dtype(float)

    def __len__(self):
        return 3

    def __getitem__(self, index):
        if isinstance(index, np.ndarray):
            return np.array([9.0] * len(index))
        return np.float64(index)


def test_an_unknown_array_is_read_row_by_row():
    assert take(Backwards(), np.array([2, 0])).tolist() == [2.0, 0.0]


# Label sets.

SETS = [{"red"}, {"red", "round"}, {"round", "big"}, {"small"}, set(), {"round"}]


def test_a_dataset_of_label_sets():
    data = ClassDataset(np.zeros((6, 2)), SETS)
    assert data.label_names.tolist() == ["big", "red", "round", "small"]
    assert data.labels.dtype == bool
    assert [set(data.label_names[row]) for row in data.labels] == SETS
    assert len(data.classes) == 6
    assert data.target_types == ("relations",)
    assert repr(data) == "ClassDataset(6 items, sets of 4 labels)"
    matrix = ClassDataset(np.zeros((6, 2)), data.labels)
    assert np.array_equal(matrix.labels, data.labels)
    with pytest.raises(TypeError, match="y must be sets for all items or for none, and are not at items 1"):
        ClassDataset(np.zeros((2, 2)), [{"a"}, "b"])
    with pytest.raises(TypeError, match="must have the same type, got int and str"):
        ClassDataset(np.zeros((2, 2)), [{"a"}, {1}])
    with pytest.raises(ValueError, match="y must not be missing, and is at items 0"):
        ClassDataset(np.zeros((2, 2)), [{None}, {"a"}])


def test_the_overlap_of_label_sets():
    ten = [{*range(3), *range(10, 17)}, {*range(3), *range(20, 27)}, set(range(10))]
    shares = {0.1: True, 3 / 17: True, 0.3: False}  # of the first two: 3 of 17 labels
    for overlap, expected in shares.items():
        labels = ClassDataset(np.zeros((3, 2)), ten, min_overlap=overlap).labels
        assert sets_match(labels, labels)[0, 1] == expected
    halves = ClassDataset(np.zeros((2, 1)), [set(range(3)), set(range(10))], min_overlap=0.3).labels
    assert sets_match(halves, halves).all()
    equal = ClassDataset(np.zeros((4, 1)), [{1, 2}, {2, 1}, {1}, set()], min_overlap=1.0)
    assert equal.labels[0] == equal.labels[1]
    assert len(set(equal.labels.tolist())) == 3
    two = ClassDataset(np.zeros((3, 1)), [{1}, {1, 2}, {2}], min_overlap=0.5)
    check_labels("labels", two.labels, "float32")
    assert sets_match(two.labels, two.labels).tolist() == [[True, True, False], [True, True, True], [False, True, True]]
    assert all(np.array_equal(two.labels, one) for one in align_labels([two, two]))
    for wrong in (0, 1.1, -1):
        with pytest.raises(ValueError, match="min_overlap"):
            ClassDataset(np.zeros((1, 1)), [{1}], min_overlap=wrong)
    with pytest.raises(ValueError, match="min_overlap must be used with label sets"):
        ClassDataset(np.zeros((2, 1)), [1, 2], min_overlap=0.5)


def test_batches_of_label_sets_have_positives():
    rng = np.random.default_rng(0)
    sets = [set(rng.choice(12, size=rng.integers(1, 4), replace=False).tolist()) for _ in range(200)]
    data = ClassDataset(np.zeros((200, 2)), sets)
    batches = data.default_sampler(16).batches()
    for batch in batches:
        matches = sets_match(data.labels[batch], data.labels[batch])
        assert (matches.sum(axis=1) > 1).mean() > 0.9
        assert has_tuples(data.labels[batch], "triplets")
    assert rarest_labels(np.array([[1, 1, 0], [1, 0, 0], [1, 1, 0], [0, 0, 1]], bool)).tolist() == [1, 0, 1, 6]


def test_label_sets_of_two_datasets_are_aligned():
    first = ClassDataset(np.zeros((2, 1)), [{"a"}, {"b", "c"}])
    second = ClassDataset(np.zeros((2, 1)), [{"c", "d"}, {"a"}])
    one, two = align_labels([first, second])
    assert sets_match(one, two).tolist() == [[False, True], [True, False]]
    with pytest.raises(ValueError, match="labels of one kind"):
        align_labels([first, ClassDataset(np.zeros((2, 1)), ["a", "b"])])


@pytest.mark.parametrize(
    ("shape", "dtype"), [((4,), "int64"), ((4, 2), "int32"), ((4, 3), "bool"), ((4, 1), "float32")]
)
def test_kinds_of_labels(shape, dtype):
    check_labels("labels", np.zeros(shape, dtype), dtype)


@pytest.mark.parametrize(
    ("shape", "dtype"), [((4, 1), "int64"), ((4, 3), "uint8"), ((4, 2), "float32"), ((4, 2, 1), "bool"), ((), "int64")]
)
def test_shapes_that_are_no_labels(shape, dtype):
    with pytest.raises(ValueError, match="labels must be"):
        check_labels("labels", np.zeros(shape, dtype), dtype)


# Worker processes.


def test_code_that_cannot_be_sent_to_workers(monkeypatch):
    monkeypatch.setattr("multiprocessing.get_start_method", lambda: "spawn")
    plan = [np.arange(2)]
    batches = Batches(ClassDataset(np.zeros((2, 2)), [0, 1], augment=lambda item: item), plan)
    batches.check_sendable(0)
    with pytest.raises(TypeError, match="augment must be a function of a module.* set num_workers=0"):
        batches.check_sendable(1)
    with pytest.raises(TypeError, match="collate_fn must be a function of a module"):
        Batches(ClassDataset(np.zeros((2, 2)), [0, 1]), plan, np.abs, lambda items: items).check_sendable(1)
    Batches(ClassDataset(np.zeros((2, 2)), [0, 1], augment=np.abs), plan).check_sendable(1)
