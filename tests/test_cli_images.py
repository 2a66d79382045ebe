"""Images on the command line: tables of paths with splits, queries and gallery, and images that are skipped."""

import json

import numpy as np
import pytest

from .commands import error, fit, folder, model, run  # noqa: F401  (folder and model are fixtures)

IMAGES = ("--image-column", "path", "--image-size", "10x8", "--image-mode", "L")


@pytest.fixture
def table(folder, pillow):
    """A table with 16 images for training, and with 8 queries and 8 items of a gallery of other classes."""
    rows = ["path,label,split,is_query,is_gallery"]
    for i in range(32):
        path = folder / "images" / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        pillow.fromarray(np.random.default_rng(i).integers(0, 255, (9, 12), np.uint8)).save(path)
        split = f"train,{i % 2}," if i < 16 else f"validation,{2 + i % 2},{i // 2 % 2 == 0},{i // 2 % 2 == 1}"
        kind, label, parts = split.split(",", 2)
        rows.append(f"images/{i}.png,{label},{kind},{parts if i >= 16 else ','}")
    (folder / "table.csv").write_text("\n".join(rows) + "\n")
    return folder / "table.csv"


def options(model, *more):
    return ("--data", "table.csv", *IMAGES, "--label-column", "label", "--preprocess", f"{model}:grey", *more)


def test_train_and_search_by_the_columns_of_a_table(model, table):
    result = fit(model, *options(model, "--split", "train", "--eval-split", "validation", "--batch-size", 8))
    lines = [line for line in result.stderr.splitlines() if line.startswith(("train", "eval", "index"))]
    assert [line.split("(")[1] for line in lines] == [
        "16 items, 2 classes)",
        "8 items, 2 classes)",
        "8 items, 2 classes)",
    ]
    command = json.loads((table.parent / "run" / "config.json").read_text())["command"]
    assert (command["split"], command["eval_split"]) == ("train", "validation")
    metrics = json.loads((table.parent / "run" / "metrics.json").read_text())["after"]
    given = ("--data", "table.csv", "--run", "run", "--trust", "--split", "validation", "--json")
    found = json.loads(run("evaluate", *given).stdout)
    assert found == pytest.approx({name: value for name, value in metrics.items() if name in found})
    assert "val_loss" not in metrics
    run("embed", "--data", "table.csv", "--run", "run", "--trust", "--split", "train", "--output", "e.npz")
    with np.load("e.npz") as embedded:
        assert embedded["embeddings"].shape == (16, 8)
        assert embedded["names"].tolist() == [f"images/{i}.png" for i in range(16)]


def test_early_stopping_by_a_metric_of_a_search(model, table):
    more = ("--split", "train", "--eval-split", "validation", "--batch-size", 8)
    fit(model, *options(model, *more, "--keep-best", "--monitor", "mAP@R"))
    message = error(fit(model, *options(model, *more, "--keep-best", "--monitor", "val_loss", "--output", "b"), code=1))
    assert "--monitor must be one of" in message


@pytest.mark.filterwarnings("always")
def test_broken_images_are_skipped(model, table):
    path = table.parent / "images" / "3.png"
    path.write_bytes(path.read_bytes()[:60])
    more = ("--split", "train", "--batch-size", 8)
    message = error(fit(model, *options(model, *more, "--num-workers", 2), code=1))
    assert "images/3.png cannot be read" in message
    result = fit(model, *options(model, *more, "--skip-broken"))
    assert "warning: 1 of 16 images are broken and left out: images/3.png cannot be read" in result.stderr
    assert "15 items" in result.stderr


def test_a_folder_says_what_is_left_out(model, folder, pillow):
    for i in range(16):
        path = folder / "images" / f"class {i % 2}" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pillow.fromarray(np.random.default_rng(i).integers(0, 255, (9, 12), np.uint8)).save(path)
    (folder / "images" / "class 0" / "a.heic").write_bytes(b"x")
    more = ("--image-size", "10x8", "--image-mode", "L", "--preprocess", f"{model}:grey", "--batch-size", 8)
    result = fit(model, "--data", "images", *more)
    assert "train  ClassDataset(16 items, 2 classes); 16 images, 1 file left out: .heic 1" in result.stderr
    message = error(fit(model, "--data", "images", *more, "--max-pixels", 100, "--output", "b", code=1))
    assert "at most 100 pixels, got 12 x 9; a larger max_pixels (--max-pixels) allows it" in message
