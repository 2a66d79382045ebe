"""The command ``evaluate`` on files of embeddings: all parts, a part of the queries, and sums of parts."""

import json
from pathlib import Path

import numpy as np
import pytest

from finetuner.evaluation import retrieval_metrics

from .commands import error, folder, model, run  # noqa: F401  (folder and model are fixtures)
from .toy import TEST

RNG = np.random.default_rng(0)
X = RNG.integers(-1, 2, size=(60, 4)).astype(np.float32)  # with ties and duplicates
LABELS = np.array(["cat", "dog", "bird"])[RNG.integers(3, size=60)]
NAMES = ["hit@1", "mAP@R", "nDCG@10"]
METRICS = [option for name in NAMES for option in ("--metric", name)]


def evaluate(*arguments, code=0):
    pytest.importorskip("faiss")
    result = run("evaluate", *map(str, arguments), code=code)
    return json.loads(result.stdout) if code == 0 and "--json" in arguments else result


def write_parts(cuts=(0, 7, 7, 40, 60), suffix=".npz", **arrays):
    """The parts 1 to 4 of the embeddings. The second is empty."""
    for number, (start, stop) in enumerate(zip(cuts, cuts[1:], strict=False), 1):
        path = Path(f"part-{number}{suffix}")
        if suffix == ".npz":
            recorded = {"part": np.array([number, len(cuts) - 1])}
            np.savez(path, embeddings=X[start:stop], labels=LABELS[start:stop], **recorded, **arrays)
        else:
            rows = [{"topic": LABELS[i], "embedding": X[i].tolist()} for i in range(start, stop)]
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize("excluded", [False, True])
def test_parts_have_the_metrics_of_one_process(folder, excluded):
    more = ["--exclude-duplicates"] if excluded else []
    expected = retrieval_metrics(X, LABELS, metrics=NAMES, distance="euclidean", exclude_duplicates=excluded)
    write_parts()
    chosen = ("--embeddings", "part-*.npz", "--distance", "euclidean", *METRICS, *more)
    assert evaluate(*chosen, "--json") == pytest.approx(expected, rel=1e-12)
    given = [option for number in (3, 1, 4, 2) for option in ("--embeddings", f"part-{number}.npz")]
    assert evaluate(*given, *chosen[2:], "--json") == pytest.approx(expected, rel=1e-12)
    for number in range(1, 4):
        result = evaluate(*chosen, "--part", f"{number}/3", "--output", f"sums-{number}.json")
        assert result.stdout == ""
        assert f"sums-{number}.json  part {number}/3, " in result.stderr
    assert evaluate("--sums", "sums-*.json", "--json") == pytest.approx(expected, rel=1e-12)
    table = evaluate("--sums", "sums-*.json").stdout
    assert all(name in table for name in NAMES)


def test_an_index_in_parts(folder):
    write_parts()
    np.savez("queries.npz", embeddings=X[:9], labels=LABELS[:9])
    expected = retrieval_metrics(X[:9], LABELS[:9], X, LABELS, metrics=NAMES)
    chosen = ("--embeddings", "queries.npz", "--index-embeddings", "part-*.npz", *METRICS)
    assert evaluate(*chosen, "--json") == pytest.approx(expected, rel=1e-12)
    for number in (1, 2):
        evaluate(*chosen, "--part", f"{number}/2", "--output", f"sums-{number}.json")
    assert evaluate("--sums", "sums-1.json", "--sums", "sums-2.json", "--json") == pytest.approx(expected, rel=1e-12)


def test_tables_of_embeddings(folder):
    expected = retrieval_metrics(X, LABELS, metrics=NAMES)
    write_parts(suffix=".jsonl")
    chosen = ("--embeddings", "part-*.jsonl", "--label-column", "topic", *METRICS, "--json")
    assert evaluate(*chosen) == pytest.approx(expected, rel=1e-12)
    sizes = evaluate(*chosen, "--dims", "4,2")
    assert {name: sizes[name] for name in NAMES} == pytest.approx(expected, rel=1e-12)
    half = retrieval_metrics(X[:, :2], LABELS, metrics=NAMES)
    assert {name: sizes[f"dim_2/{name}"] for name in NAMES} == pytest.approx(half, rel=1e-12)


@pytest.mark.parametrize("suffix", [".npz", ".parquet", ".jsonl"])
def test_embedded_parts_have_the_metrics_of_the_data(model, folder, suffix):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    pytest.importorskip("faiss")
    data = "test.npz"
    if suffix != ".npz":
        data = "test.jsonl"
        rows = [{"x": x.tolist(), "y": f"class {y}"} for x, y in zip(TEST.x, TEST.classes[TEST.labels], strict=True)]
        Path(data).write_text("\n".join(map(json.dumps, rows)))
    own = ("--model", f"{model}:make", "--data", data, "--input-column", "x", "--label-column", "y")
    expected = json.loads(run("evaluate", *own, "--distance", "euclidean", "--json").stdout)
    for number in range(1, 4):
        part = ("--batch-size", 10, "--part", f"{number}/3", "--output", f"e-{number}{suffix}")
        run("embed", *own, *map(str, part))
    chosen = ["--embeddings", f"e-*{suffix}", "--distance", "euclidean", "--json"]
    chosen += [] if suffix == ".npz" else ["--label-column", "y"]
    assert evaluate(*chosen) == pytest.approx(expected, rel=1e-6)
    if suffix != ".jsonl":  # which cannot record its part
        Path(f"e-2{suffix}").unlink()
        assert "must be all 3 parts once, and part 2 is missing" in error(evaluate(*chosen, code=1))


def test_label_sets_in_parts(folder):
    sets = RNG.integers(2, size=(60, 3)).astype(bool)
    np.savez("a.npz", embeddings=X[:20], labels=sets[:20], label_names=["a", "b", "c"])
    np.savez("b.npz", embeddings=X[20:], labels=sets[20:], label_names=["a", "b", "c"])
    np.savez("c.npz", embeddings=X[20:], labels=sets[20:], label_names=["a", "c", "b"])
    expected = retrieval_metrics(X, sets, metrics=NAMES)
    chosen = ("--embeddings", "a.npz", *METRICS, "--json", "--embeddings")
    assert evaluate(*chosen, "b.npz") == pytest.approx(expected, rel=1e-12)
    assert "must have the same label_names in all files" in error(evaluate(*chosen, "c.npz", code=1))
    index = ("--embeddings", "b.npz", "--index-embeddings", "c.npz")
    assert "--index-embeddings must have the label_names of" in error(evaluate(*index, code=1))
    rows = [{"topic": [name for name, has in zip("abc", row, strict=True) if has]} for row in sets]
    lines = [json.dumps({**row, "embedding": x.tolist()}) for row, x in zip(rows, X, strict=True)]
    Path("sets.jsonl").write_text("\n".join(lines))
    table = ("--embeddings", "sets.jsonl", "--label-column", "topic", *METRICS, "--json")
    assert evaluate(*table) == pytest.approx(expected, rel=1e-12)


def test_the_distance_of_the_run(model, folder):
    chosen = ("--loss", "TripletLoss", "--loss-option", "distance=euclidean", "--epochs", 1, "--output", "run")
    run("fit", "--data", "train.npz", "--model", f"{model}:make", *chosen)
    write_parts()
    expected = [retrieval_metrics(X, LABELS, metrics=["mAP"], distance=name)["mAP"] for name in ("euclidean", "cosine")]
    assert expected[0] != pytest.approx(expected[1], rel=1e-3)
    chosen = ("--embeddings", "part-*.npz", "--metric", "mAP", "--json")
    assert evaluate(*chosen, "--run", "run")["mAP"] == pytest.approx(expected[0], rel=1e-12)
    assert evaluate(*chosen)["mAP"] == pytest.approx(expected[1], rel=1e-12)


WRONG = {
    "nothing": ([], "--data must be given, or --embeddings or --sums, got none of them"),
    "part of data": (["--data", "test.npz", "--part", "1/2"], "--part must be used with --embeddings, got 1/2"),
    "index of data": (
        ["--data", "test.npz", "--index-embeddings", "part-*.npz"],
        "--index-embeddings must be used with --embeddings",
    ),
    "both": (["--embeddings", "part-*.npz", "--data", "test.npz"], "--data must not be given with --embeddings"),
    "model": (["--embeddings", "part-*.npz", "--model", "a.py:make"], "--model must not be given with --embeddings"),
    "image size": (["--embeddings", "part-*.npz", "--image-size", 3], "--image-size must not be given with --embed"),
    "missing": (["--embeddings", "part-[134].npz"], "--embeddings must be all 4 parts once, and part 2 is missing"),
    "twice": (
        ["--embeddings", "part-*.npz", "--embeddings", "part-1.npz"],
        "--embeddings must be all 4 parts once, and there are 5 files",
    ),
    "mixed": (
        ["--embeddings", "part-*.npz", "--embeddings", "plain.npz"],
        "--embeddings must be all parts of one embedding, got the parts 1/4, 2/4, 3/4, 4/4, none",
    ),
    "unlabelled": (
        ["--embeddings", "bare.npz"],
        "bare.npz must have the array 'labels' and has embeddings; `finetuner",
    ),
    "npy": (["--embeddings", "e.npy"], "--embeddings must be .npz, .parquet or .jsonl, which have labels, got e.npy"),
    "bits": (["--embeddings", "bits.npz"], "bits.npz must have embeddings of dtype float32, got int8"),
    "sizes": (
        ["--embeddings", "plain.npz", "--embeddings", "wide.npz"],
        "--embeddings must have embeddings of one size",
    ),
    "types": (
        ["--embeddings", "plain.npz", "--embeddings", "numbers.npz"],
        "--embeddings must have labels of one type in all files, got the kinds U, i",
    ),
    "no file": (["--embeddings", "none-*.npz"], "none-*.npz must be a file, and is not"),
    "no column": (["--embeddings", "t.jsonl"], "--label-column must be given for a table, got t.jsonl"),
    "other column": (
        ["--embeddings", "t.jsonl", "--label-column", "z"],
        "t.jsonl must have the --label-column 'z', and has 'y', 'embedding'",
    ),
    "column of npz": (["--embeddings", "plain.npz", "--label-column", "y"], "--label-column must be used with a table"),
    "wrong part": (["--embeddings", "plain.npz", "--part", "3/2"], "--part must be NUMBER/PARTS"),
    "no output": (
        ["--embeddings", "plain.npz", "--part", "1/2"],
        "--part must be given with --output, got no --output",
    ),
    "no part": (
        ["--embeddings", "plain.npz", "--output", "s.json"],
        "--output must be given with --part, got no --part",
    ),
    "suffix": (
        ["--embeddings", "plain.npz", "--part", "1/2", "--output", "s.npz"],
        "--output must end in .json, got s.npz",
    ),
    "dims": (
        ["--embeddings", "plain.npz", "--part", "1/2", "--output", "s.json", "--dims", "2"],
        "--dims must not be given with --part",
    ),
    "one of two sums": (["--sums", "half.json"], "all 2 parts must be added up, and part 2 is missing"),
    "sums twice": (
        ["--sums", "half.json", "--sums", "half.json"],
        "each part must be added once, got part 1 of 2 twice",
    ),
    "sums and more": (["--sums", "half.json", "--metric", "hit@1"], "--metric must not be given with --sums"),
    "no sums": (["--sums", "t.jsonl"], "t.jsonl must have the sums of a part, and cannot be read"),
}


@pytest.mark.parametrize("case", WRONG)
def test_embeddings_that_cannot_be_measured(folder, case):
    arguments, message = WRONG[case]
    write_parts()
    np.savez("plain.npz", embeddings=X, labels=LABELS)
    np.savez("bare.npz", embeddings=X)
    np.savez("bits.npz", embeddings=np.zeros((4, 2), np.int8), labels=LABELS[:4])
    np.savez("wide.npz", embeddings=np.ones((4, 9), np.float32), labels=LABELS[:4])
    np.savez("numbers.npz", embeddings=X, labels=np.arange(60))
    np.save("e.npy", X)
    Path("t.jsonl").write_text('{"y": 1, "embedding": [1, 2]}\n')
    half = {"sums": {"hit@1": 1.0}, "count": 2, "parts": [1], "num_parts": 2, "settings": {}}
    Path("half.json").write_text(json.dumps(half))
    assert error(evaluate(*arguments, code=1)).startswith(message)
    assert not Path("s.json").exists()
