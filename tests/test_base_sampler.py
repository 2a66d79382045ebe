"""Samplers: the batches they plan, their errors and warnings."""

import warnings

import numpy as np
import pytest
from numpy.random import default_rng

from finetuner.tuner.base import ClassSampler, InstanceSampler, RandomSampler, SessionSampler
from finetuner.tuner.base.data.class_sampler import max_batches
from finetuner.tuner.base.data.packing import Groups
from finetuner.tuner.base.data.relations import has_tuples

Y = default_rng(0).integers(0, 7, 200) * 1000 - 3


def all_items(sampler):
    batches = list(sampler)
    assert len(batches) == len(sampler)
    return np.concatenate(batches)


leaves_out = pytest.mark.filterwarnings("ignore:.* items are left out of each epoch")


@leaves_out
@pytest.mark.parametrize(
    "create",
    [
        lambda seed: RandomSampler(50, 8, seed=seed),
        lambda seed: ClassSampler(Y, 20, 4, seed=seed),
        lambda seed: InstanceSampler(50, 8, seed=seed),
        lambda seed: SessionSampler(sessions(20), 8, seed=seed),
    ],
)
def test_batches_depend_only_on_seed_and_epoch(create):
    sampler, same_seed, other_seed = create(1), create(1), create(2)
    first = all_items(sampler)
    np.testing.assert_array_equal(first, all_items(same_seed))
    np.testing.assert_array_equal(first, all_items(sampler))
    assert not np.array_equal(first, all_items(other_seed))
    sampler.set_epoch(1)
    assert not np.array_equal(first, all_items(sampler))
    sampler.set_epoch(0)
    np.testing.assert_array_equal(first, all_items(sampler))


@leaves_out
@pytest.mark.parametrize(("size", "lengths"), [(8, [8, 8, 4]), (20, [20]), (64, [20])])
def test_random_sampler_has_every_item_once(size, lengths):
    sampler = RandomSampler(20, size)
    assert sorted(all_items(sampler)) == list(range(20))
    assert [len(batch) for batch in sampler] == lengths
    assert [len(batch) for batch in RandomSampler(20, size, drop_last=True)] == [n for n in lengths if n == size]
    assert all_items(RandomSampler(20, size, shuffle=False)).tolist() == list(range(20))


@leaves_out
@pytest.mark.parametrize("k", [2, 3, 4, 9])
def test_class_sampler_takes_k_items_of_each_class(k):
    sampler = ClassSampler(Y, 3 * k + 1, k)
    for epoch in range(3):
        sampler.set_epoch(epoch)
        for batch in sampler:
            classes, counts = np.unique(Y[batch], return_counts=True)
            assert len(classes) == 3
            assert (counts == k).all()
            assert len(np.unique(batch)) == len(batch)  # all classes have K items, so no item repeats


@leaves_out
def test_class_sampler_drops_less_than_a_batch():
    y = np.repeat(np.arange(10), 8)
    assert sorted(all_items(ClassSampler(y, 20, 4))) == list(range(80))
    seen = [all_items(ClassSampler(Y, 20, 4, seed=seed)) for seed in range(20)]
    for items in seen:
        assert len(np.unique(items)) > len(Y) - 20
    assert len(np.unique(np.concatenate(seen))) == len(Y)


def test_class_sampler_repeats_the_items_of_small_classes():
    (batch,) = ClassSampler(np.array([0, 0, 1, 1, 1]), 8, 4)
    assert sorted(batch.tolist())[:4] == [0, 0, 1, 1]
    assert set(batch.tolist()) == {0, 1, 2, 3, 4}


@leaves_out
def test_class_sampler_with_a_dominant_class():
    y = np.r_[np.zeros(1000, int), np.repeat([1, 2, 3], 4)]
    sampler = ClassSampler(y, 4, 2)
    assert len(sampler) == 6  # limited by the groups of the small classes
    seen = set()
    for epoch in range(10):
        sampler.set_epoch(epoch)
        for batch in sampler:
            assert len(np.unique(y[batch])) == 2
            seen |= set(batch.tolist())
    assert len(seen) > 100


def test_class_sampler_omits_singletons_with_one_warning():
    with pytest.warns(UserWarning, match="2 of 4 classes have a single item and are left out") as caught:
        sampler = ClassSampler(np.array([0, 0, 1, 2, 3, 3]), 4, 2)
        for epoch in range(3):
            sampler.set_epoch(epoch)
            assert sorted(all_items(sampler)) == [0, 1, 4, 5]
    assert len(caught) == 1


@pytest.mark.parametrize(
    ("size", "items", "expected"),
    [
        (20, None, (5, 4)),
        (128, None, (4, 32)),
        (139, None, (6, 23)),
        (104, None, (4, 26)),
        (8, None, (2, 4)),
        (5, None, (2, 2)),
        (4, None, (2, 2)),
    ],
)
def test_class_sampler_chooses_the_number_of_items(size, items, expected):
    sampler = ClassSampler(Y, size, items)
    assert (sampler.num_classes, sampler.num_items_per_class) == expected
    assert {len(batch) for batch in sampler} == {sampler.batch_size} == {expected[0] * expected[1]}


@pytest.mark.parametrize(
    ("y", "size", "items", "message"),
    [
        ([0, 1, 2], 8, None, "two classes must have two items each to learn from, got 0 such classes among 3"),
        ([0, 0, 1, 2], 8, None, "two classes must have two items each to learn from, got 1 such class among 3"),
        ([0, 0, 1, 1], 3, None, "hold two classes of two items, so at least 4, got 3"),
        ([0, 0, 1, 1], 4, 3, "hold two classes of num_items_per_class=3 items, so at least 6, got 4"),
        ([0, 0, 1, 1], 16, 4, "must find 4 classes of two items or more, got 2; take a batch_size of at most 8"),
        ([0, 0, 1, 1], 8, 1, "num_items_per_class must be at least 2, got 1"),
        ([[0], [1]], 8, None, r"labels must have shape \[N\], got \[2, 1\]"),
    ],
)
def test_class_sampler_bad_input(y, size, items, message):
    with pytest.raises(ValueError, match=message):
        ClassSampler(np.array(y), size, items)


def test_max_batches_matches_greedy_search():
    rng = default_rng(0)
    for _ in range(200):
        groups = rng.integers(0, 9, rng.integers(2, 6))
        width = int(rng.integers(2, 4))
        remaining, count = groups.copy(), 0
        while (remaining > 0).sum() >= width:  # take from the classes with the most remaining groups
            remaining[np.argsort(-remaining, kind="stable")[:width]] -= 1
            count += 1
        assert max_batches(groups, width) == count


@pytest.mark.parametrize("classes", range(2, 40))
def test_class_sampler_uses_most_of_any_batch_size(classes):
    y = np.repeat(np.arange(classes), 4)
    for size in range(4, 70, 3):
        sampler = ClassSampler(y, size)
        assert size - max(sampler.num_items_per_class, sampler.num_classes) < sampler.batch_size <= size


def test_class_sampler_with_many_items():
    y = default_rng(0).integers(0, 10_000, 300_000)
    batches = ClassSampler(y, 256, 4).batches()
    assert sum(map(len, batches)) >= 300_000


@leaves_out
@pytest.mark.parametrize(
    ("count", "size", "lengths"), [(9, 4, [4] * 4), (10, 4, [4] * 5), (9, 5, [4] * 4), (3, 64, [6])]
)
def test_instance_sampler_repeats_each_instance_per_view(count, size, lengths):
    sampler = InstanceSampler(count, size)
    items = all_items(sampler)
    assert [len(batch) for batch in sampler] == lengths
    values, counts = np.unique(items, return_counts=True)
    assert (counts == 2).all()
    assert count - len(values) <= 1  # a single last instance would have no negatives


def test_instance_sampler_bad_input():
    with pytest.raises(ValueError, match="two instances of 3 views, so at least 6, got 5"):
        InstanceSampler(10, 5, views=3)
    with pytest.raises(ValueError, match="num_items must be at least 2, got 1"):
        InstanceSampler(1, 4)


def sessions(count, matches=1, others=2):
    roles = [0] + [1] * matches + [-1] * others
    return np.array([[s, role] for s in range(count) for role in roles])


def test_session_sampler_keeps_sessions_whole():
    labels = sessions(10)[default_rng(0).permutation(40)]
    sampler = SessionSampler(labels, 10)
    assert sorted(all_items(sampler)) == list(range(40))
    for batch in sampler:
        assert len(batch) == 8
        assert all((labels[batch, 0] == s).sum() == 4 for s in labels[batch, 0])


@leaves_out
def test_session_sampler_truncates_long_sessions():
    labels = sessions(2, matches=3, others=20)
    sampler = SessionSampler(labels, 6)
    for batch in sampler:
        assert len(batch) == 6
        assert set(labels[batch, 1]) == {0, 1, -1}


def test_groups_are_packed_as_in_a_loop():
    rng = default_rng(0)
    for seed in range(200):
        codes = rng.integers(0, rng.integers(1, 30), rng.integers(1, 80))
        size = int(rng.integers(1, 20))
        generator, expected = default_rng(seed), [[]]
        groups = [np.flatnonzero(codes == code) for code in np.unique(codes)]
        for number in generator.permutation(len(groups)):
            group = groups[number] if len(groups[number]) <= size else generator.permutation(groups[number])[:size]
            if expected[-1] and len(expected[-1]) + len(group) > size:
                expected.append([])
            expected[-1] += group.tolist()
        batches = Groups(codes).pack(default_rng(seed), size, lambda group, rng, n=size: rng.permutation(group)[:n])
        assert [batch.tolist() for batch in batches] == expected


def test_session_sampler_bad_input():
    with pytest.raises(ValueError, match="an anchor, a match and a non-match, and none of 1 has"):
        SessionSampler(np.array([[0, 0], [0, 1]]), 8)
    with pytest.warns(UserWarning, match="1 of 2 sessions lack"):
        sampler = SessionSampler(np.array([[0, 0], [0, 1], [0, -1], [1, 0]]), 8)
        sampler.batches()
    assert sorted(all_items(sampler)) == [0, 1, 2]


@pytest.mark.parametrize(
    ("labels", "pairs", "triplets", "positives"),
    [
        ([0, 0], True, False, True),
        ([0, 1], True, False, False),
        ([0], False, False, False),
        ([0, 0, 1], True, True, True),
        ([[0, 0], [0, 1], [0, -1]], True, True, True),
        ([[0, 0], [0, -1]], True, False, False),
        ([[0, 0], [1, 0]], False, False, False),
        ([[0, -1], [0, -1]], False, False, False),
    ],
)
def test_has_tuples(labels, pairs, triplets, positives):
    results = [has_tuples(np.array(labels), kind) for kind in ("pairs", "triplets", "positives")]
    assert results == [pairs, triplets, positives]


def test_complete_data_does_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ClassSampler(np.repeat(np.arange(5), 8), 20, 4).batches()
        ClassSampler(Y, 20, keep_all=True).batches()
        SessionSampler(sessions(3), 8).batches()
        RandomSampler(39, 20).batches()
        RandomSampler(41, 20, drop_last=True).batches()  # one item is less than 5 %
        InstanceSampler(41, 40).batches()
