"""Exports of each framework: what was written is opened by the tool that it is for, and compared with the encoder."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

import finetuner
from finetuner.models.export import exporting

tokenizers = pytest.importorskip("tokenizers")
WORDS = ["[PAD]", "[UNK]", *(f"word{number}" for number in range(48))]
TABLE = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)
TEXTS = ["word1 word2 word2", "word40", "word3 nothing word4", "", "word5 " * 40, "word9"]
IMAGES = np.random.default_rng(0).normal(size=(7, 3, 8, 8)).astype(np.float32)
FOLDERS = ("saved-model", "paddle-inference", "sentence-transformers")
LIBRARIES = {
    ("pytorch", "onnx"): ("onnx", "onnxscript", "onnxruntime"),
    ("torch", "onnx"): ("onnx", "onnxscript", "onnxruntime"),
    ("tensorflow", "onnx"): ("onnx", "tf2onnx", "onnxruntime"),
    ("jax", "onnx"): ("onnx", "jax2onnx", "onnxruntime"),
    ("paddle", "onnx"): ("onnx", "paddle2onnx", "onnxruntime"),
    ("tensorflow", "saved-model"): (),
    ("jax", "saved-model"): ("tensorflow",),
    ("tensorflow", "litert"): ("ai_edge_litert",),
    ("pytorch", "torch-export"): (),
    ("paddle", "paddle-inference"): (),
    ("pytorch", "sentence-transformers"): ("sentence_transformers",),
    **{(engine, "sentence-transformers"): () for engine in ("tensorflow", "jax", "torch", "paddle")},
}


def engine_of(backend):
    return getattr(backend, "engine", backend.name)


def skip_unless(backend, format):
    if (engine_of(backend), format) not in LIBRARIES:
        pytest.skip("not a format of this engine")
    for library in LIBRARIES[engine_of(backend), format]:
        pytest.importorskip(library)


@pytest.fixture
def static(backend, tmp_path):
    """The encoder of static embeddings of model2vec, which leaves out unknown words."""
    words = {word: number for number, word in enumerate(WORDS)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing("[PAD] $A", None, [("[PAD]", 0)])
    folder = tmp_path / "model"
    folder.mkdir()
    save_file({"embeddings": TABLE}, folder / "model.safetensors")
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"model_type": "model2vec", "normalize": True, "max_length": 16}
    (folder / "config.json").write_text(json.dumps(config))
    return finetuner.load_model(folder, framework=backend.name)


def conv_model(backend):
    """A small model of images, with what differs between training and evaluation."""
    if backend.name == "keras":
        from keras import Input, Sequential, layers

        parts = layers.Conv2D(4, 3), layers.BatchNormalization(), layers.Dropout(0.5), layers.GlobalAveragePooling2D()
        return Sequential([Input((8, 8, 3)), *parts, layers.Dense(5)])
    if backend.name == "paddle":
        from paddle import nn

        parts = nn.Conv2D(3, 4, 3), nn.BatchNorm2D(4), nn.Dropout(0.5), nn.AdaptiveAvgPool2D(1), nn.Flatten()
    else:
        from torch import nn

        parts = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return nn.Sequential(*parts, nn.Linear(4, 5))


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.filterwarnings("ignore:.* of 6 texts")
@pytest.mark.parametrize("format", list(exporting.FORMATS))
def test_static_embeddings(backend, static, tmp_path, format):
    skip_unless(backend, format)
    before = static.embed(TEXTS)
    assert static.export(tmp_path / "new" / "out", format, TEXTS) < 1e-5
    folder = tmp_path / "new" / "out" if format in FOLDERS else tmp_path / "new"
    assert names_in(tmp_path / "new") == (["out"] if format in FOLDERS else ["out", "tokenizer.json"])
    np.testing.assert_array_equal(static.embed(TEXTS), before)  # the encoder is as it was
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    rows = tokenizer.encode_batch(TEXTS[:2])
    assert [row.ids for row in rows] == [[3, 4, 4], [42, 0, 0]]
    assert [row.attention_mask for row in rows] == [[1, 1, 1], [1, 0, 0]]


@pytest.mark.filterwarnings("ignore:.* of 6 texts")
def test_onnx_of_static_embeddings_runs_alone(backend, static, tmp_path):
    skip_unless(backend, "onnx")
    import onnxruntime

    static.export(tmp_path / "model.onnx", items=TEXTS)
    tokenizer = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    assert [one.name for one in session.get_outputs()] == ["sentence_embedding"]
    for texts in (TEXTS, TEXTS[:1], TEXTS[1:3]):
        rows = tokenizer.encode_batch(texts)
        arrays = {"input_ids": [r.ids for r in rows], "attention_mask": [r.attention_mask for r in rows]}
        types = {one.name: np.int32 if "int32" in one.type else np.int64 for one in session.get_inputs()}
        found = session.run(None, {name: np.array(arrays[name], kind) for name, kind in types.items()})[0]
        np.testing.assert_allclose(found, static.embed(texts), atol=1e-5)


@pytest.mark.filterwarnings("ignore:.* of .* texts")
@pytest.mark.parametrize("kind", ["linear", "mlp"])
@pytest.mark.parametrize("format", list(exporting.FORMATS))
def test_adapters(backend, static, tmp_path, format, kind):
    """The sample is of texts of our own. The adapter is far from the identity."""
    skip_unless(backend, format)
    data = ["word1", "word1 word2", "word5", "word5 word6"] * 4, ["a", "a", "b", "b"] * 4
    encoder = finetuner.fit(static, data, adapter=kind, epochs=30, learning_rate=0.1, callbacks=[]).encoder
    assert np.abs(encoder.embed(TEXTS) - static.embed(TEXTS)).max() > 0.1
    assert encoder.export(tmp_path / "default", format) < 1e-5
    assert encoder.export(tmp_path / "new" / "out", format, TEXTS) < 1e-5


@pytest.mark.filterwarnings("ignore:.* of .* texts")
def test_the_folder_of_static_embeddings(backend, static, tmp_path):
    """Unknown words, and characters after the largest number, do not count. The folder opens here too."""
    skip_unless(backend, "sentence-transformers")
    texts = [*TEXTS, "word1 " + 30 * "nothing " + "word2", "nothing", "word7 word8 word9 " * 9]
    static.export(tmp_path / "out", "sentence-transformers", texts)
    listed = json.loads((tmp_path / "out" / "modules.json").read_text())
    assert [one["type"].rpartition(".")[2] for one in listed] == ["StaticEmbedding", "Normalize"]
    opened = finetuner.load_model(tmp_path / "out", framework=backend.name)
    np.testing.assert_allclose(opened.embed(texts), static.embed(texts), atol=1e-6)
    assert "library_name: sentence-transformers" in (tmp_path / "out" / "README.md").read_text()
    if backend.name == "pytorch":
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(str(tmp_path / "out"), device="cpu")
        np.testing.assert_allclose(model.encode(texts), static.embed(texts), atol=1e-6)


def test_what_sentence_transformers_does_not_have(backend, static, tmp_path):
    skip_unless(backend, "sentence-transformers")
    static.embed_model.normalize = False
    with pytest.raises(ValueError, match="embeddings must have length 1 to be exported to sentence-transformers"):
        static.export(tmp_path / "out", "sentence-transformers")
    encoder = finetuner.load_model(conv_model(backend))
    with pytest.raises(ValueError, match="the model must be one of transformers or sentence-transformers, or static"):
        encoder.export(tmp_path / "out", "sentence-transformers", backend.layout(IMAGES))
    tokenize = static.collate_fn
    static.use_functions(None, lambda texts: tokenize(texts))
    with pytest.raises(ValueError, match="the collate_fn must be the model's own to be exported, got one of yours"):
        static.export(tmp_path / "out", "sentence-transformers")
    assert names_in(tmp_path) == ["model"]


@pytest.mark.parametrize("format", [one for one in exporting.FORMATS if one != "sentence-transformers"])
def test_images(backend, tmp_path, format):
    skip_unless(backend, format)
    model, images = conv_model(backend), backend.layout(IMAGES)
    encoder = finetuner.load_model(model)
    with pytest.raises(ValueError, match="items must be given to compare the export with"):
        encoder.export(tmp_path / "new" / "out", format)
    assert not names_in(tmp_path)
    assert encoder.export(tmp_path / "out", format, images) < 1e-5
    assert names_in(tmp_path) == ["out"]
    assert getattr(model, "training", True)  # of PyTorch and Paddle: the mode is as it was
    with pytest.raises(FileExistsError, match="must not exist"):
        encoder.export(tmp_path / "out", format, images)


def test_formats_that_are_refused(backend, tmp_path):
    encoder = finetuner.load_model(conv_model(backend))
    for format, writers in exporting.FORMATS.items():
        if backend.name not in writers:
            with pytest.raises(ValueError, match=rf"the format of a {backend.name} model must be .*, got {format}"):
                encoder.export(tmp_path / "out", format, backend.layout(IMAGES))
    with pytest.raises(ValueError, match="format must be one of"):
        encoder.export(tmp_path / "out", "onyx", backend.layout(IMAGES))
    if engine_of(backend) == "torch":
        with pytest.raises(ValueError, match="must be used with Keras on TensorFlow or JAX"):
            encoder.export(tmp_path / "out", "saved-model", backend.layout(IMAGES))
    if engine_of(backend) in ("jax", "torch"):
        with pytest.raises(ValueError, match="the format litert must be used with Keras on TensorFlow, got Keras on"):
            encoder.export(tmp_path / "out", "litert", backend.layout(IMAGES))
    assert not names_in(tmp_path)


def test_litert(backend, static, tmp_path):
    """A file runs with batches and lengths of other sizes; operations of TensorFlow alone are refused."""
    skip_unless(backend, "litert")
    import keras
    from ai_edge_litert.interpreter import Interpreter

    static.export(tmp_path / "model.tflite", items=TEXTS[:1])
    signature = Interpreter(model_path=str(tmp_path / "model.tflite")).get_signature_runner()
    found = signature(**static.collate_fn(TEXTS[:3]))["sentence_embedding"]
    np.testing.assert_allclose(found, static.embed(TEXTS[:3]), atol=1e-6)

    class Unknown(keras.layers.Layer):  # the converter does not know this operation
        def call(self, x):
            return keras.ops.erfinv(x)

    class Inverse(keras.layers.Layer):  # the interpreter does not have this operation of TensorFlow
        def call(self, x):
            return keras.ops.inv(x[:, :, None] * keras.ops.eye(3))[:, 0]

    for layer, operation in ((Unknown(), "Erfinv"), (Inverse(), "FlexMatrixInverse")):
        encoder = finetuner.load_model(keras.Sequential([keras.Input((3,)), layer]))
        with pytest.raises(ValueError, match=f"must have operations of LiteRT alone, which lacks: {operation}$"):
            encoder.export(tmp_path / "out", "litert", np.full((2, 3), 0.5, np.float32))
    assert names_in(tmp_path) == ["model", "model.tflite", "tokenizer.json"]


def test_a_missing_library_is_named(backend, tmp_path, monkeypatch):
    import sys

    if engine_of(backend) == "tensorflow":
        monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
        with pytest.raises(ImportError, match=r'this export needs ai_edge_litert: pip install "finetuner\[litert\]"'):
            finetuner.load_model(conv_model(backend)).export(tmp_path / "out", "litert", backend.layout(IMAGES))
    library = LIBRARIES[engine_of(backend), "onnx"][1]
    monkeypatch.setitem(sys.modules, library, None)
    encoder = finetuner.load_model(conv_model(backend))
    pytest.importorskip("onnx")
    with pytest.raises(ImportError, match=rf'this export needs {library}: pip install "finetuner\[onnx'):
        encoder.export(tmp_path / "new" / "model.onnx", items=backend.layout(IMAGES))
    assert not names_in(tmp_path)


def test_an_export_that_differs_leaves_nothing(backend, tmp_path, monkeypatch):
    format = {"pytorch": "torch-export", "paddle": "paddle-inference", "keras": "saved-model"}[backend.name]
    skip_unless(backend, format)
    embed = exporting.embed
    monkeypatch.setattr(exporting, "embed", lambda encoder, sample: embed(encoder, sample) + 2e-4)
    encoder = finetuner.load_model(conv_model(backend))
    with pytest.raises(ValueError, match="must be within 0.0001 of those of the encoder, got 0.0002"):
        encoder.export(tmp_path / "new" / "out", format, backend.layout(IMAGES))
    assert not names_in(tmp_path)


@pytest.mark.filterwarnings("ignore:.* of .* texts")
def test_export_of_a_run_and_on_the_command_line(backend, static, tmp_path):
    format = {"pytorch": "torch-export", "paddle": "paddle-inference", "keras": "saved-model"}[backend.name]
    skip_unless(backend, format)
    from typer.testing import CliRunner

    from finetuner.cli.commands import app

    data = ["word1", "word1 word2", "word5", "word5 word6"] * 4, ["a", "a", "b", "b"] * 4
    run = finetuner.fit(static, data, data, epochs=1, callbacks=[])
    assert run.export(tmp_path / "of-run", format) < 1e-5
    run.save(tmp_path / "run")
    assert finetuner.load(tmp_path / "run").record["metrics"].keys() == {"before", "after"}
    result = CliRunner().invoke(app, ["export", str(tmp_path / "run"), str(tmp_path / "out"), "--format", format])
    assert result.exit_code == 0, result.output
    assert "largest difference" in result.output
    assert (tmp_path / "out").exists()
