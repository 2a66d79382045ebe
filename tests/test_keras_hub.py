"""Presets of KerasHub: text and image models, their items, saved runs and bad input, with random weights."""

import importlib
import json
import shutil
import warnings

import numpy as np
import pytest

import finetuner

from .test_text_models import TEXTS, WORDS

WIDTH, POSITIONS = 16, 24
IMAGE = 32


@pytest.fixture(scope="module")
def hub(backend):
    if backend.name != "keras":
        pytest.skip("a library for Keras")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of TensorFlow, when it is imported
        return pytest.importorskip("keras_hub", exc_type=ImportError)


@pytest.fixture(scope="module")
def folder(hub, tmp_path_factory):
    """The preset of a BERT of two layers with random weights."""
    path = tmp_path_factory.mktemp("presets") / "bert"
    backbone = hub.models.BertBackbone(len(WORDS), 2, 2, WIDTH, 32, max_sequence_length=POSITIONS)
    randomize(backbone)
    backbone.save_to_preset(str(path))
    hub.models.BertTokenizer(WORDS, lowercase=True).save_to_preset(str(path))
    return path


@pytest.fixture(scope="module")
def image_folder(hub, tmp_path_factory):
    """The preset of a ResNet of two blocks with random weights."""
    path = tmp_path_factory.mktemp("presets") / "resnet"
    backbone = hub.models.ResNetBackbone(
        [64], [7], [64, 16], [1, 1], [1, 2], "basic_block", image_shape=(None, None, 3)
    )
    randomize(backbone)
    backbone.save_to_preset(str(path))
    converter = hub.layers.ResNetImageConverter(
        image_size=(IMAGE, IMAGE), scale=[0.017, 0.0175, 0.0174], offset=[-2.1, -2.0, -1.8]
    )
    converter.save_to_preset(str(path))
    return path


@pytest.fixture
def data():
    texts = [f"{word} {other}" for word in ("card", "pin", "late") for other in WORDS[5:13]]
    return texts, np.repeat(np.arange(3), 8)


def randomize(backbone):
    """Weights of which no part is zero."""
    rng = np.random.default_rng(0)
    for variable in backbone.variables:
        variance = "variance" in variable.name
        variable.assign(rng.uniform(0.5, 1.5, variable.shape) if variance else rng.normal(0, 0.3, variable.shape))


def embed(encoder, texts=TEXTS, **options):
    """Embeddings, without the warnings of texts that are empty or cut."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return encoder.embed(texts, **options)


def states_and_mask(hub, folder, texts, **options):
    """The states of tokens and the mask by KerasHub alone."""
    backbone = hub.models.Backbone.from_preset(str(folder))
    options = {"sequence_length": POSITIONS, **options}
    inputs = hub.models.TextClassifierPreprocessor.from_preset(str(folder), **options)(texts)
    outputs = backbone(inputs)
    states = outputs["sequence_output"] if isinstance(outputs, dict) else outputs
    return np.array(states, np.float64), np.array(inputs["padding_mask"]).astype(bool)


def pool(states, mask, mode):
    """The states of each text pooled in numpy."""
    rows = [row[counts] for row, counts in zip(states, mask, strict=True)]
    functions = {
        "mean": lambda row: row.mean(axis=0),
        "cls": lambda row: row[0],
        "max": lambda row: row.max(axis=0),
        "last": lambda row: row[-1],
        "GeM": lambda row: (np.maximum(row, 1e-6) ** 3).mean(axis=0) ** (1 / 3),
    }
    return np.array([functions[mode](row) for row in rows])


# Texts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["mean", "cls", "max", "last", "GeM"])
def test_embeddings_are_those_of_keras_hub(hub, folder, mode):
    expected = pool(*states_and_mask(hub, folder, TEXTS), mode)
    encoder = finetuner.load_model(folder, pooler=mode)
    np.testing.assert_allclose(embed(encoder), expected, atol=1e-6)
    np.testing.assert_allclose(embed(encoder, TEXTS[:1]), expected[:1], atol=1e-6)  # with less padding


def test_options_of_texts(hub, folder):
    expected = pool(*states_and_mask(hub, folder, ["my card", "my " + TEXTS[2]], sequence_length=10), "mean")
    encoder = finetuner.load_model(f"kerashub:{folder}", max_length=10, prompts=("my ", "not "), distance="euclidean")
    np.testing.assert_allclose(embed(encoder, ["card", TEXTS[2]]), expected, atol=1e-6)
    expected = pool(*states_and_mask(hub, folder, ["not card"]), "mean")
    np.testing.assert_allclose(embed(encoder, ["card"], side=1), expected, atol=1e-6)
    assert encoder.distance == "euclidean"
    with pytest.warns(UserWarning, match="1 of 2 texts are empty"):
        encoder.embed(["card", " "])
    with pytest.warns(UserWarning, match="1 of 2 texts are longer than 10 tokens and are cut; the longest has 43"):
        encoder.embed(["card", "my card " * 20])


def backbones(hub):
    """Backbones of other kinds with their tokenizers."""
    models = hub.models
    yield (
        models.DistilBertBackbone(len(WORDS), 1, 2, WIDTH, 32, max_sequence_length=POSITIONS),
        (models.DistilBertTokenizer(WORDS, lowercase=True)),
    )
    letters = {"<s>": 0, "<pad>": 1, "</s>": 2, "<mask>": 3, "a": 4, "c": 5, "Ġc": 6, "Ġa": 7, "ac": 8, "Ġ": 9}
    yield (
        models.RobertaBackbone(len(letters), 1, 2, WIDTH, 32, max_sequence_length=POSITIONS),
        (models.RobertaTokenizer(vocabulary=letters, merges=["a c", "Ġ c", "Ġ a"])),
    )


@pytest.mark.parametrize("number", [0, 1])
def test_other_kinds_of_backbones(hub, tmp_path, number):
    backbone, tokenizer = list(backbones(hub))[number]
    randomize(backbone)
    backbone.save_to_preset(str(tmp_path))
    tokenizer.save_to_preset(str(tmp_path))
    texts = ["ac ac a", "", "a c a c a c a c a c a c a c a c a c a c a c", "where is my card"][: 3 if number else 4]
    expected = pool(*states_and_mask(hub, tmp_path, texts), "mean")
    np.testing.assert_allclose(embed(finetuner.load_model(tmp_path), texts), expected, atol=1e-6)


@pytest.mark.parametrize("options", [{"pooler": "last"}, {"head": 6, "head_type": "BNNeck", "pooler": "GeM"}])
def test_a_trained_model_opens_by_itself(folder, data, tmp_path, options, capsys):
    preset = shutil.copytree(folder, tmp_path / "preset")
    options = {**options, "prompts": ("my ", ""), "max_length": 12}
    run = finetuner.fit(str(preset), data, epochs=1, batch_size=12, seed=1, model_options=options, callbacks=[])
    assert run.encoder.source.kind == "transformer"
    before = embed(finetuner.load_model(folder, **options))
    after = embed(run.encoder)
    assert after.shape == (len(TEXTS), options.get("head", WIDTH))
    assert np.abs(after - before).max() > 1e-4
    run.save(tmp_path / "run")
    shutil.rmtree(preset)
    again = finetuner.load(tmp_path / "run")
    np.testing.assert_array_equal(embed(again), after)
    np.testing.assert_array_equal(embed(again, side=1), embed(run.encoder, side=1))
    again.save(tmp_path / "again")
    np.testing.assert_array_equal(embed(finetuner.load(tmp_path / "again")), after)


def test_pairs_workers_and_length_groups(folder):
    encoder = finetuner.load_model(folder)
    pairs = finetuner.PairDataset(["card", "pin", "it is late"] * 4, ["late", "lost", "where"] * 4)
    run = finetuner.fit(encoder, pairs, max_steps=2, batch_size=6, num_workers=2, callbacks=[])
    assert type(run.tuner.loss).__name__ == "CLIPLoss"
    assert np.isfinite(embed(run.encoder)).all()


def test_export(folder, tmp_path):
    import keras

    if keras.backend.backend() == "torch":
        pytest.skip("no SavedModel")
    pytest.importorskip("tensorflow")
    encoder = finetuner.load_model(folder, head=4)
    if keras.backend.backend() == "jax":  # KerasHub's layer of positions asks for the length
        with pytest.raises(ValueError, match="the model cannot be exported to saved-model: ") as caught:
            encoder.export(tmp_path / "saved", "saved-model")
        assert "\n" not in str(caught.value)
    else:
        assert encoder.export(tmp_path / "saved", "saved-model") < 1e-4


# Images ------------------------------------------------------------------------------------------------------


def test_images(hub, image_folder, tmp_path, pillow):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (3, IMAGE, IMAGE, 3), dtype=np.uint8)
    inputs = hub.layers.ImageConverter.from_preset(str(image_folder))(pixels)
    maps = np.array(hub.models.Backbone.from_preset(str(image_folder))(inputs), np.float64)
    encoder = finetuner.load_model(image_folder)
    assert encoder.source.kind == "vision"
    scale = np.abs(maps).max()
    np.testing.assert_allclose(encoder.embed(pixels), maps.mean(axis=(1, 2)), atol=1e-5 * scale)
    expected = (np.maximum(maps, 1e-6) ** 3).mean(axis=(1, 2)) ** (1 / 3)
    np.testing.assert_allclose(finetuner.load_model(image_folder, pooler="GeM").embed(pixels), expected, atol=1e-5)
    paths = [tmp_path / f"{number}.png" for number in range(len(pixels))]
    for path, array in zip(paths, pixels, strict=True):
        pillow.fromarray(array).save(path)
    np.testing.assert_allclose(encoder.embed(paths), encoder.embed(pixels), atol=1e-6 * scale)


def test_an_image_model_is_trained_and_opens_by_itself(image_folder, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (12, 40, 50, 3), dtype=np.uint8)
    options = {"head": 5, "pooler": "GeM", "image_size": 24}
    preset = shutil.copytree(image_folder, tmp_path / "preset")
    run = finetuner.fit(
        str(preset), (images, np.arange(12) % 3), epochs=1, batch_size=6, model_options=options, callbacks=[]
    )
    run.save(tmp_path / "run")
    shutil.rmtree(preset)
    again = finetuner.load(tmp_path / "run")
    np.testing.assert_array_equal(again.embed(images), run.encoder.embed(images))
    assert again.embed(images).shape == (12, 5)
    assert again.collate_fn.transform.size == (24, 24)


def test_a_class_token(hub, tmp_path):
    backbone = hub.models.ViTBackbone((IMAGE, IMAGE, 3), 16, 1, 2, 8, 16)
    randomize(backbone)
    backbone.save_to_preset(str(tmp_path))
    hub.layers.ViTImageConverter(image_size=(IMAGE, IMAGE), scale=1 / 127.5, offset=-1).save_to_preset(str(tmp_path))
    pixels = np.random.default_rng(0).integers(0, 256, (2, IMAGE, IMAGE, 3), dtype=np.uint8)
    expected = np.array(backbone(pixels / np.float32(127.5) - 1))[:, 0]
    np.testing.assert_allclose(finetuner.load_model(tmp_path).embed(pixels), expected, atol=1e-5)


# Bad input ---------------------------------------------------------------------------------------------------


def test_sources_that_are_no_presets(hub, folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="a preset of KerasHub must be a name or an existing folder, got ./no"):
        finetuner.load_model("kerashub:./nothing")
    with pytest.raises(ValueError, match="keras_hub has no preset 'bert_tiny_en_uncase'; did you mean 'bert_tiny_en_u"):
        finetuner.load_model("kerashub:bert_tiny_en_uncase")
    with pytest.raises(ValueError, match="must be the folder of a preset of KerasHub, and its config.json names no"):
        finetuner.load_model(f"kerashub:{tmp_path}")
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    with pytest.raises(FileNotFoundError, match="must be a name or an existing folder, got .*gguf"):
        finetuner.load_model(f"kerashub:{tmp_path / 'model.gguf'}")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ValueError, match="must be the folder of a preset of KerasHub"):
        finetuner.load_model(f"kerashub:{tmp_path}")
    with pytest.raises(ValueError, match="is a model of keras, and cannot be opened in pytorch"):
        importlib.import_module("finetuner.models.vision").of_framework("keras", Named("pytorch"), "cpu", "it")


class Named:
    def __init__(self, name):
        self.name = name


def test_a_name_without_network(hub, monkeypatch):
    import kagglehub

    def fail(*args, **options):
        raise OSError("no route\nto host")

    monkeypatch.setattr(kagglehub, "model_download", fail)
    with pytest.raises(ValueError, match="^kerashub:bert_tiny_en_uncased cannot be opened: OSError: no route to host$"):
        finetuner.load_model("kerashub:bert_tiny_en_uncased")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: (path / "model.weights.h5").write_bytes(b"no"), "cannot be opened: "),
        (lambda path: cut(path / "model.weights.h5"), "cannot be opened: "),
        (lambda path: (path / "model.weights.h5").unlink(), "cannot be opened: "),
        (lambda path: change(path / "config.json", hidden_dim=8), "cannot be opened: "),
        (lambda path: change(path / "config.json", num_layers=3), "cannot be opened: "),
        (lambda path: (path / "tokenizer.json").unlink(), "cannot be opened: .*tokenizer.json"),
        (lambda path: (path / "assets" / "tokenizer" / "vocabulary.txt").unlink(), "cannot be opened: "),
        (lambda path: (path / "tokenizer.json").write_text("{"), "tokenizer.json must be a JSON file"),
    ],
)
def test_damaged_presets(folder, tmp_path, damage, message):
    path = shutil.copytree(folder, tmp_path / "preset")
    damage(path)
    with pytest.raises(ValueError, match=message) as caught:
        finetuner.load_model(path)
    assert "\n" not in str(caught.value)


def cut(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def change(path, **config):
    settings = json.loads(path.read_text())
    settings["config"].update(config)
    path.write_text(json.dumps(settings))


def test_code_is_refused(folder, tmp_path):
    path = shutil.copytree(folder, tmp_path / "preset")
    tokenizer = json.loads((path / "tokenizer.json").read_text())
    code = {**tokenizer, "module": "os", "class_name": "system", "registered_name": "system"}
    (path / "tokenizer.json").write_text(json.dumps(code))
    with pytest.raises(ValueError, match="names code, os.system"):
        finetuner.load_model(path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_length": 25}, "max_length must be at most 24, the positions of"),
        ({"pooler": "maen"}, "pooler must be a known name, got 'maen'; did you mean 'mean'"),
        ({"image_size": 32}, "image_size must be used with an image model; .* is a model of texts"),
        ({"padding_token": "x"}, "padding_token must be used with a model of transformers"),
        ({"pooler_options": {"p": 2}}, "pooler_options must be used with a pooler, got {'p': 2} and no pooler"),
        ({"head": -1}, "head must be at least 1, got -1"),
        ({"head_type": "MLP"}, "head_type must be used with a head"),
    ],
)
def test_options_that_do_not_fit(folder, options, message):
    with pytest.raises(ValueError, match=message):
        finetuner.load_model(folder, **options)


def test_a_pooler_of_another_kind(folder):
    with pytest.raises(TypeError, match="pooler must be a name or a pooler of finetuner, got int"):
        finetuner.load_model(folder, pooler=3)


def test_items_of_the_other_kind(folder, image_folder):
    texts, images = finetuner.load_model(folder), finetuner.load_model(image_folder)
    with pytest.raises(TypeError, match=r"items must be texts, got an array of uint8 \[2, 8, 8, 3\]"):
        texts.embed(np.zeros((2, 8, 8, 3), np.uint8))
    with pytest.raises(TypeError, match="items must be texts, got NoneType at item 1: None"):
        texts.embed(["card", None])
    with pytest.raises(TypeError, match="items must be images, got the text 'card' at item 0, which is no file"):
        images.embed(["card"])
    with pytest.raises(ValueError, match="max_length must be used with a text model"):
        finetuner.load_model(image_folder, max_length=8)


def test_backbones_that_are_refused(hub, tmp_path):
    network = hub.models.FNetBackbone(len(WORDS), 1, WIDTH, 32, max_sequence_length=POSITIONS)
    network.save_to_preset(str(tmp_path / "fnet"))
    with pytest.raises(ValueError, match="must take token_ids, padding_mask, segment_ids and return the states"):
        finetuner.load_model(tmp_path / "fnet")
    decoder = hub.models.GPT2Backbone(len(WORDS), 1, 2, WIDTH, 32, max_sequence_length=POSITIONS)
    decoder.save_to_preset(str(tmp_path / "gpt"))
    with pytest.raises(ValueError, match="cannot be opened: .* compatible with GPT2Backbone"):
        finetuner.load_model(tmp_path / "gpt")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of masks in T5's own layers
        both = hub.models.T5Backbone(len(WORDS), 1, 2, WIDTH, 32)
    both.save_to_preset(str(tmp_path / "t5"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ValueError, match="must take texts, or images and return maps .*, and is a T5Backbone"):
            finetuner.load_model(tmp_path / "t5")
