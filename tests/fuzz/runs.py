"""Damaged folders of runs: each is loaded, or refused by an error that names the file, with the model untouched."""

import json
import shutil

import numpy as np
from safetensors.numpy import load_file, save_file

from .outcome import RAN, REFUSED, Failure, pick, refusals, require

CLASSES, WIDTH = 4, 8
SAVED = {}
VALUES = (None, True, False, -1, 0, 3, 10**400, 1e308, float("nan"), float("-inf"), 0.5, "x", "", "../x", [], {}, [[]])
OPTIONS = {
    "ArcFaceLoss": {"schedule": "cosine", "ema_decay": 0.9, "optimizer": "AdamW"},
    "TripletLoss": {"optimizer": "SGD"},
}


def make_tuner(backend, loss):
    return backend.Tuner(backend.mlp(WIDTH, 6, 4), loss=loss, callbacks=[], **OPTIONS[loss])


def data():
    y = np.arange(24) % CLASSES
    return (np.eye(WIDTH)[y] + np.random.default_rng(0).normal(size=(24, WIDTH))).astype(np.float32), y


def whole_run(backend, loss, folder):
    """The folder of a whole run, made once."""
    if loss not in SAVED:
        tuner = make_tuner(backend, loss)
        SAVED[loss] = tuner.fit(data(), data(), epochs=1, batch_size=8).save(folder / f"whole-{loss}")
    return SAVED[loss]


def places(value, path=()):
    """The paths to all values within a JSON value."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*path, key))


def edit_json(rng, file):
    """Replace, delete or add one value, or damage the text."""
    change = pick(rng, "replace", "replace", "replace", "delete", "add", "text")
    if change == "text":
        return damage_bytes(rng, file)
    value = json.loads(file.read_text())
    every = list(places(value))
    path = every[rng.integers(len(every))]
    new = pick(rng, *VALUES)
    if not path:
        value = new
    else:
        parent = value
        for key in path[:-1]:
            parent = parent[key]
        if change == "delete":
            del parent[path[-1]]
        elif change == "add" and isinstance(parent, dict):
            parent["added"] = new
        else:
            parent[path[-1]] = new
    file.write_text(json.dumps(value))
    return f"{change} {'/'.join(map(str, path))} {str(new)[:20]!r}"


def damage_bytes(rng, file):
    """Cut a file, or change, insert or delete some bytes."""
    content = bytearray(file.read_bytes())
    change = pick(rng, "cut", "flip", "insert", "delete", "empty", "header")
    place = int(rng.integers(len(content) + 1))
    if change == "cut":
        del content[place:]
    elif change == "flip" and content:
        content[min(place, len(content) - 1)] ^= 1 << int(rng.integers(8))
    elif change == "insert":
        content[place:place] = pick(rng, b"\0", b"\xff\xfe", b"{", b"]" * 50, b"[" * 100_000, b"9" * 5000)
    elif change == "delete":
        del content[place : place + int(rng.integers(1, 30))]
    elif change == "header":
        content[: min(8, len(content))] = rng.bytes(min(8, len(content)))
    else:
        content.clear()
    file.write_bytes(bytes(content))
    return f"bytes: {change} at {place}"


def edit_tensors(rng, file):
    """Change, rename, remove or add one tensor."""
    change = pick(rng, "shape", "dtype", "nan", "rename", "remove", "add", "bytes", "scalar", "empty")
    if change == "bytes":
        return damage_bytes(rng, file)
    tensors = load_file(file)
    name = pick(rng, *sorted(tensors)) if tensors else "added"
    value = tensors.get(name, np.zeros(1, np.float32))
    if change == "shape":
        tensors[name] = np.ascontiguousarray(np.concatenate([value.reshape(-1)] * 2))
    elif change == "dtype":
        tensors[name] = value.astype(pick(rng, np.float64, np.float16, np.int32, np.bool_))
    elif change == "nan":
        tensors[name] = np.full_like(value, np.nan) if value.dtype.kind == "f" else np.zeros_like(value)
    elif change == "rename":
        tensors["renamed"] = tensors.pop(name, value)
    elif change == "remove":
        tensors.pop(name, None)
    elif change == "add":
        tensors["added"] = np.ones(3, np.float32)
    elif change == "scalar":
        tensors[name] = np.zeros((), np.float32)
    else:
        tensors[name] = np.zeros((0, 3), np.float32)
    save_file(tensors, file)
    return f"tensor: {change} {name}"


def edit_folder(rng, file):
    """Remove a file, or put a folder or a link in its place."""
    change = pick(rng, "remove", "folder", "loop")
    file.unlink()
    if change == "folder":
        file.mkdir()
    elif change == "loop":
        file.symlink_to(file)
    return f"file: {change}"


def run(rng, backend, folder):
    """One damaged run."""
    loss = pick(rng, *OPTIONS)
    source, path = whole_run(backend, loss, folder), folder / "damaged-run"
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(source, path)
    files = sorted(file for file in path.rglob("*") if file.is_file())
    file = files[rng.integers(len(files))]
    edit = {".json": edit_json, ".safetensors": edit_tensors}.get(file.suffix, damage_bytes)
    what = f"{loss}, {file.name}, {(edit_folder if rng.random() < 0.1 else edit)(rng, file)}"
    tuner, options = make_tuner(backend, loss), {"weights_only": True} if rng.random() < 0.2 else {}
    before = {name: np.array(value) for name, value in tuner.model_state().items()}
    try:
        with refusals((ValueError, TypeError, FileNotFoundError)) as refused:
            tuner.load(path, **options)
        after = {name: np.asarray(value) for name, value in tuner.model_state().items()}
        same = before.keys() == after.keys() and all(np.array_equal(before[name], after[name]) for name in before)
        if refused:
            text = str(refused[0])
            require(path.name in text or file.name in text, f"an error that names no file: {text[:150]}")
            require(same, f"the model was changed by a load that was refused: {text[:100]}")
            return REFUSED
        finite = all(np.isfinite(value).all() for value in after.values())
        require(finite, "weights that are not finite were loaded")
        if rng.random() < 0.2 and not options:
            with refusals() as refused:
                tuner.fit(data(), epochs=1, batch_size=8, max_steps=1)
    except Failure as failure:
        raise Failure(f"{what} {options or ''}: {failure}") from failure
    return REFUSED if refused else RAN


KINDS = {"run": run}
