"""Tests of correlations and of nDCG against values computed by hand."""

import numpy as np
import pytest

from finetuner import evaluation


def test_correlations():
    x = np.array([1.0, 2, 3, 4])
    assert evaluation.pearson(x, 2 * x + 1) == pytest.approx(1)
    assert evaluation.pearson(x, np.array([1.0, 2, 4, 3])) == pytest.approx(0.8)
    assert evaluation.spearman(x, np.exp(x)) == pytest.approx(1)
    assert evaluation.spearman(x, -(x**3)) == pytest.approx(-1)
    assert evaluation.spearman(x, np.array([10.0, 20, 40, 30])) == pytest.approx(0.8)
    # Ranks 0, 1.5, 1.5, 3 and 0, 1, 2, 3: covariance 4.5, variances 4.5 and 5 (all times 4).
    assert evaluation.spearman(np.array([0.0, 7, 7, 9]), x) == pytest.approx(4.5 / np.sqrt(4.5 * 5))
    assert evaluation.pearson(x, np.ones(4)) == evaluation.spearman(np.ones(4), x) == 0


def test_row_distance():
    x, y = np.array([[3.0, 4], [0, 0], [1, 0]]), np.array([[0.0, 0], [0, 0], [0, 2]])
    np.testing.assert_allclose(evaluation.row_distance(x, y, "euclidean"), [5, 0, np.sqrt(5)])
    np.testing.assert_allclose(evaluation.row_distance(x, y, "sqeuclidean"), [25, 0, 5])
    np.testing.assert_allclose(evaluation.row_distance(x, y, "cosine"), [1, 1, 1])


def test_ndcg_of_groups():
    """Group 0 has the best order, in group 1 the worse item is first (1 / log2(3)), and group 2 has no relevant item."""
    scores = np.array([3.0, 2, 1, 0, 5, 5])
    relevance = np.array([2, 1, 0, 1, 0, 0])
    groups = np.array([0, 0, 1, 1, 2, 2])
    assert evaluation.grouped_ndcg(scores, relevance, groups) == pytest.approx((1 + 1 / np.log2(3)) / 2)
    assert evaluation.grouped_ndcg(scores[4:], relevance[4:], groups[4:]) == 0
