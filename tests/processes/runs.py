"""Whole trainings of several processes, compared with that of one, and their ends: errors and signals.

    python -m tests.processes.runs pytorch FOLDER                                  # writes what one process gives
    torchrun --nproc-per-node 2 -m tests.processes.runs pytorch FOLDER             # compares with it
    torchrun --nproc-per-node 2 -m tests.processes.runs pytorch FOLDER --end nan   # how it ends, see ``END``

The trainings have augmentation and, where a framework has worker processes, two of them.
"""

import argparse
import importlib
import json
import os
import signal
import sys
import time
import warnings
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from finetuner import BestModel, Callback, ClassDataset, EarlyStopping, PairDataset
from tests.backends import backend_of

CASES = {
    "triplets": {"loss": "TripletLoss"},
    "mined": {"loss": "TripletLoss", "miner": "TripletEasyHardMiner", "schedule": "cosine", "clip_norm": 0.5},
    "siamese": {"loss": "SiameseLoss", "miner": "SiameseEasyHardMiner"},
    "supcon": {"loss": "SupConLoss", "ema_decay": 0.9},
    "multi": {"loss": "MultiSimilarityLoss", "freeze": {"0|dense": 1}},
    "arcface": {"loss": "ArcFaceLoss", "optimizer": "AdamW"},
    "clip": {"loss": "CLIPLoss", "loss_options": {"learnable": True}},
}
RESUMED = ("mined", "arcface")
END = ("nan", "error", "kill", "interrupt", "stop", "save")
TOLERANCE = 1e-5  # of the weights; a metric may change more, where two distances change places
rng = np.random.default_rng(0)
X = (rng.normal(size=(24, 1, 16)) + 0.7 * rng.normal(size=(24, 11, 16))).reshape(-1, 16).astype("float32")
Y = np.repeat(np.arange(24), 11)


class StopAfter(Callback):
    """Ends a training after two epochs."""

    def on_epoch_end(self, state):
        state.stop = state.epoch == 2


def vary(item, generator):
    return item + 0.1 * generator.normal(size=item.shape).astype(np.float32)


def data_of(name):
    if name == "clip":
        return PairDataset(X[0::2][:131], X[1::2][:131]), None
    return ClassDataset(X, Y, augment=vary), ClassDataset(X, Y)


def train(backend, name, resume=None, callbacks=(), **options):
    """A tuner and its run. Each process begins with weights of its own, as a script without a seed does."""
    rank = int(os.environ.get("RANK", os.environ.get("PADDLE_TRAINER_ID", "0")))
    tuner = backend.Tuner(
        backend.mlp(16, 32, 8, seed=rank), callbacks=[*callbacks], learning_rate=0.01, **(CASES[name] | options)
    )
    train_data, eval_data = data_of(name)
    settings = {"batch_size": 61, "metrics": ["hit@1", "mAP@R"], "num_workers": 2 * (backend.name != "keras")}
    if name != "clip":
        settings["evaluate_every"] = 3
    run = tuner.fit(train_data, eval_data, epochs=3, resume=resume, **settings)
    return tuner, run


def weights(tuner):
    """All weights of the model and of the loss."""
    states = {**tuner.model_state(), **{f"loss {name}": value for name, value in tuner.loss_state().items()}}
    return {name: np.asarray(value) for name, value in states.items()}


def numbers(run):
    """The history without times."""
    return [{key: value for key, value in row.items() if "second" not in key} for row in run.history]


def largest(first, second):
    assert first.keys() == second.keys()
    return max(float(np.abs(value - second[name]).max()) for name, value in first.items())


def write(backend, folder):
    """What a single process gives."""
    folder.mkdir(parents=True)
    for name in CASES:
        tuner, run = train(backend, name)
        np.savez(folder / f"{name}.npz", **weights(tuner))
        (folder / f"{name}.json").write_text(json.dumps(numbers(run)))
    for name in RESUMED:
        train(backend, name, callbacks=[StopAfter()])[0].save(folder / f"{name}-of-1")


def compare(backend, folder, processes):
    """Compare with what a single process has given; go on with what other numbers of processes have saved."""
    for name in CASES:
        expected = dict(np.load(folder / f"{name}.npz"))
        for micro in (None, 16) if name == "mined" else (None,):
            tuner, run = train(backend, name)
            found = weights(tuner)
            everywhere = processes.gather_objects((found, run.history))
            same = all(row == run.history for _, row in everywhere) and all(
                np.array_equal(one[key], found[key]) for one, _ in everywhere for key in found
            )
            off = largest(expected, found)
            rows = json.loads((folder / f"{name}.json").read_text())
            history = max(abs(a[key] - b[key]) for a, b in zip(rows, numbers(run), strict=True) for key in a)
            report(processes, f"{name}, micro-batches {micro}: the same in all {same}, weights off by {off:.1e}, "
                   f"history by {history:.1e}", same and off < TOLERANCE and history < 1e-3)  # fmt: skip
    for name in RESUMED:
        expected = dict(np.load(folder / f"{name}.npz"))
        for saved in sorted(folder.glob(f"{name}-of-*")):
            tuner, _ = train(backend, name, resume=saved)
            off = largest(expected, weights(tuner))
            report(processes, f"{name}: {saved.name} finished, weights off by {off:.1e}", off < TOLERANCE)
        train(backend, name, callbacks=[StopAfter()])[0].save(folder / f"{name}-of-{processes.count}")


def report(processes, text, right):
    if processes.is_first:
        print(f"{processes.count} processes: {text}{'' if right else '  WRONG'}", flush=True)
    if not right:
        sys.exit(1)


def end(backend, folder, how, processes):
    """A training that ends before its time."""
    last = processes.rank == processes.count - 1

    class Act(Callback):
        def on_batch_end(self, state):
            if state.step == 7 and last:
                if how == "kill":
                    os.kill(os.getpid(), signal.SIGKILL)
                if how == "interrupt":
                    os.kill(os.getpid(), signal.SIGINT)
                state.stop = how == "stop"
            if how in ("kill", "interrupt"):
                time.sleep(0.05)

    class Items:
        def __init__(self, x):
            self.x = x

        def __len__(self):
            return len(self.x)

        def __getitem__(self, index):
            if how == "error" and index == 17:
                raise OSError(f"item {index} is broken")
            return self.x[index] * (np.nan if how == "nan" and index == 17 else 1)

    tuner = backend.Tuner(backend.mlp(16, 32, 8), loss="TripletLoss", callbacks=[Act(), EarlyStopping("hit@1"),
                                                                                   BestModel("hit@1")])  # fmt: skip
    run = tuner.fit(ClassDataset(Items(X), Y), ClassDataset(X, Y), epochs=5, batch_size=61, metrics=["hit@1"],
                    checkpoint_folder=folder / "checkpoints", checkpoint_every=2)  # fmt: skip
    steps = processes.gather_objects((run.history[-1]["step"], run.interrupted))
    run.save(folder / "run")
    if processes.is_first:
        print(f"ended after {steps}, files {sorted(path.name for path in folder.iterdir())}", flush=True)
    assert len(set(steps)) == 1


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("backend")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--end", choices=END)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    backend = backend_of(arguments.backend)
    processes = importlib.import_module(f"tests.processes.in_{backend.name}").join_processes()
    if arguments.end:
        end(backend, arguments.folder, arguments.end, processes)
    elif processes.count == 1:
        write(backend, arguments.folder)
    else:
        compare(backend, arguments.folder, processes)


if __name__ == "__main__":
    main()
