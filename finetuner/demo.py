"""A demo: train on images of the digits 0 to 4, and measure retrieval of the unseen digits 5 to 9.

Five classes are few. A network soon learns features that separate only these five. Three measures help:

- Each digit is rotated and mirrored into eight orientations, and each orientation is a class [1].
- Each image is distorted slightly, at random, every time it is used.
- The miner pairs each anchor with its nearest positive, so a class need not become a single point [2].

These measures were selected by training on three of the digits 0 to 4 and evaluating on the other two.

The demo needs scikit-learn, matplotlib and a framework, for example: ``pip install "finetuner[keras,demo]"``.

References:
    [1] Santoro et al., "Meta-learning with memory-augmented neural networks", ICML 2016.

    [2] Xuan et al., "Improved embeddings with easy positive triplet mining", WACV 2020.
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
    """Train on scikit-learn's digits 0 to 4, evaluate on 5 to 9, and save the run and two plots.

    Args:
        backend: The framework, a key of ``BACKENDS``. ``KERAS_BACKEND`` selects the engine of Keras.
        output: A new or empty folder. The run is saved there, with ``history.png`` and ``embeddings.png`` (the unseen
            digits in two dimensions, before and after training).
        epochs: The number of epochs.
        callbacks: The callbacks of the tuner.
        seed: The random seed of weights, batches and plots.

    Returns:
        The run, with its metrics and its history.

    Raises:
        FileExistsError: If ``output`` exists and is not an empty folder.
        ImportError: If a library of the demo, the framework or the engine of Keras is not installed.
        ValueError: If ``backend`` is unknown.
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
    # One tuner and one batch size: JAX compiles for seconds for each tuner and each size.
    panels = {"before": tuner.embed(unseen, batch_size=BATCH)}
    run: Run = tuner.fit(train_data, unseen, epochs=epochs, batch_size=BATCH)
    run.save(output)
    run.plot(Path(output, "history.png"))
    panels["after"] = tuner.embed(unseen, batch_size=BATCH)
    digit_names = unseen.classes[unseen.labels]
    plot_embeddings(panels, digit_names, Path(output, "embeddings.png"), method="tsne", seed=seed)
    return run


def digits() -> tuple[ClassDataset, ClassDataset]:
    """Load the digits: images ``[1, 8, 8]`` with values from 0 to 1.

    Returns:
        Digits 0 to 4 in eight orientations, for training, and unchanged digits 5 to 9, for evaluation.
    """
    from sklearn.datasets import load_digits

    data = load_digits()
    x, y = (data.images[:, None] / 16).astype(np.float32), data.target
    is_seen = y < 5
    oriented = [np.rot90(x[is_seen], quarters, axes=(2, 3)) for quarters in range(4)]
    oriented += [np.flip(images, axis=3) for images in oriented]
    names = [f"{digit} in orientation {orientation}" for orientation in range(8) for digit in y[is_seen]]
    return ClassDataset(np.concatenate(oriented), names, augment=distort), ClassDataset(x[~is_seen], y[~is_seen])


def distort(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rotate, scale, shear and shift an image ``[1, H, W]`` slightly, at random."""
    from scipy.ndimage import affine_transform

    angle, shear, *log_scales = rng.uniform(-1, 1, 4) * (0.26, 0.15, 0.15, 0.15)  # angle in radians
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = rotation @ np.diag(np.exp(log_scales)) @ [[1, shear], [0, 1]]
    centre = (np.array(image.shape[1:]) - 1) / 2
    shift = rng.uniform(-1, 1, 2)  # in pixels
    return np.asarray(affine_transform(image[0], matrix, centre + shift - matrix @ centre, order=1)[None])


# One small convolutional network in each framework. It embeds images [N, 1, 8, 8] as [N, 128].


def pytorch_model(seed: int) -> Any:
    """The network as a ``torch.nn.Module``."""
    import torch
    from torch import nn

    torch.manual_seed(seed)

    def block(channels_in: int, channels_out: int) -> list[Any]:
        return [nn.Conv2d(channels_in, channels_out, 3, padding=1), nn.BatchNorm2d(channels_out), nn.ReLU()]

    features = [*block(1, 32), *block(32, 64), nn.MaxPool2d(2), *block(64, 128)]
    return nn.Sequential(*features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(128))


def keras_model(seed: int) -> Any:
    """The network as a ``keras.Model``. It uses channels last, which every engine supports on a CPU."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(seed)

    def norm() -> Any:
        return layers.BatchNormalization(momentum=0.9, epsilon=1e-5)  # as in PyTorch and Paddle

    def block(channels: int) -> list[Any]:
        return [layers.Conv2D(channels, 3, padding="same"), norm(), layers.ReLU()]

    features = [*block(32), *block(64), layers.MaxPooling2D(), *block(128), layers.GlobalAveragePooling2D(), norm()]
    return keras.Sequential([keras.Input((1, 8, 8)), layers.Permute((2, 3, 1)), *features])


def paddle_model(seed: int) -> Any:
    """The network as a ``paddle.nn.Layer``."""
    import paddle
    from paddle import nn

    paddle.seed(seed)

    def block(channels_in: int, channels_out: int) -> list[Any]:
        return [nn.Conv2D(channels_in, channels_out, 3, padding=1), nn.BatchNorm2D(channels_out), nn.ReLU()]

    features = [*block(1, 32), *block(32, 64), nn.MaxPool2D(2), *block(64, 128)]
    return nn.Sequential(*features, nn.AdaptiveAvgPool2D(1), nn.Flatten(), nn.BatchNorm1D(128))


BACKENDS: dict[str, Callable[[int], Any]] = {"pytorch": pytorch_model, "keras": keras_model, "paddle": paddle_model}
