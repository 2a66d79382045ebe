"""Tests of functions that vary items: what each library's function gets, and that an item has its own seed."""

import functools
import importlib
import random

import numpy as np
import pytest

from finetuner.data.images import ImageArray, ImageFiles
from finetuner.tuner.base.data import ClassDataset, InstanceDataset, PairDataset, RandomSampler
from finetuner.tuner.base.data.augmentation import apply_to_item, layout_of, library_of
from finetuner.tuner.base.data.batches import Batches

ALL = np.arange(4)
LABELS = ["a", "a", "b", "b"]


def stand_in(module):
    """A class decorator: the class seems to be from another library."""

    def change(cls):
        cls.__module__ = module
        return cls

    return change


@stand_in("torchvision.transforms.v2._geometry")
class VisionFlip:
    """Like torchvision's: flips images of Pillow and tensors, and returns anything else as it is."""

    def __call__(self, image):
        if hasattr(image, "getbands"):
            return image.transpose(0)
        return image.flip(-1) if hasattr(image, "flip") else image


@stand_in("albumentations.augmentations.geometric")
class AlbumentationsFlip:
    """Like those of albumentations: takes ``image=``, and flips the second axis of an array."""

    def __call__(self, *, image):
        assert image.dtype in (np.uint8, np.float32)
        return {"image": np.ascontiguousarray(image[:, ::-1])}


@stand_in("paddle.vision.transforms.transforms")
class PaddleFlip:
    """Like Paddle's: flips images of Pillow, and the second axis of an array."""

    def __call__(self, image):
        return image.transpose(0) if hasattr(image, "getbands") else image[:, ::-1]


@stand_in("keras.src.layers.preprocessing.flip")
class KerasFlip:
    """Like a layer of Keras: takes arrays of numbers, with the channels last."""

    def __call__(self, image):
        assert image.dtype != np.uint8
        return image[:, ::-1]


def flip(image):
    return np.asarray(image)[:, ::-1]


FLIPS = [VisionFlip(), AlbumentationsFlip(), PaddleFlip(), KerasFlip(), flip]


@pytest.fixture
def folder(tmp_path, pillow):
    """Four images of 7 x 5 pixels, in two classes."""
    for i, name in enumerate(LABELS):
        (tmp_path / name).mkdir(exist_ok=True)
        pixels = np.random.default_rng(i).integers(0, 256, (5, 7, 3), np.uint8)
        pillow.fromarray(pixels).save(tmp_path / name / f"{i}.png")
    return tmp_path


def augmented(x, augment, seed=(0, 0, 0)):
    return np.stack(ClassDataset(x, LABELS, augment=augment).batch(ALL, seed))


@pytest.mark.parametrize("in_memory", [False, True])
@pytest.mark.parametrize("channels_first", [True, False])
@pytest.mark.parametrize("augment", FLIPS, ids=lambda f: getattr(f, "__name__", type(f).__name__))
def test_an_image_from_a_file_is_flipped(folder, augment, channels_first, in_memory):
    files = ImageFiles(folder, channels_first=channels_first)
    x = files.in_memory() if in_memory else files
    plain = np.stack(list(files))
    wanted = plain[..., ::-1] if channels_first else plain[:, :, ::-1]
    varied = augmented(x, augment)
    assert varied.dtype == np.float32
    np.testing.assert_allclose(varied, wanted, atol=1e-7)
    np.testing.assert_array_equal(np.stack(ClassDataset(x, LABELS, augment=augment).batch(ALL)), plain)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(4, 3, 6, 5), (4, 6, 5, 1), (4, 6, 5)])
@pytest.mark.parametrize("augment", [VisionFlip(), AlbumentationsFlip(), PaddleFlip()])
def test_an_array_is_flipped(augment, shape, dtype):
    if isinstance(augment, VisionFlip):
        pytest.importorskip("torch")
    x = np.random.default_rng(0).integers(0, 2, shape).astype(dtype)
    wanted = x[:, :, ::-1] if shape[-1] == 1 else x[..., ::-1]
    varied = augmented(x, augment)
    assert varied.dtype == (np.uint8 if dtype == np.uint8 else np.float32)
    np.testing.assert_array_equal(varied, wanted)


def test_a_layer_of_keras_takes_other_arrays_too():
    x = np.random.default_rng(0).normal(size=(4, 1, 6, 5)).astype(np.float32)
    np.testing.assert_array_equal(augmented(x, KerasFlip()), x[..., ::-1])
    vectors = np.arange(8.0).reshape(4, 2, 1)
    np.testing.assert_array_equal(augmented(vectors, KerasFlip()), vectors[:, :, ::-1])


@pytest.mark.parametrize(
    ("item", "error", "message"),
    [
        (np.zeros(5), TypeError, r"VisionFlip of torchvision must get an image .*, got an array \[5\]"),
        ({"image": np.zeros((3, 4, 4))}, TypeError, "got dict"),
        ("a.png", TypeError, "got str"),
        (np.zeros((3, 4, 4), np.int64), TypeError, "an image of uint8 or float32, got int64"),
        (np.zeros((5, 6, 7)), ValueError, r"1, 3 or 4 channels on its first or last axis, got \[5, 6, 7\]"),
        (np.zeros((3, 6, 3)), ValueError, r"got \[3, 6, 3\]; call it in a function of your own"),
    ],
)
def test_what_a_library_cannot_take_is_refused(item, error, message):
    with pytest.raises(error, match=message):
        apply_to_item(VisionFlip(), item)
    assert apply_to_item(lambda item: 1, item) == 1


def test_libraries_are_recognized_by_name():
    class Own(AlbumentationsFlip):
        pass

    assert [library_of(f) for f in (VisionFlip(), Own(), PaddleFlip(), KerasFlip())] == [
        "torchvision",
        "albumentations",
        "paddle.vision",
        "Keras",
    ]
    assert library_of(functools.partial(VisionFlip())) == "torchvision"
    assert library_of(VisionFlip().__call__) == "torchvision"
    assert [library_of(f) for f in (flip, np.flip, lambda x: x, len)] == [None] * 4
    assert [layout_of(shape) for shape in [(3, 8, 8), (8, 8, 1), (8, 8), (3, 8, 3), (8,), (8, 8, 8)]] == [
        "CHW",
        "HWC",
        "HW",
        None,
        None,
        None,
    ]


def test_results_of_a_function_of_an_image(folder, pillow):
    files, plain = ImageFiles(folder), np.stack(list(ImageFiles(folder)))
    results = [
        lambda image: image,
        np.asarray,
        lambda image: np.asarray(image).transpose(2, 0, 1) / 255,
        lambda image: (np.asarray(image) / 255).astype(np.float16).transpose(2, 0, 1),
    ]
    for function in results:
        np.testing.assert_allclose(augmented(files, function), plain, atol=1e-3)
    grey = augmented(files, lambda image: image.convert("L"))
    np.testing.assert_array_equal(grey[:, 0], grey[:, 2])
    bad = [
        (
            lambda image: np.asarray(image) / 255,
            ValueError,
            r"a floating-point array \[C, H, W\], got one .* \[5, 7, 3\]",
        ),
        (lambda image: np.asarray(image).astype(int), TypeError, r"got int64 \[5, 7, 3\]"),
        (lambda image: None, TypeError, "must return an image of Pillow, .*, got NoneType"),
    ]
    for function, error, message in bad:
        with pytest.raises(error, match=message):
            augmented(files, function)


def test_sixteen_bits_reach_a_function(tmp_path, pillow):
    ramp = np.arange(35, dtype=np.uint16).reshape(5, 7) * 1000
    (tmp_path / "a").mkdir()
    for i in range(4):
        pillow.fromarray(ramp).save(tmp_path / "a" / f"{i}.png")
    for mode, channels in (("L", 1), ("RGB", 3)):
        for x in (ImageFiles(tmp_path, image_mode=mode), ImageFiles(tmp_path, image_mode=mode).in_memory()):
            for function in (VisionFlip(), AlbumentationsFlip(), KerasFlip()):
                varied = augmented(x, function)
                assert varied.shape == (4, channels, 5, 7)
                np.testing.assert_allclose(varied[0, -1], ramp[:, ::-1] / 65535, atol=1e-7)


def test_transform_is_for_evaluation_and_augment_takes_its_place_in_training(folder):
    def cut(image):
        return image.crop((0, 0, 4, 4))

    def mirrored(image):
        return cut(image).transpose(0)

    plain = np.stack(list(ImageFiles(folder)))[:, :, :4, :4]
    files = ImageFiles(folder, transform=cut)
    for x in (files, files.in_memory()):
        data = ClassDataset(x, LABELS, augment=mirrored)
        np.testing.assert_array_equal(np.stack(list(data.batch(ALL))), plain)
        np.testing.assert_array_equal(np.stack(data.batch(ALL, (0, 0))), plain[..., ::-1])
        without = ClassDataset(x, LABELS)
        np.testing.assert_array_equal(np.stack(list(without.batch(ALL, (0, 0)))), plain)
    assert files.in_memory().shape == (4, 3, 4, 4)
    np.testing.assert_array_equal(np.asarray(files.in_memory()), plain)
    with pytest.raises(TypeError, match="transform must be a function of an image, got 3"):
        ImageFiles(folder, transform=3)


def test_preprocess_fn_of_a_library_gets_what_it_expects():
    x = np.random.default_rng(0).random((4, 3, 6, 5), np.float32)
    batches = Batches(ClassDataset(x, LABELS), [ALL], preprocess_fn=AlbumentationsFlip())
    np.testing.assert_array_equal(batches[0].inputs, x[..., ::-1])


# Seeds ---------------------------------------------------------------------------------------------------


def with_rng(item, rng):
    return item + rng.normal(size=item.shape)


def with_globals(item):
    return item + np.random.normal(size=item.shape) + random.random()  # noqa: NPY002


def with_both(item, rng):
    return with_globals(with_rng(item, rng))


X = np.zeros((40, 2))
FUNCTIONS = [with_rng, with_globals, with_both]


def epoch(data, batch_size, preprocess_fn=None, seed=(3, 1), start=0, **options):
    plan = RandomSampler(len(data), batch_size, seed=3).batches()
    batches = Batches(data, [], preprocess_fn, **options)
    batches.begin_epoch(plan, seed, start)
    return np.concatenate([batch.inputs for batch in batches])


@pytest.mark.parametrize("function", FUNCTIONS)
def test_an_item_does_not_depend_on_the_batch_size(function):
    data = ClassDataset(X, range(40), augment=function)
    whole = epoch(data, 40)
    assert len(np.unique(whole)) == whole.size
    for size in (8, 16, 1):
        np.testing.assert_array_equal(epoch(data, size), whole)
    np.testing.assert_array_equal(epoch(data, 8, start=2), whole[16:])
    assert not np.isin(epoch(data, 8, seed=(3, 2)), whole).any()
    assert not np.isin(epoch(data, 8, seed=(4, 1)), whole).any()


@pytest.mark.parametrize("function", [with_globals, lambda item: item * random.random() + np.random.random()])  # noqa: NPY002
def test_preprocess_fn_draws_for_each_item(function):
    data = ClassDataset(X + 1, range(40))
    whole = epoch(data, 40, function)
    np.testing.assert_array_equal(epoch(data, 8, function), whole)
    both = ClassDataset(X, range(40), augment=with_globals)
    difference = epoch(both, 8, with_globals) - epoch(both, 8)
    assert (difference != epoch(both, 8)).all()  # the two functions do not draw the same numbers


def with_framework(item):
    """Draw from the generator of the framework, as torchvision does."""
    import torch

    return item + torch.randn(item.shape).numpy()


def test_an_item_does_not_depend_on_workers(backend):
    load_batches = importlib.import_module(f"finetuner.tuner.{backend.name}.data").load_batches
    functions = [with_rng]
    if backend.name != "keras":  # whose workers are threads, which share the generators of the program
        functions += [with_globals, with_both]
    if backend.name == "pytorch":
        functions.append(with_framework)
    for function in functions:
        data = ClassDataset(X, range(40), augment=function)
        found = []
        for size in (8, 16):
            for workers in (0, 2):
                batches = Batches(data, RandomSampler(40, size, seed=3).batches(), seed=(3, 1))
                found.append(np.concatenate([batch.inputs for batch in load_batches(batches, workers)]))
                batches.loader = None
        assert len(np.unique(found[0])) == found[0].size
        for other in found[1:]:
            np.testing.assert_array_equal(other, found[0])


@pytest.mark.parametrize("draw", [lambda item, rng: item + rng.random(2), lambda item: item + np.random.random(2)])  # noqa: NPY002
def test_first_numbers_of_items_are_independent(draw):
    values = np.stack(InstanceDataset(np.zeros((4000, 2)), draw).batch(np.arange(4000), (0, 0, 0)))
    histogram = np.histogram(values, bins=20, range=(0, 1))[0]
    assert abs(histogram - 400).max() < 5 * 20
    columns = [values[:-1, 0], values[1:, 0], values[:-1, 1]]
    assert abs(np.corrcoef(columns) - np.eye(3)).max() < 0.08


def test_generators_of_the_user_are_left_alone():
    data = ClassDataset(X, range(40), augment=with_both)
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    expected = random.random(), np.random.random()  # noqa: NPY002
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    epoch(data, 8, with_globals, collate_fn=lambda items: np.stack(items) + np.random.random())  # noqa: NPY002
    assert (random.random(), np.random.random()) == expected  # noqa: NPY002


def test_views_and_sides_differ():
    views = InstanceDataset(X, with_globals).batch(np.repeat(np.arange(6), 2), (0, 0, 0))
    assert len(np.unique(views)) == np.size(views)
    pairs = PairDataset(X, X, augment=with_both)
    rows = np.arange(80)
    together = np.stack(pairs.batch(rows, (0, 0, 0)))
    assert len(np.unique(together)) == together.size
    np.testing.assert_array_equal(np.stack(pairs.batch(rows[20:30], (0, 0, 20))), together[20:30])
    sides = Batches(pairs, [rows], seed=(0, 0), pair_inputs=True)[0].inputs
    halves = Batches(pairs, [rows[:30], rows[30:]], seed=(0, 0), pair_inputs=True)
    assert len(np.unique(sides)) == np.size(sides)
    for number in (0, 1):
        np.testing.assert_array_equal(np.concatenate([batch.inputs[number] for batch in halves]), sides[number])


# The libraries themselves --------------------------------------------------------------------------------


def libraries_of(name):
    """A function that flips, one that draws, and one whose result is final: of a library that may not be installed."""
    if name == "torchvision":
        torch, v2 = pytest.importorskip("torch"), pytest.importorskip("torchvision.transforms.v2", exc_type=Exception)
        final = v2.Compose([v2.ToImage(), v2.RandomHorizontalFlip(1.0), v2.ToDtype(torch.float32, scale=True)])
        return v2.RandomHorizontalFlip(1.0), v2.RandomAffine(40), final
    A = pytest.importorskip("albumentations", exc_type=Exception)
    final = A.Compose([A.HorizontalFlip(p=1.0), A.ToFloat(max_value=255)])
    return A.HorizontalFlip(p=1.0), A.Compose([A.Rotate(limit=45, p=1.0), A.RandomBrightnessContrast(p=0.8)]), final


@pytest.mark.parametrize("name", ["torchvision", "albumentations"])
def test_real_libraries(folder, name):
    flipped, drawn, final = libraries_of(name)
    files, plain = ImageFiles(folder), np.stack(list(ImageFiles(folder)))
    for x in (files, files.in_memory(), plain):
        np.testing.assert_allclose(augmented(x, flipped), plain[..., ::-1], atol=1e-6)
        data = ClassDataset(x, LABELS, augment=drawn)
        whole = np.stack(data.batch(ALL, (0, 0, 0)))
        np.testing.assert_array_equal(np.stack(data.batch(ALL[:2], (0, 0, 0)) + data.batch(ALL[2:], (0, 0, 2))), whole)
        assert (np.stack(data.batch(ALL, (0, 1, 0))) != whole).any()
    np.testing.assert_allclose(augmented(files, final), plain[..., ::-1], atol=1e-6)
    np.testing.assert_allclose(np.stack(list(ImageFiles(folder, transform=final))), plain[..., ::-1], atol=1e-6)


def test_layers_of_keras(backend):
    if backend.name != "keras":
        pytest.skip("for Keras")
    import keras

    x = np.random.default_rng(0).random((4, 3, 6, 8), np.float32)
    np.testing.assert_array_equal(augmented(x, keras.layers.CenterCrop(4, 4)), x[:, :, 1:5, 2:6])
    np.testing.assert_array_equal(augmented(x[:, :1], keras.layers.CenterCrop(4, 4)), x[:, :1, 1:5, 2:6])
    data = ClassDataset(
        x, LABELS, augment=keras.Sequential([keras.layers.RandomFlip(), keras.layers.RandomRotation(0.3)])
    )
    whole = np.stack(data.batch(ALL, (0, 0, 0)))
    assert whole.shape == x.shape
    np.testing.assert_array_equal(np.stack(data.batch(ALL[2:], (0, 0, 2))), whole[2:])
    assert (np.stack(data.batch(ALL, (0, 1, 0))) != whole).any()


def test_pixels_with_other_channels_are_refused(pillow):
    images = ImageArray(np.zeros((4, 2, 3, 3), np.uint8))
    assert images[0].shape == (2, 3, 3)
    with pytest.raises(ValueError, match="1, 3 or 4 channels to be augmented, got 2"):
        augmented(images, flip)
