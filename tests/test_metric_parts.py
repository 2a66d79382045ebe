"""Metrics over parts of the queries, and over shards of the index, are those of one search."""

import json
import tracemalloc

import numpy as np
import pytest

from finetuner.evaluation import MetricSums, Shards, nearest_neighbours, retrieval_metrics, retrieval_sums, rows, search

from .embeddings import DATA, DISTANCES, search_method  # noqa: F401  (a fixture)

NAMES = ["hit@1", "hit@7", "precision@5", "recall@3", "R-precision", "mAP@R", "mAP", "mAP@4", "MRR", "MRR@2", "nDCG@6"]


def classes(rng, count):
    return rng.integers(6, size=count)


def sessions(rng, count):
    return np.stack([np.arange(count) // 5, rng.permutation(np.resize([0, 1, 1, -1], count))], axis=1)


def label_sets(rng, count):
    return [set(rng.choice(list("abcde"), size, replace=False)) for size in rng.integers(1, 3, count)]


def arguments_of(data, labels, self_search):
    rng = np.random.default_rng(0)
    queries, index = DATA[data]
    if self_search:
        return index, labels(rng, len(index))
    return queries, labels(rng, len(queries)), index, labels(rng, len(index))


# The sums of parts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize("self_search", [False, True], ids=["index", "self"])
@pytest.mark.parametrize("labels", [classes, sessions, label_sets])
@pytest.mark.parametrize("data", DATA)
def test_sums_of_parts_are_the_metrics_of_one_process(tmp_path, data, labels, self_search, distance):
    pytest.importorskip("faiss")
    arguments = arguments_of(data, labels, self_search)
    for excluded in (False, True) if labels is not label_sets else (False,):
        options = {"metrics": NAMES, "distance": distance, "exclude_duplicates": excluded}
        expected = retrieval_metrics(*arguments, **options)
        for parts in (1, 3):
            found = [retrieval_sums(*arguments, **options, part=(number, parts)) for number in range(1, parts + 1)]
            for number, part in enumerate(found):
                part.save(tmp_path / f"{parts}-{number}.json")
            found = [MetricSums.load(tmp_path / f"{parts}-{number}.json") for number in range(parts)]
            assert max(part.count for part in found) - min(part.count for part in found) <= 1
            metrics = sum(found[::-1]).metrics()
            assert list(metrics) == NAMES
            np.testing.assert_allclose(list(metrics.values()), list(expected.values()), rtol=1e-12, atol=1e-15)


def test_there_may_be_more_parts_than_queries():
    pytest.importorskip("faiss")
    arguments = arguments_of("lattice", classes, True)
    found = [retrieval_sums(*arguments, part=(number, 60)) for number in range(1, 61)]
    assert sorted(part.count for part in found) == [0] * 20 + [1] * 40
    assert sum(found).metrics() == pytest.approx(retrieval_metrics(*arguments), rel=1e-12)


def sums(number=1, parts=2, count=3, **settings):
    return MetricSums({"hit@1": 2.0}, count, (number,), parts, {"distance": "cosine", "queries": 6, **settings})


def test_sums_are_added_once_and_completely():
    assert (sums(1) + sums(2)).metrics() == {"hit@1": 4 / 6}
    assert sum([sums(2), sums(1)]).metrics() == {"hit@1": 4 / 6}
    with pytest.raises(ValueError, match="all 2 parts must be added up, and part 2 is missing"):
        sums(1).metrics()
    with pytest.raises(ValueError, match="each part must be added once, got part 1 of 2 twice"):
        sums(1) + sums(1)
    with pytest.raises(ValueError, match="of one evaluation, got numbers of parts 2 and 3"):
        sums(1) + sums(2, 3)
    with pytest.raises(ValueError, match="of one evaluation, got distance cosine and euclidean"):
        sums(1) + sums(2, distance="euclidean")
    with pytest.raises(ValueError, match="of one evaluation, got queries 6 and 7"):
        sums(1) + sums(2, queries=7)
    with pytest.raises(ValueError, match=r"got metrics \['hit@1'\] and \['hit@2'\]"):
        sums(1) + MetricSums({"hit@2": 1.0}, 3, (2,), 2, {"distance": "cosine", "queries": 6})
    with pytest.raises(TypeError):
        sums(1) + 1


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"sums": {"hit@1": 1}, "count": 1, "parts": [3], "num_parts": 2}']
)
def test_files_without_sums(tmp_path, content):
    (tmp_path / "part.json").write_text(content)
    with pytest.raises(ValueError, match="part.json must have the sums of a part, and cannot be read"):
        MetricSums.load(tmp_path / "part.json")


def test_sums_keep_all_bits(tmp_path):
    sent = MetricSums({"mAP@R": 1 / 3 + 1e-16}, 7, (1,), 1, {})
    sent.save(tmp_path / "part.json")
    assert MetricSums.load(tmp_path / "part.json") == sent
    assert json.loads((tmp_path / "part.json").read_text())["sums"] == {"mAP@R": 1 / 3 + 1e-16}


@pytest.mark.parametrize("part", [(0, 2), (3, 2), (1, 0)])
def test_wrong_parts(part):
    with pytest.raises(ValueError, match="part must be from 1 to the number of parts"):
        retrieval_sums(np.eye(3), [0, 0, 1], part=part)
    with pytest.raises(TypeError, match="part must be two integers"):
        retrieval_sums(np.eye(3), [0, 0, 1], part="1/2")


def test_no_query_has_a_relevant_item():
    pytest.importorskip("faiss")
    for number in (1, 2):
        with pytest.raises(ValueError, match="at least one query must have a relevant item"):
            retrieval_sums(np.eye(3), [0, 1, 2], part=(number, 2))


# Shards of the index ---------------------------------------------------------------------------------------

CUTS = {"halves": [20], "uneven": [1, 1, 33], "ends": [0, 40], "rows": range(1, 40)}


def cut(x, where):
    return Shards(np.split(x, where))


@pytest.mark.usefixtures("search_method")
@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("self_search", [False, True], ids=["index", "self"])
@pytest.mark.parametrize("cuts", CUTS)
@pytest.mark.parametrize("data", DATA)
def test_neighbours_in_shards_are_those_in_one_index(data, cuts, self_search, distance):
    pytest.importorskip("faiss")
    queries, index = DATA[data]
    shards = cut(index, CUTS[cuts])
    for k in (1, 3, 17, 100):
        expected = nearest_neighbours(index if self_search else queries, None if self_search else index, k, distance)
        found = nearest_neighbours(*((shards, None) if self_search else (queries, shards)), k, distance)
        np.testing.assert_array_equal(found[1], expected[1])
        np.testing.assert_allclose(found[0], expected[0], rtol=1e-6, atol=1e-7)
        assert found[0].dtype == np.float32
        assert np.array_equal(np.diff(found[0]) == 0, np.diff(expected[0]) == 0)  # the same ties


@pytest.mark.usefixtures("search_method")
@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize("self_search", [False, True], ids=["index", "self"])
@pytest.mark.parametrize("labels", [classes, sessions, label_sets])
@pytest.mark.parametrize("data", DATA)
def test_metrics_in_shards_are_those_in_one_index(data, labels, self_search, distance):
    pytest.importorskip("faiss")
    arguments = arguments_of(data, labels, self_search)
    x = arguments[0] if self_search else arguments[2]
    for excluded in (False, True) if labels is not label_sets else (False,):
        options = {"metrics": NAMES, "distance": distance, "exclude_duplicates": excluded}
        expected = retrieval_metrics(*arguments, **options)
        for where in (CUTS["uneven"], CUTS["ends"]):
            shards = cut(x, where)
            of_shards = (shards, *arguments[1:]) if self_search else (*arguments[:2], shards, arguments[3])
            found = retrieval_metrics(*of_shards, **options)
            np.testing.assert_allclose(list(found.values()), list(expected.values()), rtol=1e-12, atol=1e-15)
        both = [retrieval_sums(*of_shards, **options, part=(number, 2)) for number in (1, 2)]
        np.testing.assert_allclose(list(sum(both).metrics().values()), list(expected.values()), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("num_queries", [19, 1100], ids="{} queries".format)
def test_duplicates_across_the_cut(num_queries, distance):
    pytest.importorskip("faiss")
    # With 1100 queries, faiss uses BLAS, whose rounding depends on the place of a row in its shard.
    rng = np.random.default_rng(0)
    base = rng.normal(size=(300, 64)).astype(np.float32)
    index = base[rng.integers(300, size=5003)]  # groups of about 17 equal rows, more than are fetched
    queries, labels = rng.normal(size=(num_queries, 64)).astype(np.float32), rng.integers(9, size=5003)
    query_labels = rng.integers(9, size=num_queries)
    shards = cut(index, [1000, 1001, 3210])
    for k in (1, 10, 40):
        expected, found = (nearest_neighbours(queries, x, k, distance) for x in (index, shards))
        np.testing.assert_array_equal(found[1], expected[1])
        np.testing.assert_allclose(found[0], expected[0], rtol=1e-6)
    names = ["hit@1", "precision@5", "mAP@10", "nDCG@10", "MRR@3", "recall@30"]
    expected, found = (
        retrieval_metrics(queries, query_labels, x, labels, metrics=names, distance=distance) for x in (index, shards)
    )
    np.testing.assert_allclose(list(found.values()), list(expected.values()), rtol=1e-12)


@pytest.mark.parametrize("distance", DISTANCES)
def test_exact_distances_do_not_depend_on_the_cut(distance):
    pytest.importorskip("faiss")
    rng = np.random.default_rng(0)
    base = rng.normal(size=(300, 64)).astype(np.float32)
    index = np.concatenate([base, base[:-1]])  # each row in both shards, at other places
    queries = (base + 2e-3 * rng.normal(size=base.shape)).astype(np.float32)
    expected, found = (nearest_neighbours(queries, x, 500, distance) for x in (index, cut(index, [300])))
    np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-6)
    assert (found[0][:-1, 0] == found[0][:-1, 1]).all()


@pytest.mark.parametrize("value", [0.0, 0.3])
def test_equal_embeddings_in_shards_are_sorted_by_index(value):
    pytest.importorskip("faiss")
    x = np.full((700, 37), value, np.float32)
    _, indices = nearest_neighbours(cut(x, [3, 500]), None, 5)
    for i in (0, 3, 5, 699):
        np.testing.assert_array_equal(indices[i], [j for j in range(6) if j != i][:5])
    labels = np.arange(700) % 7  # a collapsed model scores as chance
    assert retrieval_metrics(cut(x, [3, 500]), labels, metrics=["precision@5"])["precision@5"] == pytest.approx(
        99 / 699
    )


def test_small_blocks_of_shards(monkeypatch):
    pytest.importorskip("faiss")
    _, y = DATA["lattice"]
    labels = np.arange(40) % 7
    expected = retrieval_metrics(y, labels, metrics=NAMES)
    for block_bytes in (1, 6000):
        monkeypatch.setattr(search, "_BLOCK_BYTES", block_bytes)
        found = retrieval_metrics(cut(y, [7, 20]), labels, metrics=NAMES)
        np.testing.assert_allclose(list(found.values()), list(expected.values()), rtol=1e-12)


@pytest.mark.parametrize("collision", [False, True])
def test_rows_of_shards_get_the_same_numbers(monkeypatch, collision):
    if collision:
        monkeypatch.setattr(rows, "_hash", lambda x: np.zeros(len(x), np.uint64))
    base = np.random.default_rng(0).normal(size=(9, 5)).astype(np.float32)
    x = base[np.random.default_rng(1).integers(9, size=60)]
    expected, found = rows.row_codes(x[:20], x[20:]), rows.row_codes(cut(x[:20], [7]), cut(x[20:], [1, 1, 30]))
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_array_equal(one, other)


def test_one_shard_is_in_memory(tmp_path):
    pytest.importorskip("faiss")
    rng, paths = np.random.default_rng(0), []
    for number in range(8):
        paths.append(tmp_path / f"{number}.npy")
        np.save(paths[-1], rng.normal(size=(20_000, 32)).astype(np.float32))  # 2.6 MB each, 20 MB together
    whole, queries = np.concatenate([np.load(path) for path in paths]), rng.normal(size=(30, 32)).astype(np.float32)
    expected = nearest_neighbours(queries, whole, 5)
    del whole
    tracemalloc.start()
    try:
        found = nearest_neighbours(queries, Shards(paths), 5)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(found[1], expected[1])
    assert peak < 12 << 20


def test_shards():
    shards = Shards([np.zeros((0, 3)), np.arange(6).reshape(2, 3), np.float16([[9, 9, 9]])])
    assert repr(shards) == "Shards(3 arrays, [3, 3])"
    assert len(shards) == 3
    assert shards.shape == (3, 3)
    assert shards[1:].tolist() == [[3, 4, 5], [9, 9, 9]]
    assert shards[np.array([2, 0, 2])].tolist() == [[9, 9, 9], [0, 1, 2], [9, 9, 9]]
    assert shards.subset(np.array([0, 2]))[:].tolist() == [[0, 1, 2], [9, 9, 9]]


@pytest.mark.parametrize(
    ("arrays", "error", "message"),
    [
        ([], ValueError, "shards must have at least one row and one column, got none"),
        ([np.zeros((0, 3))], ValueError, r"shards must have at least one row and one column, got \[0, 3\]"),
        (
            [np.zeros((2, 3)), np.zeros((2, 4))],
            ValueError,
            r"must have shape \[M, D\] with one D, got \[2, 3\], \[2, 4\]",
        ),
        ([np.zeros(3)], ValueError, r"must have shape \[M, D\] with one D, got \[3\]"),
        ([[[1.0, 2.0]]], TypeError, "shards must be arrays or paths of .npy files, got list"),
        ([np.array([["a"]])], TypeError, "shards must be real numbers, got dtype <U1"),
    ],
)
def test_wrong_shards(arrays, error, message):
    with pytest.raises(error, match=message):
        Shards(arrays)


def test_shards_that_are_not_finite():
    pytest.importorskip("faiss")
    bad = Shards([np.eye(3), np.array([[1, 2, np.nan]])])
    with pytest.raises(ValueError, match="shard 1 must be finite, and are not at rows 0"):
        nearest_neighbours(np.eye(3), bad, 1)
    with pytest.raises(ValueError, match="shard 1 must be finite"):
        nearest_neighbours(bad, np.eye(3), 1)
    with pytest.raises(ValueError, match="queries and index must have the same dimension, got 2 and 3"):
        nearest_neighbours(np.eye(2), bad, 1)
