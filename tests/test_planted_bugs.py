"""The parity suite can fail: eight bugs, planted one at a time, are each caught by it."""

import functools
import importlib
import itertools

import pytest

from .test_parity import check_loss, loss_function

BATCHES = ("pairs", "uneven", "duplicates within", "one class")
CASES = [("TripletLoss", batch, point) for batch in BATCHES for point in range(6)]  # all distances, margins or none
TILED_IN_KERAS = [("NTXentLoss", "uneven", 0), ("LiftedStructureLoss", "pairs", 0)]  # triplets are not


def sign_turned_round(backend, patch):
    right = backend.blocks.pairwise_distance
    patch.setattr(backend.blocks, "pairwise_distance", lambda *args: -right(*args))


def diagonal_kept_as_positive(backend, patch):
    class Relations(backend.relations.Relations):
        def __init__(self, labels, reference_labels=None, self_offset=None):
            super().__init__(labels, labels if reference_labels is None else reference_labels)

    patch.setattr(backend.losses.batch, "Relations", Relations)


def mean_over_the_wrong_count(backend, patch):
    def reduce(sums, count, active, reduction):
        return right(sums, count + 1, active, reduction)

    right = backend.losses.batch.reduce
    patch.setattr(backend.losses.batch, "reduce", reduce)


def detached_distance(backend, patch):
    right = backend.blocks.pairwise_distance
    # Not all of it, or a framework would complain by itself.
    patch.setattr(backend.blocks, "pairwise_distance", lambda *args: backend.detached(right(*args)) + 0 * right(*args))


def missing_floor_under_a_root(backend, patch):
    def naive(queries, references, distance):
        if distance != "euclidean":
            return right(queries, references, distance)
        return backend.sum((queries[:, None] - references[None]) ** 2, axis=2) ** 0.5

    right = backend.blocks.pairwise_distance
    patch.setattr(backend.blocks, "pairwise_distance", naive)


def module(backend, name):
    return importlib.import_module(f"finetuner.tuner.{backend.name}.{name}")


def gradient_of_a_block_at_double_rate(backend, patch):
    place = backend.blocks if backend.name == "keras" else module(backend, "tile_gradients")
    right = place.grad_wrt_squared_distance
    patch.setattr(place, "grad_wrt_squared_distance", lambda *args: 2 * right(*args))


def block_that_serves_its_rows_alone(backend, patch):
    if backend.name == "keras":
        from keras import ops

        tiling = module(backend, "tiling").Tiling
        tile_of = tiling.tile
        patch.setattr(tiling, "tile", lambda *args: tile_of(*args)._replace(on_diagonal=ops.ones((), "bool")))
        return
    tiles = module(backend, "tiles")
    right = tiles.Tile

    def alone(*args):
        tile = right(*args)
        tile.sides = (0,)
        return tile

    patch.setattr(tiles, "Tile", alone)


def block_without_the_gradient_of_its_columns(backend, patch):
    if backend.name == "keras":
        tiles, calls = module(backend, "tiles"), itertools.count()
        add_rows = tiles.add_rows
        patch.setattr(tiles, "add_rows", lambda x, *args: x if next(calls) % 2 else add_rows(x, *args))
        return
    place = module(backend, "tile_gradients").RowGradients
    right = place.__init__

    def init(self, *args):
        right(self, *args)
        self.of_references = False

    patch.setattr(place, "__init__", init)


@pytest.mark.parametrize(
    "bug",
    [
        sign_turned_round,
        diagonal_kept_as_positive,
        mean_over_the_wrong_count,
        detached_distance,
        missing_floor_under_a_root,
        gradient_of_a_block_at_double_rate,
        block_that_serves_its_rows_alone,
        block_without_the_gradient_of_its_columns,
    ],
)
def test_bug_is_caught(backend, monkeypatch, bug):
    rows = 4 if "block" in bug.__name__ else None
    in_tiles = backend.name == "keras" and bug in (
        block_that_serves_its_rows_alone,
        block_without_the_gradient_of_its_columns,
    )
    if rows:
        in_block = 2 if in_tiles else rows  # Keras has tiles in place of more than two blocks
        monkeypatch.setattr("finetuner.tuner.base.losses.blocks.rows_per_block", lambda *_: in_block)
        monkeypatch.setattr("finetuner.tuner.base.losses.blocks.tile_size", lambda *_: rows)
    cases = TILED_IN_KERAS if in_tiles else CASES
    passes_without_a_bug(backend, rows, in_tiles)
    loss_function.cache_clear()
    bug(backend, monkeypatch)
    with pytest.raises(AssertionError) as caught:
        check_all(backend, cases)
    print(f"{bug.__name__}: caught, {str(caught.value).strip().splitlines()[0]}")
    loss_function.cache_clear()


@functools.cache
def passes_without_a_bug(backend, rows, in_tiles):
    """The same cases before a bug is planted, once per size of the blocks."""
    loss_function.cache_clear()
    check_all(backend, TILED_IN_KERAS if in_tiles else CASES)


def check_all(backend, cases):
    for name, batch, point in cases:
        check_loss(backend, name, point, batch, "eager")
