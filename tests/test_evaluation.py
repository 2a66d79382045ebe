"""Tests of the retrieval metrics against the reference and against values computed by hand."""

import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

from finetuner.evaluation import PairRetrievalEvaluator, RetrievalEvaluator, search
from finetuner.evaluation.ranking import grouped_ndcg
from finetuner.evaluation.retrieval import DEFAULT_METRICS, METRICS, relevant_counts, retrieval_metrics
from finetuner.evaluation.search import nearest_neighbours

from .embeddings import DATA, DISTANCES, lattice, search_method  # noqa: F401  (a fixture)
from .reference import evaluation as reference

pytest.importorskip("faiss")

NAMES = list(dict.fromkeys(name.replace("@k", f"@{k}") for k in (1, 4, 10, 1000) for name in METRICS))


def classes(rng, n):
    return rng.integers(6, size=n) * 2**54 + rng.integers(
        2, size=n
    )  # repeated classes, some of which are equal in float64


def sessions(rng, n):
    return np.stack([rng.integers(5, size=n), rng.choice([0, 1, 1, -1], size=n)], axis=1)


@pytest.mark.usefixtures("search_method")
@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("self_search", [False, True], ids=["index", "self"])
@pytest.mark.parametrize("labels", [classes, sessions])
@pytest.mark.parametrize("data", DATA)
def test_metrics_match_reference(data, labels, self_search, distance):
    rng = np.random.default_rng(1)
    queries, index = DATA[data]
    query_labels, index_labels = labels(rng, len(queries)), labels(rng, len(index))
    if self_search:
        queries, query_labels, index, index_labels = index, index_labels, None, None
    metrics = retrieval_metrics(queries, query_labels, index, index_labels, metrics=NAMES, distance=distance)
    expected = reference.retrieval(queries, query_labels, index, index_labels, NAMES, distance)
    assert list(metrics) == list(expected)
    np.testing.assert_allclose(list(metrics.values()), list(expected.values()), rtol=1e-12)
    for block in (1, 7, 1000):
        in_blocks = retrieval_metrics(
            queries, query_labels, index, index_labels, metrics=NAMES, distance=distance, block=block
        )
        np.testing.assert_allclose(list(in_blocks.values()), list(expected.values()), rtol=1e-12)


@pytest.mark.parametrize("distance", DISTANCES)
def test_metrics_of_large_index_match_reference(distance):
    x, index = lattice(2, 40, 700)
    rng = np.random.default_rng(2)
    arguments = x, rng.integers(300, size=40), index, rng.integers(300, size=700)
    names = ["hit@1", "precision@5", "mAP@R", "R-precision", "nDCG@7", "mAP@3"]
    metrics = retrieval_metrics(*arguments, metrics=names, distance=distance)
    expected = reference.retrieval(*arguments, names, distance)
    np.testing.assert_allclose(list(metrics.values()), list(expected.values()), rtol=1e-12)


def test_block_size_does_not_change_metrics(monkeypatch):
    _, y = DATA["gaussian"]
    labels = np.arange(40) % 7
    expected = retrieval_metrics(y, labels, metrics=NAMES)
    for block_bytes in (1, 60_000):
        monkeypatch.setattr(search, "_BLOCK_BYTES", block_bytes)
        metrics = retrieval_metrics(y, labels, metrics=NAMES)
        np.testing.assert_allclose(list(metrics.values()), list(expected.values()), rtol=1e-12)


def test_memory_is_below_queries_times_index(monkeypatch):
    monkeypatch.setattr(search, "_BLOCK_BYTES", 1 << 20)
    x, y = np.random.default_rng(0).normal(size=(2000, 4)).astype(np.float32), np.arange(2000) % 500
    retrieval_metrics(x[:10], y[:10] % 2)  # import faiss before memory is traced
    tracemalloc.start()
    try:
        retrieval_metrics(x, y, metrics=["hit@1", "mAP"])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20  # 2000 x 2000 float32 are 16 MB


def ranked_items(*relevant):
    """Arguments with one query and items of class 1 (relevant) or 0, in order of distance."""
    items = np.arange(1, len(relevant) + 1.0)[:, None]
    return {"queries": [[0.0]], "query_labels": [1], "index": items, "index_labels": relevant}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("hit@1", 0),
        ("hit@2", 1),
        ("precision@3", 1 / 3),
        ("precision@5", 3 / 5),
        ("precision@20", 3 / 20),
        ("recall@2", 1 / 3),
        ("recall@20", 1),
        ("R-precision", 1 / 3),
        ("mAP@R", (1 / 2) / 3),
        ("mAP", (1 / 2 + 2 / 4 + 3 / 5) / 3),
        ("mAP@1", 0),
        ("mAP@2", (1 / 2) / 2),
        ("mAP@4", (1 / 2 + 2 / 4) / 3),
        ("mAP@20", (1 / 2 + 2 / 4 + 3 / 5) / 3),
        ("MRR", 1 / 2),
        ("MRR@1", 0),
        ("MRR@2", 1 / 2),
        ("nDCG@2", (1 / np.log2(3)) / (1 + 1 / np.log2(3))),
        ("nDCG@20", (1 / np.log2(3) + 1 / np.log2(5) + 1 / np.log2(6)) / (1.5 + 1 / np.log2(3))),
    ],
)
def test_metrics_by_hand(name, expected):
    metrics = retrieval_metrics(**ranked_items(0, 1, 0, 1, 1, 0), metrics=[name], distance="euclidean")
    assert metrics == {name: pytest.approx(expected, rel=1e-12)}


def test_default_metrics_are_in_order_and_do_not_rank_whole_index():
    metrics = retrieval_metrics(**ranked_items(0, 1, 1))
    assert tuple(metrics) == DEFAULT_METRICS
    assert DEFAULT_METRICS[:2] == ("hit@1", "mAP@R")
    assert not {"mAP", "MRR"} & set(DEFAULT_METRICS)
    assert {type(value) for value in metrics.values()} == {float}


@pytest.mark.parametrize(
    ("query_labels", "index_labels"),
    [
        (["cat", "dog"], np.array(["a dog", "cat", "dog", "cat"], object)),
        (np.array([7, 2], np.int8), np.array([1, 7, 2, 7], np.uint64)),
        ([7.0, 2.0], [1, 7, 2, 7]),
        (np.array([2**63 - 1, 2**53 + 1]), np.array([2**53, 2**63 - 1, 2**53 + 1, 2**63 - 1], np.uint64)),
        ([True, False], [2, 1, 0, 1]),
    ],
)
def test_classes_are_compared_by_value(query_labels, index_labels):
    np.testing.assert_array_equal(relevant_counts(query_labels, index_labels), [2, 1])
    x = np.eye(4)
    metrics = retrieval_metrics(x[[1, 2]], query_labels, x, index_labels, metrics=["hit@1", "recall@1"])
    assert metrics == {"hit@1": 1, "recall@1": 0.75}


def test_sessions_compare_anchors_with_all_other_roles():
    x = [[0.0], [3.0], [1.0], [0.5], [0.1]]
    labels = [[8, 0], [8, 1], [8, -1], [9, 1], [9, 0]]  # session 8 ranks: the match of 9, its non-match, its match
    metrics = retrieval_metrics(x, labels, metrics=["hit@1", "MRR", "precision@10"], distance="euclidean")
    assert metrics == {"hit@1": 0.5, "MRR": pytest.approx((1 / 3 + 1) / 2), "precision@10": 0.1}
    np.testing.assert_array_equal(relevant_counts(labels), [1, 0, 0, 0, 1])


def test_session_index_is_searched_as_a_whole():
    x, labels = [[0.0], [3.0], [1.0]], [[8, 0], [8, 1], [8, -1]]
    assert retrieval_metrics(x, labels, x, labels, metrics=["MRR"], distance="euclidean") == {
        "MRR": pytest.approx(1 / 3)
    }


def test_queries_without_relevant_items_are_left_out():
    x, labels = [[0.0], [1.0], [1.1], [5.0]], ["b", "a", "a", "c"]
    assert retrieval_metrics(x, labels, metrics=["hit@1"], distance="euclidean") == {"hit@1": 1.0}
    np.testing.assert_array_equal(relevant_counts(labels), [0, 1, 1, 0])
    np.testing.assert_array_equal(relevant_counts(labels, ["c", "c", "a"]), [0, 1, 1, 2])


# ------------------------------------------------------------------------------------------ ties


@pytest.mark.usefixtures("search_method")
@pytest.mark.parametrize("self_search", [False, True], ids=["index", "self"])
@pytest.mark.parametrize("distance", DISTANCES)
def test_collapsed_model_scores_as_chance(distance, self_search):
    """All items are one point. In any order of the data, metrics are those of a random ranking."""
    x, y = np.full((24, 5), 0.7, np.float32), np.repeat([0, 1], [8, 16])
    names = ["hit@1", "hit@3", "precision@4", "recall@6", "R-precision", "mAP@R", "mAP@5", "MRR@2", "nDCG@6"]
    for order in (np.arange(24), np.arange(24)[::-1], np.random.default_rng(0).permutation(24)):
        labels = y[order]
        arguments = (x, labels) if self_search else (x, labels, x, labels)
        metrics = retrieval_metrics(*arguments, metrics=names, distance=distance)
        sizes = np.array([8, 16])
        shares = (sizes - 1) / 23 if self_search else sizes / 24
        weights = sizes / 24
        assert metrics["hit@1"] == pytest.approx(weights @ shares, rel=1e-12)
        assert metrics["precision@4"] == metrics["R-precision"] == pytest.approx(weights @ shares, rel=1e-12)
        assert metrics["recall@6"] == pytest.approx(6 / (23 if self_search else 24), rel=1e-12)
        none = None if self_search else x, None if self_search else labels
        expected = reference.retrieval(x, labels, *none, names, distance)
        np.testing.assert_allclose(list(metrics.values()), list(expected.values()), rtol=1e-12)


@pytest.mark.parametrize("k", [1, 10, 200])
@pytest.mark.parametrize("distance", DISTANCES)
def test_ties_beyond_the_searched_neighbours_are_counted(distance, k):
    """3 near items, then 1500 copies of one row, of which 500 are relevant, in blocks and in any order."""
    rng = np.random.default_rng(0)
    near, far = rng.normal(size=(2, 24)).astype(np.float32)
    index = np.concatenate([near + 0.01 * rng.normal(size=(3, 24)).astype(np.float32), np.tile(far, (1500, 1))])
    labels = np.repeat([2, 1, 0], [3, 500, 1000])
    queries, query_labels = near + 0.01 * rng.normal(size=(1100, 24)).astype(np.float32), np.ones(1100, int)
    names = [f"hit@{k}", f"precision@{k}", f"recall@{k}", f"MRR@{k}", f"mAP@{k}", f"nDCG@{k}"]
    values = []
    for order in (np.arange(len(index)), np.arange(len(index))[::-1], rng.permutation(len(index))):
        found = retrieval_metrics(
            queries, query_labels, index[order], labels[order], metrics=names, distance=distance, block=500
        )
        values.append(list(found.values()))
    groups = [[0], [1], [2], list(range(3, 1503))]
    wanted = [reference.expected_metric(name, groups, set(range(3, 503))) for name in names]
    np.testing.assert_allclose(values, [wanted] * 3, rtol=1e-10)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("distance", DISTANCES)
def test_copies_of_items_change_no_metric_of_the_order_of_data(distance, threads):
    """Each item has copies of other classes at other places, which BLAS may round differently."""
    faiss = pytest.importorskip("faiss")
    before = faiss.omp_get_max_threads()
    rng = np.random.default_rng(0)
    base = rng.normal(size=(300, 67)).astype(np.float32)
    index, labels = base[rng.integers(300, size=4001)], rng.integers(20, size=4001)
    queries, query_labels = rng.normal(size=(300, 67)).astype(np.float32), rng.integers(20, size=300)
    names = ["hit@1", "mAP@R", "MRR@10", "nDCG@10", "precision@40"]
    found = []
    try:
        faiss.omp_set_num_threads(threads)
        for order in (np.arange(4001), np.argsort(labels, kind="stable"), np.argsort(-labels, kind="stable")):
            for block in (64, None):
                metrics = retrieval_metrics(
                    queries, query_labels, index[order], labels[order], metrics=names, distance=distance, block=block
                )
                found.append(list(metrics.values()))
    finally:
        faiss.omp_set_num_threads(before)
    np.testing.assert_allclose(found, [found[0]] * len(found), rtol=1e-12)


@pytest.mark.usefixtures("search_method")
@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("self_search", [False, True], ids=["index", "self"])
@pytest.mark.parametrize("labels", [classes, sessions])
@pytest.mark.parametrize("data", DATA)
def test_exact_duplicates_are_excluded(data, labels, self_search, distance):
    rng = np.random.default_rng(3)
    queries, index = DATA[data]
    query_labels, index_labels = labels(rng, len(queries)), labels(rng, len(index))
    if self_search:
        queries, query_labels, index, index_labels = index, index_labels, None, None
    arguments = queries, query_labels, index, index_labels
    metrics = retrieval_metrics(*arguments, metrics=NAMES, distance=distance, exclude_duplicates=True)
    expected = reference.retrieval(*arguments, NAMES, distance, exclude_duplicates=True)
    np.testing.assert_allclose(list(metrics.values()), list(expected.values()), rtol=1e-12)
    assert metrics != retrieval_metrics(*arguments, metrics=NAMES, distance=distance)


def test_excluded_duplicates_by_hand():
    """Rows 0, 1 and 4 are equal. From row 2, all others are equally far."""
    x = np.array([[0.0, 1], [0, 1], [1, 1], [1, 0], [-0.0, 1]])
    arguments = {"metrics": ["hit@1", "recall@2"], "distance": "euclidean"}
    assert retrieval_metrics(x, [0, 0, 0, 1, 2], **arguments) == {"hit@1": 0.5, "recall@2": 0.5}
    assert retrieval_metrics(x, [0, 0, 0, 1, 2], **arguments, exclude_duplicates=True) == pytest.approx(
        {"hit@1": 2.5 / 3, "recall@2": 2.5 / 3}, rel=1e-12
    )
    message = "a relevant item, except for its exact duplicates, got 4 queries and none has"
    with pytest.raises(ValueError, match=message):
        retrieval_metrics(np.ones((4, 2)), Y, exclude_duplicates=True)


def test_equal_second_items_of_pairs_are_searched_once():
    x = np.eye(5)[[0, 1, 2, 1]]
    rows = np.repeat(x, 2, axis=0)
    names = ["hit@1", "MRR@10", "recall@1", "mAP"]
    assert PairRetrievalEvaluator(np.repeat([0, 1, 2, 1], 2), names)(rows, "cosine") == dict.fromkeys(names, 1)
    tied = PairRetrievalEvaluator(np.repeat([0, 1, 2, 3], 2), names)(rows, "cosine")
    assert tied == {"hit@1": 0.75, "MRR@10": 0.875, "recall@1": 0.75, "mAP": 0.875}


def test_evaluators_exclude_duplicates():
    x, y = np.array([[0.0, 1], [0, 1], [1, 1], [1, 0]]), np.array([0, 1, 0, 1])
    assert RetrievalEvaluator(y, ["hit@1"])(x, "cosine") == {"hit@1": pytest.approx(1 / 12)}
    assert RetrievalEvaluator(y, ["hit@1"], exclude_duplicates=True)(x, "cosine") == {"hit@1": pytest.approx(1 / 3)}


# ---------------------------------------------------------------------------------------- errors

X = np.arange(8.0).reshape(4, 2)
Y = [0, 0, 1, 1]
WITH_NAN = np.where(np.arange(15)[:, None] == 3, np.nan, 1.0)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((X[0], None, 1), ValueError, r"queries must have shape \[N, D\], got \[2\]"),
        ((X, X[:0], 1), ValueError, r"index must have at least one row and one column, got shape \[0, 2\]"),
        ((X[:, :0], None, 1), ValueError, r"one column, got shape \[4, 0\]"),
        ((X, X[:, :1], 1), ValueError, "queries and index must have the same dimension, got 2 and 1"),
        ((WITH_NAN, None, 1), ValueError, "queries must be finite, and are not at rows 3$"),
        ((X, np.full((12, 2), np.inf), 1), ValueError, "at rows 0, 1, .*, 9 and 2 more"),
        ((X * 1e60, None, 1), ValueError, "queries must be finite, and are not at rows 0, 1, 2, 3$"),
        ((WITH_NAN, None, 1, "euclidean"), ValueError, "finite, with norms below 1e18, and are not at rows 3$"),
        ((X * 1e18, None, 1, "sqeuclidean"), ValueError, "with norms below 1e18, and are not at rows 1, 2, 3"),
        ((X.astype(str), None, 1), TypeError, "queries must be real numbers, got dtype <U"),
        ((X * 1j, None, 1), TypeError, "queries must be real numbers, got dtype complex128"),
        ((X, None, 0), ValueError, "k must be at least 1, got 0"),
        ((X, None, 1.0), TypeError, "k must be an integer, got 1.0"),
        ((X, None, 1, "cosin"), ValueError, "distance must be one of .*, got 'cosin'; did you mean 'cosine'"),
        ((X, None, 1, "cosine", 0), ValueError, "block must be at least 1, got 0"),
    ],
)
def test_wrong_embeddings(arguments, error, message):
    with pytest.raises(error, match=message):
        nearest_neighbours(*arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((X, Y[:3]), "queries and query_labels must have the same length, got 4 and 3"),
        ((X, Y, X, Y[:3]), "index and index_labels must have the same length, got 4 and 3"),
        ((X, Y, X), "must be given together, got index without index_labels"),
        ((X, Y, None, Y), "must be given together, got index_labels without index"),
        ((X, Y, X[:, :1], Y), "must have the same dimension, got 2 and 1"),
        ((X, [[[0]]]), r"query_labels must have shape \[N\] or \[N, C\], got \[1, 1, 1\]"),
        ((X, np.zeros((4, 3), int)), r"query_labels must be .* \[N, 2\] .* got shape \[4, 3\] and dtype int64"),
        ((X, np.zeros((4, 2))), r"integers \[N, 2\] \(session and role\), or .* dtype float64"),
        ((X, np.eye(4, dtype=bool), X, Y), "must both be label sets"),
        ((X, np.eye(4, dtype=bool), X, np.ones((4, 3), bool)), "a column for each label, got 4 and 3"),
        ((X, [[0, 0], [0, 2], [0, 1], [0, 7]]), r"query_labels must have roles 0 .* got other roles at rows 1, 3"),
        ((X, Y, X, np.zeros((4, 2), int)), r"must both be classes .*, got \[4\] and \[4, 2\]"),
        ((X, [0.0, np.nan, 1, 1]), "query_labels must not be missing, and is at items 1"),
        ((X, Y, X, [0, None, 1, 1]), "index_labels must not be missing, and is at items 1"),
        ((X, [0, 1, 2, 3]), "at least one query must have a relevant item, got 4 queries and none has"),
        ((X, ["0", "0", "1", "1"], X, Y), "got 4 queries and none has"),
        ((X, [[0, 1], [0, 1], [1, -1], [1, 1]]), "got 0 queries and none has"),
        ((X, [[0, 0], [0, 0], [1, 0], [1, 0]]), "got 4 queries and none has"),
        ((X[:1], [0]), "got 1 queries and none has"),
    ],
)
def test_wrong_labels(arguments, message):
    with pytest.raises(ValueError, match=message):
        retrieval_metrics(*arguments)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("Hit@5", "did you mean 'hit@5'"),
        ("precison@10", "did you mean 'precision@10'"),
        ("map", "did you mean 'mAP'"),
        ("ndcg", "did you mean 'nDCG@10'"),
        ("mAP@r", "did you mean 'mAP@R'"),
        ("hit@k", "did you mean 'hit@10'"),
        ("hit@0", "did you mean 'hit@10'"),
        ("hit@05", "did you mean 'hit@10'"),
        ("recall", "did you mean 'recall@10'"),
        ("R-precision@3", "did you mean 'R-precision'"),
        ("accuracy!", "known are 'hit@10', .*'mAP@R'"),
        (7, "known are"),
    ],
)
def test_unknown_metric_suggests_closest(name, hint):
    with pytest.raises(ValueError, match=f"metrics must be among hit@k, .* got {name!r}; {hint}"):
        retrieval_metrics(X, Y, metrics=["hit@1", name])


def test_metrics_must_be_a_sequence():
    with pytest.raises(TypeError, match="metrics must be a sequence of names, got 'hit@1'"):
        retrieval_metrics(X, Y, metrics="hit@1")
    with pytest.raises(ValueError, match="metrics must name at least one metric, got none"):
        retrieval_metrics(X, Y, metrics=[])


def test_missing_faiss(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ImportError, match="needs faiss: pip install faiss-cpu"):
        nearest_neighbours(X, None, 1)


def test_import_loads_neither_faiss_nor_a_framework():
    code = "import sys, finetuner.evaluation as _; print(*{'faiss', 'torch', 'keras', 'paddle'} & {*sys.modules})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""


@pytest.mark.parametrize("sign", [1, -1])
def test_queries_without_a_copy_in_the_index_have_nothing_to_exclude(sign):
    rng = np.random.default_rng(0)
    queries, index = sign * (5 + rng.random((9, 3))), sign * rng.random((2, 3))
    arguments = (queries, [0] * 9, index, [0, 1])
    options = {"metrics": ["hit@1", "mAP"], "distance": "euclidean"}
    assert retrieval_metrics(*arguments, exclude_duplicates=True, **options) == retrieval_metrics(*arguments, **options)


def test_ndcg_of_no_items():
    none = np.zeros(0)
    assert grouped_ndcg(none, none, none.astype(int)) == 0
