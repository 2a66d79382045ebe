"""Steps of Adam from the same weights on the same batches give the same losses on every engine.

``trajectories.json`` holds PyTorch's losses and last embeddings. ``python -m tests.test_trajectories`` writes it. Where
the conventions of the frameworks differ, the test sets all to the same:

- Adam's epsilon is 1e-11, too small to count. PyTorch and Paddle (default 1e-8) add it to the root of the
  bias-corrected second moment, Keras (default 1e-7) to that of the uncorrected one, which is up to 32 times smaller
  in the first steps. Keras also computes 1 - 0.999^t in float32, whose rounding is 1e-5 of the first step.
- Batch norm has a momentum of 0.9 (PyTorch calls it 0.1) and an epsilon of 1e-5 (Keras' default is 1e-3). The
  running variance is that of N - 1 in PyTorch and of N elsewhere.

A convolutional network with batch norm doubles a difference every five to eight steps: after 40 steps the rounding
has grown to 1e-4 of the loss, after 100 to 1e-3, and to 1e-2 where hard negatives change places.
"""

import json
from pathlib import Path

import numpy as np
import pytest

STORED = Path(__file__).with_name("trajectories.json")
STEPS = {"dense": 100, "conv": 40}
OFF = {"dense": 1e-4, "conv": 5e-4}  # of the losses
APART = {"dense": 1e-3, "conv": 1e-2}  # of the embeddings, by the running variances too, which add 5e-4 a norm
CLASSES, EACH = 8, 4
EASY_HARD = {"pos_strategy": "easy", "neg_strategy": "hard"}
LOSSES = {
    "all triplets": ("TripletLoss", {"margin": 0.3}),
    "easy-hard triplets": ("TripletLoss", {"margin": 0.3, "miner": EASY_HARD}),
    "pairs": ("SiameseLoss", {"margin": 0.8}),
    "NT-Xent": ("NTXentLoss", {"temperature": 0.2}),
}
CASES = [(network, name) for network in ("dense", "conv") for name in LOSSES]


def drawn(rng, *shapes):
    """Weights of a layer, of the size that keeps signals as large as they are."""
    (kernel, *others) = shapes
    weight = rng.normal(size=kernel) * np.sqrt(2 / np.prod(kernel[:-1]))
    return [weight.astype("float32"), *(np.zeros(shape, "float32") for shape in others)]


def norm(channels):
    """Weights of a batch norm: scale, shift, running mean and variance."""
    return [array.astype("float32") for array in (np.ones(channels), *np.zeros((2, channels)), np.ones(channels))]


def layers_of(network):
    """The weights of each layer, dense ones as ``[in, out]`` and kernels as ``[height, width, in, out]``."""
    rng = np.random.default_rng(1)
    if network == "dense":
        return [drawn(rng, (16, 32), 32), drawn(rng, (32, 8), 8)]
    first, second = drawn(rng, (3, 3, 1, 8)), drawn(rng, (3, 3, 8, 16))
    return [first, norm(8), second, norm(16), drawn(rng, (16, 8), 8)]


def batches_of(network, count, seed=0):
    """Batches of items that are their class, blurred."""
    rng = np.random.default_rng(seed)
    shape, noise = {"dense": ((16,), 1.5), "conv": ((1, 8, 8), 0.7)}[network]
    centres = np.random.default_rng(9).normal(size=(CLASSES, *shape))
    y = np.repeat(np.arange(CLASSES, dtype="int32"), EACH)
    for _ in range(count):
        yield (centres[y] + noise * rng.normal(size=(len(y), *shape))).astype("float32"), y


def trajectory(backend, network, name):
    """The loss of each step, and embeddings of other items afterwards."""
    model = backend.mlp(16, 32, 8) if network == "dense" else backend.conv()
    backend.carry(model, layers_of(network))
    loss, options = LOSSES[name]
    tuner = backend.Tuner(
        model,
        loss=backend.loss(loss, **options),
        optimizer_options={backend.epsilon: 1e-11},
        callbacks=[],
    )
    engine = tuner.engine
    engine.begin_training()
    engine.begin_epoch(0)
    steps = [engine.step(backend.layout(x), (y,)).loss for x, y in batches_of(network, STEPS[network])]
    engine.end_training()
    ((unseen, _),) = batches_of(network, 1, seed=5)
    return engine.to_floats(steps), tuner.embed(backend.layout(unseen))


@pytest.mark.parametrize(("network", "name"), CASES)
def test_every_engine_takes_the_same_path(backend, network, name):
    stored = json.loads(STORED.read_text())[f"{network}, {name}"]
    losses, embeddings = trajectory(backend, network, name)
    expected, last = np.array(stored["losses"]), np.array(stored["embeddings"])
    off = np.abs(losses - expected) / expected
    difference = np.abs(embeddings - last).max() / np.abs(last).max()
    print(f"{network}, {name}: losses {expected[0]:.3f} to {expected[-1]:.3f}, off by {off.max():.1e} at most ", end="")
    print(f"(step {off.argmax() + 1}); embeddings by {difference:.1e}")
    assert losses[-1] < 0.99 * losses[0]
    np.testing.assert_allclose(losses, expected, rtol=OFF[network])
    np.testing.assert_allclose(embeddings, last, rtol=0, atol=APART[network] * np.abs(last).max())


if __name__ == "__main__":
    from .backends import backend_of

    paths = {}
    for network, name in CASES:
        losses, embeddings = trajectory(backend_of("pytorch"), network, name)
        rounded = np.round(embeddings.astype(float), 6).tolist()
        paths[f"{network}, {name}"] = {"losses": [float(f"{loss:.8g}") for loss in losses], "embeddings": rounded}
    STORED.write_text(
        "{\n" + ",\n".join(f"{json.dumps(key)}: {json.dumps(path)}" for key, path in paths.items()) + "\n}\n"
    )
