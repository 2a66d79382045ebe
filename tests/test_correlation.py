"""Tests of correlations and of nDCG against values computed by hand."""

import numpy as np
import pytest

from finetuner import evaluation

from .reference import evaluation as reference


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


@pytest.mark.parametrize("gain", ["exponential", "linear"])
def test_ndcg_matches_reference_with_ties(gain):
    rng = np.random.default_rng(0)
    for _ in range(20):
        groups = rng.integers(4, size=20) * 7 - 3
        scores = rng.choice([-1.5, -0.0, 0.0, 2.0, np.inf], size=20)
        relevance = rng.choice([0, 1, 2, 4.5], size=20)
        value = evaluation.grouped_ndcg(scores, relevance, groups, gain)
        expected = reference.grouped_ndcg(scores, relevance, groups, gain)
        np.testing.assert_allclose(value, expected, rtol=1e-12)
        order = rng.permutation(20)
        shuffled = evaluation.grouped_ndcg(scores[order], relevance[order], groups[order], gain)
        np.testing.assert_allclose(shuffled, value, rtol=1e-12)


def test_ndcg_of_equal_scores_is_that_of_a_random_order():
    """Of 2, 1 and 0 in any order, each rank has a mean gain of 4/3."""
    discounts = 1 / np.log2([2, 3, 4])
    expected = 4 / 3 * discounts.sum() / (3 + discounts[1])
    for relevance in ([2, 1, 0], [0, 1, 2]):
        assert evaluation.grouped_ndcg(np.zeros(3), relevance, np.zeros(3, int)) == pytest.approx(expected, rel=1e-12)


def test_ndcg_of_large_relevance():
    groups = np.zeros(4, int)
    # The two gains of 2^1023 - 1 are at the first and the last rank, and their sum is above the range of float64.
    value = evaluation.grouped_ndcg([4.0, 3, 2, 1], [1023, 1, 0, 1023], groups)
    assert value == pytest.approx((1 + 1 / np.log2(5)) / (1 + 1 / np.log2(3)), rel=1e-12)
    value = evaluation.grouped_ndcg([1.0, 2, 3, 4], [1e300, 0, 1e308, 1.5e308], groups, gain="linear")
    assert value == pytest.approx((1.5 + 1 / np.log2(3)) / (1.5 + 1 / np.log2(3)), rel=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ([0.0], [1024], [0]),
            r"relevance must be at most 1023 for the gain 2\^r - 1, got 1024.0; take gain=\"linear\"",
        ),
        (([0.0], [np.inf], [0], "linear"), "relevance must be at least 0 and finite to have a gain, got inf"),
        (([0.0, 1], [0, -1], [0, 0]), "relevance must be at least 0 and finite to have a gain, got -1.0"),
        (([0.0], [np.nan], [0]), "relevance must be at least 0 and finite to have a gain, got nan"),
        (([0.0, np.nan], [1, 1], [0, 0]), "scores must be numbers, got nan at 1"),
        (([0.0, 1], [1, 1], [0]), r"must have the same shape \[N\], got"),
        (([0.0], [1], [0], "lineer"), "gain must be one of .*, got 'lineer'; did you mean 'linear'"),
    ],
)
def test_ndcg_bad_input(arguments, message):
    with pytest.raises(ValueError, match=message):
        evaluation.grouped_ndcg(*arguments)


def test_ranking_evaluator_checks_relevance_before_training():
    with pytest.raises(ValueError, match="relevance must be at most 1023"):
        evaluation.RankingEvaluator(np.array([2000.0, 1]), np.zeros(2, int))
    evaluator = evaluation.RankingEvaluator(np.array([2000.0, 1000]), np.zeros(2, int), gain="linear")
    found = evaluator(np.array([[0.0], [1.0]]), "cosine")["nDCG"]
    assert found == pytest.approx((1 + 2 / np.log2(3)) / (2 + 1 / np.log2(3)))


def test_triplets_at_equal_distances_count_one_half():
    points = np.array([[1.0, 0], [2, 0], [0, 1], [1, 0], [1, 1], [1, 1], [1, 0], [0, 1], [1, 0]])
    assert evaluation.TripletEvaluator()(points, "cosine") == {"triplet_accuracy": (1 + 0.5 + 0) / 3}
    assert evaluation.TripletEvaluator()(np.ones((9, 2)), "euclidean") == {"triplet_accuracy": 0.5}
