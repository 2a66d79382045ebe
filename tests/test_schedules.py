"""Schedules, parameter groups, triggers and the loss scale: plain Python, the same for all frameworks."""

import itertools
import json
from datetime import date, datetime
from types import SimpleNamespace

import numpy as np
import pytest

from finetuner import Every
from finetuner.arrays import item_lengths
from finetuner.tuner.base import Checkpoint, Schedule
from finetuner.tuner.base.data.batches import Batches, LengthGroups, group_starts
from finetuner.tuner.base.data.datasets import ClassDataset
from finetuner.tuner.base.data.samplers import IterableSampler
from finetuner.tuner.base.training.callbacks.monitor import Monitor
from finetuner.tuner.base.training.checkpoint import decode_class_names, encode_class_names
from finetuner.tuner.base.training.micro_batches import split_batch
from finetuner.tuner.base.training.optimization import Optimization
from finetuner.tuner.base.training.parameter_groups import (
    Weight,
    frozen_weights,
    layer_depths,
    parameter_groups,
)
from finetuner.tuner.base.training.precision import LossScale

from .reference.optimization import factor

OPTIONS = {
    "constant": {},
    "linear": {},
    "cosine": {},
    "cosine_with_restarts": {"cycles": 3},
    "polynomial": {"power": 2.5},
    "warmup_stable_decay": {"decay": 0.4},
}


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("warmup", [0, 7, 0.25])
def test_schedules_match_the_reference(name, warmup):
    steps = 40
    schedule = Schedule(name, steps, warmup, OPTIONS[name])
    first = 10 if warmup == 0.25 else warmup
    expected = [factor(name, step, steps, first, **OPTIONS[name]) for step in range(steps)]
    np.testing.assert_allclose([schedule(step) for step in range(steps)], expected, rtol=0, atol=1e-15)
    assert schedule(steps + 5) == schedule(steps - 1)
    assert min(map(schedule, range(steps))) > 0  # no step is lost


def test_a_schedule_of_ones_own():
    assert [Schedule(lambda step: 0.5**step, 3)(step) for step in range(3)] == [1.0, 0.5, 0.25]
    with pytest.raises(ValueError, match="warmup must be 0 with a schedule of your own"):
        Schedule(lambda step: 1.0, 3, 1)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("linaer", 10), ValueError, "schedule must be one of .*, got 'linaer'; did you mean 'linear'"),
        (("linear", 10, 10), ValueError, "warmup must be shorter than the training of 10 steps, got 10 steps"),
        (("linear", 10, 2.5), ValueError, "warmup must be a whole number of steps, or a share below 1"),
        (("linear", 10, -1), ValueError, "warmup must be at least 0"),
        (("linear", 10, float("nan")), ValueError, "warmup must be finite"),
        (("cosine", 10, 0, {"cycles": 2}), TypeError, "the schedule 'cosine' has no option 'cycles'"),
        (("polynomial", 10, 0, {"power": 0}), ValueError, "power must be above 0"),
        (("warmup_stable_decay", 10, 0, {"decay": 2}), ValueError, "decay must be a share of the training"),
        ((3, 10), TypeError, "schedule must be a name or a function of the step, got int"),
    ],
)
def test_wrong_schedules(arguments, error, message):
    with pytest.raises(error, match=message):
        Schedule(*arguments)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learning_rate": 0}, "learning_rate must be above 0"),
        ({"learning_rate": {"head": -1}}, "learning_rate must be above 0"),
        ({"learning_rate": {}}, "learning_rate must have at least one pattern"),
        ({"clip_norm": 0}, "clip_norm must be above 0"),
        ({"weight_decay": -0.1}, "weight_decay must be at least 0"),
        ({"layer_decay": 1.5}, "layer_decay must be above 0 and at most 1"),
        ({"ema_decay": 2}, "ema_decay must be above 0 and at most 1"),
        ({"freeze": {"head": 0}}, "freeze must be at least 1"),
        ({"schedule": "lin"}, "did you mean 'linear'"),
    ],
)
def test_wrong_optimization(options, message):
    with pytest.raises(ValueError, match=message):
        Optimization(**options)


def weights(*names):
    return [Weight(name, 1 if name.endswith(("bias", "norm.weight")) else 2) for name in names]


TRANSFORMER = weights(
    "embeddings.word.weight",
    "embeddings.norm.weight",
    "encoder.layer.0.query.weight",
    "encoder.layer.0.query.bias",
    "encoder.layer.1.query.weight",
    "encoder.layer.10.query.weight",
    "pooler.weight",
)


def test_layer_depths():
    assert layer_depths([w.name for w in TRANSFORMER]) == [0, 0, 1, 1, 2, 3, 4]
    assert layer_depths(["dense/kernel", "dense/bias", "dense_1/kernel"]) == [0, 0, 1]
    assert layer_depths(["0.weight", "0.bias", "2.weight"]) == [1, 1, 2]
    assert layer_depths(["weight", "bias"]) == [0, 1] or layer_depths(["weight", "bias"]) == [0, 0]


def test_groups():
    groups = parameter_groups(TRANSFORMER, 1e-3, weight_decay=0.1, layer_decay=0.5)
    by_name = {name: group for group in groups for name in group.names}
    assert [by_name[w.name].learning_rate for w in TRANSFORMER] == [1e-3 * 0.5**k for k in (4, 4, 3, 3, 2, 1, 0)]
    assert [by_name[w.name].weight_decay for w in TRANSFORMER] == [0.1, 0, 0.1, 0, 0.1, 0.1, 0.1]
    groups = parameter_groups(TRANSFORMER, {"pooler": 1e-2, r"layer\.1\.": 5e-4, "": 1e-5}, 0.0)
    assert {group.learning_rate: len(group.names) for group in groups} == {1e-5: 5, 5e-4: 1, 1e-2: 1}
    groups = parameter_groups(TRANSFORMER, 1e-3, freeze={"embeddings": float("inf"), "pooler": 2})
    assert [(len(group.names), group.frozen_epochs) for group in groups] == [(4, 0), (1, 2)]


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        ({"haed": 1e-3, "": 1e-5}, "learning_rate must have patterns that match a weight, got 'haed'; the weights are"),
        (
            {"pooler": 1e-3},
            "learning_rate must have a pattern for each weight, and none of 'pooler' matches embeddings",
        ),
        ({"(": 1e-3}, r"learning_rate must have regular expressions, got '\('"),
    ],
)
def test_wrong_patterns(rates, message):
    with pytest.raises(ValueError, match=message):
        parameter_groups(TRANSFORMER, rates)


def test_frozen_weights():
    names = ["body.weight", "head.weight"]
    assert frozen_weights({"body": 2, "head": 1}, names, 1) == set(names)
    assert frozen_weights({"body": 2, "head": 1}, names, 2) == {"body.weight"}
    assert frozen_weights({"body": float("inf")}, names, 99) == {"body.weight"}
    with pytest.raises(ValueError, match="freeze must have patterns that match a weight, got 'boddy'"):
        parameter_groups(weights(*names), 1e-3, freeze={"boddy": 1})


def test_triggers():
    assert [step for step in range(1, 8) if Every(steps=3).fires(step, 1, False)] == [3, 6]
    assert [epoch for epoch in range(1, 7) if Every(epochs=2).fires(9, epoch, True)] == [2, 4, 6]
    assert not Every(epochs=1).fires(9, 1, False)
    assert Every.of("10 steps") == Every.of("10") == Every.of(10) == Every(steps=10)
    for wrong, message in (
        ("ten", "like '500 steps' or '1 epoch'"),
        (0, "must be at least 1"),
        (1.5, "must be an int"),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            Every.of(wrong, "evaluate_every")
    with pytest.raises(ValueError, match="Every must be given steps or epochs"):
        Every()
    with pytest.raises(ValueError, match="Every must be given steps or epochs"):
        Every(steps=1, epochs=1)


def test_the_loss_scale_gives_up_at_last():
    scale = LossScale(value=1.0)
    while scale.value > 2**-14:
        scale.update(False)
    with pytest.raises(ValueError, match="the gradient must be finite, and is not, whatever the loss scale"):
        scale.update(False)
    again = LossScale()
    again.load_state_dict(scale.state_dict())
    assert again == scale


def test_item_lengths():
    assert item_lengths(["a", "bbb", "cc"]).tolist() == [1, 3, 2]
    assert item_lengths(np.array(["a", "bbb"])).tolist() == [1, 3]
    assert item_lengths([[1, 2], [3]]).tolist() == [2, 1]
    assert item_lengths([{"input_ids": [1, 2, 3]}, {"input_ids": [1]}]).tolist() == [3, 1]
    for same in (["a", "b"], np.zeros((3, 2)), [1, 2, 3], np.array([1, 2])):
        assert item_lengths(same) is None


def pad(items):
    width = max(map(len, items))
    return np.array([list(item) + [0] * (width - len(item)) for item in items])


def test_length_groups_hold_all_rows_with_little_padding():
    rng = np.random.default_rng(0)
    items = [list(rng.integers(1, 9, size=length)) for length in rng.integers(1, 30, size=20)]
    batches = Batches(ClassDataset(items, np.arange(20) % 4), [np.arange(20)], collate_fn=pad, length_groups=4)
    inputs = batches[0].inputs
    assert isinstance(inputs, LengthGroups)
    assert sorted(np.concatenate(inputs.positions).tolist()) == list(range(20))
    for part, positions in zip(inputs.inputs, inputs.positions, strict=True):
        assert part.shape == (len(positions), max(len(items[i]) for i in positions))
    assert sum(part.size for part in inputs.inputs) < 0.75 * pad(items).size
    parts = split_batch(inputs, 20, None)
    assert not parts.two_passes
    rows = [row for part in parts.micro_batches for row in part.inputs]
    ordered = [rows[place][rows[place] > 0].tolist() for place in parts.order]
    assert ordered == items
    assert split_batch(inputs, 20, 3).two_passes


def test_length_groups_leave_items_of_one_length_alone():
    batches = Batches(ClassDataset(np.ones((6, 2)), [0, 0, 1, 1, 2, 2]), [np.arange(6)], length_groups=3)
    assert batches[0].inputs.shape == (6, 2)


def test_any_iterable_is_a_sampler():
    class Foreign:
        epochs = ()

        def set_epoch(self, epoch):
            self.epochs += (epoch,)

        def __iter__(self):
            return iter([[0, 1], (2, 3)])

    foreign = Foreign()
    sampler = IterableSampler(foreign, 4)
    sampler.set_epoch(3)
    assert [batch.tolist() for batch in sampler] == [[0, 1], [2, 3]]
    assert foreign.epochs == (3,)


@pytest.mark.parametrize(
    ("batches", "error", "message"),
    [
        ((batch for batch in [[0]]), TypeError, "not a generator, got generator"),
        (3, TypeError, "sampler must be a name, a Sampler, or an iterable"),
        ([], ValueError, "sampler must give at least one batch an epoch"),
        ([[0, 4]], ValueError, r"sampler must give batches of row numbers in 0\.\.3, got 0, 4"),
        ([[0.5]], ValueError, "sampler must give batches of row numbers"),
        ([[]], ValueError, "sampler must give batches of row numbers"),
    ],
)
def test_wrong_iterables(batches, error, message):
    with pytest.raises(error, match=message):
        IterableSampler(batches, 4).batches()


def test_length_groups_have_the_least_padding():
    rng = np.random.default_rng(1)
    for count, groups in ((7, 3), (9, 2), (9, 4), (5, 8)):
        lengths = np.sort(rng.integers(1, 20, size=count))[::-1]

        def padded(starts, lengths=lengths):
            bounds = [0, *starts, len(lengths)]
            return sum(lengths[a] * (b - a) for a, b in itertools.pairwise(bounds))

        choices = [starts for k in range(min(groups, count)) for starts in itertools.combinations(range(1, count), k)]
        assert padded(group_starts(lengths, groups)) == min(map(padded, choices))


def test_the_best_checkpoint_is_that_of_the_best_number(tmp_path):
    written = []

    class Recording(Checkpoint):
        def write(self, state, path):
            written.append((path.name, state.history[-1]["hit@1"]))

    checkpoint, state = Recording(tmp_path, best="hit@1"), SimpleNamespace(history=[])
    for row in ({"hit@1": 0.5}, {"hit@1": 0.4}, {"loss": 3.0}, {"hit@1": 0.5}, {"hit@1": 0.6}):
        state.history.append({"epoch": 1, "step": 1, **row})
        checkpoint.save_best(state)
    assert written == [("best", 0.5), ("best", 0.6)]


def test_the_validation_loss_is_watched_by_default():
    assert Monitor().monitor == "val_loss"
    assert [Monitor().is_better(value) for value in (0.5, 0.6)] == [True, True]
    monitor = Monitor()
    assert [monitor.is_better(value) for value in (0.5, 0.6, 0.4)] == [True, False, True]


def test_names_of_classes_are_read_as_they_were_written():
    names = ["a", 3, 2.5, True, b"\xff\x00a", date(2024, 2, 29), datetime(2024, 2, 29, 12, 30, 1)]
    read = decode_class_names(json.loads(json.dumps(encode_class_names(names))))
    assert read == names
    assert list(map(type, read)) == list(map(type, names))
