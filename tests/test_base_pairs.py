"""Datasets of pairs, triplets, targets and rankings, and their batches and samplers."""

import numpy as np
import pytest

from finetuner import (
    ClassDataset,
    InstanceDataset,
    PairDataset,
    RankingDataset,
    SessionDataset,
    TargetDataset,
    TripletDataset,
)
from finetuner.tuner.base import ArcFaceLoss, GroupSampler, RandomSampler, TripletLoss
from finetuner.tuner.base.data.batches import Batches, PairInputs
from finetuner.tuner.base.data.relations import has_tuples
from finetuner.tuner.base.data.sampler_choice import choose_sampler
from finetuner.tuner.base.training.micro_batches import split_batch

A, B = np.arange(8.0).reshape(4, 2), 10 + np.arange(8.0).reshape(4, 2)


def test_pair_dataset():
    data = PairDataset(A, B, [0.1, 0.2, 0.3, 0.4])
    assert len(data) == 4
    assert data.num_rows == 8
    assert repr(data) == "PairDataset(4 pairs, scored)"
    (first, second), score = data[1]
    np.testing.assert_array_equal([first, second], [A[1], B[1]])
    assert score == np.float32(0.2)
    np.testing.assert_array_equal(data.batch(np.array([2, 3, 0, 1])), [A[1], B[1], A[0], B[0]])
    np.testing.assert_array_equal(data.labels[:4], np.float32([0.1, 0.1, 0.2, 0.2]))
    assert data.target_types == ("scores",)
    assert PairDataset(A, B).target_types == ("relations", "pairs")
    assert PairDataset(A, B).labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_pairs_of_different_kinds():
    texts = list("abcd")
    mixed = PairDataset(A, texts).batch(np.array([0, 1, 7]))
    np.testing.assert_array_equal(mixed[0], A[0])
    assert mixed[1:] == ["a", "d"]
    assert PairDataset(texts, texts[::-1]).batch(np.array([1, 0])) == ["d", "a"]
    both = PairDataset({"ids": A}, {"ids": B}).batch(np.array([0, 1]))
    np.testing.assert_array_equal(both["ids"], [A[0], B[0]])
    assert PairDataset(A, A.astype(np.float32)).batch(np.array([0, 1])).dtype == np.float64
    first_items = PairDataset(A, texts).batch(np.array([0, 4]))
    np.testing.assert_array_equal(first_items, A[[0, 2]])


def test_triplet_dataset():
    data = TripletDataset(A, B, A[::-1])
    assert (len(data), data.num_rows, repr(data)) == (4, 12, "TripletDataset(4 triplets)")
    np.testing.assert_array_equal(data.batch(np.array([3, 4, 5])), [A[1], B[1], A[2]])
    assert data.labels[3:6].tolist() == [[1, 0], [1, 2], [1, -2]]
    assert has_tuples(data.labels[:3], "triplets")
    assert has_tuples(data.labels[:3], "positives")
    assert not has_tuples(data.labels[:2], "triplets")


def test_target_and_ranking_datasets():
    data = TargetDataset(A, [1, 2, 3, 4], weights=[1, 1, 0, 2])
    (targets, weights) = data.targets(np.array([3, 0]), "values")
    assert targets.tolist() == [4, 1]
    assert weights.tolist() == [2, 1]
    assert len(data.targets(np.array([0]), "vectors")) == 1
    ranking = RankingDataset(A, [3, 0, 1, 2], ["q", "q", "p", "p"])
    relevance, groups = ranking.targets(np.array([0, 2]), "relevance")
    assert relevance.tolist() == [3, 1]
    assert groups.tolist() == [1, 0]
    assert repr(ranking) == "RankingDataset(4 items, 2 queries)"


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: PairDataset(A, B[:3]), ValueError, r"first, second must have the same length, got \[4, 3\]"),
        (lambda: PairDataset(A, B, [1, 2]), ValueError, "x and score must have the same length, got 4 and 2"),
        (lambda: PairDataset(A, B, [1, np.nan, 2, 3]), ValueError, "score must be finite, and are not at items 1"),
        (lambda: PairDataset(A, B, list("abcd")), TypeError, "score must be numbers"),
        (lambda: TripletDataset(A, B, B[:1]), ValueError, "anchor, positive, negative must have the same length"),
        (lambda: TargetDataset(A, np.zeros((4, 2, 2))), ValueError, r"targets must have shape \[N\] or \[N, K\]"),
        (lambda: TargetDataset(A, np.zeros(3)), ValueError, "x and targets must have the same length, got 4 and 3"),
        (lambda: TargetDataset(A, np.zeros(4), weights=[1, 1, -1, 1]), ValueError, "weights must be at least 0"),
        (lambda: ClassDataset(A, [0, 0, 1, 1], weights=np.zeros(4)), ValueError, "weights must be .* not all 0"),
        (lambda: RankingDataset(A, [0, 1, 2, 3], [0, 1]), ValueError, "x and groups must have the same length"),
        (lambda: GroupSampler(np.zeros(3), 1), ValueError, "batch_size must be at least 2, got 1"),
    ],
)
def test_bad_input(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_random_sampler_keeps_tuples_together():
    batches = RandomSampler(7, 3, rows_per_item=2, seed=1).batches()
    assert [len(batch) for batch in batches] == [6, 6, 2]
    assert all((batch[1::2] == batch[0::2] + 1).all() and (batch[0::2] % 2 == 0).all() for batch in batches)
    assert sorted(np.concatenate(batches).tolist()) == list(range(14))


def test_a_collate_function_per_side():
    data = PairDataset(A, list("abcd"))
    plan = [np.array([2, 3, 6, 7])]
    batch = Batches(
        data, plan, None, (None, lambda texts: np.array([[ord(text)] for text in texts])), pair_inputs=True
    )[0]
    assert isinstance(batch.inputs, PairInputs)
    np.testing.assert_array_equal(batch.inputs.first, A[[1, 3]])
    assert batch.inputs.second.ravel().tolist() == [ord("b"), ord("d")]
    assert batch.labels.tolist() == [1, 1, 3, 3]
    assert batch.items.tolist() == [1, 3]


def test_group_sampler_keeps_groups_whole():
    groups = np.repeat([4, 9, 2, 7], [3, 2, 5, 1])
    sampler = GroupSampler(groups, 5)
    batches = sampler.batches()
    assert sorted(np.concatenate(batches).tolist()) == list(range(11))
    assert all(len(batch) <= 5 for batch in batches)
    assert all(sum(name in groups[batch] for batch in batches) == 1 for name in np.unique(groups))
    with pytest.warns(
        UserWarning, match="2 of 11 items are left out of each epoch, because some groups have more than"
    ):
        assert all(len(batch) <= 3 for batch in GroupSampler(groups, 3).batches())


def test_default_samplers():
    y = np.repeat(np.arange(4), 4)
    x = np.zeros((16, 2))
    datasets = {
        "ClassSampler": ClassDataset(x, y),
        "InstanceSampler": InstanceDataset(x, lambda item: item),
        "SessionSampler": SessionDataset(x, y, np.tile([0, 1, -1, -1], 4)),
        "RandomSampler": PairDataset(x, x),
        "GroupSampler": RankingDataset(x, y, y),
    }
    for name, data in datasets.items():
        assert type(data.default_sampler(8)).__name__ == name
    with pytest.raises(ValueError, match="must have classes, sessions or groups to bring together"):
        TargetDataset(x, y).default_sampler(8)
    with pytest.raises(ValueError, match="num_items_per_class must be used with a ClassDataset"):
        datasets["RandomSampler"].default_sampler(8, 2)


def test_auto_sampler_depends_on_the_loss():
    data = ClassDataset(np.zeros((16, 2)), np.repeat(np.arange(4), 4))

    def chosen(sampler, loss):
        return type(choose_sampler(sampler, loss, data, 8, None, 0)).__name__

    assert chosen("auto", TripletLoss()) == chosen("class", ArcFaceLoss()) == "ClassSampler"
    assert chosen("auto", ArcFaceLoss()) == chosen("random", ArcFaceLoss()) == "RandomSampler"
    with pytest.warns(UserWarning, match="sampler='class' is used instead"):
        assert chosen("random", TripletLoss()) == "ClassSampler"
    sampler = RandomSampler(16, 4)
    assert choose_sampler(sampler, TripletLoss(), data, 8, None, 0) is sampler


def test_relabel_keeps_the_numbers_of_known_classes():
    names = []
    first = ClassDataset(A, ["oak", "elm", "oak", "elm"]).relabel(names)
    second = ClassDataset(A, ["ash", "oak", "ash", "elm"]).relabel(names)
    assert names == ["elm", "oak", "ash"]
    assert first.labels.tolist() == [1, 0, 1, 0]
    assert second.labels.tolist() == [2, 1, 2, 0]
    assert second.classes.tolist() == names


# Micro-batches.


def test_micro_batches():
    x = np.arange(7)
    assert [part.inputs.tolist() for part in split_batch(x, 7, 3).micro_batches] == [[0, 1, 2], [3, 4, 5], [6]]
    assert [part.rows for part in split_batch(x, 7, 3).micro_batches] == [3, 3, 1]
    for size in (None, 7, 8):
        ((inputs, count),) = split_batch(x, 7, size).micro_batches
        assert inputs is x
        assert count == 7
    tokens = {"ids": np.ones((5, 9)), "inner": (x[:5], [x[:5, None]]), "texts": list("abcde"), "flag": True, "no": None}
    first, last = split_batch(tokens, 5, 4).micro_batches
    assert first.inputs["ids"].shape == (4, 9)
    assert last.inputs["inner"][0].tolist() == [4]
    assert last.inputs["inner"][1][0].shape == (1, 1)
    assert first.inputs["texts"] == list("abcd")
    assert first.inputs["flag"] is last.inputs["flag"] is True
    assert last.inputs["no"] is None


def test_micro_batches_of_two_inputs_count_pairs():
    parts = split_batch(PairInputs(A, {"b": B}), 8, 3).micro_batches
    assert [part.rows for part in parts] == [6, 2]
    assert isinstance(parts[1].inputs, PairInputs)
    np.testing.assert_array_equal(parts[1].inputs.first, A[3:])
    np.testing.assert_array_equal(parts[1].inputs.second["b"], B[3:])


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"x": A, "table": np.ones((2, 2))}, "one of 2"),
        (np.ones(()), "one without axes"),
        ({"texts": ["a"]}, "one of 1"),
        (PairInputs(A, B[:3]), "one of 3"),
    ],
)
def test_micro_batches_need_one_entry_per_row(inputs, message):
    count = 8 if isinstance(inputs, PairInputs) else 4
    with pytest.raises(ValueError, match=f"must be used with inputs of one entry per row, here 4, got {message}"):
        split_batch(inputs, count, 3)
