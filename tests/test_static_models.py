"""Static embeddings of other libraries: folders of model2vec and sentence-transformers, and the package wordllama."""

import csv
import importlib.util
import json
import pickle
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import finetuner
from finetuner.models.text import TokenizeStatic

from .files import SHARED
from .reference.static import static_embedding

tokenizers = pytest.importorskip("tokenizers")
QUESTIONS = SHARED / "banking77" / "train.csv"
WORDS = ["[PAD]", "[UNK]", *(f"word{number}" for number in range(48))]
TABLE = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)
TEXTS = ["word1 word2 word2", "", "word40", "word3 nothing word4 known here", "unknown", "word5 " * 40, "  word9  "]


def word_tokenizer(words=WORDS, unknown="[UNK]", max_length=None, direction="right"):
    """A tokenizer of whole words, which adds special tokens unless it is told not to."""
    numbers = {word: number for number, word in enumerate(words)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(numbers, unk_token=unknown))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing("[PAD] $A", None, [("[PAD]", 0)])
    tokenizer.enable_padding(pad_id=7, length=64)
    if max_length:
        tokenizer.enable_truncation(max_length, direction=direction)
    return tokenizer


def write(folder, tensors, tokenizer=None, inner="", **files):
    """A folder of a model, with JSON files by name."""
    (folder / inner).mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / inner / "model.safetensors")
    (tokenizer or word_tokenizer()).save(str(folder / inner / "tokenizer.json"))
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def modules(*kinds, path=""):
    return [
        {"idx": number, "name": str(number), "path": f"{number}_{kind}" if number else path, "type": f"a.b.{kind}"}
        for number, kind in enumerate(kinds)
    ]


def model2vec(folder, normalize=True, tensors=None, **config):
    return write(
        folder,
        tensors or {"embeddings": TABLE},
        config={"model_type": "model2vec", "normalize": normalize, "max_length": 512, **config},
        modules=modules(*["StaticEmbedding", "Normalize"][: 1 + normalize], path="."),
    )


def sentence_transformer(folder, *kinds, inner="", tokenizer=None, **files):
    kinds = modules("StaticEmbedding", *kinds, path=inner)
    return write(folder, {"embedding.weight": TABLE}, tokenizer, inner, modules=kinds, **files)


def expected(texts, table=TABLE, normalize=False, keep_unknown=True, cut=slice(None)):
    """Embeddings of texts, whose tokens are their words."""
    rows = []
    for text in texts:
        ids = [WORDS.index(word) if word in WORDS else 1 for word in text.split()][cut]
        ids = ids if keep_unknown else [token for token in ids if token != 1]
        given = np.array([ids or [0]]), np.array([[1] * len(ids) or [0]])
        rows.append(static_embedding(table.astype(np.float64), *given, normalize)[0])
    return np.array(rows)


def open_model(backend, source, **options):
    return finetuner.load_model(source, framework=backend.name, **options)


def assert_embeds(encoder, texts, embeddings):
    with pytest.warns(UserWarning, match="texts are empty"):
        found = encoder.embed(texts)
    np.testing.assert_allclose(found, embeddings, rtol=0, atol=1e-6)


# Folders.


@pytest.mark.parametrize("normalize", [False, True])
def test_model2vec(backend, tmp_path, normalize):
    encoder = open_model(backend, model2vec(tmp_path, normalize))
    assert (encoder.source.kind, encoder.framework.name) == ("static", backend.name)
    assert_embeds(encoder, TEXTS, expected(TEXTS, normalize=normalize, keep_unknown=False))


@pytest.mark.parametrize("config", [{}, {"normalize": True}, None])
def test_model2vec_without_a_name_of_its_kind(backend, tmp_path, config):
    write(tmp_path, {"embeddings": TABLE}, **({} if config is None else {"config": config}))
    assert_embeds(open_model(backend, tmp_path), TEXTS, expected(TEXTS, normalize=bool(config), keep_unknown=False))


def test_model2vec_with_a_small_vocabulary(backend, tmp_path):
    rng = np.random.default_rng(1)
    mapping, factors = rng.integers(0, 5, 50), rng.random(50).astype(np.float32)
    table = TABLE[:5].astype(np.float16)
    model2vec(tmp_path, tensors={"embeddings": table, "mapping": mapping, "weights": factors})
    folded = table.astype(np.float32)[mapping] * factors[:, None]
    assert_embeds(open_model(backend, tmp_path), TEXTS, expected(TEXTS, folded, True, False))


def test_model2vec_cuts_texts(backend, tmp_path):
    text, longer = "word5 word6 word7 word8 word9", "other word5 word6"
    encoder = open_model(backend, model2vec(tmp_path, False, max_length=2))
    with pytest.warns(UserWarning, match=r"2 of 3 texts are longer than 2 tokens and are cut; .* has 5 tokens"):
        found = encoder.embed([text, longer, "word1"])
    words = ["word5 word6", "word5", "word1"]  # the unknown word is cut off before it is left out
    np.testing.assert_allclose(found[0], expected(words)[0], atol=1e-6)
    np.testing.assert_allclose(found[2], expected(words)[2], atol=1e-6)
    collate = encoder.own_functions[1]
    assert collate.max_characters == 2 * 6  # of the median of the lengths of tokens
    np.testing.assert_array_equal(collate([longer])["attention_mask"].sum(axis=1), [1])
    whole = open_model(backend, model2vec(tmp_path / "whole", False, max_length=None))
    long = " ".join(f"word{number % 47}" for number in range(2000))
    np.testing.assert_allclose(whole.embed([long]), expected([long]), atol=1e-6)
    given = open_model(backend, tmp_path / "whole", max_length=1)
    with pytest.warns(UserWarning, match="longer than 1 tokens"):
        np.testing.assert_allclose(given.embed([text]), expected(["word5"]), atol=1e-6)


@pytest.mark.parametrize("inner", ["", ".", "0_StaticEmbedding"])
@pytest.mark.parametrize("kinds", [[], ["Normalize"], ["Dropout", "Normalize"]])
def test_sentence_transformers(backend, tmp_path, inner, kinds):
    sentence_transformer(tmp_path, *kinds, inner=inner)
    assert_embeds(open_model(backend, tmp_path), TEXTS, expected(TEXTS, normalize="Normalize" in kinds))


@pytest.mark.parametrize(("direction", "cut"), [("right", slice(0, 2)), ("left", slice(-2, None))])
def test_sentence_transformers_cut_as_the_tokenizer_says(backend, tmp_path, direction, cut):
    sentence_transformer(tmp_path, tokenizer=word_tokenizer(max_length=2, direction=direction))
    texts = ["word1 word2 word3", "word4"]
    with pytest.warns(UserWarning, match="longer than 2 tokens"):
        found = open_model(backend, tmp_path).embed(texts)
    np.testing.assert_allclose(found, expected(texts, cut=cut), atol=1e-6)


def test_prompts(backend, tmp_path):
    settings = {"prompts": {"query": "word1 ", "document": "word2 "}, "default_prompt_name": "query"}
    sentence_transformer(tmp_path, config_sentence_transformers=settings)
    np.testing.assert_allclose(open_model(backend, tmp_path).embed(["word3"]), expected(["word1 word3"]), atol=1e-6)
    encoder = open_model(backend, tmp_path, prompts=("word7 ", "word8 "))
    for side, prompt in enumerate(["word7", "word8"]):
        found = encoder.embed(["word3"], side=side)
        np.testing.assert_allclose(found, expected([f"{prompt} word3"]), atol=1e-6)


def test_bfloat16(backend, tmp_path):
    """A type that numpy does not have."""
    short = TABLE.view(np.uint32) >> 16
    data, path = short.astype("<u2").tobytes(), model2vec(tmp_path) / "model.safetensors"
    header = json.dumps({"embeddings": {"dtype": "BF16", "shape": [50, 8], "data_offsets": [0, len(data)]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + data)
    table = (short << 16).astype(np.uint32).view(np.float32)
    assert np.abs(table - TABLE).max() < 0.02
    assert_embeds(open_model(backend, tmp_path), TEXTS, expected(TEXTS, table, True, False))


# Frameworks, training and saving.


def test_the_default_is_the_first_framework_that_is_installed(backend, tmp_path, monkeypatch):
    found = importlib.util.find_spec
    installed = {"pytorch": "torch", "keras": "keras", "paddle": "paddle"}[backend.name]
    others = {"torch", "keras", "paddle"} - {installed}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name in others else found(name, *rest))
    assert finetuner.load_model(model2vec(tmp_path)).framework.name == backend.name


def test_bad_framework(backend, tmp_path):
    with pytest.raises(ValueError, match=r"framework must be one of .*, got 'pytorh'; did you mean 'pytorch'\?"):
        finetuner.load_model(model2vec(tmp_path), framework="pytorh")


def test_fit_save_and_load(backend, tmp_path):
    rng = np.random.default_rng(0)
    y = np.arange(64) % 4
    texts = [" ".join(f"word{10 * label + rng.integers(10)}" for _ in range(1 + rng.integers(6))) for label in y]
    source = model2vec(tmp_path / "model")
    before = open_model(backend, source).evaluate((texts, y))["mAP@R"]
    run = finetuner.fit(open_model(backend, source), (texts, y), epochs=30, learning_rate=0.05, callbacks=[])
    assert run.encoder.evaluate((texts, y))["mAP@R"] > before + 0.1
    run.save(tmp_path / "run")
    assert (tmp_path / "run" / "tokenizer.json").is_file()
    for opened in (finetuner.load(tmp_path / "run"), finetuner.load_model(tmp_path / "run")):
        np.testing.assert_array_equal(opened.embed(texts), run.encoder.embed(texts))
    again = finetuner.fit(finetuner.load(tmp_path / "run"), (texts, y), epochs=1, callbacks=[])
    assert again.encoder.source.config() == run.encoder.source.config()


def test_a_saved_run_has_its_own_framework(backend, tmp_path):
    encoder = open_model(backend, model2vec(tmp_path / "model"))
    encoder.save(tmp_path / "run")
    found = finetuner.load_model(tmp_path / "run", framework=backend.name)
    np.testing.assert_array_equal(found.embed(["word1"]), encoder.embed(["word1"]))
    assert finetuner.load_model(encoder, framework=backend.name) is encoder
    other = "paddle" if backend.name == "pytorch" else "pytorch"
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    (tmp_path / "run" / "config.json").write_text(json.dumps({**config, "backend": other}))
    with pytest.raises(
        ValueError, match=f"framework must be '{other}' for .*run, a saved run of it, got '{backend.name}'"
    ):
        finetuner.load_model(tmp_path / "run", framework=backend.name)
    encoder.framework.name = other
    with pytest.raises(ValueError, match=f"framework must be '{other}' for an encoder of it, got '{backend.name}'"):
        finetuner.load_model(encoder, framework=backend.name)


def test_a_tuner_opens_the_folder_in_its_framework(backend, tmp_path):
    tuner = backend.Tuner(str(model2vec(tmp_path)), callbacks=[])
    assert tuner.encoder.framework.name == backend.name
    assert tuner.embed(["word1"]).shape == (1, 8)


def test_pairs_of_texts(backend, tmp_path):
    first, second = [[f"word{n} word{n + m}" for n in range(16)] for m in (1, 2)]
    encoder = open_model(backend, model2vec(tmp_path), prompts=("word40 ", "word41 "))
    data = finetuner.PairDataset(first, second)
    run = finetuner.fit(encoder, data, data, epochs=1, batch_size=8, callbacks=[])
    assert np.isfinite(run.history[-1]["loss"])


def test_workers(backend, tmp_path):
    encoder = open_model(backend, model2vec(tmp_path))
    texts = [f"word{number % 40} word3" for number in range(64)]
    np.testing.assert_array_equal(encoder.embed(texts, num_workers=2, batch_size=8), encoder.embed(texts, batch_size=8))


@pytest.mark.parametrize(("name", "value"), [("shape", "many"), ("shape", [50, 0]), ("origin", "a"), ("max_length", 0)])
def test_damaged_run(backend, tmp_path, name, value):
    open_model(backend, model2vec(tmp_path / "model")).save(tmp_path / "run")
    path = tmp_path / "run" / "model.json"
    made = json.loads(path.read_text())
    path.write_text(json.dumps({**made, name: value}))
    with pytest.raises(ValueError, match=f"{re.escape(repr(value))}|got 0"):
        finetuner.load(tmp_path / "run")
    path.write_text(json.dumps({key: value for key, value in made.items() if key != name}))
    with pytest.raises(ValueError, match=f"must say its {name}"):
        finetuner.load(tmp_path / "run")


# Bad input.


@pytest.mark.parametrize("items", [["word1", None], [b"word1"], [1, 2], np.zeros((2, 3)), {"input_ids": [[1]]}])
def test_items_must_be_texts(backend, tmp_path, items):
    with pytest.raises(TypeError, match="items must be texts, got"):
        open_model(backend, model2vec(tmp_path)).embed(items)


@pytest.mark.parametrize("option", ["pooler", "pooler_options", "tokenizer", "padding_token"])
def test_options_of_other_models(backend, tmp_path, option):
    with pytest.raises(ValueError, match=f"{option} must be used with a model of transformers; .* static embeddings"):
        open_model(backend, model2vec(tmp_path), **{option: "mean"})


@pytest.mark.parametrize("length", [0, -1, 2.5, "5"])
def test_bad_max_length(backend, tmp_path, length):
    with pytest.raises((ValueError, TypeError), match="max_length must be"):
        open_model(backend, model2vec(tmp_path), max_length=length)


def test_bad_folders(backend, tmp_path):
    folder = model2vec(tmp_path / "tokens", tensors={"embeddings": TABLE[:40]})
    with pytest.raises(ValueError, match=r"tokens must have a row for each of the 50 tokens, got 40 rows"):
        open_model(backend, folder)
    folder = model2vec(tmp_path / "mapping", tensors={"embeddings": TABLE, "mapping": np.array([0, 50])})
    with pytest.raises(ValueError, match="the mapping of .* must have rows of its table, 0 to 49"):
        open_model(backend, folder)
    folder = model2vec(tmp_path / "weights", tensors={"embeddings": TABLE, "weights": np.ones(3)})
    with pytest.raises(ValueError, match=r"the weights of .* must be 50 numbers, got \[3\]"):
        open_model(backend, folder)
    folder = model2vec(tmp_path / "names", tensors={"vectors": TABLE})
    with pytest.raises(ValueError, match="'embeddings' or 'embedding.weight', got vectors"):
        open_model(backend, folder)
    folder = model2vec(tmp_path / "finite", tensors={"embeddings": TABLE * np.inf})
    with pytest.raises(ValueError, match="table must be finite, and is not in 50 rows"):
        open_model(backend, folder)
    folder = sentence_transformer(tmp_path / "dense", "Dense")
    with pytest.raises(ValueError, match="a module after the static embeddings of .* got 'Dense'"):
        open_model(backend, folder)
    folder = sentence_transformer(tmp_path / "pickle")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(FileNotFoundError, match=r"must have its weights as model\.safetensors, and pickles are not"):
        open_model(backend, folder)
    folder = model2vec(tmp_path / "no tokenizer")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"must have the file tokenizer\.json"):
        open_model(backend, folder)
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match=r"tokenizer\.json cannot be opened"):
        open_model(backend, folder)
    (folder / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"model\.safetensors cannot be opened"):
        open_model(backend, folder)
    for content in ("[]", "{}", "nothing", '[{"path": ""}]'):
        (folder / "modules.json").write_text(content)
        with pytest.raises(ValueError, match=r"modules\.json must list"):
            open_model(backend, folder)


# The tokenizer alone.


def test_arrays_of_the_tokenizer():
    tokenizer = word_tokenizer()
    tokenizer.no_padding()
    collate = TokenizeStatic(tokenizer, None)
    arrays = collate(["word1 word2", "word3", ""])
    assert {name: array.dtype for name, array in arrays.items()} == dict.fromkeys(arrays, np.int64)
    np.testing.assert_array_equal(arrays["input_ids"], [[3, 4], [5, 0], [0, 0]])
    np.testing.assert_array_equal(arrays["attention_mask"], [[1, 1], [1, 0], [0, 0]])
    assert collate([""])["input_ids"].shape == (1, 1)
    few = TokenizeStatic(tokenizer, None, dtype="int32", few_lengths=True)
    shapes = {few(["word1 " * length])["input_ids"].shape[1] for length in range(70)}
    assert shapes == {8, 16, 32, 64, 128}
    assert few(["word1 " * 8])["input_ids"].shape == (1, 8)
    copied = pickle.loads(pickle.dumps(few))(["word1"])
    assert copied["input_ids"].dtype == np.int32
    with pytest.raises(TypeError, match="items must be texts, got int: 3"):
        collate(["word1", 3])


@pytest.mark.parametrize("kind", ["unigram", "wordpiece", "none"])
def test_the_unknown_token(backend, tmp_path, kind):
    words = ["[PAD]", "word1", "word2", "[UNK]"]
    kinds = {
        "unigram": lambda: tokenizers.models.Unigram([(word, -1.0) for word in words], unk_id=3),
        "wordpiece": lambda: tokenizers.models.WordPiece(dict(zip(words, range(4), strict=True)), unk_token="[UNK]"),
        "none": lambda: tokenizers.models.BPE(dict(zip(words, range(4), strict=True)), []),
    }
    tokenizer = tokenizers.Tokenizer(kinds[kind]())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    write(tmp_path, {"embeddings": TABLE[:4]}, tokenizer, config={"model_type": "model2vec"})
    encoder = open_model(backend, tmp_path)
    assert encoder.own_functions[1].unknown == (None if kind == "none" else 3)
    if kind == "wordpiece":
        np.testing.assert_allclose(encoder.embed(["word1 zzz"]), TABLE[1:2], atol=1e-6)


# Against the libraries themselves.


def test_model2vec_itself(backend, tmp_path):
    library = pytest.importorskip("model2vec")
    model = library.StaticModel(TABLE, word_tokenizer(), normalize=True)
    model.save_pretrained(tmp_path)
    texts = [*TEXTS, "word1 " * 600, "averylongunknownword " * 300 + "word1"]
    with pytest.warns(UserWarning, match="texts are (empty|longer)"):
        found = open_model(backend, tmp_path).embed(texts)
    np.testing.assert_allclose(found, model.encode(texts), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kinds", [[], ["Normalize"]])
def test_sentence_transformers_itself(backend, tmp_path, kinds):
    library = pytest.importorskip("sentence_transformers")
    found = importlib.import_module("sentence_transformers.sentence_transformer.modules")
    static = found.StaticEmbedding(word_tokenizer(max_length=20), embedding_weights=TABLE.copy())
    model = library.SentenceTransformer(modules=[static, *(getattr(found, kind)() for kind in kinds)], device="cpu")
    model.save(str(tmp_path))
    sources = [tmp_path] + [model] * (backend.name == "pytorch")
    for source in sources:
        with pytest.warns(UserWarning, match="texts are (empty|longer)"):
            embeddings = open_model(backend, source).embed(TEXTS)
        np.testing.assert_allclose(embeddings, model.encode(TEXTS), rtol=0, atol=1e-5)
    if backend.name == "pytorch":  # an object is trained in place
        y = np.arange(8) % 2
        encoder = open_model(backend, model)
        run = finetuner.fit(encoder, ([f"word{label} word{n}" for n, label in enumerate(y)], y), epochs=1, callbacks=[])
        np.testing.assert_allclose(run.encoder.embed(["word1"]), model.encode(["word1"]), atol=1e-6)
        assert np.abs(static.embedding.weight.detach().numpy() - TABLE).max() > 1e-5


def questions(count):
    with open(QUESTIONS, newline="", encoding="utf-8") as file:
        return [text for text, _ in list(csv.reader(file))[1 : 1 + count]]


def test_wordllama_is_not_imported(backend):
    if importlib.util.find_spec("wordllama") is None:
        with pytest.raises(ImportError, match="this model needs wordllama: pip install wordllama"):
            open_model(backend, "wordllama")
        return
    encoder = open_model(backend, "wordllama")
    assert "wordllama" not in sys.modules
    assert encoder.embed(["What is a token?"]).shape == (1, 256)


@pytest.mark.skipif(not QUESTIONS.exists(), reason="the data is not present")
def test_wordllama_itself(backend):
    library = pytest.importorskip("wordllama")
    texts = [*questions(100), "naïve café 東京", "word " * 700]
    own = library.WordLlama.load(cache_dir=Path(library.__file__).parent)  # it looks for its tokenizer in a cache alone
    np.testing.assert_allclose(open_model(backend, "wordllama").embed(texts), own.embed(texts), rtol=0, atol=1e-5)
