"""The references themselves, against numbers worked out by hand, as their docstrings tell."""

import math

import numpy as np
import pytest

from .reference import LOSSES
from .reference.batches import Batch

# Two classes at a right angle, each item with its duplicate.
RIGHT_ANGLE = Batch(np.array([[1.0, 0], [2, 0], [0, 1], [0, 3]]), np.array([0, 0, 1, 1]))


@pytest.mark.parametrize(
    ("name", "params", "expected"),
    [
        ("SupConLoss", {"temperature": 1.0}, math.log((math.e + 2) / math.e)),
        ("MultiSimilarityLoss", {}, math.log(1 + math.exp(-1)) / 2 + math.log(1 + 2 * math.exp(-25)) / 50),
    ],
)
def test_worked_numbers(name, params, expected):
    assert LOSSES[name].function(RIGHT_ANGLE, **params) == pytest.approx(expected, rel=1e-12)
