"""The first components of embeddings: embedded, quantized and evaluated, for a model of any framework."""

import numpy as np
import pytest

import finetuner
from finetuner import PairDataset
from finetuner.evaluation import retrieval_metrics
from finetuner.quantization import quantize

from .toy import TEST, TRAIN, make_tuner

pytest.importorskip("faiss")
METRICS = ["hit@1", "mAP@R"]


@pytest.fixture(scope="module")
def tuner(backend):
    return make_tuner(backend)


def of_first(tuner, dim, **options):
    return retrieval_metrics(tuner.embed(TEST.x)[:, :dim], TEST.labels, metrics=METRICS, **options)


def test_embed(tuner):
    whole = tuner.embed(TEST.x)
    np.testing.assert_array_equal(tuner.embed(TEST.x, dim=3), whole[:, :3])
    np.testing.assert_array_equal(finetuner.embed(tuner.model, TEST.x, dim=8), whole)
    for dtype in ("int8", "uint8", "binary", "ubinary"):
        np.testing.assert_array_equal(tuner.embed(TEST.x, dtype=dtype), quantize(whole, dtype))
    np.testing.assert_array_equal(tuner.embed(TEST.x, dim=3, dtype="binary"), quantize(whole[:, :3], "binary"))
    known = tuner.embed(TRAIN.x, dim=3)
    np.testing.assert_array_equal(
        tuner.embed(TEST.x, dim=3, dtype="int8", calibration=known), quantize(whole[:, :3], "int8", known)
    )


def test_evaluate(tuner):
    found = tuner.evaluate(TEST, dims=(8, 3, 1), metrics=METRICS)
    assert list(found) == ["hit@1", "mAP@R", "dim_3/hit@1", "dim_3/mAP@R", "dim_1/hit@1", "dim_1/mAP@R"]
    assert found == tuner.evaluate(TEST, metrics=METRICS) | {
        f"dim_{dim}/{name}": value for dim in (3, 1) for name, value in of_first(tuner, dim).items()
    }
    assert found == finetuner.evaluate(tuner.model, TEST, dims=(8, 3, 1), metrics=METRICS)
    assert list(tuner.evaluate(TEST, dims=[3], metrics=["hit@1"])) == ["dim_3/hit@1"]


def test_evaluate_in_an_index(tuner):
    found = tuner.evaluate(TEST, TEST, dims=(8, 3), metrics=METRICS)
    queries = tuner.embed(TEST.x)[:, :3]
    expected = retrieval_metrics(queries, TEST.labels, queries, TEST.labels, metrics=METRICS)
    assert {name: found[f"dim_3/{name}"] for name in METRICS} == expected


def test_evaluate_pairs_with_scores(tuner):
    rng = np.random.default_rng(0)
    data = PairDataset(TEST.x, TRAIN.x, rng.uniform(size=len(TEST.x)))
    assert list(tuner.evaluate(data, dims=(8, 2))) == ["spearman", "pearson", "dim_2/spearman", "dim_2/pearson"]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda tuner: tuner.embed(TEST.x, dim=9), ValueError, "dim must be at most 8, the size of the emb.*, got 9"),
        (lambda tuner: tuner.embed(TEST.x, dim=0), ValueError, "dim must be at least 1, got 0"),
        (lambda tuner: tuner.embed(TEST.x, dim=2.0), TypeError, "dim must be an integer, got 2.0"),
        (lambda tuner: tuner.embed(TEST.x, dtype="int4"), ValueError, "dtype must be one of"),
        (lambda tuner: tuner.embed(TEST.x, calibration=TEST.x), ValueError, "calibration must be used with dtype"),
        (lambda tuner: tuner.evaluate(TEST, dims=(9, 8)), ValueError, "dims must be at most 8, the size .*, got 9"),
        (lambda tuner: tuner.evaluate(TEST, dims=(2, 2)), ValueError, "dims must be different sizes"),
        (lambda tuner: tuner.evaluate(TEST, dims=()), ValueError, "dims must have at least one size"),
        (lambda tuner: tuner.evaluate(TEST, dims=8), ValueError, "dims must be a sequence of integers"),
    ],
)
def test_wrong_arguments(tuner, call, error, message):
    with pytest.raises(error, match=message):
        call(tuner)
