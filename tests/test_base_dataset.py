"""Datasets, their conversion, and the batches that are read from them."""

import numpy as np
import pytest

from finetuner import ClassDataset, InstanceDataset, SessionDataset
from finetuner.tuner.base.data.batches import Batches, all_finite, collate, non_finite_rows
from finetuner.tuner.base.data.conversion import align_labels, as_dataset, as_unlabelled

X = np.arange(12.0).reshape(6, 2)


@pytest.mark.parametrize(
    "y",
    [
        [2**24, 2**24 + 1, 2**24, 2**53, 2**53 + 1, -7],
        ["b", "a", "b", "ä", "", "c"],
        np.array([3.5, -1.0, 3.5, 2.0, 1.0, 0.0]),
        [True, False, True, True, False, False],
    ],
)
def test_classes_are_numbered_in_sorted_order(y):
    data = ClassDataset(X, y)
    assert data.labels.dtype == np.int32
    assert sorted(set(data.labels)) == list(range(len(set(y))))
    assert data.classes[data.labels].tolist() == list(y)
    assert list(data.classes) == sorted(set(y))


@pytest.mark.parametrize(
    ("x", "first"),
    [
        (X, [0.0, 1.0]),
        (X.tolist(), [0.0, 1.0]),
        (list("abcdef"), "a"),
        ({"a": X, "b": np.arange(6)}, {"a": [0.0, 1.0], "b": 0}),
    ],
)
def test_items_are_returned_unchanged(x, first):
    data = ClassDataset(x, range(6))
    item, label = data[0]
    assert {k: np.asarray(v).tolist() for k, v in item.items()} if isinstance(item, dict) else list(item) == list(first)
    assert label == 0
    assert data[-1][1] == 5
    batch = data.batch(np.array([0, 5]))
    assert isinstance(batch, type(x))
    with pytest.raises(IndexError, match="within the 6 items, got 6"):
        data[6]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: ClassDataset([], []), ValueError, "must hold at least one item, got none"),
        (lambda: ClassDataset(X, [0, 1]), ValueError, "x and y must have the same length, got 6 and 2"),
        (lambda: ClassDataset(X, np.zeros((6, 2))), ValueError, r"y must have shape \[N\], got \[6, 2\]"),
        (lambda: ClassDataset(X, [0, None, 1, None, 1, 1]), ValueError, "y must not be missing, and is at items 1, 3"),
        (lambda: ClassDataset(X, [0, np.nan, 1, 1, 1, 1]), ValueError, "y must not be missing, and is at items 1"),
        (lambda: ClassDataset(X, [0, "a", 1, 1, 1, None]), ValueError, "y must not be missing, and is at items 5"),
        (lambda: ClassDataset({"a": X, "b": X[:3]}, [0] * 6), ValueError, "arrays of the same length, got .*'b': 3"),
        (lambda: ClassDataset("abcdef", [0] * 6), TypeError, "x must be an array, a sequence or a mapping"),
        (lambda: ClassDataset(iter(X), [0] * 6), TypeError, "x must be an array, a sequence or a mapping"),
        (lambda: InstanceDataset(X, None), TypeError, "augment must be a function of an item, got None"),
        (lambda: InstanceDataset(X, abs, views=1), ValueError, "views must be at least 2, got 1"),
        (lambda: SessionDataset(X, [0] * 6, [0, 1, 2, 1, 1, 1]), ValueError, "got 2 at item 2"),
        (lambda: SessionDataset(X, [0] * 6, [0, 1]), ValueError, "x and roles must have the same length, got 6 and 2"),
        (lambda: as_dataset(X), TypeError, "data must be a ClassDataset, .* got ndarray"),
        (lambda: as_dataset([]), ValueError, "data must hold at least one item"),
        (lambda: as_dataset([1, 2]), TypeError, "must yield pairs of an item and its class, got int"),
    ],
)
def test_bad_input(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_mixed_types_of_classes():
    with pytest.raises(TypeError, match="y must have the same type, got int and str"):
        ClassDataset(X, np.array([0, "a", 1, 1, 1, 1], dtype=object))


class UserDataset:
    def __init__(self):
        self.accessed = []

    def __len__(self):
        return 4

    def __getitem__(self, index):
        if index >= 4:
            raise IndexError
        self.accessed.append(index)
        return X[index], "ab"[index % 2]


def test_user_dataset_is_read_at_most_once_for_labels():
    dataset = UserDataset()
    data = as_dataset(dataset)
    assert dataset.accessed[1:] == [0, 1, 2, 3]
    assert data.labels.tolist() == [0, 1, 0, 1]
    np.testing.assert_array_equal(data.batch(np.array([2])), X[2:3])
    dataset = UserDataset()
    dataset.targets = np.array([0, 1, 0, 1])
    assert as_dataset(dataset).labels.tolist() == [0, 1, 0, 1]
    assert dataset.accessed[-4:] == [0, 1, 2, 3]  # up to 16 items, to see whether they have these labels
    assert len(as_unlabelled(UserDataset())) == 4
    assert as_dataset((X, range(6))).classes.tolist() == list(range(6))


def test_views_depend_only_on_the_seed():
    def noisy(item, rng):
        return item + rng.normal()

    data = InstanceDataset(X, noisy)
    indices = np.repeat(np.arange(6), 2)
    first, again, other = (np.stack(data.batch(indices, seed)) for seed in [(0, 1), (0, 1), (0, 2)])
    np.testing.assert_array_equal(first, again)
    assert (first != other).all()
    assert (first[::2] != first[1::2]).all()
    assert InstanceDataset({"a": X}, lambda item: item["a"]).batch(np.array([1]), (0,))[0].tolist() == [2.0, 3.0]


def test_items_are_augmented_only_in_training():
    data = ClassDataset(X, range(6), augment=lambda item: -item)
    plan = [np.array([4, 0])]
    np.testing.assert_array_equal(Batches(data, plan)[0].inputs, X[[4, 0]])
    np.testing.assert_array_equal(Batches(data, plan, seed=(0, 0))[0].inputs, -X[[4, 0]])
    np.testing.assert_array_equal(data[4][0], X[4])
    with pytest.raises(TypeError, match="augment must be a function of an item, got 3"):
        SessionDataset(X, [0] * 6, [0] * 6, augment=3)


def test_labels_of_two_datasets_are_compared_by_name():
    left, right = ClassDataset(X[:3], ["c", "a", "b"]), ClassDataset(X[:2], ["d", "a"])
    first, second = align_labels([left, right])
    assert (first[:, None] == second).tolist() == [[False, False], [False, True], [False, False]]
    with pytest.raises(ValueError, match="the same type to be compared, got texts and numbers"):
        align_labels([left, ClassDataset(X[:2], [1, 2])])
    with pytest.raises(ValueError, match="labels of one kind"):
        align_labels([left, SessionDataset(X[:2], [1, 1], [0, 1])])


def test_batches_are_preprocessed_and_collated():
    data = ClassDataset(X, range(6))
    plan = [np.array([4, 0]), np.array([5])]
    plain = Batches(data, plan)
    np.testing.assert_array_equal(plain[0].inputs, X[[4, 0]])
    assert plain[0].labels.tolist() == [4, 0]
    assert len(plain) == 2
    preprocessed = Batches(data, plan, preprocess_fn=lambda item: item / 2)
    np.testing.assert_array_equal(preprocessed[1].inputs, X[[5]] / 2)
    both = Batches(data, plan, lambda item: item + 1, lambda items: {"total": np.stack(items).sum(axis=1)})
    np.testing.assert_array_equal(both[0].inputs["total"], (X[[4, 0]] + 1).sum(axis=1))
    texts = Batches(ClassDataset(list("abcdef"), range(6)), plan, collate_fn="".join)
    assert texts[0].inputs == "ea"


def test_items_that_cannot_be_collated():
    with pytest.raises(TypeError, match="arrays or numbers to form a batch, got str; pass a collate_fn"):
        collate(["a", "b"])
    with pytest.raises(ValueError, match=r"same shape to form a batch, got \[2\], \[3\]"):
        collate([np.zeros(2), np.zeros(3)])


def test_non_finite_rows():
    x = X.copy()
    x[2, 1] = np.nan
    y = X.copy()
    y[5, 0] = np.inf
    assert non_finite_rows({"a": x, "b": [y, np.arange(6)]}).tolist() == [2, 5]
    assert non_finite_rows("text").tolist() == []


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_all_finite(dtype):
    x = np.full((6, 4, 5), np.finfo(dtype).max, dtype)  # the sum overflows
    assert all_finite(x)
    assert all_finite([x, {"a": x[:, ::2]}])
    for bad in (np.nan, np.inf, -np.inf):
        x[4, 1, 2], x[0, 0, 0] = bad, -bad
        assert not all_finite(x)
        assert not all_finite({"a": x[::2]})
    assert all_finite(np.array(["a"]))
    assert all_finite(np.array([2**62]))
