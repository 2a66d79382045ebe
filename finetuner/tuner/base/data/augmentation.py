r"""Functions that vary an item: each gets an image in the form that its library expects.

Image libraries differ in what they take. Given something else, some of them do nothing, and others flip the wrong axis,
without an error. A function is recognized by the module of its class, and gets its own form:

==================  ==========================================  =============================================
library             image from a file (``ImageFiles``)          array ``[C, H, W]`` or ``[H, W, C]``
==================  ==========================================  =============================================
torchvision         image of Pillow                             tensor ``[C, H, W]``
albumentations      uint8 ``[H, W, C]``, as ``image=``          the array as ``[H, W, C]``, as ``image=``
paddle.vision       image of Pillow                             the array as ``[H, W, C]``
Keras layer         float32 ``[H, W, C]`` from 0 to 1           the array as ``[H, W, C]``
any other function  image of Pillow                             the array as it is
==================  ==========================================  =============================================

A grey image with 16 bits per pixel comes as Pillow's mode ``"F"``, or float32, with values from 0 to 1.

For an image from a file, the function may return an image of Pillow or a uint8 array ``[H, W, C]``, which are then
converted to float32 from 0 to 1 in the layout of the data. Or it returns a floating-point array or tensor, which is
final: ``[C, H, W]`` from torchvision, ``[H, W, C]`` from albumentations, and otherwise the layout of the data. For an
array, the result is brought back to the layout of the array.
"""

import functools
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from ....arrays import as_list, take, takes_two_arguments
from ....containers import from_container, kind_of
from .seeding import ItemGenerator, framework_in_use, item_seeds, keep_generators, seed_generators

__all__ = ["ImageFunction", "apply_to_item", "augmented_items", "library_of", "vary_image"]

ImageFunction = Callable[..., Any]

CHANNELS = (1, 3, 4)
LIBRARIES = {
    "torchvision": "torchvision",
    "albumentations": "albumentations",
    "paddle.vision": "paddle.vision",
    "keras": "Keras",
    "keras.src": "Keras",
}


def augmented_items(
    augment: ImageFunction, x: Any, indices: np.ndarray, seed: Sequence[int], places: np.ndarray | None = None
) -> list[Any]:
    """The items at ``indices``, each varied with random numbers of its own.

    Args:
        augment: The user's function, ``augment(item)`` or ``augment(item, rng)``.
        x: The items. If they have a method ``augmented(index, function)``, as images in files have, the function gets
            the image itself.
        indices: ``[N]``.
        seed: The seed of the run, the epoch, and last the place of the first row of the batch in the plan of the epoch.
        places: ``[N]``, the place of each item in the batch; None if the items are the whole batch.
    """
    images, library = getattr(x, "augmented", None), library_of(augment)
    items = [] if images else as_list(take(x, indices), len(indices))
    varied = []
    rng = ItemGenerator()
    function = WithGenerator(augment, rng.generator) if takes_two_arguments(augment) else augment
    numbers = item_seeds(seed, np.arange(len(indices)) if places is None else places)
    uses_torch = library == "torchvision" and "torch" in sys.modules
    with keep_generators(torch_seeded if uses_torch and framework_in_use.get() is None else None):
        for position, (index, number) in enumerate(zip(indices, numbers, strict=True)):
            if function is not augment:
                rng.seed(number)
            seed_own_generators(augment, library, number)
            with seed_generators(number):
                if images is not None:
                    varied.append(images(int(index), function))
                else:
                    varied.append(
                        function(items[position]) if library is None else apply_to_item(function, items[position])
                    )
    return varied


def apply_to_item(function: ImageFunction, item: Any) -> Any:
    """Apply a user's function to an item. If it is of an image library, the item must be an image.

    Raises:
        TypeError: If the function is of an image library, and the item is no array that it can take.
        ValueError: If the layout of the array is not clear.

    Example:
        >>> apply_to_item(lambda item: item + 1, np.zeros(3))
        array([1., 1., 1.])
    """
    library = library_of(function)
    if library is None or hasattr(item, "getbands") or is_tensor_for(library, item):
        return function(item)
    item = from_container("an item", item)
    if library == "Keras" and not (isinstance(item, np.ndarray) and item.ndim == 3 and layout_of(item.shape) == "CHW"):
        return function(item)
    image, layout = checked_image(item, library, function)
    if library == "torchvision":
        tensor = sys.modules["torch"].from_numpy(np.ascontiguousarray(converted(image, layout, "CHW")))
        return result_for(function(tensor), "CHW", layout, image.dtype, function)
    image = np.ascontiguousarray(converted(image, layout, "HWC"))
    if library == "albumentations":
        return result_for(function(image=image)["image"], "HWC", layout, image.dtype, function)
    return result_for(function(image), "HWC", layout, image.dtype, function)


def vary_image(function: ImageFunction, image: Any, channels_first: bool) -> Any:
    """Apply a user's function to an image of Pillow.

    Args:
        function: The function.
        image: The image. One of mode ``"F"`` has values from 0 to 1.
        channels_first: The layout of a final array.

    Returns:
        What the function returned: an image of Pillow, an array ``[H, W, C]`` of integers, or a floating-point array in
        the layout of the data.
    """
    library = library_of(function)
    if library == "albumentations":
        result = function(image=np.array(image))["image"]
    elif library == "Keras":
        array = np.atleast_3d(np.array(image))
        result = function(array if array.dtype == np.float32 else array / np.float32(255))
    else:
        result = function(image)
    if hasattr(result, "getbands"):
        return result
    is_tensor = kind_of(result) is not None
    result = from_container("an image", result)
    if not isinstance(result, np.ndarray) or result.ndim != 3:
        return result
    if result.dtype.kind != "f":
        return result.transpose(1, 2, 0) if is_tensor and library != "Keras" else result
    given = "CHW" if channels_first else "HWC"
    if library == "Keras" or (library == "albumentations" and not is_tensor):
        given = "HWC"
    elif library is not None and is_tensor:
        given = "CHW"
    if image.mode == "F" and result.shape[0 if given == "CHW" else 2] == 1:
        return converted(result, given, "HW")  # of which the reader makes as many channels as the other images have
    return converted(result, given, "CHW" if channels_first else "HWC")


def library_of(function: Any) -> str | None:
    """The image library that a function or an object is from; None for any other. Nothing is imported."""
    if isinstance(function, functools.partial):
        return library_of(function.func)
    if isinstance(function, WithGenerator):
        return library_of(function.function)
    if inspect.ismethod(function):
        return library_of(function.__self__)
    modules = [cls.__module__ for cls in type(function).__mro__]
    if inspect.isfunction(function):
        modules = [function.__module__ or ""]
    for module in modules:
        parts = module.split(".")
        for depth in (1, 2):
            if library := LIBRARIES.get(".".join(parts[:depth])):
                return library
    if modules[0].startswith("torch.nn"):  # a Sequential of transforms
        return next((found for child in function.children() if (found := library_of(child))), None)
    return None


def layout_of(shape: Sequence[int]) -> str | None:
    """``"CHW"`` or ``"HWC"`` by the place of 1, 3 or 4 channels, ``"HW"`` without; None if it is not clear."""
    if len(shape) == 2:
        return "HW"
    if len(shape) != 3 or (shape[0] in CHANNELS) == (shape[2] in CHANNELS):
        return None
    return "CHW" if shape[0] in CHANNELS else "HWC"


class WithGenerator:
    """A function ``f(item, rng)`` as one of the item alone."""

    def __init__(self, function: ImageFunction, rng: np.random.Generator):
        self.function, self.rng = function, rng

    def __call__(self, item: Any) -> Any:
        return self.function(item, self.rng)

    def __repr__(self) -> str:
        return repr(self.function)


def seed_own_generators(function: Any, library: str | None, seed: int) -> None:
    """Seed a function that has generators of its own: of albumentations since version 2, or layers of Keras."""
    if library == "albumentations" and hasattr(function, "set_random_seed"):
        function.set_random_seed(seed & 0xFFFFFFFF)
    elif library == "Keras" and hasattr(function, "_flatten_layers"):
        state = np.array([seed & 0x7FFFFFFF, seed >> 33], np.int32)
        for layer in function._flatten_layers():
            for generator in getattr(layer, "_seed_generators", ()):
                generator.state.assign(state)


@contextmanager
def torch_seeded(seed: int) -> Iterator[None]:
    """A context in which PyTorch's generator of the host is seeded, for torchvision in another framework's training."""
    generator = sys.modules["torch"].default_generator
    state = generator.get_state()
    generator.manual_seed(seed)
    try:
        yield
    finally:
        generator.set_state(state)


def is_tensor_for(library: str, item: Any) -> bool:
    return library in ("torchvision", "Keras") and kind_of(item) in ("torch", "tensorflow", "keras", "jax")


def checked_image(item: Any, library: str, function: Any) -> tuple[np.ndarray, str]:
    name = f"{type(function).__name__} of {library}"
    if isinstance(item, Mapping) or not isinstance(item, np.ndarray) or item.ndim not in (2, 3):
        kind = f"an array {list(item.shape)}" if isinstance(item, np.ndarray) else type(item).__name__
        raise TypeError(f"{name} must get an image [H, W], [C, H, W] or [H, W, C], got {kind}")
    if item.dtype.kind == "f":
        item = item.astype(np.float32, copy=False)
    if item.dtype not in (np.uint8, np.float32):
        raise TypeError(f"{name} must get an image of uint8 or float32, got {item.dtype}")
    layout = layout_of(item.shape)
    if layout is None:
        raise ValueError(
            f"{name} must get an image with 1, 3 or 4 channels on its first or last axis, got {list(item.shape)}; "
            "call it in a function of your own, which gets the array as it is"
        )
    return item, layout


def converted(image: np.ndarray, given: str, wanted: str) -> np.ndarray:
    if given == "HW" and wanted == "CHW":
        return image[None]
    if given == wanted or given == "HW" or image.ndim != 3:
        return image
    if wanted == "HW":
        return image[0] if given == "CHW" else image[..., 0]
    return image.transpose(2, 0, 1) if wanted == "CHW" else image.transpose(1, 2, 0)


def result_for(result: Any, given: str, layout: str, dtype: np.dtype[Any], function: Any) -> np.ndarray:
    """The result of a library's function, in the layout of the array that it was called for."""
    if hasattr(result, "getbands"):
        result, given = np.atleast_3d(np.asarray(result)), "HWC"
    elif kind_of(result) == "torch" and library_of(function) != "Keras":  # such as ToTensorV2 of albumentations
        given = "CHW"
    result = from_container("an image", result)
    if not isinstance(result, np.ndarray):
        raise TypeError(f"{function!r} must return an image, got {type(result).__name__}")
    if result.dtype == np.uint8 and dtype == np.float32:
        result = result / np.float32(255)
    return np.ascontiguousarray(converted(result, given, layout))
