"""Tests of the nearest neighbours against the reference."""

import numpy as np
import pytest

from finetuner.evaluation import rows
from finetuner.evaluation.search import nearest_neighbours

from .embeddings import DATA, DISTANCES, search_method  # noqa: F401  (a fixture)
from .reference import evaluation as reference

pytest.importorskip("faiss")


@pytest.mark.usefixtures("search_method")
@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("self_search", [False, True], ids=["index", "self"])
@pytest.mark.parametrize("data", DATA)
def test_neighbours_match_reference(data, self_search, distance):
    queries, index = (DATA[data][1], None) if self_search else DATA[data]
    expected_neighbours = list(reference.neighbours(queries, index, distance))
    for k in (1, 3, 17, 100):
        distances, indices = nearest_neighbours(queries, index, k, distance)
        assert (distances.dtype, indices.dtype) == (np.float32, np.int64)
        np.testing.assert_array_equal(indices, [ranked[:k] for _, ranked in expected_neighbours])
        expected = [np.take(row, ranked[:k]) for row, ranked in expected_neighbours]
        np.testing.assert_allclose(distances, expected, rtol=1e-5, atol=1e-7)
        assert (distances >= 0).all()
        assert not np.signbit(distances).any()


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("num_queries", [3, 19, 1100], ids="{} queries".format)
@pytest.mark.parametrize("k", [1, 10, 120])
def test_equal_rows_have_equal_distances(num_queries, k, distance):
    # For 1100 queries, faiss uses BLAS, whose rounding depends on the position of a row.
    rng = np.random.default_rng(0)
    base = rng.normal(size=(30, 128)).astype(np.float32)
    source = rng.integers(30, size=5003)
    queries = np.concatenate([base, rng.normal(size=(num_queries, 128)).astype(np.float32)])[:num_queries]
    distances, indices = nearest_neighbours(queries, base[source], k, distance)
    base_distances, base_indices = nearest_neighbours(queries, base, 30, distance)
    for i in range(0, len(queries), 1 + len(queries) // 40):
        order = np.argsort(base_indices[i])[source]  # the rank of the base row of each index row
        expected = np.lexsort((np.arange(len(source)), order))[:k]
        np.testing.assert_array_equal(indices[i], expected)
        np.testing.assert_allclose(distances[i], base_distances[i][order[expected]], rtol=1e-6)


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("value", [0.0, 0.3])
def test_equal_embeddings_are_sorted_by_index(value, distance):
    x = np.full((700, 37), value, np.float32)
    distances, indices = nearest_neighbours(x, None, 5, distance)
    for i in (0, 3, 5, 699):
        np.testing.assert_array_equal(indices[i], [j for j in range(6) if j != i][:5])
    assert (distances == (1 if value == 0 and distance == "cosine" else 0)).all()


@pytest.mark.usefixtures("search_method")
@pytest.mark.parametrize("distance", DISTANCES)
def test_duplicates_far_from_origin_have_distance_0(distance):
    x = 1000 + np.random.default_rng(0).normal(size=(40, 24)).astype(np.float32)
    distances, indices = nearest_neighbours(np.concatenate([x, x]), None, 1, distance)
    np.testing.assert_array_equal(indices[:, 0], np.arange(80).reshape(2, 40)[::-1].ravel())
    np.testing.assert_array_equal(distances, 0)


@pytest.mark.parametrize("collision", [False, True])
def test_equal_rows_get_the_same_number(monkeypatch, collision):
    if collision:
        monkeypatch.setattr(rows, "_hash", lambda x: np.zeros(len(x), np.uint64))
    base = np.random.default_rng(0).normal(size=(9, 5)).astype(np.float32)
    base[0], base[1] = 0, -0.0  # equal
    sources = np.random.default_rng(1).integers(9, size=60)
    first, second = rows.row_codes(base[sources[:20]], base[sources[20:]])
    codes, names = np.concatenate([first, second]), np.maximum(sources, 1)
    assert len(first) == 20
    np.testing.assert_array_equal(codes[:, None] == codes, names[:, None] == names)


def test_small_distances_are_accurate():
    angles = np.array([0, 1e-3, 2e-3, 4e-3])
    x = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    distances, _ = nearest_neighbours(x[:1], x[1:], 3)
    np.testing.assert_allclose(distances[0], 1 - np.cos(angles[1:]), rtol=1e-3)


def test_cosine_ignores_lengths():
    x, y = DATA["gaussian"]
    distances, indices = nearest_neighbours(x * np.float32(2.0**100), y * np.float32(2.0**-100), 40)
    expected, order = nearest_neighbours(x, y, 40)
    np.testing.assert_array_equal(indices, order)
    np.testing.assert_array_equal(distances, expected)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int8, list])
def test_number_types(dtype):
    x, y = DATA["lattice"]
    distances, indices = nearest_neighbours(x, y, 7)
    x, y = (x.tolist(), y.tolist()) if dtype is list else (x.astype(dtype), y.astype(dtype)[:, ::-1][:, ::-1])
    converted_distances, converted_indices = nearest_neighbours(x, y, 7)
    np.testing.assert_array_equal(converted_indices, indices)
    np.testing.assert_array_equal(converted_distances, distances)


def test_embeddings_are_not_modified():
    x, y = (array.copy() for array in DATA["gaussian"])
    for distance in DISTANCES:
        nearest_neighbours(x, y, 3, distance)
        nearest_neighbours(y, None, 3, distance)
    np.testing.assert_array_equal(x, DATA["gaussian"][0])
    np.testing.assert_array_equal(y, DATA["gaussian"][1])


def test_k_is_reduced_to_number_of_items():
    x, y = DATA["gaussian"]
    assert nearest_neighbours(x, y, 1000)[1].shape == (12, 40)
    assert nearest_neighbours(x, None, 1000)[1].shape == (12, 11)
    distances, indices = nearest_neighbours(x[:1], None, 3)
    assert distances.shape == indices.shape == (1, 0)
