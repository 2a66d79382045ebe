"""Equal items of a dataset, and the retrieval of pairs that have some."""

import numpy as np
import pytest

from finetuner.evaluation import PairRetrievalEvaluator
from finetuner.tuner.base.data.duplicates import number_items

ROWS = np.array([[1.0, 2], [3, 4], [1, 2], [1, 2.5], [3, 4]])


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        (ROWS, [0, 1, 0, 3, 1]),
        (ROWS[:, ::-1], [0, 1, 0, 3, 1]),  # not contiguous
        (list(ROWS), [0, 1, 0, 3, 1]),
        (list("abacb"), [0, 1, 0, 3, 1]),
        (np.array(list("abacb"), object), [0, 1, 0, 3, 1]),
        (np.array(["-".join(["x", c]) for c in "abacb"], object), [0, 1, 0, 3, 1]),  # equal, and not the same object
        ([b"a", "a", b"a"], [0, 1, 0]),
        ([1, 2, 1], [0, 1, 0]),
        ({"text": list("aabbb"), "image": ROWS}, [0, 1, 2, 3, 4]),
        ({"text": list("abacb"), "image": ROWS}, [0, 1, 0, 3, 1]),
        ([{"a": 1}, {"a": 1}], [0, 1]),  # items of unknown kinds count as different
        (range(3), [0, 1, 2]),
    ],
)
def test_equal_items_get_the_same_number(x, expected):
    numbers = number_items(x)
    assert numbers.dtype == np.int32
    assert numbers.tolist() == expected


def test_copies_of_pairs_change_no_metric():
    pytest.importorskip("faiss")
    """Each pair occurs once, or up to three times. Metrics count the copies of a second item as one."""
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 30, 6))
    first += 0.8 * second
    names = ["hit@1", "MRR@10", "recall@5", "mAP", "nDCG@10"]
    copies = np.repeat(np.arange(30), 3)

    def metrics(pairs):
        rows = np.stack([first[pairs], second[pairs]], axis=1).reshape(-1, 6)
        labels = np.repeat(number_items(second[pairs]), 2)
        return PairRetrievalEvaluator(labels, names)(rows, "cosine")

    assert metrics(rng.permutation(copies)) == pytest.approx(metrics(np.arange(30)), rel=1e-12)
