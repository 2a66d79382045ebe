"""The references, against numbers that were computed by hand, as their docstrings say."""

import math

import numpy as np
import pytest

from .reference import LOSSES
from .reference.batches import Batch, Centres, Logits, Rows, Scores, Taught, Triplets, TwoTower, points
from .reference.margins import smoothed

EAST, NORTH = np.array([1.0, 0]), np.array([0, 1.0])
HALFWAY = EAST + NORTH
# Two classes at a right angle, each item with its duplicate.
RIGHT_ANGLE = Batch(np.array([EAST, 2 * EAST, NORTH, 3 * NORTH]), np.array([0, 0, 1, 1]))
TRIPLET = Triplets(EAST[None], EAST[None], NORTH[None])


def of_centres(x, label=0):
    return Centres(x[None], np.array([label]), np.array([EAST, NORTH]))


def two_scores(relevance):
    return Scores(np.array([0.0, 1.0]), np.array(relevance))


CASES = [
    ("SupConLoss", RIGHT_ANGLE, {"temperature": 1.0}, math.log((math.e + 2) / math.e)),
    ("MultiSimilarityLoss", RIGHT_ANGLE, {}, math.log(1 + math.exp(-1)) / 2 + math.log(1 + 2 * math.exp(-25)) / 50),
    ("TripletLoss", RIGHT_ANGLE, {"margin": 1.5}, 0.5),
    ("TripletLoss", RIGHT_ANGLE, {"margin": 0.5}, 0.0),
    ("TripletLoss", RIGHT_ANGLE, {"margin": None}, 0.31326168751822286),
    ("TripletLoss:rows", TRIPLET, {"margin": 1.5}, 0.5),
    ("TripletLoss:rows", TRIPLET, {"margin": None}, 0.31326168751822286),
    ("SurrogatePrecision", RIGHT_ANGLE, {"k": 1}, 0.5),
    # Softer ranks: 1 + 2 sigmoid(-1) = 1.5378828, and a cut of sigmoid(2 - 1.5378828) = 0.6135163.
    ("SurrogatePrecision", RIGHT_ANGLE, {"k": 2, "temperature2": 1.0}, 1 - 0.6135163),
    # The item and its duplicate have rank 1/2 + 1/2, and cuts of sigmoid(2 - 1).
    ("SurrogatePrecision", RIGHT_ANGLE, {"k": 1, "include_self": True}, 0.2689414),
    ("ArcFaceLoss", of_centres(EAST), {"scale": 1.0}, 0.34768544),
    ("ArcFaceLoss", of_centres(HALFWAY), {"margin": math.pi / 4, "scale": 1.0}, 1.1079411),
    ("ArcFaceLoss", of_centres(-EAST), {"scale": 1.0}, math.log(1 + math.exp(2 - math.cos(0.5)))),
    ("CosFaceLoss", of_centres(EAST), {"scale": 2.0}, 0.2410085),
    ("SphereFaceLoss", of_centres(HALFWAY), {"margin": 4.0, "scale": 1.0}, 1.8737984),
    ("ContrastiveLoss", Rows(np.zeros((1, 2)), 0.6 * EAST[None], np.array([0.0])), {}, 0.36),
    ("ContrastiveLoss", Rows(np.zeros((1, 2)), 0.6 * EAST[None], np.array([1.0])), {}, 0.16),
    ("ContrastiveLoss", Rows(np.zeros((1, 2)), 0.6 * EAST[None], np.array([0.5])), {}, 0.26),
    ("CosineSimilarityLoss", Rows(EAST[None], NORTH[None], np.array([0.5])), {}, 0.25),
    ("CosineSimilarityLoss", Rows(EAST[None], NORTH[None], np.array([4.0])), {"high": 5.0}, 0.64),
    ("CLIPLoss", TwoTower(np.array([EAST, NORTH]), np.array([EAST, NORTH])), {"temperature": 1.0}, 0.3132617),
    ("DistillationLoss", Taught(np.eye(3), np.array([EAST, EAST, NORTH])), {"temperature": 1.0}, 0.07396271),
    ("RankNetLoss", two_scores([1, 0]), {}, math.log(1 + math.e)),
    ("ListNetLoss", Scores(np.zeros(2), np.array([1, 0])), {}, math.log(2)),
    ("LambdaRankLoss", two_scores([1, 0]), {}, (1 - 1 / math.log2(3)) * math.log(1 + math.e)),
    ("FocalLoss", Logits(np.array([[0, math.log(3)]]), np.array([0])), {}, 9 / 16 * math.log(4)),
    ("FocalLoss", Logits(np.array([[0, math.log(3)]]), np.array([1])), {}, 1 / 16 * math.log(4 / 3)),
    (
        "FocalLoss",
        Logits(np.array([[0, math.log(3)]] * 2), np.array([0, 1])),
        {"weight": [3.0, 1.0]},
        (27 * math.log(4) + math.log(4 / 3)) / 64,
    ),
]


@pytest.mark.parametrize(("name", "batch", "params", "expected"), CASES)
def test_worked_numbers(name, batch, params, expected):
    assert LOSSES[name].function(batch, **params) == pytest.approx(expected, rel=1e-6, abs=1e-30)


def oml_surrogate_precision(x, labels, k, t1, t2, reduction):
    """``oml.losses.SurrogatePrecision`` of OpenMetricLearning 4.0.0, line for line, in float64."""

    def sigmoid(values):
        return 0.5 * (1 + np.tanh(values / 2))

    k = k + 1
    distances = np.sqrt(((x[:, None] - x[None]) ** 2).sum(axis=2))
    mask_gt = labels[:, None] == labels[None]
    distances_diff = distances - distances[None].transpose(2, 1, 0)
    rank = sigmoid(distances_diff / t2).sum(axis=0)
    precision = (sigmoid((k - rank) / t1) * mask_gt).sum(axis=1) / np.minimum(mask_gt.sum(axis=1), k)
    return 1 - {"mean": np.mean, "none": np.array}[reduction](precision)


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("options", [(1, 1.0, 0.01), (3, 0.5, 0.1), (50, 20.0, 1.0)])
def test_surrogate_precision_with_the_item_itself_is_that_of_oml(options, reduction):
    x, labels = points(24, 8), np.random.default_rng(1).integers(0, 6, 24)
    labels[0] = 9  # an item without a positive
    function = LOSSES["SurrogatePrecision"].function
    expected = oml_surrogate_precision(x, labels, *options, reduction)
    found = function(Batch(x, labels), *options, distance="euclidean", include_self=True, reduction=reduction)
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)
    for other in ({"include_self": False}, {"distance": "cosine"}):
        found = function(Batch(x, labels), *options, **{"distance": "euclidean", "include_self": True} | other)
        assert abs(found - np.mean(expected)) > 1e-6


def test_smoothed_labels():
    np.testing.assert_allclose(smoothed([0], 3), [[13 / 15, 1 / 15, 1 / 15]])
    np.testing.assert_allclose(smoothed([0, 2], 3, 0.2, [0, 0, 1]), [[0.9, 0.1, 0], [0, 0, 1]])


def test_the_losses_of_margins_never_rise_with_the_angle():
    angles = np.linspace(0, np.pi, 400)
    for name, params in [("ArcFaceLoss", {"margin": 1.2}), ("SphereFaceLoss", {"margin": 4.0}), ("SphereFaceLoss", {})]:
        items = np.stack([np.cos(angles), np.sin(angles)], axis=1)
        # The other centre is at a right angle to all: what changes is the item's own logit.
        x, centres = np.pad(items, ((0, 0), (0, 1))), np.array([[1.0, 0, 0], [0, 0, 1.0]])
        batch = Centres(x, np.zeros(400, int), centres)
        terms = LOSSES[name].function(batch, **{"scale": 2.0, "reduction": "none", **params})
        assert (np.diff(terms) > -1e-12).all()
        assert np.abs(np.diff(terms)).max() < 0.1  # nor do they jump
