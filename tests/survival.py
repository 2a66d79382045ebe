"""Kills trainings at random moments, resumes them, and compares the result with a training that was never stopped.

    python -m tests.survival pytorch --kills 60 --terms 20

The training has a schedule, averaged weights, EarlyStopping, BestModel, dropout, a loss with weights, and a worker
process where the framework has them; it saves a checkpoint every two steps. A chain is a training that is stopped up to
three times, by SIGKILL or SIGTERM, and resumed each time. It must end with the bits of the weights and the history of
the training that was never stopped. Exit code 0 if all chains do.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

import numpy as np

from .backends import BACKENDS, backend_of

WIDTH, ITEMS = 256, 240
FIT = {
    "epochs": 4,
    "batch_size": 24,
    "num_items_per_class": 4,
    "metrics": ["mAP@R"],
    "checkpoint_every": 2,
    "evaluate_every": 3,  # within the epochs, and not at the steps of the checkpoints alone
}
STOPS = 3  # of a chain, at most


def data():
    rng = np.random.default_rng(0)
    y = np.arange(ITEMS) // 10
    return (rng.normal(size=(24, 16))[y] + rng.normal(size=(ITEMS, 16))).astype(np.float32), y


def train(backend, folder, note):
    """Train, or go on from the newest checkpoint, and write a digest of the result to the file ``note``."""
    from finetuner.tuner.base import BestModel, EarlyStopping

    tuner = backend.Tuner(
        backend.mlp(16, WIDTH, WIDTH, 32, dropout=0.2),
        loss="ArcFaceLoss",
        optimizer="AdamW",
        schedule="cosine",
        warmup=0.1,
        clip_norm=1.0,
        ema_decay=0.9,
        callbacks=[BestModel("mAP@R"), EarlyStopping("mAP@R", patience=6)],
    )
    checkpoints = folder / "checkpoints"
    has_one = checkpoints.exists() and any(path.name.startswith("step-") for path in checkpoints.iterdir())
    workers = {"pytorch": 1, "paddle": 1}.get(backend.name, 0)
    (folder / "started").touch()
    run = tuner.fit(
        data(),
        data(),
        checkpoint_folder=checkpoints,
        resume=checkpoints if has_one else None,
        num_workers=workers,
        **FIT,
    )
    if run.interrupted:
        path = checkpoints / f"step-{tuner.step}"
        if not path.exists():
            run.save(path)
        return
    digest = hashlib.sha256()
    for state in (tuner.model_state(), tuner.loss_state()):
        for name, value in sorted(state.items()):
            digest.update(name.encode() + np.ascontiguousarray(np.asarray(value)).tobytes())
    history = [{name: value for name, value in row.items() if "second" not in name} for row in run.history]
    note.write_text(json.dumps([digest.hexdigest(), history, run.metrics]))


def start(backend, folder, note):
    """Run :func:`train` in a forked process."""
    for file in (note, folder / "started"):
        file.unlink(missing_ok=True)
    process = os.fork()
    if process == 0:
        code = 1
        try:
            train(backend, folder, note)
            code = 0
        except BaseException:
            (folder / "error.txt").write_text(traceback.format_exc())
        finally:
            os._exit(code)
    return process


def stop_at_random(process, number, seconds, rng):
    """Send a signal at a random moment, and wait. Returns whether the process was running then, and how it ended."""
    until = time.time() + rng.random() * seconds
    while time.time() < until:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return False, status
        time.sleep(0.001)
    os.kill(process, number)
    return True, os.waitpid(process, 0)[1]


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("backend", choices=BACKENDS)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--terms", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    backend, rng = backend_of(arguments.backend), random.Random(arguments.seed)
    base = Path(tempfile.mkdtemp())
    note = base / "note.json"
    whole = base / "whole"
    whole.mkdir()
    began = time.time()
    _, status = os.waitpid(start(backend, whole, note), 0)
    if status:
        sys.exit((whole / "error.txt").read_text())
    seconds, expected = time.time() - began, json.loads(note.read_text())
    print(
        f"{arguments.backend}: never stopped {expected[0][:12]}, {len(expected[1])} rows, {seconds:.1f} s", flush=True
    )
    left = {signal.SIGKILL: arguments.kills, signal.SIGTERM: arguments.terms}
    done, chains, same, unfinished = dict.fromkeys(left, 0), 0, 0, 0
    while any(done[number] < left[number] for number in left):
        folder = base / "chain"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        stops, status = [], None
        while True:
            process = start(backend, folder, note)
            wanted = [number for number in left if done[number] < left[number]]
            if len(stops) == STOPS or not wanted:
                status = os.waitpid(process, 0)[1]
                break
            number = rng.choice(wanted)
            sent, status = stop_at_random(process, number, seconds, rng)
            if sent:
                done[number] += 1
                stops.append(number.name)
            if note.exists():
                break
            if (folder / "error.txt").exists():
                break
        got = json.loads(note.read_text()) if note.exists() else None
        chains, same = chains + 1, same + (got == expected)
        if (folder / "checkpoints").exists():
            unfinished += sum(path.name.endswith(".unfinished") for path in (folder / "checkpoints").iterdir())
        if got != expected:
            error = (folder / "error.txt").read_text() if (folder / "error.txt").exists() else ""
            print("  different after", ", ".join(stops), status, error, flush=True)
    shutil.rmtree(base)
    print(
        f"{arguments.backend}: {done[signal.SIGKILL]} x SIGKILL, {done[signal.SIGTERM]} x SIGTERM, {chains} chains, "
        f"{same} with the same bits and history, {unfinished} unfinished folders left, {time.time() - began:.0f} s",
        flush=True,
    )
    sys.exit(same != chains)


if __name__ == "__main__":
    main()
