"""The losses that take a batch in blocks of rows pass the parity suite with blocks of one row, and of three."""

import pytest

from .covering import eager_cases, full_cases
from .reference import LOSSES
from .reference.batches import Batch, Centres, Taught, TwoTower
from .test_parity import check_loss, loss_function

SEEN_IN_BLOCKS = {
    name: reference
    for name, reference in LOSSES.items()
    if all(isinstance(batch, Batch | TwoTower | Taught | Centres) for batch in reference.batches.values())
}
ROWS = (1, 3)
ON_JAX = ("uneven", "wide", "zero vectors", "against references", "sessions", "ordinary")


def pytest_generate_tests(metafunc):
    if metafunc.function is test_loss_in_blocks:
        full, backend = map(metafunc.config.getoption, ("--full-grid", "--backend"))
        found = cases_on_jax() if backend == "keras-jax" else cases(full, backend)
        metafunc.parametrize(("rows", "name", "point", "batch_name"), found, indirect=["rows"])


def cases_on_jax():
    """A few, for JAX compiles every operation of every shape, which takes seconds."""
    return [
        (rows, name, 0, batch)
        for rows in ROWS
        for name, reference in SEEN_IN_BLOCKS.items()
        for batch in reference.batches
        if batch in ON_JAX
    ]


def cases(full, backend):
    """The full grid with blocks of both sizes. Otherwise the eager cases, those of Keras and Paddle with one size each."""
    found = []
    for name, reference in SEEN_IN_BLOCKS.items():
        numbers = {batch: number for number, batch in enumerate(reference.batches)}
        for point, batch in full_cases(reference) if full else eager_cases(reference):
            for rows in ROWS if full or backend == "pytorch" else [ROWS[(point + numbers[batch]) % 2]]:
                found.append((rows, name, point, batch))
    return found


@pytest.fixture
def rows(request, monkeypatch):
    monkeypatch.setattr("finetuner.tuner.base.losses.blocks.rows_per_block", lambda *_: request.param)
    monkeypatch.setattr("finetuner.tuner.base.losses.blocks.tile_size", lambda *_: request.param)
    loss_function.cache_clear()
    yield request.param
    loss_function.cache_clear()


def test_loss_in_blocks(backend, rows, name, point, batch_name):
    check_loss(backend, name, point, batch_name, "eager")


@pytest.mark.parametrize("rows", [3], indirect=True)
@pytest.mark.parametrize("name", SEEN_IN_BLOCKS)
def test_loss_in_blocks_compiled(backend, rows, name):
    if "traced" not in backend.modes:
        pytest.skip("Keras leaves its torch engine uncompiled")
    check_loss(backend, name, 0, next(iter(LOSSES[name].batches)), "traced")


def test_these_are_all_that_take_blocks(backend):
    assert {"TripletLoss", "NTXentLoss", "SupConLoss", "CLIPLoss", "DistillationLoss"} <= set(SEEN_IN_BLOCKS)


@pytest.mark.parametrize("batch_name", LOSSES["TripletLoss"].batches)
def test_many_positives_are_searched_to_the_same_end(backend, monkeypatch, batch_name):
    if backend.name == "keras":
        pytest.skip("Keras compares however many there are")
    monkeypatch.setattr(f"finetuner.tuner.{backend.name}.kernels.MAX_COMPARISONS", 0)
    for point in range(len(LOSSES["TripletLoss"].grid)):
        check_loss(backend, "TripletLoss", point, batch_name, "eager")
