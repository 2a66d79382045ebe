"""Samplers say how many items an epoch leaves out, and an option keeps all."""

import warnings

import numpy as np
import pytest
from numpy.random import default_rng

from finetuner.tuner.base import (
    ClassDataset,
    ClassSampler,
    GroupSampler,
    InstanceSampler,
    IterableSampler,
    RandomSampler,
    SessionSampler,
    TripletLoss,
)
from finetuner.tuner.base.data.relations import has_tuples
from finetuner.tuner.base.data.sampler_choice import choose_sampler

from .test_base_sampler import Y, all_items, sessions


def left_out(sampler):
    """The items left out of the first epoch, and the warnings of three epochs."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        seen = len(np.unique(np.concatenate(sampler.batches() or [[]])))
        for epoch in (1, 2, 0):
            sampler.set_epoch(epoch)
            sampler.batches()
    return seen, [str(warning.message) for warning in caught]


@pytest.mark.parametrize(
    ("create", "total", "reason"),
    [
        (lambda: ClassSampler(np.repeat([5, 1, 3], [3000, 3, 2]), 64), 3005, "smaller classes are used up before"),
        (lambda: ClassSampler(np.repeat([0, 1, 2], [8, 8, 8]), 8, 4), 24, None),
        (lambda: ClassSampler(np.repeat([0, 1, 2], [4, 4, 4]), 8, 4), 12, "the last items do not fill a batch"),
        (lambda: SessionSampler(sessions(3, 5, 50), 8), 168, "some sessions have more than batch_size=8 items"),
        (lambda: GroupSampler(np.repeat([1, 2], [30, 4]), 8), 34, "some groups have more than batch_size=8 items"),
        (lambda: RandomSampler(70, 40, drop_last=True), 70, "they do not fill a last batch of 40"),
        (lambda: RandomSampler(30, 40, drop_last=True), 30, "they do not fill a last batch of 40"),
        (lambda: RandomSampler(70, 40, drop_last=True, rows_per_item=2), 140, None),
        (lambda: InstanceSampler(9, 8, views=2), 9, "a last batch of a single instance"),
    ],
)
def test_left_out_items_are_counted_in_one_warning(create, total, reason):
    sampler = create()
    seen, messages = left_out(sampler)
    if reason is None and seen == total:
        assert messages == []
        return
    if sampler.__class__ is RandomSampler and sampler.rows_per_item == 2:
        total, seen, reason = 70, seen // 2, "they do not fill a last batch of 40"
    (message,) = messages
    assert message.startswith(f"{total - seen:,} of {total:,} items are left out of each epoch, because ")
    assert reason in message
    assert "use " in message


KEEPING = [
    ("ClassSampler", lambda rng, n, size, keep: ClassSampler(rng.zipf(1.5, n).clip(max=30), size, None, 1, keep)),
    ("ClassSampler", lambda rng, n, size, keep: ClassSampler(rng.integers(0, 4, n), size, size // 2, 1, keep)),
    ("ClassSampler", lambda rng, n, size, keep: ClassSampler(np.r_[0, np.repeat([1, 2], [n, 2])], size, None, 1, keep)),
    ("GroupSampler", lambda rng, n, size, keep: GroupSampler(rng.zipf(1.5, n), size, 1, keep)),
    ("InstanceSampler", lambda rng, n, size, keep: InstanceSampler(n, size, 2, 1, keep)),
    (
        "SessionSampler",
        lambda rng, n, size, keep: SessionSampler(
            np.stack([rng.zipf(2.0, n), rng.choice([0, 1, -1, -1], n)], axis=1), size, 1, keep
        ),
    ),
]


@pytest.mark.parametrize(("name", "create"), KEEPING)
def test_an_option_keeps_all_items(name, create):
    checked = 0
    for seed in range(40):
        n, size = int(default_rng(seed).integers(8, 300)), int(default_rng([seed, 1]).integers(4, 40))
        try:
            sampler = create(default_rng(seed), n, size, True)
        except ValueError:
            continue
        assert type(sampler).__name__ == name
        plans = []
        same, converted = (create(default_rng(seed), n, size, keep) for keep in (True, False))
        for other in (sampler, same, converted.keeping_all()):
            for epoch in (0, 3):
                other.set_epoch(epoch)
                batches = other.batches()
                assert len(batches) == len(other)
                assert max(map(len, batches)) <= size
                plans.append([batch.tolist() for batch in batches])
        seen = np.unique(np.concatenate(plans[0]))
        assert len(seen) == seen.max() + 1 >= n
        assert plans[0] == plans[2] == plans[4]
        assert plans[1] == plans[3] == plans[5]
        assert plans[0] != plans[1]
        checked += 1
    assert checked > 20


def test_keeping_all_items_of_classes_keeps_the_shape_of_batches():
    y = np.repeat([0, 1, 2, 3, 4], [1000, 7, 30, 1, 1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sampler = ClassSampler(y, 14, 4, keep_all=True)
        batches = sampler.batches()
    assert len(batches) == len(sampler) == 250  # the groups of the largest class, one a batch
    for batch in batches:
        assert len(batch) == 12
        assert has_tuples(y[batch], "triplets")
    counts = np.bincount(y[np.concatenate(batches)])
    assert counts[0] == 1000
    assert counts[2] > counts[1] > counts[3] + counts[4]  # larger classes are repeated more often
    assert min(counts[3], counts[4]) > 0


def test_keeping_all_items_takes_few_rows():
    """With classes of 5,000, 4 and 4, a batch of two classes repeats the small ones least."""
    y = np.repeat([0, 1, 2], [5000, 4, 4])
    sampler = ClassSampler(y, 90, keep_all=True)
    assert (sampler.num_classes, sampler.num_items_per_class) == (2, 45)
    assert len(sampler) == -(-5000 // 45)
    balanced = np.repeat(np.arange(6), 8)
    plain, keeping = (ClassSampler(balanced, 24, keep_all=keep) for keep in (False, True))
    np.testing.assert_array_equal(plain.batches(), keeping.batches())


def test_a_small_class_does_not_decide_how_many_items_a_batch_takes():
    """Of three large classes and one of two items, a batch of four classes would leave out most items."""
    y = np.repeat([0, 1, 2, 3], [600, 600, 600, 2])
    sampler = ClassSampler(y, 240)
    assert (sampler.num_classes, sampler.num_items_per_class) == (3, 80)
    assert len(np.unique(all_items(sampler))) >= 0.95 * len(y)


def test_keep_all_is_checked():
    with pytest.raises(TypeError, match="keep_all must be True or False, got 1"):
        ClassSampler(Y, 20, keep_all=1)
    with pytest.raises(ValueError, match="keep_all must be False with IterableSampler, which has no such option"):
        IterableSampler([[0, 1]], 2).keeping_all()
    dropping = RandomSampler(10, 8, drop_last=True)
    assert len(all_items(dropping.keeping_all())) == 10


def test_keep_all_by_the_choice_of_a_sampler():
    data = ClassDataset(np.zeros((len(Y), 2)), Y)
    keeping = choose_sampler("auto", TripletLoss(), data, 20, None, 0, keep_all=True)
    assert len(np.unique(all_items(keeping))) == len(Y)
    assert not choose_sampler("auto", TripletLoss(), data, 20, None, 0).keep_all
    with pytest.raises(ValueError, match="keep_all must be False if sampler is an instance"):
        choose_sampler(RandomSampler(4, 2), TripletLoss(), data, 20, None, 0, keep_all=True)
    with pytest.raises(TypeError, match="keep_all must be True or False, got 'yes'"):
        choose_sampler("auto", TripletLoss(), data, 20, None, 0, keep_all="yes")


def test_as_many_as_may_be_left_out_are_no_warning():
    assert left_out(RandomSampler(100, 19, drop_last=True)) == (95, [])
    assert "6 of 100 items" in left_out(RandomSampler(100, 47, drop_last=True))[1][0]
