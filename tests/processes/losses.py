"""Value and gradients of every loss on several processes, compared with those of one process.

    torchrun --nproc-per-node 2 -m tests.processes.losses pytorch
    python -m paddle.distributed.launch --nproc_per_node 2 tests/processes/losses.py paddle

``--plant NAME`` breaks one thing, and the check must fail: ``scale`` leaves out the factor of averaged gradients,
``backward`` the sum of the gradients of tiles, ``forward`` the sum of what the tiles give, ``model`` the mean of the
gradients of the model, and ``centres`` takes the sum of those of the loss's weights in place of their mean.
"""

import argparse
import importlib
import sys
import warnings
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from finetuner import (
    ClassDataset,
    InstanceDataset,
    PairDataset,
    RankingDataset,
    SessionDataset,
    TargetDataset,
    TripletDataset,
)
from finetuner.tuner.base import losses
from finetuner.tuner.base.data.batches import Batches
from finetuner.tuner.base.data.conversion import as_dataset
from finetuner.tuner.base.processes import ALONE
from finetuner.tuner.base.training.engine import StepResult
from tests.backends import backend_of

D, WIDTH, CLASSES = 16, 8, 12
TOLERANCE = 1e-6  # of the value, and of the norm of all gradients
MINERS = [("hard", "hard"), ("easy", "hard"), ("hard", "semihard"), ("all", "hard"), ("semihard", "hard")]


def noisy(item, rng):
    return item + 0.1 * rng.normal(size=item.shape).astype(np.float32)


def dataset(kind, rows):
    """Data of a kind with about ``rows`` rows."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, D)).astype(np.float32)
    other = rng.normal(size=(rows, D)).astype(np.float32)
    half, third = rows // 2, rows // 3
    labels = rng.integers(0, CLASSES, rows)
    if rows > CLASSES:  # else the gradients of many triplets nearly cancel
        x = 0.5 * x + rng.normal(size=(CLASSES, D)).astype(np.float32)[labels]
    return {
        "relations": lambda: ClassDataset(x, labels),
        "classes": lambda: ClassDataset(x, np.arange(rows) % CLASSES),
        "pairs": lambda: PairDataset(x[:half], other[:half]),
        "scores": lambda: PairDataset(x[:half], other[:half], np.linspace(0, 1, half)),
        "vectors": lambda: TargetDataset(x, other[:, :5]),
        "relevance": lambda: RankingDataset(x, np.arange(rows) % 4, np.arange(rows) // 6),
        "views": lambda: InstanceDataset(x[:half], noisy),
        "sessions": lambda: SessionDataset(x, np.arange(rows) // 4, np.tile([0, 1, -1, -1], rows // 4 + 1)[:rows]),
        "triplets": lambda: TripletDataset(x[:third], other[:third], x[::-1][:third].copy()),
        "sets": lambda: ClassDataset(x, [{i % 5, i % 7} for i in range(rows)]),
        "values": lambda: TargetDataset(x, other[:, :4]),
    }[kind]()


def cases(backend):
    """Name, loss, kind of data, and options of the tuner."""
    for name in losses.__all__:
        cls = getattr(losses, name)
        if name in ("Loss", "WeightedLoss") or not hasattr(backend.losses, name):
            continue
        yield name, name, cls.target_type, {}
    for pos, neg in MINERS:
        options = {"pos_strategy": pos, "neg_strategy": neg, "margin": 0.3 if "semihard" in (pos, neg) else None}
        yield f"TripletLoss {pos} {neg}", "TripletLoss", "relations", {
            "miner": "TripletEasyHardMiner", "miner_options": options}  # fmt: skip
    yield "SiameseLoss mined", "SiameseLoss", "relations", {"miner": "SiameseEasyHardMiner"}
    soft = {"margin": None, "reduction": "sum"}
    yield "TripletLoss soft", "TripletLoss", "relations", {"loss_options": soft}
    yield "TripletLoss nonzero", "TripletLoss", "relations", {
        "loss_options": {"distance": "euclidean", "margin": 0.5, "reduction": "nonzero_mean"}}  # fmt: skip
    yield "NTXentLoss cold", "NTXentLoss", "relations", {"loss_options": {"temperature": 0.01}}
    yield "CLIPLoss learnable", "CLIPLoss", "pairs", {"loss_options": {"learnable": True}}
    yield "TripletLoss dims", "TripletLoss", "relations", {"dims": (WIDTH, 3)}
    yield "two losses", {"NTXentLoss": 1.0, "TripletLoss": 0.5}, "relations", {}
    for kind in ("sessions", "sets", "views", "triplets", "pairs"):
        yield f"NTXentLoss {kind}", "NTXentLoss", kind, {}
    yield "TripletLoss sessions", "TripletLoss", "sessions", {}
    yield "SiameseLoss sessions", "SiameseLoss", "sessions", {}
    yield "mse", backend.native["mse"][0], "values", {"loss_options": backend.native["mse"][1]}


def step(backend, case, rows, micro, processes):
    """Value and gradients of a step, of model and loss."""
    _, loss, kind, options = case
    data = as_dataset(dataset(kind, rows))
    width = 1 if kind == "relevance" else 4 if kind == "values" else CLASSES if loss == "FocalLoss" else WIDTH
    tuner = backend.Tuner(
        backend.mlp(D, 32, width), loss=loss, optimizer="SGD", callbacks=[], processes=processes, **options
    )
    engine, setup = tuner.engine, tuner.training.setup
    data = setup.dataset_for_loss(data)
    tuner.training.setup_loss(data)
    indices = np.arange(data.num_rows)
    batch = Batches(data, [indices], seed=(0, 0), target_type=setup.target_type, processes=engine.processes)[0]
    found = {}

    def update(value):
        if engine.processes.count > 1:
            engine.merge()
        found["gradients"] = backend.part.gradients(tuner)
        engine.undo_step()
        return StepResult(value, None)

    engine.update, engine.micro_batch_size = update, micro
    engine.begin_training()
    engine.begin_epoch(0)
    engine.seed_step(7)
    result = engine.step(batch.inputs, batch.targets, True, batch.rows_per_item)
    return engine.to_floats([result.loss])[0], found["gradients"]


def own_loop(backend, case, rows, processes):
    """Value and gradients of a loop of the user's own, in which each process has its own part of the batch."""
    _, loss, kind, options = case
    data = as_dataset(dataset(kind, rows))
    tuner = backend.Tuner(
        backend.mlp(D, 32, CLASSES if loss == "FocalLoss" else WIDTH),
        loss=loss,
        optimizer="SGD",
        callbacks=[],
        processes=False,
        **options,
    )
    data = tuner.training.setup.dataset_for_loss(data)
    tuner.training.setup_loss(data)
    batch = Batches(data, [np.arange(data.num_rows)], target_type=tuner.training.setup.target_type)[0]
    own = processes.slices(data.num_rows, batch.rows_per_item)[processes.rank]
    return backend.part.own_loop(tuner, processes, batch.inputs, batch.targets, own)


def difference(expected, found):
    """The relative difference of the values, and of the gradients of all weights."""
    value = abs(expected[0] - found[0]) / max(abs(expected[0]), 1e-3)
    assert expected[1].keys() == found[1].keys()
    off = sum(np.square(found[1][name] - gradient).sum() for name, gradient in expected[1].items())
    norm = sum(np.square(gradient).sum() for gradient in expected[1].values())
    return value, float(np.sqrt(off / max(norm, 1e-6)))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("backend")
    parser.add_argument("--plant", default=None)
    parser.add_argument("--only", default="")
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    backend = backend_of(arguments.backend)
    backend.part = importlib.import_module(f"tests.processes.in_{backend.name}")
    processes = backend.part.join_processes()
    if arguments.plant:
        backend.part.plant(arguments.plant)
    sizes = [(90, None, ""), (92, None, "uneven"), (90, 7, "micro-batches"), (1300, None, "tiles")]
    counts, wrong, worst = {}, [], 0.0
    for case in cases(backend):
        if arguments.only not in case[0]:
            continue
        few = (processes.count - 1) * (2 if case[2] == "scores" else 1)  # fewer items than processes
        for rows, micro, how in [*sizes, (few, None, "own loop, few"), (90, None, "own loop")]:
            if arguments.quick and how in ("uneven", "own loop"):
                continue
            if how.startswith("own loop"):
                if (
                    case[2] not in ("relations", "classes", "scores")
                    or not isinstance(case[1], str)
                    or "dims" in case[3]
                ):
                    continue
                if "few" in how and case[1] == "ArcFaceLossWithMLP":
                    continue  # its batch norm needs more rows
                expected = own_loop(backend, case, rows, ALONE)
                found = own_loop(backend, case, rows, processes)
            else:
                expected = step(backend, case, rows, micro, False)
                found = step(backend, case, rows, micro, "auto")
            off = difference(expected, found)
            off = max(processes.gather_objects(off))
            worst = max(worst, *off)
            counts[how] = counts.get(how, 0) + 1
            if not max(off) < TOLERANCE:
                wrong.append(f"{case[0]}, {rows} rows {how}: value off by {off[0]:.1e}, gradient by {off[1]:.1e}")
    if processes.is_first:
        print("\n".join(wrong))
        told = ", ".join(f"{count} {how or 'plain'}" for how, count in counts.items())
        print(
            f"{processes.count} processes: {sum(counts.values())} cases ({told}), {len(wrong)} wrong, worst {worst:.1e}"
        )
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
