"""Points that are near each other, compared with their length, have exact distances and gradients."""

import numpy as np
import pytest

from finetuner.tuner.base.losses import blocks

DISTANCES = ("cosine", "euclidean", "sqeuclidean")
OFFSETS = (0, 10, 1000)  # in multiples of the distance of the points


def points(offset, distance):
    """Ten points: two that are 1 apart at ``offset``, with others far away, so that no common offset is subtracted."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(10, 6))
    x[0] = x[1] = offset * np.array([1, 0, 0, 0, 0, 0])
    x[1] += [0, 0.6, 0.8, 0, 0, 0]
    x[2:] *= max(offset, 1)
    if offset == 0 and distance == "cosine":
        x[0] = [1, 0, 0, 0, 0, 0]  # the zero vector has no direction
    return x


def true_distances(x, distance):
    x = np.float64(np.float32(x))
    if distance == "cosine":
        x = x / np.linalg.norm(x, axis=1, keepdims=True)
    square = ((x[:, None] - x[None]) ** 2).sum(axis=2)
    return {"cosine": square / 2, "euclidean": np.sqrt(square), "sqeuclidean": square}[distance]


@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize("distance", DISTANCES)
def test_distances_of_near_points(backend, distance, offset):
    x = points(offset, distance)
    rows = backend.tensor(x.astype(np.float32))
    found = backend.numpy(backend.functional.pairwise_distance(rows, rows, distance))
    np.testing.assert_allclose(found, true_distances(x, distance), rtol=1e-3, atol=1e-7 * (distance == "cosine"))
    assert not found.diagonal().any()


@pytest.mark.parametrize("size", [2**18, 3], ids=["whole", "in tiles"])
@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize("distance", DISTANCES)
def test_losses_of_near_points(backend, monkeypatch, distance, offset, size):
    """The two near points are the only positives of one batch, and the nearest negatives of another."""
    if size == 3:
        monkeypatch.setattr(blocks, "rows_per_block", lambda *_: 3)
        monkeypatch.setattr(blocks, "tile_size", lambda *_: 3)
    x = points(offset, distance)
    expected = true_distances(x, distance)
    near, gradient = expected[0, 1], gradient_of_distance(x, distance)
    for labels, margin in ((np.array([0, 0, *range(1, 9)]), 0.0), (np.arange(10), 1.5 * near)):
        loss = backend.loss("SiameseLoss", distance=distance, margin=margin, reduction="sum")
        value, (found,) = backend.value_and_grads(loss, [x.astype(np.float32)], [labels])
        upper = expected[np.triu_indices(10, 1)]
        true = near if margin == 0 else np.maximum(0, margin - upper).sum()
        assert float(value) == pytest.approx(true, rel=1e-3)
        if margin == 0 or (upper < margin).sum() == 1:  # the gradient is that of one pair
            sign = 1 if margin == 0 else -1
            np.testing.assert_allclose(sign * found[:2], gradient, rtol=1e-3, atol=1e-3 * np.abs(gradient).max())


def gradient_of_distance(x, distance):
    """Of the distance of the first two points, by both, by differences in float64."""
    x, found = np.float64(np.float32(x))[:2], np.zeros((2, 6))
    step = 1e-4 * np.linalg.norm(x[0] - x[1])
    for index in np.ndindex(2, 6):
        delta = np.zeros_like(x)
        delta[index] = step
        found[index] = (true(x + delta, distance) - true(x - delta, distance)) / (2 * step)
    return found


def true(x, distance):
    if distance == "cosine":
        x = x / np.linalg.norm(x, axis=1, keepdims=True)
    square = ((x[0] - x[1]) ** 2).sum()
    return {"cosine": square / 2, "euclidean": np.sqrt(square), "sqeuclidean": square}[distance]
