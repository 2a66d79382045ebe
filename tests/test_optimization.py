"""Schedules, groups, clipping, decay, averages and accumulation: 100 steps on every engine follow a numpy reference.

The reference is in float64. In the long cases Adam's epsilon is given, and too small to count: PyTorch and Paddle add one
that is given to the root of the bias-corrected second moment, and Keras to that of the uncorrected one.
"""

import math
import re

import numpy as np
import pytest

from finetuner import RandomSampler, TargetDataset

from .reference.optimization import Network, Training, factor
from .test_trajectories import layers_of

STEPS, BATCH = 100, 16
SMALL = 1e-11
CASES = {
    "linear, warm-up, clipping, decay": (
        "AdamW",
        {"schedule": "linear", "warmup": 10, "clip_norm": 0.5, "weight_decay": 0.1, "learning_rate": 3e-3},
        1,
    ),
    "cosine, share of warm-up, average": (
        "AdamW",
        {"schedule": "cosine", "warmup": 0.1, "ema_decay": 0.9, "weight_decay": 0.0, "learning_rate": 3e-3},
        1,
    ),
    "restarts, rates by pattern, SGD": (
        "SGD",
        {"schedule": "cosine_with_restarts", "schedule_options": {"cycles": 3}, "learning_rate": (0.02, 0.1)},
        1,
    ),
    "polynomial, layer decay, decay of SGD": (
        "SGD",
        {
            "schedule": "polynomial",
            "schedule_options": {"power": 1.5},
            "layer_decay": 0.5,
            "weight_decay": 0.2,
            "learning_rate": 0.1,
            "clip_norm": 1.0,
        },
        1,
    ),
    "stable, accumulation, clipping": (
        "AdamW",
        {
            "schedule": "warmup_stable_decay",
            "schedule_options": {"decay": 0.3},
            "warmup": 5,
            "clip_norm": 0.3,
            "learning_rate": 3e-3,
        },
        2,
    ),
}


def data(count):
    rng = np.random.default_rng(3)
    x = rng.normal(size=(count, 16)).astype(np.float32)
    return x, np.tanh(x @ rng.normal(size=(16, 8)) / 4).astype(np.float32)


def reference(name, accumulate):
    """Losses, learning rates, norms and the outputs of the trained network on the first items."""
    optimizer, options, _ = CASES[name]
    options = dict(options)
    network = Network(layers_of("dense"))
    rate = options["learning_rate"]
    rates = [rate] * 4 if isinstance(rate, float) else [rate[0]] * 2 + [rate[1]] * 2
    if "layer_decay" in options:
        rates = [value * (options["layer_decay"] if i < 2 else 1) for i, value in enumerate(rates)]
    decay = options.get("weight_decay", 0.01 if optimizer == "AdamW" else 0.0)
    decays = [decay, 0.0, decay, 0.0]
    training = Training(network, optimizer, rates, decays, options.get("clip_norm"), options.get("ema_decay"), SMALL)
    warmup = options.get("warmup", 0)
    warmup = round(warmup * STEPS) if warmup < 1 else warmup
    x, targets = (array.astype(np.float64) for array in data(STEPS * BATCH * accumulate))
    losses, factors = [], []
    for step in range(STEPS):
        factors.append(factor(options["schedule"], step, STEPS, warmup, **options.get("schedule_options", {})))
        rows = [slice(k * BATCH, (k + 1) * BATCH) for k in range(step * accumulate, (step + 1) * accumulate)]
        losses.append(np.mean(training.step([(x[one], targets[one]) for one in rows], factors[-1])))
    weights = training.average if "ema_decay" in options else network.weights
    return losses, [rates[0] * value for value in factors], training.norms, network.outputs(x[:64], weights)


def trained(backend, name):
    optimizer, options, accumulate = CASES[name]
    options = dict(options)
    model = backend.mlp(16, 32, 8)
    backend.carry(model, layers_of("dense"))
    if isinstance(options["learning_rate"], tuple):
        names = [weight.name for weight in backend.Tuner.framework_class().weights(model)]
        body, head = options["learning_rate"]
        options["learning_rate"] = {"|".join(map(re.escape, names[2:])): head, "": body}
    mse, mse_options = backend.native["mse"]
    if optimizer == "AdamW":
        options["optimizer_options"] = {backend.epsilon: SMALL}
    tuner = backend.Tuner(model, loss=mse, loss_options=mse_options, optimizer=optimizer, callbacks=[], **options)
    x, targets = data(STEPS * BATCH * accumulate)
    run = tuner.fit(
        TargetDataset(x, targets),
        sampler=RandomSampler(len(x), BATCH, shuffle=False),
        epochs=1,
        gradient_accumulation_steps=accumulate,
        log_every=1,
    )
    return run, tuner.embed(x[:64])


@pytest.mark.parametrize("name", CASES)
def test_steps_follow_the_reference(backend, name):
    losses, rates, norms, outputs = reference(name, CASES[name][2])
    run, ours = trained(backend, name)
    assert [row["step"] for row in run.log] == list(range(1, STEPS + 1))
    measured = np.array([row["loss"] for row in run.log])
    off = np.abs(measured - losses) / losses
    print(
        f"{name}: losses {losses[0]:.4f} to {losses[-1]:.4f}, off by {off.max():.1e} at most (step {off.argmax() + 1})"
    )
    assert losses[-1] < 0.5 * losses[0]
    np.testing.assert_allclose([row["learning_rate"] for row in run.log], rates, rtol=1e-12)
    np.testing.assert_allclose(measured, losses, rtol=1e-4)
    np.testing.assert_allclose([row["gradient_norm"] for row in run.log], norms, rtol=1e-3)
    np.testing.assert_allclose(ours, outputs, rtol=0, atol=1e-3 * np.abs(outputs).max())


@pytest.mark.parametrize("optimizer", ["Adam", "AdamW"])
def test_an_optimizer_by_name_has_the_same_defaults_everywhere(backend, optimizer):
    model = backend.mlp(16, 32, 8)
    backend.carry(model, layers_of("dense"))
    network = Network(layers_of("dense"))
    decay = 0.01 if optimizer == "AdamW" else 0.0
    training = Training(network, "AdamW", [1e-3] * 4, [decay, 0, decay, 0], None, None, 1e-8)
    x, targets = data(STEPS * BATCH)
    losses = [
        training.step([(x[k : k + BATCH].astype(float), targets[k : k + BATCH])], 1.0)[0]
        for k in range(0, len(x), BATCH)
    ]
    mse, mse_options = backend.native["mse"]
    tuner = backend.Tuner(model, loss=mse, loss_options=mse_options, optimizer=optimizer, callbacks=[])
    sampler = RandomSampler(len(x), BATCH, shuffle=False)
    run = tuner.fit(TargetDataset(x, targets), sampler=sampler, epochs=1, log_every=1)
    np.testing.assert_allclose([row["loss"] for row in run.log], losses, rtol=1e-3)
    outputs = network.outputs(x[:64].astype(float))
    np.testing.assert_allclose(tuner.embed(x[:64]), outputs, rtol=0, atol=1e-3 * np.abs(outputs).max())


@pytest.mark.parametrize(
    ("optimizer", "epsilon"),
    [("Adam", 1e-8), ("AdamW", 1e-8), ("Adamax", 1e-8), ("RMSprop", 1e-8), ("Adagrad", 1e-10)],
)
def test_epsilon_has_the_same_place_everywhere(backend, optimizer, epsilon):
    """The gradients of the first layer are as small as epsilon, which counts there from the first step on."""
    if backend.name == "paddle" and optimizer in ("Adamax", "RMSprop"):
        pytest.skip("Paddle adds this epsilon in another place")
    model = backend.mlp(16, 32, 8)
    backend.carry(model, layers_of("dense"))
    x, targets = data(20 * BATCH)

    def expected(epsilon):
        network = Network(layers_of("dense"))
        decay = 0.01 if optimizer == "AdamW" else 0.0
        formula = "AdamW" if optimizer == "Adam" else optimizer
        training = Training(network, formula, [1e-2] * 4, [decay, 0, decay, 0], None, None, epsilon)
        for k in range(0, len(x), BATCH):
            training.step([(small[k : k + BATCH].astype(float), targets[k : k + BATCH])], 1.0)
        return network.outputs(x[:64].astype(float))

    small = 10 * np.float32(epsilon) * x
    mse, mse_options = backend.native["mse"]
    tuner = backend.Tuner(
        model, loss=mse, loss_options=mse_options, optimizer=optimizer, learning_rate=1e-2, callbacks=[]
    )
    tuner.fit(TargetDataset(small, targets), sampler=RandomSampler(len(x), BATCH, shuffle=False), epochs=1)
    outputs = expected(epsilon)
    off = np.abs(tuner.embed(x[:64]) - outputs).max()
    print(f"{optimizer}: off by {off:.1e}")
    assert off < 1e-4
    assert np.abs(expected(epsilon / 2) - outputs).max() > 1e-2


def test_an_epsilon_that_is_given_is_that_of_the_framework(backend):
    """It has the place that the framework documents."""
    if backend.name != "keras":
        pytest.skip("of Keras' optimizers")
    import keras

    options = {"epsilon": 1e-3}
    tuner = backend.Tuner(backend.mlp(4, 8, 2), optimizer="Adam", optimizer_options=options, callbacks=[])
    assert type(tuner.engine.optimizers["optimizer"]) is type(keras.optimizers.Adam())
    tuner = backend.Tuner(backend.mlp(4, 8, 2), optimizer="Adam", callbacks=[])
    assert isinstance(tuner.engine.optimizers["optimizer"], keras.optimizers.Adam)
    assert tuner.engine.optimizers["optimizer"].get_config()["epsilon"] == 1e-8


def test_the_comparison_can_fail(backend):
    losses, *_ = reference("linear, warm-up, clipping, decay", 1)
    wrong, *_ = reference("cosine, share of warm-up, average", 1)
    assert (np.abs(np.array(wrong) - losses) / losses).max() > 1e-2


def test_the_saved_state_of_an_optimizer(backend):
    """Numbers beside tensors are saved, options are of the kind that they were, and initial_lr may be missing."""
    if backend.name != "pytorch":
        pytest.skip("of PyTorch's optimizers")
    import torch

    from finetuner.tuner.pytorch.optimizers import check_saved_state, same_kind, tensors_and_numbers

    tensors, numbers = tensors_and_numbers({0: {"count": 3, "sum": torch.ones(2)}})
    assert numbers == {"0.count": 3}
    assert tensors["0.sum"].tolist() == [1, 1]
    kinds = [(0.1, 3), (None, True), (True, False), ([0.9, 0.99], (0.8, 0.9)), (0.1, True), (True, 0.1), (1, math.inf)]
    assert [same_kind(*pair) for pair in kinds] == [True] * 4 + [False] * 3
    optimizer = torch.optim.SGD([torch.ones(2, requires_grad=True)], lr=0.1)
    groups = optimizer.state_dict()["param_groups"]
    optimizer.param_groups[0]["initial_lr"] = 0.1  # as a schedule sets it
    check_saved_state(optimizer, {}, groups)
    del groups[0]["lr"]
    with pytest.raises(ValueError, match="has no lr"):
        check_saved_state(optimizer, {}, groups)
