"""``finetuner.load``: it opens a run without the code that made it where the model says how it is made."""

import json
import subprocess
import sys

import numpy as np
import pytest

import finetuner

from .toy import TEST, TRAIN, D, make_tuner, same_arrays, weights

pytest.importorskip("faiss")


@pytest.fixture
def saved(backend, tmp_path):
    tuner = make_tuner(backend, dropout=0.2)
    tuner.fit(TRAIN, TEST, epochs=1, batch_size=48).save(tmp_path / "run")
    return tuner, tmp_path / "run"


def test_a_run_is_opened_with_its_model(backend, saved):
    tuner, folder = saved
    encoder = finetuner.load(folder, model=backend.mlp(D, 32, 8, dropout=0.2, seed=3))
    assert encoder.distance == "cosine"
    np.testing.assert_array_equal(encoder.embed(TEST.x), tuner.embed(TEST.x))
    assert encoder.evaluate(TEST) == tuner.evaluate(TEST)
    with pytest.raises(ValueError, match="the weights must be those of the same model"):
        finetuner.load(folder, model=backend.mlp(D, 16, 8))


def test_an_encoder_is_saved_and_opened(backend, saved, tmp_path):
    tuner, _ = saved
    tuner.encoder.save(tmp_path / "encoder")
    opened = finetuner.load(tmp_path / "encoder", model=backend.mlp(D, 32, 8, dropout=0.2, seed=3))
    assert same_arrays({name: np.asarray(value) for name, value in opened.state().items()}, weights(tuner))
    with pytest.raises(FileExistsError):
        tuner.encoder.save(tmp_path / "encoder")


def test_checkpoints_are_opened_at_the_newest(backend, tmp_path):
    tuner = make_tuner(backend)
    tuner.fit(TRAIN, epochs=2, batch_size=48, checkpoint_folder=tmp_path / "checkpoints")
    encoder = finetuner.load(tmp_path / "checkpoints", model=backend.mlp(D, 32, 8, seed=3))
    np.testing.assert_array_equal(encoder.embed(TEST.x), tuner.embed(TEST.x))


def test_a_model_that_does_not_say_how_it_is_made(backend, saved):
    _, folder = saved
    if backend.name == "keras":
        (folder / "model.json").unlink()
    with pytest.raises(ValueError, match="does not say how its model .* is made, so it must be given"):
        finetuner.load(folder)


def test_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(FileNotFoundError, match="must be the folder of a saved run or of checkpoints"):
        finetuner.load(tmp_path)
    (tmp_path / "config.json").write_text('{"backend": "os"}')
    with pytest.raises(ValueError, match="the backend of the run must be one of .*, got 'os'"):
        finetuner.load(tmp_path)


def test_a_keras_run_is_opened_in_a_new_process(backend, saved, tmp_path):
    if backend.name != "keras":
        pytest.skip("only Keras' models say how they are made")
    tuner, folder = saved
    np.save(tmp_path / "x.npy", TEST.x)
    np.save(tmp_path / "embeddings.npy", tuner.embed(TEST.x))
    code = f"""
import numpy as np
import finetuner
encoder = finetuner.load({str(folder)!r})
assert np.array_equal(encoder.embed(np.load({str(tmp_path / "x.npy")!r})), np.load({str(tmp_path / "embeddings.npy")!r}))
"""
    subprocess.run([sys.executable, "-c", code], check=True)


HOSTILE = {
    "a module": lambda layer: layer.update(module="os", class_name="system"),
    "a module of the folder": lambda layer: layer.update(
        module="evil", class_name="Layer", registered_name="evil>Layer"
    ),
    "a Lambda": lambda layer: layer.update(class_name="Lambda", config={"function": {"class_name": "__lambda__"}}),
    "a function in a layer": lambda layer: layer["config"].update(
        activation={"module": "subprocess", "class_name": "function", "config": "getoutput"}
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_folder_runs_no_code(backend, saved, name, tmp_path, monkeypatch):
    if backend.name != "keras":
        pytest.skip("only Keras' models say how they are made")
    _, folder = saved
    file = folder / "model.json"
    made = json.loads(file.read_text())
    HOSTILE[name](made["keras"]["config"]["layers"][1])
    file.write_text(json.dumps(made))
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').write('x')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match="the model in this folder names code"):
        finetuner.load(folder)
    assert not (tmp_path / "ran").exists()
