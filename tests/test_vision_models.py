"""Image models of other libraries: items, heads, poolers, saved runs and bad input, with random weights."""

import importlib
import json

import numpy as np
import pytest

import finetuner
from finetuner.data import load
from finetuner.models.images import ImageTransform, check_images

pillow = pytest.importorskip("PIL.Image")

NAMES = {
    "timm": ("pytorch", "timm:resnet18"),
    "torchvision": ("pytorch", "torchvision:resnet18"),
    "keras": ("keras", "keras:MobileNet"),
    "paddle": ("paddle", "paddle:resnet18"),
}


def picture(height, width, seed=0, mode="RGB"):
    """A smooth picture of random colours."""
    pixels = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return pillow.fromarray(pixels).resize((width, height), pillow.Resampling.BICUBIC).convert(mode)


def needs(library):
    try:
        importlib.import_module(library)
    except (ImportError, RuntimeError) as error:  # torchvision without its operators
        pytest.skip(f"{library} cannot be imported: {error}")


@pytest.fixture(params=NAMES)
def source(request, backend):
    """The name of a model on the backend that is tested."""
    name, source = NAMES[request.param]
    if backend.name != name:
        pytest.skip(f"{request.param} is of {name}")
    if request.param in ("timm", "torchvision"):
        needs(request.param)
    return source


def open_model(source, **options):
    return finetuner.load_model(source, pretrained=False, image_size=32, **options)


@pytest.fixture
def folder(tmp_path):
    """Images of two classes in files, of different sizes."""
    for name, seed in (("a", 0), ("b", 100)):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(6):
            image = picture(30 + 3 * number, 50 - 2 * number, seed + number)
            image.save(tmp_path / "data" / name / f"{number}.png")
    return tmp_path / "data"


# Items ------------------------------------------------------------------------------------------------------


def test_every_form_of_an_image_is_the_same_input(tmp_path):
    transform = ImageTransform(16, mean=[0.1, 0.2, 0.3], std=[0.5, 0.6, 0.7], resize=20)
    image = picture(40, 60)
    image.save(tmp_path / "a.png")
    expected = transform(image)
    assert expected.shape == (3, 16, 16)
    assert expected.dtype == np.float32
    pixels = np.asarray(image)
    for item in (tmp_path / "a.png", str(tmp_path / "a.png"), pixels, pixels.transpose(2, 0, 1), expected):
        np.testing.assert_array_equal(transform(item), expected)
    last = ImageTransform(16, mean=[0.1, 0.2, 0.3], std=[0.5, 0.6, 0.7], resize=20, channels_first=False)
    np.testing.assert_array_equal(last(image).transpose(2, 0, 1), expected)
    again = ImageTransform(**json.loads(json.dumps(transform.arguments())))
    np.testing.assert_array_equal(again(image), expected)


def test_normalization_by_hand():
    pixels = np.arange(12, dtype=np.uint8).reshape(2, 2, 3) * 20
    caffe = ImageTransform(2, mean=[103.939, 116.779, 123.68], scale=1, reverse=True, channels_first=False)
    expected = pixels[..., ::-1].astype(np.float32) - np.float32([103.939, 116.779, 123.68])
    np.testing.assert_allclose(caffe(pixels), expected, rtol=1e-6)
    plain = ImageTransform(2, mean=0.5, std=0.25)
    np.testing.assert_allclose(plain(pixels), (pixels.transpose(2, 0, 1) / 255 - 0.5) / 0.25, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1", "LA"])
def test_modes_of_files(tmp_path, mode):
    image = picture(20, 20, mode=mode)
    suffix = "tif" if mode == "CMYK" else "png"
    image.save(tmp_path / f"a.{suffix}")
    transform = ImageTransform(8)
    value = transform(tmp_path / f"a.{suffix}")
    assert value.shape == (3, 8, 8)
    np.testing.assert_allclose(value, transform(image), atol=1e-6)


def test_deep_and_rotated_files(tmp_path):
    grey = (np.arange(64).reshape(8, 8) * 1000).astype(np.uint16)
    pillow.fromarray(grey).save(tmp_path / "deep.png")
    value = ImageTransform(8, channels=1)(tmp_path / "deep.png")
    np.testing.assert_allclose(value[0], grey / 65535, atol=1 / 255)
    image = picture(8, 16)
    exif = pillow.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.png", exif=exif)
    turned = ImageTransform((16, 8))(tmp_path / "turned.png")
    np.testing.assert_array_equal(turned, ImageTransform((16, 8))(image.rotate(-90, expand=True)))


@pytest.mark.parametrize("size", [(100, 150), (150, 100), (40, 90), (64, 64), (7, 500), (3, 3)])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("crop", ["center", "squash", "border"])
@pytest.mark.parametrize("input_size", [(48, 48), (48, 32)])
def test_as_timm(size, interpolation, crop, input_size):
    needs("timm")
    from timm.data import create_transform

    theirs = create_transform(
        (3, *input_size), interpolation=interpolation, crop_pct=0.875, crop_mode=crop, mean=(0.4,) * 3, std=(0.2,) * 3
    )
    resize = [int(side / 0.875) for side in input_size]
    ours = ImageTransform(input_size, mean=0.4, std=0.2, interpolation=interpolation, resize=resize, crop=crop)
    image = picture(*size)
    if crop == "center" and input_size[0] != input_size[1]:
        assert ours(image).shape == (3, *input_size)  # timm resizes by the ratio of the shorter side in another way
        return
    np.testing.assert_allclose(ours(image), theirs(image).numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("item", "error", "message"),
    [
        ("how do I pay?", TypeError, "items must be images, got the text 'how do I pay.' at item 1, which is no file"),
        ("none.png", FileNotFoundError, r"there is no file 'none.png' \(item 1\)"),
        (None, TypeError, "items must be images: files, images of Pillow or arrays, got NoneType at item 1"),
        (3.5, TypeError, "got float at item 1"),
        ([1, 2], TypeError, "got list at item 1"),
    ],
)
def test_items_that_are_no_images(item, error, message):
    with pytest.raises(error, match=message):
        check_images([picture(3, 3), item])


def test_arrays_that_are_no_images(tmp_path):
    transform = ImageTransform(8)
    with pytest.raises(ValueError, match=r"a floating-point image must be ready for the model, \[3, 8, 8\], got"):
        transform(np.zeros((3, 9, 8), np.float32))
    with pytest.raises(ValueError, match=r"an image must be uint8 .* got int64 \[3, 8, 8\]"):
        transform(np.zeros((3, 8, 8), np.int64))
    with pytest.raises(ValueError, match=r"got uint8 \[7, 8, 9\]"):
        transform(np.zeros((7, 8, 9), np.uint8))
    with pytest.raises(TypeError, match="items must be images: files, images of Pillow or arrays, got dict"):
        transform({})
    (tmp_path / "a.png").write_text("text")
    with pytest.raises(ValueError, match="a.png cannot be read: Pillow does not recognize it"):
        transform(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"items must be images \[N, C, H, W\] or \[N, H, W, C\], got \[2, 3\]"):
        check_images(np.zeros((2, 3)))
    with pytest.raises(TypeError, match="items must be images, got a mapping with pixels"):
        check_images({"pixels": [1]})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mean": [1, 2]}, "mean must be one number, or one for each of the 3 channels"),
        ({"std": 0}, "std must be above 0"),
        ({"interpolation": "cubic"}, "interpolation must be one of"),
        ({"crop": "middle"}, "crop must be one of"),
        ({"channels": 2}, "channels must be one of"),
    ],
)
def test_bad_transforms(options, message):
    with pytest.raises(ValueError, match=message):
        ImageTransform(8, **options)


# Models of every library ------------------------------------------------------------------------------------


def test_embeddings_of_files_images_and_arrays(source, tmp_path):
    encoder = open_model(source)
    image = picture(40, 60)
    image.save(tmp_path / "a.png")
    embeddings = encoder.embed([str(tmp_path / "a.png"), image, np.asarray(image), picture(50, 50, 1)])
    assert embeddings.ndim == 2
    assert embeddings.shape[1] > 100
    np.testing.assert_array_equal(embeddings[0], embeddings[1])
    np.testing.assert_array_equal(embeddings[0], embeddings[2])
    assert np.abs(embeddings[0] - embeddings[3]).max() > 1e-3 * np.abs(embeddings).max()
    with pytest.raises(TypeError, match="items must be images, got the text 'hello' at item 0"):
        encoder.embed(["hello"])


@pytest.mark.parametrize("head_type", ["linear", "BNNeck", "MLP"])
def test_a_run_with_pooler_and_head_opens_without_code(source, head_type, folder, tmp_path):
    encoder = open_model(source, head=8, head_type=head_type, pooler="GeM", pooler_options={"p": 2.5})
    x = sorted(map(str, folder.rglob("*.png")))
    run = finetuner.fit(encoder, (x, np.repeat([0, 1], 6)), epochs=1, batch_size=12, callbacks=[])
    run.save(tmp_path / "run")
    opened = finetuner.load(tmp_path / "run")
    assert opened.pooler["name"] == "GeM"
    assert opened.pooler["options"]["p"] == 2.5
    expected = run.encoder.embed(x)
    assert expected.shape == (12, 8)
    np.testing.assert_allclose(opened.embed(x), expected, rtol=1e-5, atol=1e-6 * np.abs(expected).max())
    opened.save(tmp_path / "again")  # what was opened says the same
    assert json.loads((tmp_path / "again" / "model.json").read_text()) == json.loads(
        (tmp_path / "run" / "model.json").read_text()
    )


def test_a_pooler_of_the_training_is_restored(source, folder, tmp_path):
    x = sorted(map(str, folder.rglob("*.png")))
    run = finetuner.fit(
        open_model(source), (x, np.repeat([0, 1], 6)), epochs=1, batch_size=12, callbacks=[], pooler="GeM"
    )
    run.save(tmp_path / "run")
    opened = finetuner.load(tmp_path / "run")
    assert opened.pooler["name"] == "GeM"
    expected = run.encoder.embed(x)
    np.testing.assert_allclose(opened.embed(x), expected, rtol=1e-5, atol=1e-6 * np.abs(expected).max())


def test_a_folder_of_images_of_any_size(source, folder):
    encoder = open_model(source)
    dataset = load(folder)
    files = [str(folder / name) for name in dataset.x.names]
    expected = encoder.embed(files)
    np.testing.assert_allclose(encoder.embed(dataset), expected, rtol=1e-5, atol=1e-6 * np.abs(expected).max())
    seen = []

    def augment(image):
        seen.append(image.size)
        return image.transpose(pillow.Transpose.FLIP_LEFT_RIGHT)

    run = finetuner.fit(encoder, load(folder, augment=augment), epochs=1, batch_size=12, callbacks=[])
    assert len(set(seen)) > 1  # images as they are in the files
    assert run.encoder.embed(load(folder)).shape[0] == 12
    in_memory = load(folder, image_size=40, in_memory=True)
    assert run.encoder.embed(in_memory).shape[0] == 12


def test_bad_options_of_models(source):
    with pytest.raises(ValueError, match="max_length must be used with a text model"):
        open_model(source, max_length=5)
    with pytest.raises(ValueError, match="head must be at least 1, got 0"):
        open_model(source, head=0)
    with pytest.raises(ValueError, match="head_type must be one of .*linear.* got 'conv'"):
        open_model(source, head=4, head_type="conv")
    with pytest.raises(ValueError, match="head_type must be used with a head"):
        open_model(source, head_type="MLP")
    library = source.partition(":")[0]
    with pytest.raises(ValueError, match=f"{library}.* has no model .*did you mean"):
        finetuner.load_model(source + "x", pretrained=False)
    with pytest.raises(ValueError, match="must have the name of a model after the colon"):
        finetuner.load_model(f"{library}:")


def test_text_models_have_no_head(backend):
    with pytest.raises(ValueError, match="head must be used with an image model or a transformer, got"):
        finetuner.load_model(backend.mlp(4, 2), head=3)


# PyTorch ----------------------------------------------------------------------------------------------------


def test_objects_of_timm(folder):
    needs("timm")
    import timm

    model = timm.create_model("resnet10t", pretrained=False, num_classes=7)
    encoder = finetuner.load_model(model, image_size=32)
    assert encoder.embed_model is model
    assert encoder.embed([picture(40, 30)]).shape == (1, 512)
    assert encoder.source.config()["name"] == "resnet10t"


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "densenet121"])
def test_a_model_without_global_pooling_is_refused(name):
    needs("timm")
    if name == "densenet121":
        needs("torchvision")
    source = f"{'torchvision' if name == 'densenet121' else 'timm'}:{name}"
    with pytest.raises(ValueError, match="pool"):
        finetuner.load_model(source, pretrained=False, pooler="GeM")


def test_a_pooler_without_weights_is_left_out(folder, tmp_path):
    """The folder of a classifier has no weights of it, and transformers would begin with random numbers."""
    needs("transformers")
    import torch
    import transformers

    config = transformers.ViTConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=32, patch_size=16
    )
    model = transformers.ViTForImageClassification(config).eval()
    model.save_pretrained(tmp_path / "vit")
    encoder = finetuner.load_model(tmp_path / "vit")
    x = sorted(map(str, folder.rglob("*.png")))
    with torch.no_grad():
        states = model.vit(torch.as_tensor(encoder.collate_fn(x))).last_hidden_state
    np.testing.assert_allclose(encoder.embed(x), states.mean(dim=1).numpy(), atol=1e-6)
    encoder.save(tmp_path / "run")
    np.testing.assert_array_equal(finetuner.load(tmp_path / "run").embed(x), encoder.embed(x))


def test_weights_of_a_folder_that_do_not_fit(tmp_path):
    needs("transformers")
    import transformers

    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    transformers.ResNetModel(config).save_pretrained(tmp_path)
    settings = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**settings, "depths": [1, 2]}))
    with pytest.raises(ValueError, match=r"the weights of .* must be complete, and have no encoder\.stages\.1"):
        finetuner.load_model(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**settings, "hidden_sizes": [8, 12]}))
    with pytest.raises(ValueError, match=r"the weights of .* must fit its config.json, and encoder"):
        finetuner.load_model(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(settings))
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"size": {"longest_edge": 3}}))
    with pytest.raises(ValueError, match="preprocessor_config.json of .* must have sizes with height and width"):
        finetuner.load_model(tmp_path)
    content = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="cannot be opened: SafetensorError"):
        finetuner.load_model(tmp_path)


@pytest.mark.parametrize("pooled", [True, False])
def test_a_folder_of_transformers(pooled, folder, tmp_path):
    needs("transformers")
    import transformers

    if pooled:
        config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
        processor = {"crop_pct": 0.875, "size": {"shortest_edge": 32}, "image_processor_type": "ConvNextImageProcessor"}
    else:
        config = transformers.ViTConfig(
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            image_size=32,
            patch_size=8,
        )
        processor = {"size": {"height": 32, "width": 32}, "image_processor_type": "ViTImageProcessor"}
    model = transformers.AutoModel.from_config(config)
    processor |= {"image_mean": [0.4] * 3, "image_std": [0.2] * 3, "resample": 2, "do_normalize": True}
    model.save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "preprocessor_config.json").write_text(json.dumps(processor))
    encoder = finetuner.load_model(tmp_path / "model", head=6)
    assert encoder.source.config()["transform"]["mean"] == pytest.approx([0.4] * 3)
    x = sorted(map(str, folder.rglob("*.png")))
    run = finetuner.fit(encoder, (x, np.repeat([0, 1], 6)), epochs=1, batch_size=12, callbacks=[])
    run.save(tmp_path / "run")
    opened = finetuner.load(tmp_path / "run")
    expected = run.encoder.embed(x)
    assert expected.shape == (12, 6)
    np.testing.assert_allclose(opened.embed(x), expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(TypeError, match="items must be images, got the text 'hello'"):
        opened.embed(["hello"])
    as_object = finetuner.load_model(model)
    assert as_object.embed(x[:2]).shape == (2, 16)
    if pooled:
        assert finetuner.load_model(tmp_path / "model", pooler="GeM").pooler["name"] == "GeM"
    else:
        with pytest.raises(ValueError, match="pool"):
            finetuner.load_model(tmp_path / "model", pooler="GeM")


# Keras ------------------------------------------------------------------------------------------------------


def test_a_keras_file(backend, folder, tmp_path):
    if backend.name != "keras":
        pytest.skip("for Keras")
    import keras

    model = keras.Sequential(
        [keras.Input((16, 16, 3)), keras.layers.Conv2D(4, 3), keras.layers.GlobalAveragePooling2D()]
    )
    model.save(tmp_path / "model.keras")
    encoder = finetuner.load_model(tmp_path / "model.keras", head=3, head_type="BNNeck", pooler="GeM")
    x = sorted(map(str, folder.rglob("*.png")))
    run = finetuner.fit(encoder, (x, np.repeat([0, 1], 6)), epochs=1, batch_size=12, callbacks=[])
    run.save(tmp_path / "run")
    opened = finetuner.load(tmp_path / "run")
    assert opened.embed(x).shape == (12, 3)
    np.testing.assert_allclose(opened.embed(x), run.encoder.embed(x), rtol=1e-5, atol=1e-6)
    with pytest.raises(FileNotFoundError, match="the file of a model must exist, got"):
        finetuner.load_model(tmp_path / "none.keras")


@pytest.mark.parametrize("name", ["MobileNet", "ResNet50", "DenseNet121", "MobileNetV3Small", "VGG16", "ConvNeXtTiny"])
def test_scaling_as_preprocess_input(backend, name):
    if backend.name != "keras":
        pytest.skip("for Keras")
    import keras

    from finetuner.models.keras_applications import SCALINGS, mode_of

    function = getattr(keras.applications, name)
    module = importlib.import_module(f"keras.applications.{function.__module__.rpartition('.')[2]}")
    pixels = np.random.default_rng(0).integers(0, 256, (4, 5, 3)).astype(np.uint8)
    expected = module.preprocess_input(pixels.astype(np.float32)[None])[0]
    transform = ImageTransform((4, 5), channels_first=False, **SCALINGS[mode_of(function)])
    np.testing.assert_allclose(transform(pixels), expected, rtol=1e-4, atol=1e-4)
