"""Errors in the data, the options or the model have a message of one line, and the model keeps its weights."""

import importlib

import numpy as np
import pytest

import finetuner

from .toy import TEST, TRAIN, D, make_tuner, same_arrays, weights

pytest.importorskip("faiss")


def bad(x, *items, value=np.nan):
    x = x.copy()
    x[list(items), 3] = value
    return x


@pytest.mark.parametrize(
    ("options", "fit", "error", "message"),
    [
        ({"loss": "TripletLos"}, {}, ValueError, "loss must be a known name, got 'TripletLos'; did you mean 'TripletLoss'"),
        ({"loss_options": {"margn": 1}}, {}, TypeError, "TripletLoss has no option 'margn'; did you mean 'margin'"),
        ({"loss_options": {"distance": "cosin"}}, {}, ValueError, "distance must be one of .*did you mean 'cosine'"),
        ({"loss_options": {"margin": -1}}, {}, ValueError, "margin must be at least 0, got -1"),
        ({"loss": "NTXentLoss", "loss_options": {"temperature": 0}}, {}, ValueError, "temperature must be above 0, got 0"),
        ({"miner": "TripletEasyHard"}, {}, ValueError, "miner must be a known name.*did you mean 'TripletEasyHardMiner'"),
        ({"miner": "SiameseEasyHardMiner"}, {}, TypeError, "miner must be a miner of triplets, got SiameseEasyHardMiner"),
        ({"miner_options": {"margin": 1}}, {}, ValueError, "miner_options must be used with a miner"),
        ({"optimizer": "Adm"}, {}, ValueError, "optimizer must be a known name, got 'Adm'; did you mean 'Adam"),
        ({"device": "cudda"}, {}, ValueError, "device must be an available one, such as 'cpu', got 'cudda'"),
        ({"learning_rate": 0}, {}, ValueError, "learning_rate must be above 0, got 0"),
        ({}, {"epochs": 0}, ValueError, "epochs must be at least 1, got 0"),
        ({}, {"batch_size": 3}, ValueError, "batch_size must hold two classes of two items"),
        ({}, {"micro_batch_size": 0}, ValueError, "micro_batch_size must be at least 1, got 0"),
        ({}, {"micro_batch_size": -1}, ValueError, "micro_batch_size must be at least 1, got -1"),
        ({}, {"micro_batch_size": 2.5}, TypeError, "micro_batch_size must be an integer, got 2.5"),
        ({}, {"micro_batch_size": True}, TypeError, "micro_batch_size must be an integer, got True"),
        ({}, {"micro_batch_size": "8"}, TypeError, "micro_batch_size must be an integer, got '8'"),
        ({}, {"sampler": "clas"}, ValueError, "sampler must be one of 'auto'"),
        ({}, {"metrics": ["hit@0"], "eval_data": TEST}, ValueError, "hit@0"),
        ({}, {"train_data": (TRAIN.x, np.arange(48))}, ValueError, "two classes must have two items each"),
        ({}, {"train_data": (TRAIN.x, TRAIN.labels[:5])}, ValueError, "x and y must have the same length, got 48 and 5"),
        ({}, {"train_data": (TRAIN.x[:0], [])}, ValueError, "must hold at least one item"),
        ({}, {"eval_data": (TRAIN.x, np.arange(48))}, ValueError, "eval_data: two classes must have two items"),
        ({}, {"train_data": (bad(TRAIN.x, 5, 7), TRAIN.labels)}, ValueError, "inputs must be finite, and in batch 1 of epoch 1 items .*[57].* of the data are not"),
        ({}, {"eval_data": (bad(TEST.x, 9, value=np.inf), TEST.labels)}, ValueError, "inputs must be finite, and items 9 of the data are not"),
        ({}, {"train_data": (["a"] * 48, TRAIN.labels)}, TypeError, "pass a collate_fn"),
    ],
)  # fmt: skip
def test_bad_input(backend, options, fit, error, message):
    fit = {"train_data": TRAIN, "epochs": 1, "batch_size": 48, **fit}
    with pytest.raises(error, match=message):
        make_tuner(backend, **options).fit(**fit)


def test_non_finite_loss_restores_the_weights(backend):
    class Broken(backend.losses.TripletLoss):
        def compute(self, *args):
            return super().compute(*args) / 0.0

    tuner = make_tuner(backend, loss=Broken)
    before = weights(tuner)
    with pytest.raises(
        ValueError, match="loss must be finite, and is (?:inf|nan) in batch 1 of epoch 1 .* weights from before"
    ):
        tuner.fit(TRAIN, epochs=1, batch_size=48)
    assert same_arrays(before, weights(tuner))


def test_model_must_be_a_model(backend):
    with pytest.raises(TypeError, match="embed_model must be a .*, got object"):
        backend.Tuner(object())
    with pytest.raises(TypeError, match="model must be a .*, got int"):
        finetuner.fit(3, TRAIN)


def test_a_bare_model_of_keras_in_pytorch(backend):
    """It is a module of PyTorch if that is the engine, and would not follow ``model.train()``."""
    if backend.name != "pytorch":
        pytest.skip("about PyTorch")
    kind = type("Sequential", (importlib.import_module("torch").nn.Linear,), {"__module__": "keras.src.models"})
    with pytest.raises(TypeError, match="embed_model must not be a model of Keras, which KerasTuner trains, got Seq"):
        backend.Tuner(kind(4, 2))


def test_large_finite_inputs_are_valid(backend):
    """Their sum overflows, but they are finite."""
    assert make_tuner(backend).embed(np.full((4, D), 3e38, np.float32) * np.eye(4, D, dtype=np.float32)).shape == (4, 8)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (lambda x: {"pooled": x}, r"the model must return a tensor \[N, D\], got dict with pooled"),
        (lambda x: x[0], r"the model must return floats \[N, D\], here \[48, D\], got .*\[8\]"),
        (lambda x: x[:5], r"the model must return floats \[N, D\], here \[48, D\], got .*\[5, 8\]"),
        (lambda x: x[:, None], r"the model must return floats \[N, D\], here \[48, D\], got .*\[48, 1, 8\]"),
    ],
)
def test_model_must_return_embeddings(backend, output, message):
    model = backend.with_output(backend.mlp(D, 8), output)
    with pytest.raises(TypeError, match=message):
        backend.Tuner(model, callbacks=[]).fit(TRAIN, batch_size=48)


def test_frozen_model_embeds_but_does_not_train(backend):
    model = backend.frozen(backend.mlp(D, 8))
    assert finetuner.embed(model, TRAIN).shape == (48, 8)
    with pytest.raises(ValueError, match="the model must have weights to train"):
        finetuner.fit(model, TRAIN, callbacks=[])
