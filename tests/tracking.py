"""A short training for the tests of trackers, what its rows say, and a reader of the files of wandb."""

import json
import math
import time

from finetuner.tuner.base import Callback

from .toy import TEST, TRAIN, make_tuner

FIT = {
    "epochs": 2,
    "batch_size": 12,
    "num_items_per_class": 3,  # 4 batches in an epoch
    "log_every": 2,
    "evaluate_every": 3,
    "metrics": ["hit@1"],
}
TRAIN_NUMBERS = ["train/loss", "train/learning_rate", "train/gradient_norm", "train/items_per_second"]
EVAL_NUMBERS = ["eval/val_loss", "eval/hit@1"]


class Raise(Callback):
    """Raises an error after a step."""

    def __init__(self, step, error):
        self.step, self.error = step, error

    def on_batch_end(self, state):
        if state.step == self.step:
            raise self.error


class NotFinite(Callback):
    """Writes NaN and infinite numbers into the rows. Goes before a tracker."""

    def on_log(self, state):
        state.log[-1]["gradient_norm"] = {2: math.nan, 4: math.inf, 6: -math.inf}.get(state.step, 1.0)

    def on_evaluation_end(self, state):
        state.history[-1]["val_loss"] = math.nan


def fit(backend, *callbacks, evaluation=TEST, **options):
    tuner = make_tuner(backend, callbacks, loss_options=options.pop("loss_options", None))
    return tuner.fit(TRAIN, evaluation, **{**FIT, **options})


def expected(run, name):
    """The steps and values of a number, by the rows of the run."""
    prefix, _, key = name.partition("/")
    rows = run.log if prefix == "train" else run.history
    return [(row["step"], row[key]) for row in rows if key in row]


def records(path):
    """The records of a file of wandb: a log of LevelDB, whose blocks of 32 KiB begin with a head of 7 bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, place, part = path.read_bytes(), 7, b""
    while place + 7 <= len(data):
        if place % 32768 > 32768 - 7:  # no room for the head of a record
            place += 32768 - place % 32768
            continue
        size, kind = int.from_bytes(data[place + 4 : place + 6], "little"), data[place + 6]
        if place + 7 + size > len(data):  # being written
            return
        part += data[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):  # a whole record, or its last part
            yield Record.FromString(part)
            part = b""


def wandb_runs(folder):
    """The runs in a folder, in their order: id, rows of the history, configuration, and exit code."""
    for path in sorted(folder.glob("wandb/offline-run-*/*.wandb")):
        found, end = [], time.monotonic() + 20
        while time.monotonic() < end and not any(kind == "exit" for kind, _ in found):  # another process writes it
            found = [(record.WhichOneof("record_type"), record) for record in records(path)]
        rows = [
            {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
            for kind, record in found
            if kind == "history"
        ]
        updates = [item for kind, record in found if kind == "config" for item in record.config.update]
        config = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in updates}
        codes = [record.exit.exit_code for kind, record in found if kind == "exit"]
        yield path.stem.removeprefix("run-"), rows, config, codes
