"""The main job on an embedded default: learn from the digits 0 to 4 what makes a digit, and find 5 to 9 by it.

Five classes are too few to learn from: a network soon keeps nothing but what tells these five apart. So
each digit is shown in eight positions, turned and mirrored, each a class of its own (Santoro et al.,
"Meta-learning with memory-augmented neural networks", ICML 2016), and each time bent a little; and a triplet
asks of a class only that an item be near its nearest neighbour there, so that a class need not become one
point (Xuan et al., "Improved embeddings with easy positive triplet mining", WACV 2020). This was chosen by
training on three of the digits 0 to 4 and looking at the two others.

It needs scikit-learn and matplotlib beside the framework: ``pip install "finetuner[keras,demo]"``, for one.
"""

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .checks import one_of
from .files import check_new_folder
from .tuner import load_subpackage
from .tuner.base import Callback, ClassDataset, Run

__all__ = ["BACKENDS", "run_demo"]

BATCH = 160


def run_demo(
    backend: str = "pytorch",
    output: str | Path = "demo",
    *,
    epochs: int = 5,
    callbacks: Sequence[Callback] | None = None,
    seed: int = 0,
) -> Run:
    """Train on scikit-learn's digits 0 to 4, judge by 5 to 9, and write the run and two pictures.

    Args:
        backend: the framework, a key of ``BACKENDS``; Keras runs on the engine that ``KERAS_BACKEND`` names.
        output: a new or empty folder for the run, ``history.png`` and ``embeddings.png``: the unseen digits
            in two dimensions, before and after.
        epochs: how many to train.
        callbacks: as for a tuner.
        seed: of weights, batches and pictures.

    Raises:
        FileExistsError: if ``output`` exists and holds something.
        ImportError: if a library of the demo is not installed, or the framework, or Keras' engine.
        ValueError: if there is no such backend.
    """
    one_of("backend", backend, tuple(BACKENDS))
    check_new_folder(output)
    for module, library in (("sklearn.datasets", "scikit-learn"), ("matplotlib.figure", "matplotlib")):
        try:
            importlib.import_module(module)
        except ModuleNotFoundError:
            raise ImportError(f'the demo needs {library}: pip install "finetuner[demo]"') from None
    tuner_class = load_subpackage(backend).Tuner

    from .plotting import plot_embeddings

    train_data, unseen = digits()
    tuner = tuner_class(
        BACKENDS[backend](seed),
        loss="TripletLoss",
        loss_options={"margin": 0.1},
        miner="TripletEasyHardMiner",
        miner_options={"pos_strategy": "easy", "neg_strategy": "semihard"},
        callbacks=callbacks,
        seed=seed,
    )
    # By one tuner and in batches of one size, since JAX compiles anew, for seconds, for each.
    panels = {"before": tuner.embed(unseen, batch_size=BATCH)}
    run: Run = tuner.fit(train_data, unseen, epochs=epochs, batch_size=BATCH)
    run.save(output)
    run.plot(Path(output, "history.png"))
    panels["after"] = tuner.embed(unseen, batch_size=BATCH)
    digit = unseen.classes[unseen.labels]
    plot_embeddings(panels, digit, Path(output, "embeddings.png"), method="tsne", seed=seed)
    return run


def digits() -> tuple[ClassDataset, ClassDataset]:
    """Digits 0 to 4 in eight positions, and 5 to 9 as they are: images ``[1, 8, 8]`` with values in 0..1."""
    from sklearn.datasets import load_digits

    data = load_digits()
    x, y = (data.images[:, None] / 16).astype(np.float32), data.target
    seen = y < 5
    turned = [np.rot90(x[seen], quarters, axes=(2, 3)) for quarters in range(4)]
    turned += [np.flip(images, axis=3) for images in turned]
    names = [f"{digit} in position {position}" for position in range(8) for digit in y[seen]]
    return ClassDataset(np.concatenate(turned), names, augment=bent), ClassDataset(x[~seen], y[~seen])


def bent(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An image ``[1, H, W]``, turned, stretched, slanted and shifted a little, at random."""
    from scipy.ndimage import affine_transform  # type: ignore[import-untyped]

    angle, slant, *scales = rng.uniform(-1, 1, 4) * (0.26, 0.15, 0.15, 0.15)  # radians, slope, logarithms
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = turn @ np.diag(np.exp(scales)) @ [[1, slant], [0, 1]]
    centre = (np.array(image.shape[1:]) - 1) / 2
    shift = rng.uniform(-1, 1, 2)  # pixels
    return np.asarray(affine_transform(image[0], matrix, centre + shift - matrix @ centre, order=1)[None])


# The same small convolutional network in each framework: images ``[N, 1, 8, 8]`` to embeddings ``[N, 128]``.


def pytorch_model(seed: int) -> Any:
    """In PyTorch, a ``torch.nn.Module``."""
    import torch
    from torch import nn

    torch.manual_seed(seed)

    def block(channels_in: int, channels_out: int) -> list[Any]:
        return [nn.Conv2d(channels_in, channels_out, 3, padding=1), nn.BatchNorm2d(channels_out), nn.ReLU()]

    features = [*block(1, 32), *block(32, 64), nn.MaxPool2d(2), *block(64, 128)]
    return nn.Sequential(*features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(128))


def keras_model(seed: int) -> Any:
    """In Keras, a ``keras.Model``; it puts the channels last, where all engines can have them on a CPU."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(seed)

    def norm() -> Any:
        return layers.BatchNormalization(momentum=0.9, epsilon=1e-5)  # as the others have it: Keras' momentum is 0.99

    def block(channels: int) -> list[Any]:
        return [layers.Conv2D(channels, 3, padding="same"), norm(), layers.ReLU()]

    features = [*block(32), *block(64), layers.MaxPooling2D(), *block(128), layers.GlobalAveragePooling2D(), norm()]
    return keras.Sequential([keras.Input((1, 8, 8)), layers.Permute((2, 3, 1)), *features])


def paddle_model(seed: int) -> Any:
    """In Paddle, a ``paddle.nn.Layer``."""
    import paddle
    from paddle import nn

    paddle.seed(seed)

    def block(channels_in: int, channels_out: int) -> list[Any]:
        return [nn.Conv2D(channels_in, channels_out, 3, padding=1), nn.BatchNorm2D(channels_out), nn.ReLU()]

    features = [*block(1, 32), *block(32, 64), nn.MaxPool2D(2), *block(64, 128)]
    return nn.Sequential(*features, nn.AdaptiveAvgPool2D(1), nn.Flatten(), nn.BatchNorm1D(128))


# A framework more is a function more.
BACKENDS: dict[str, Callable[[int], Any]] = {"pytorch": pytorch_model, "keras": keras_model, "paddle": paddle_model}
