"""Omniglot: train on the characters of some alphabets, then retrieve characters of other alphabets.

A small convolutional network is trained on Greek, Latin and Balinese characters. The evaluation searches, for each
drawing of a Korean or Early Aramaic character, the nearest other drawings of these two alphabets:

    python examples/omniglot_keras.py --data images_background_small1.zip      # one loss, about a minute
    python examples/omniglot_keras.py --data images_background_small1.zip --loss triplet ntxent --seed 0 1 2

The file is available at https://github.com/brendenlake/omniglot. Install ``pip install "finetuner[keras,data]"``.
The command line can use the same functions: ``finetuner fit --model examples/omniglot_keras.py:model --preprocess
examples/omniglot_keras.py:invert``.
"""

import argparse
import time
from pathlib import Path

import keras
import numpy as np
from keras import layers
from PIL import Image

import finetuner
from finetuner.data import load

RANDOM = {"num_items_per_class": None}  # class centres need no positives in the batch
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
    """Conv-4: four blocks with 64 channels, and embeddings with 64 dimensions."""
    if seed is not None:  # the command line sets the seed itself
        keras.utils.set_random_seed(seed)

    init = {"kernel_initializer": keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")}  # PyTorch's default

    def block():
        norm = layers.BatchNormalization(momentum=0.9, epsilon=1e-5)  # the default, 0.99, is too slow for 120 steps
        return [layers.Conv2D(64, 3, padding="same", **init), norm, layers.ReLU(), layers.MaxPooling2D(2)]

    inputs = [keras.Input((1, 28, 28)), layers.Permute((2, 3, 1))]
    blocks = [layer for _ in range(4) for layer in block()]
    return keras.Sequential([*inputs, *blocks, layers.Flatten(), layers.Dense(64, **init)])


def invert(image):
    """Invert the image: strokes become 1, and the background 0."""
    return 1 - image


def random_affine(drawing, rng):
    """Rotate, scale, shear and shift the drawing slightly, as an augmentation. It is an image of Pillow."""
    center = np.array(drawing.size) / 2
    matrix = np.eye(2) + rng.uniform(-0.3, 0.3, (2, 2))
    shift = center - matrix @ center + rng.uniform(-3, 3, 2)
    affine = np.column_stack([matrix, shift]).ravel()
    return drawing.transform(drawing.size, Image.Transform.AFFINE, affine, Image.Resampling.BILINEAR, fillcolor=255)


def load_alphabets(path, alphabets):
    classes = [f"{alphabet}/*" for alphabet in alphabets]
    return load(path, classes=classes, image_mode="L", image_size=28, in_memory=True)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        help="folder or .zip of Omniglot: one folder per alphabet, and in it one folder of images per character",
    )
    parser.add_argument("--train", nargs="+", default=["Greek", "Latin", "Balinese"], help="alphabets to train on")
    parser.add_argument("--test", nargs="+", default=["Korean", "Early_Aramaic"], help="alphabets to evaluate on")
    parser.add_argument("--loss", nargs="+", choices=LOSSES, default=["ntxent"], help="losses to compare")
    parser.add_argument("--seed", nargs="+", type=int, default=[0], help="one run per loss and seed")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=256)
    options = parser.parse_args(arguments)

    train, test = load_alphabets(options.data, options.train), load_alphabets(options.data, options.test)
    train.augment = random_affine
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
                preprocess_fn=invert,
                metrics=["hit@1", "mAP@R"],
            )
            before, after = run.metrics["before"], run.metrics["after"]
            scores = "  ".join(f"{before[m]:12.3f}  {after[m]:6.3f}" for m in ("hit@1", "mAP@R"))
            print(f"{name:20} seed {seed:<2}  {scores}  {time.perf_counter() - started:7.0f}", flush=True)


if __name__ == "__main__":
    main()
