"""Trainings of Keras on several devices, and in several processes, compared with those on one device.

    XLA_FLAGS=--xla_force_host_platform_device_count=4 KERAS_BACKEND=jax python -m tests.processes.in_keras
    ... python -m tests.processes.in_keras --process 0 --of 2 --port 12345     # and --process 1; 2 devices each
    KERAS_BACKEND=torch torchrun --nproc-per-node 2 -m tests.processes.in_keras

``--plant cut`` lets the model see the rows that fill up a batch, and the check must fail. ``--flops`` prints how much each
device computes, by XLA's own analysis.
"""

import argparse
import contextlib
import os
import sys
import warnings
from pathlib import Path

import keras
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from finetuner import ClassDataset, PairDataset
from finetuner.tuner.keras import KerasTuner, devices, engine
from finetuner.tuner.keras.gradient_cache import GradientCache
from finetuner.tuner.keras.models import TrainingModel

CASES = {
    "triplets": {"loss": "TripletLoss"},
    "mined": {"loss": "TripletLoss", "miner": "TripletEasyHardMiner"},
    "ntxent": {"loss": "NTXentLoss"},
    "supcon": {"loss": "SupConLoss"},
    "arcface": {"loss": "ArcFaceLoss"},
    "siamese": {"loss": "SiameseLoss", "miner": "SiameseEasyHardMiner"},
    "clip": {"loss": "CLIPLoss", "loss_options": {"learnable": True}},
    "ntxent micro": {"loss": "NTXentLoss", "micro": 6},
    "arcface micro": {"loss": "ArcFaceLoss", "micro": 6},
    "clip micro": {"loss": "CLIPLoss", "micro": 6},
    "arcface accumulated": {"loss": "ArcFaceLoss", "accumulate": 2},
}
ON_JAX = keras.backend.backend() == "jax"
TOLERANCE = 1e-5
rng = np.random.default_rng(0)
Y = np.arange(46) % 5
X = (rng.normal(size=(5, 12))[Y] + 0.7 * rng.normal(size=(46, 12))).astype("float32")
BATCHES = [np.arange(24), np.arange(24, 46)]  # the second does not divide by the number of devices


def model(with_norm):
    """A model that adds to the loss. With a norm, its rows depend on each other, and it draws random numbers."""
    keras.utils.set_random_seed(1)
    layers = keras.layers
    norm = [layers.BatchNormalization(), layers.Dropout(0.1, seed=3)] if with_norm else [layers.LayerNormalization()]
    last = layers.Dense(8, activity_regularizer=keras.regularizers.L2(0.01))
    return keras.Sequential([keras.Input((12,)), layers.Dense(16, use_bias=False), *norm, layers.ReLU(), last])


def train(name, processes, count):
    """Weights, state, history and embeddings after two epochs."""
    # A micro-batch of several processes has rows of each of them, so its statistics are others.
    with_norm = ON_JAX and not (count > 1 and "micro" in name)
    options = {"micro": None, "accumulate": 1, **CASES[name]}
    data = PairDataset(X[0::2], X[1::2]) if name.startswith("clip") else ClassDataset(X, Y)
    micro, accumulate = options.pop("micro"), options.pop("accumulate")
    tuner = KerasTuner(model(with_norm), optimizer="Adam", seed=2, callbacks=[], processes=processes, **options)
    run = tuner.fit(
        data,
        eval_data=data if name in ("ntxent", "arcface") else None,
        epochs=2,
        sampler=BATCHES,
        micro_batch_size=micro,
        gradient_accumulation_steps=accumulate,
    )
    variables = [*tuner.embed_model.variables, *getattr(tuner.loss, "variables", [])]
    values = [np.array(keras.ops.convert_to_numpy(one.value), float) for one in variables if "seed" not in one.path]
    rows = [{key: one for key, one in row.items() if "second" not in key} for row in run.history]
    return values, rows, tuner.embed(X)


def differences(expected, found):
    """Of the weights, of the losses, and of the embeddings."""
    weights = max(np.abs(a - b).max() for a, b in zip(expected[0], found[0], strict=True))
    numbers = [abs(a[key] - b[key]) for a, b in zip(expected[1], found[1], strict=True) for key in a if "loss" in key]
    assert [row.keys() for row in expected[1]] == [row.keys() for row in found[1]]
    return weights, max(numbers), np.abs(expected[2] - found[2]).max()


def flops(distribution, rows=2048):
    """How much a device computes in a step of NTXent with one layer, and one device alone."""
    found = []
    for scope in (None, distribution):
        with scope.scope() if scope else contextlib.nullcontext():
            keras.utils.set_random_seed(0)
            tuner = KerasTuner(keras.Sequential([keras.Input((64,)), keras.layers.Dense(64)]), loss="NTXentLoss")
            engine, x = tuner.engine, np.zeros((rows, 64), np.float32)
            engine.begin_training()
            engine.compile_for(x)
            cache = GradientCache(engine.training_model, engine.devices or devices.ONE_DEVICE)
            inputs = engine.devices.put(x, [rows]) if scope else x
            variables = [[one.value for one in group] for group in cache.variables()]
            lowered = cache.differentiate_batch.lower(*variables, inputs, (np.arange(rows) // 4,), np.float32(1))
            found.append(lowered.compile().cost_analysis()["flops"])
    return found


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--process", type=int, default=0)
    parser.add_argument("--of", type=int, default=1)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--only", default="")
    parser.add_argument("--plant", default=None)
    parser.add_argument("--flops", action="store_true")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    if arguments.of > 1:
        import jax

        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        keras.distribution.initialize(f"127.0.0.1:{arguments.port}", arguments.of, arguments.process)
    if arguments.plant == "cut":
        cut_late()
    if not ON_JAX:
        distribution, arguments.process = None, int(os.environ["RANK"])
        place = f"in {os.environ['WORLD_SIZE']} processes"
    else:
        distribution = keras.distribution.DataParallel(devices=keras.distribution.list_devices())
        count = distribution.device_mesh.devices.size
        place = f"on {count} devices of {arguments.of} processes"
    if arguments.flops:
        alone, each = flops(distribution)
        print(
            f"NTXentLoss of 2048 rows: {alone:.3g} flops on one device, {each:.3g} on each of {count}: {each / alone:.3f}"
        )
        sys.exit(each > 0.3 * alone)
    wrong = 0
    for name in CASES:
        if arguments.only and name not in arguments.only.split(","):
            continue
        expected = train(name, False, arguments.of)
        with distribution.scope() if ON_JAX else contextlib.nullcontext():
            found = train(name, "auto", arguments.of)
        weights, losses, embeddings = differences(expected, found)
        bad = not (weights < TOLERANCE and losses < TOLERANCE and embeddings < TOLERANCE)
        wrong += bad
        if arguments.process == 0 or bad:
            print(
                f"{'WRONG ' if bad else ''}{name} {place}: weights off by {weights:.1e},"
                f" losses by {losses:.1e}, embeddings by {embeddings:.1e}",
                flush=True,
            )
    os._exit(bool(wrong)) if arguments.of > 1 and wrong else sys.exit(bool(wrong))


class CutsLate(devices.Devices):
    def cut(self, x):
        return x.array if isinstance(x, devices.Rows) else x


def cut_late():
    """Cut the rows that fill up a batch off the embeddings, so that the model sees them."""
    find, whole = devices.find_devices, TrainingModel.batch_loss
    engine.find_devices = lambda *arguments: CutsLate(find().mesh) if find(*arguments) else None
    TrainingModel.batch_loss = lambda self, targets, made: whole(self, targets, made[: len(targets[0])])


if __name__ == "__main__":
    main()
