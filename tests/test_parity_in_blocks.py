"""The losses that take a batch in blocks of rows pass the parity suite with blocks of one row, and of three."""

import pytest

from .covering import full_cases
from .reference import LOSSES
from .reference.batches import Batch, Taught, TwoTower
from .test_parity import cases_by_mode, check_loss, loss_function

SEEN_IN_BLOCKS = {
    name: reference
    for name, reference in LOSSES.items()
    if all(isinstance(batch, Batch | TwoTower | Taught) for batch in reference.batches.values())
}
ON_JAX = ("uneven", "wide", "zero vectors", "against references", "sessions", "ordinary")  # each shape takes seconds


def pytest_generate_tests(metafunc):
    if metafunc.function is test_loss_in_blocks:
        full, backend = (metafunc.config.getoption(option) for option in ("--full-grid", "--backend"))
        metafunc.parametrize(("name", "point", "batch_name"), cases(full, backend))


def cases(full, backend):
    if backend == "keras-jax":
        return [(name, 0, batch) for name, r in SEEN_IN_BLOCKS.items() for batch in r.batches if batch in ON_JAX]
    return [
        (name, point, batch)
        for name, reference in SEEN_IN_BLOCKS.items()
        for point, batch in full_cases(reference)
        if (point, batch) in cases_by_mode(reference, full, backend)[0]
    ]


@pytest.fixture(scope="module", params=[1, 3])
def rows(request):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("finetuner.tuner.base.losses.blocks.rows_per_block", lambda *_: request.param)
        loss_function.cache_clear()
        yield request.param
    loss_function.cache_clear()


def test_loss_in_blocks(backend, rows, name, point, batch_name):
    check_loss(backend, name, point, batch_name, "eager")


@pytest.mark.parametrize("name", SEEN_IN_BLOCKS)
def test_loss_in_blocks_compiled(backend, rows, name):
    if "traced" not in backend.modes:
        pytest.skip("Keras leaves its torch engine uncompiled")
    if rows > 1:
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
