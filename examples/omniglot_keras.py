"""Omniglot: learn what makes two drawings the same character, then retrieve alphabets never seen.

A small convolutional network is trained on the characters of Greek, Latin and Balinese. Then each drawing
of the Korean and the Early Aramaic letters looks for its like among all of them:

    python examples/omniglot_keras.py                 # one loss, a minute or two
    python examples/omniglot_keras.py --loss triplet triplet-mined siamese ntxent --seed 0 1 2

It needs ``pip install "finetuner[keras,data]"``. The network serves the command line as well, by ``finetuner fit
--model examples/omniglot_keras.py:model``, and so does ``--preprocess examples/omniglot_keras.py:ink``.
"""

import argparse
import os
import time
from pathlib import Path

import keras
import numpy as np
from keras import layers
from PIL import Image

import finetuner
from finetuner.data.reading import load

DATA = Path(os.environ.get("FINETUNER_DATA", Path(__file__).parents[2] / "shared" / "data"))
RANDOM = {"num_items_per_class": None}  # an item meets the centres of all classes, so batches need not bring its like
LOSSES = {
    "triplet": {"loss": "TripletLoss", "loss_options": {"margin": 0.5}},
    "triplet-mined": {
        "loss": "TripletLoss",
        "loss_options": {"margin": 0.2},
        "miner": "TripletEasyHardMiner",
        "miner_options": {"pos_strategy": "easy", "neg_strategy": "semihard"},
    },
    "siamese": {"loss": "SiameseLoss", "loss_options": {"margin": 0.2}},
    "ntxent": {"loss": "NTXentLoss", "loss_options": {"temperature": 0.1}},
    "supcon": {"loss": "SupConLoss", "loss_options": {"temperature": 0.1}},
    "multi-similarity": {"loss": "MultiSimilarityLoss"},
    "surrogate-precision": {"loss": "SurrogatePrecision", "loss_options": {"k": 3, "temperature2": 0.01}},
    "arcface": {"loss": "ArcFaceLoss", "loss_options": {"scale": 8, "margin": 0.2}, **RANDOM},
    "cosface": {"loss": "CosFaceLoss", "loss_options": {"scale": 8, "margin": 0.35}, **RANDOM},
}


def model(seed=None):
    """The field's Conv-4: four blocks of 64 channels, and an embedding of 64."""
    if seed is not None:  # the command line seeds by itself
        keras.utils.set_random_seed(seed)

    drawn = {"kernel_initializer": keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")}  # as by PyTorch

    def block():
        norm = layers.BatchNormalization(momentum=0.9, epsilon=1e-5)  # 0.99, the default, is too slow for 120 steps
        return [layers.Conv2D(64, 3, padding="same", **drawn), norm, layers.ReLU(), layers.MaxPooling2D(2)]

    pages = [keras.Input((1, 28, 28)), layers.Permute((2, 3, 1))]
    blocks = [layer for _ in range(4) for layer in block()]
    return keras.Sequential([*pages, *blocks, layers.Flatten(), layers.Dense(64, **drawn)])


def ink(image):
    """Black on white as ink on nothing."""
    return 1 - image


def redrawn(image, rng):
    """The drawing turned, stretched, slanted and moved a little, as another hand might have drawn it."""
    page = Image.fromarray(image.squeeze())
    middle = np.array(page.size) / 2
    slant = np.eye(2) + rng.uniform(-0.3, 0.3, (2, 2))
    move = middle - slant @ middle + rng.uniform(-3, 3, 2)
    where = np.column_stack([slant, move]).ravel()
    page = page.transform(page.size, Image.Transform.AFFINE, where, Image.Resampling.BILINEAR, fillcolor=1)
    return np.asarray(page).reshape(image.shape)


def drawings(path, alphabets):
    classes = [f"{alphabet}/*" for alphabet in alphabets]
    return load(path, classes=classes, image_mode="L", image_size=28, in_memory=True)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, default=DATA / "omniglot" / "images_background_small1.zip")
    parser.add_argument("--train", nargs="+", default=["Greek", "Latin", "Balinese"], help="alphabets")
    parser.add_argument("--test", nargs="+", default=["Korean", "Early_Aramaic"], help="alphabets")
    parser.add_argument("--loss", nargs="+", choices=LOSSES, default=["ntxent"])
    parser.add_argument("--seed", nargs="+", type=int, default=[0])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=256)
    options = parser.parse_args(arguments)

    train, test = drawings(options.data, options.train), drawings(options.data, options.test)
    train.augment = redrawn
    print(f"{'':27}  hit@1 before   after  mAP@R before   after  seconds")
    for name in options.loss:
        for seed in options.seed:
            started = time.perf_counter()
            run = finetuner.fit(
                model(seed),
                train,
                test,
                **({"num_items_per_class": 4} | LOSSES[name]),
                seed=seed,
                epochs=options.epochs,
                batch_size=options.batch_size,
                preprocess_fn=ink,
                metrics=["hit@1", "mAP@R"],
            )
            before, after = run.metrics["before"], run.metrics["after"]
            scores = "  ".join(f"{before[m]:12.3f}  {after[m]:6.3f}" for m in ("hit@1", "mAP@R"))
            print(f"{name:20} seed {seed:<2}  {scores}  {time.perf_counter() - started:7.0f}", flush=True)


if __name__ == "__main__":
    main()
