"""The frozen layers at the input of a model are run once: the same numbers as without, and what is refused."""

import random
import re

import numpy as np
import pytest

import finetuner
from finetuner import ClassDataset, InstanceDataset, PairDataset
from finetuner.tuner.base import BestModel, Callback

from .test_text_models import data, folder, torch_backend  # noqa: F401
from .toy import TEST, TRAIN, D, blobs, same_arrays, weights

FIT = {"epochs": 3, "batch_size": 16}
IMAGES = np.random.default_rng(0).normal(size=(48, 8, 8, 1)).astype(np.float32)
LABELS = np.repeat(np.arange(4), 12)


def names_of(backend, model):
    return [weight.name for weight in backend.Tuner.framework_class("auto").weights(model)]


def pattern(names):
    return "|".join(f"^{re.escape(name)}$" for name in names)


def make_tuner(backend, model=None, frozen=2, callbacks=(), loss="NTXentLoss", **options):
    """A tuner of a model whose first ``frozen`` weights are frozen."""
    model = model or backend.mlp(D, 32, 16, 8)
    options.setdefault("freeze", [pattern(names_of(backend, model)[:frozen])])
    return backend.Tuner(model, loss=loss, callbacks=list(callbacks), **options)


def without_times(rows):
    return [{name: value for name, value in row.items() if "second" not in name} for row in rows]


def assert_same(first, second, atol=1e-6):
    """Whether two tuners have the same losses, metrics and weights."""
    for rows in zip(without_times(first.history), without_times(second.history), strict=True):
        assert rows[0] == pytest.approx(rows[1], abs=atol)
    for name, value in weights(first).items():
        np.testing.assert_allclose(value, weights(second)[name], rtol=1e-5, atol=atol, err_msg=name)


def train(tuner, train_data=TRAIN, eval_data=TEST, **fit):
    tuner.fit(train_data, eval_data, **{**FIT, **fit})
    return tuner


@pytest.mark.parametrize(
    ("where", "options", "fit"),
    [
        ("memory", {"dropout": 0.3}, {}),
        ("memory", {"optimizer": "SGD", "ema_decay": 0.8, "layer_decay": 0.9}, {"micro_batch_size": 5}),
        ("folder", {"loss": "ArcFaceLoss", "weight_decay": 0.1}, {"gradient_accumulation_steps": 2, "num_workers": 1}),
    ],
)
def test_same_numbers(backend, tmp_path, where, options, fit):
    dropout = options.get("dropout", 0.0)
    options = {name: value for name, value in options.items() if name != "dropout"}

    def run(cache_frozen):
        model = backend.mlp(D, 32, 16, 8, dropout=dropout)
        return train(make_tuner(backend, model, **options), cache_frozen=cache_frozen, **fit)

    plain, cached = run(False), run(True if where == "memory" else tmp_path / "cache")
    assert_same(plain, cached)
    assert plain.prefix_line == ""
    place = "memory" if where == "memory" else re.escape(str(tmp_path / "cache"))
    assert re.fullmatch(rf"frozen prefix \(.+\): 48 items, 6 kB in {place}, computed in \d+ s", cached.prefix_line)
    assert where == "memory" or list((tmp_path / "cache").iterdir()) == []
    assert cached.config["fit"]["cache_frozen"] in (True, str(tmp_path / "cache"))


def test_the_frozen_layers_are_not_run_in_a_step(backend):
    """What a step gets has the width of the frozen layer."""
    widths = []

    class Watch(Callback):
        def on_fit_begin(self, state):
            step = state.tuner.engine.step

            def watched(inputs, *others):
                widths.append(inputs.shape[1])
                return step(inputs, *others)

            state.tuner.engine.step = watched

    train(make_tuner(backend, callbacks=[Watch()]), cache_frozen=True, epochs=1)
    train(make_tuner(backend, frozen=4, callbacks=[Watch()]), cache_frozen=True, epochs=1)
    assert set(widths) == {32, 16}


@pytest.mark.parametrize("frozen", [2, 3, 6])  # a convolution without its norm, both, and two of them
def test_batch_norm(backend, frozen):
    dataset = ClassDataset(IMAGES if backend.name == "keras" else IMAGES.transpose(0, 3, 1, 2), LABELS)

    def run(cache_frozen):
        model = backend.conv()
        load_like(backend, model)
        names = names_of(backend, model)
        chosen = {2: names[:1], 3: names[:3], 6: names[:6]}[frozen]
        return train(make_tuner(backend, model, freeze=[pattern(chosen)]), dataset, dataset, cache_frozen=cache_frozen)

    assert_same(run(False), run(True), atol=3e-6)


def load_like(backend, model):
    """Give a model weights that do not depend on the random numbers of the process."""
    framework, rng = backend.Tuner.framework_class("auto"), np.random.default_rng(1)
    state = {name: np.asarray(value) for name, value in framework.state(model).items()}
    new = {name: rng.normal(size=value.shape).astype(value.dtype) * 0.3 for name, value in state.items()}
    new = {name: np.abs(value) + 0.5 if value.ndim == 1 else value for name, value in new.items()}
    kept = {name: new[name] if state[name].dtype == np.float32 else state[name] for name in state}
    framework.load_state(model, {name: backend.tensor(value) for name, value in kept.items()}
                         if backend.name != "keras" else kept)  # fmt: skip


def test_pairs(backend):
    dataset = PairDataset(TRAIN.x, blobs([0, 2, 4, 6], seed=1)[0])

    def run(cache_frozen):
        return train(make_tuner(backend, loss="CLIPLoss"), dataset, None, cache_frozen=cache_frozen)

    assert_same(run(False), run(True))


def test_the_whole_model_is_evaluated_saved_and_trained_afterwards(backend, tmp_path):
    tuners = [make_tuner(backend, callbacks=[BestModel("mAP@R")]) for _ in range(2)]
    for tuner, cache_frozen in zip(tuners, (False, True), strict=True):
        train(tuner, cache_frozen=cache_frozen)
        assert finetuner.evaluate(tuner.model, TEST)["mAP@R"] == pytest.approx(max(
            row["mAP@R"] for row in tuner.history), abs=1e-6)  # fmt: skip
        tuner.save(tmp_path / str(cache_frozen))
    assert_same(*tuners)
    embedded = [finetuner.embed(tuner.model, TEST.x) for tuner in tuners]
    np.testing.assert_allclose(*embedded, rtol=1e-5, atol=1e-6)
    loaded = make_tuner(backend, seed=0).load(tmp_path / "True", weights_only=True)
    np.testing.assert_allclose(loaded.embed(TEST.x), embedded[0], rtol=1e-5, atol=1e-6)
    assert tuners[1].engine.rest is None
    for tuner in tuners:
        train(tuner, epochs=1)
    assert_same(*tuners)


def test_resuming(backend, tmp_path):
    def new():
        return make_tuner(backend, backend.mlp(D, 32, 16, 8, name="layer"))

    whole = train(new(), cache_frozen=True, epochs=4)
    train(new(), cache_frozen=True, epochs=2, checkpoint_folder=tmp_path)
    resumed = train(new(), cache_frozen=True, epochs=4, resume=tmp_path)
    assert same_arrays(weights(whole), weights(resumed))


def test_weights_frozen_for_some_epochs_are_after_the_prefix(backend):
    """They are trained later, so the prefix ends before them."""

    def run(cache_frozen):
        model = backend.mlp(D, 32, 16, 8)
        names = names_of(backend, model)
        freeze = {pattern(names[:2]): float("inf"), pattern(names[2:4]): 1}
        return train(make_tuner(backend, model, freeze=freeze), cache_frozen=cache_frozen)

    assert_same(run(False), run(True))


# What is refused.


def refused(backend, message, dataset=TRAIN, model=None, error=ValueError, fit=None, **options):
    tuner = make_tuner(backend, model, **options)
    before = weights(tuner)
    with pytest.raises(error, match=message):
        train(tuner, dataset, None, **{"cache_frozen": True, **(fit or {})})
    assert same_arrays(before, weights(tuner))
    assert tuner.engine.rest is None
    train(tuner, epochs=1)  # without the cache


def test_varied_items_are_refused(backend):
    def augment(item, rng):
        return item + rng.normal(size=D).astype(np.float32)

    message = "cache_frozen must be used with data without augment or views, got "
    refused(backend, message + r"ClassDataset\(48 items", ClassDataset(TRAIN.x, TRAIN.labels, augment=augment))
    refused(backend, message + "InstanceDataset", InstanceDataset(TRAIN.x, augment))

    def vary(item):
        return item + np.float32(random.random())

    refused(backend, "items that are the same in each epoch, and preprocess_fn", fit={"preprocess_fn": vary})


def test_layers_that_are_trained_are_refused(backend):
    message = "layers at the input that are frozen for the whole training, and .* is trained"
    refused(backend, message, freeze=None)
    model = backend.mlp(D, 32, 16, 8)
    names = names_of(backend, model)
    refused(backend, message, model=model, freeze=[pattern(names[4:])])
    model = backend.mlp(D, 32, 16, 8)
    later = {pattern(names_of(backend, model)[:2]): 1}
    refused(
        backend, message + "; freeze has weights that are trained from a later epoch on: ", model=model, freeze=later
    )


def test_other_settings_are_refused(backend):
    refused(backend, "cache_frozen must be True, False or a folder, got 3", error=TypeError, fit={"cache_frozen": 3})
    refused(backend, "cache_frozen must be True, False or a folder, got ''", error=TypeError, fit={"cache_frozen": ""})
    if backend.name == "pytorch":
        refused(backend, "cache_frozen must be used with precision 'fp32', got 'bf16'", precision="bf16")
    both = backend.mlp(D, 16, 8), backend.mlp(D, 16, 8, seed=1)
    tuner = backend.Tuner(both, loss="CLIPLoss", callbacks=[])
    with pytest.raises(ValueError, match="a model of one input, got a pair of models or two inputs"):
        tuner.fit(PairDataset(TRAIN.x, TRAIN.x), epochs=1, cache_frozen=True)


def test_items_of_several_lengths_are_refused(backend):
    def padded(items):
        rows = np.zeros((len(items), D), np.float32)
        for row, item in zip(rows, items, strict=True):
            row[: len(item)] = item
        return rows

    items = [row[: 4 + number % 4].tolist() for number, row in enumerate(TRAIN.x)]
    dataset = ClassDataset(items, TRAIN.labels)
    with pytest.raises(ValueError, match="items of one length, or with a text model"):
        make_tuner(backend).fit(dataset, collate_fn=padded, epochs=1, cache_frozen=True)


def test_a_model_that_is_no_chain_is_refused(backend):
    if backend.name == "keras":
        import keras

        class Model(keras.Model):
            def __init__(self):
                super().__init__()
                self.inner = backend.mlp(D, 16, 8)

            def call(self, x):
                return self.inner(x)

        model = Model()
        model(np.zeros((2, D), np.float32))
    else:
        model = backend.program(
            {"inner": backend.mlp(D, 16, 8)}, lambda layers, x: layers["inner"](x * int(len(x) > 0))
        )
    refused(
        backend, "cache_frozen must be used with a.*, whose first layers can be run by themselves, got ", model=model
    )


def test_random_layers_end_the_prefix(backend):
    """Dropout that is no part of a frozen layer is drawn in each step; before all frozen layers, it is refused."""
    model = backend.mlp(D, 32, 16, 8, dropout=0.3)
    tuner = train(make_tuner(backend, model, frozen=4), cache_frozen=True)
    layers = tuner.prefix_line.partition("(")[2].partition(")")[0]
    assert re.fullmatch(r"0 to 1|dense(_\d+)?", layers)
    assert_same(train(make_tuner(backend, backend.mlp(D, 32, 16, 8, dropout=0.3), frozen=4)), tuner)


def test_a_layer_that_differs_in_training_without_telling_is_refused(backend):
    if backend.name == "keras":
        import keras

        class Doubles(keras.layers.Layer):
            def call(self, x, training=False):
                return x * 2 if training else x

        layers = [keras.Input((D,)), keras.layers.Dense(16), Doubles(), keras.layers.Dense(8)]
        model = keras.Sequential(layers)
    else:
        model = wrapped_in_training(backend)
    refused(backend, "layers that do in training what they do in evaluation, and the embeddings of", model=model)


def wrapped_in_training(backend):
    """A chain with a layer that doubles its input in training."""
    base = type(backend.mlp(2, 2)).__mro__[1]

    class Doubles(base):
        def forward(self, x):
            return x * 2 if self.training else x

    first, *others = backend.mlp(D, 16, 8)
    return type(backend.mlp(2, 2))(first, Doubles(), *others)


def test_dropout_of_frozen_layers_is_off(backend):
    """A layer whose weights are all named in ``freeze`` is in evaluation mode, with the cache and without."""
    if backend.name == "keras":
        pytest.skip("Keras' layers have no mode of their own")
    kind = type(backend.mlp(2, 2))
    seen = []

    class Watch(Callback):
        def on_batch_end(self, state):
            seen.append([layer.training for layer in (state.tuner.model[0], state.tuner.model[0][1])])

    def run(cache_frozen, **options):
        first, last = backend.mlp(D, 16), backend.mlp(16, 8, seed=1)
        model = kind(kind(first[0], backend.layer("dropout", 0.5)), last[0])
        return train(make_tuner(backend, model, callbacks=[Watch()], **options), cache_frozen=cache_frozen)

    assert_same(run(False), run(True))
    assert not np.any(seen)
    seen.clear()
    model_of_user = run(False, freeze=None)
    assert np.all(seen)
    assert model_of_user.prefix_line == ""


# Graphs.


@pytest.mark.parametrize(
    ("freeze", "last"),
    [("first[.]", "first"), ("(first|second)[.]", "second"), ("first|second|third|scale", "third")],
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_graphs_of_pytorch(backend, freeze, last, wrapped):
    """A network with paths around convolutions, as in torchvision; ``wrapped`` as the first layer of a chain."""
    if backend.name != "pytorch":
        pytest.skip("torch.fx")
    from torch import nn

    class Block(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.convolution, self.norm = nn.Conv2d(width, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
            self.short = nn.Identity() if width == 8 else nn.Conv2d(width, 8, 1)

        def forward(self, x):
            return nn.functional.relu(self.norm(self.convolution(x)) + self.short(x))

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.full((8, 1, 1), 0.5))
            self.first, self.second, self.third = Block(1), Block(8), Block(8)
            self.head = nn.Linear(8, 8)

        def forward(self, x):
            x = self.third(self.second(self.first(x)) * self.scale)
            x = nn.functional.dropout(x, 0.2, self.training)
            return self.head(x.mean(dim=(2, 3)).view(x.shape[0], -1))

    import torch

    dataset = ClassDataset(IMAGES.transpose(0, 3, 1, 2), LABELS)

    def run(cache_frozen):
        torch.manual_seed(0)
        model = nn.Sequential(Network(), nn.Linear(8, 8)) if wrapped else Network()
        tuner = make_tuner(backend, model, freeze=[f"^(0[.])?({freeze})"], optimizer="SGD")
        return train(tuner, dataset, dataset, cache_frozen=cache_frozen, epochs=2)

    plain, cached = run(False), run(True)
    assert_same(plain, cached, atol=2e-6)
    assert f"{last}): 48 items" in cached.prefix_line
    tuner = make_tuner(backend, Network(), freeze={"first": float("inf"), "third": 1})
    with pytest.raises(ValueError, match="third is trained, but in evaluation mode now.*; freeze has weights that are"):
        train(tuner, dataset, None, cache_frozen=True)


# Keras' graphs.


@pytest.fixture
def keras(backend):
    if backend.name != "keras":
        pytest.skip("graphs of Keras")
    return pytest.importorskip("keras")


def graph(keras, nested=False, mask=False):
    """A network with two paths, which meet in the layer ``body``; ``nested`` in a model of its own."""
    layers = keras.layers
    keras.utils.set_random_seed(0)
    x = given = keras.Input((D,))
    left = layers.Dense(16, activation="relu", name="left")(x)
    right = layers.Dense(16, name="right")(x)
    met = layers.Dense(12, activation="tanh", name="body")(layers.Add()([left, right]))
    top = layers.Dense(10, activation="relu", name="top")(met)
    if nested:
        inner = keras.Model(given, layers.Concatenate()([top, met]))
        outer = keras.Input((D,))
        return keras.Model(outer, layers.Dense(8, name="head")(inner(outer)))
    return keras.Model(given, layers.Dense(8, name="head")(layers.Concatenate()([top, met])))


def test_layers_that_add_to_the_loss_are_refused(backend, keras):
    class Adds(keras.layers.Layer):
        def call(self, x):
            self.add_loss(keras.ops.mean(x**2))
            return x

    def model(layer, **options):
        layers = [keras.Input((D,)), keras.layers.Dense(16, **options), layer, keras.layers.Dense(8)]
        return keras.Sequential(layers)

    identity = keras.layers.Identity()
    refused(backend, "adds to the loss", model=model(identity, activity_regularizer="l2"))
    refused(backend, "embeddings of 16 items differ by .* add to the loss", model=model(Adds()))


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("freeze", [["left", "right"], ["left", "right", "body"], ["left", "right", "body", "top"]])
def test_graphs(backend, keras, nested, freeze):
    def run(cache_frozen):
        return train(make_tuner(backend, graph(keras, nested), freeze=freeze), cache_frozen=cache_frozen)

    plain, cached = run(False), run(True)
    assert_same(plain, cached)
    last = {2: "add", 3: "body", 4: "functional" if nested else "concatenate"}[len(freeze)]
    assert last in cached.prefix_line


def test_a_graph_without_a_single_tensor_is_refused(backend, keras):
    refused(backend, "no single tensor|is trained", model=graph(keras), freeze=["left"])


def test_a_mask_is_refused(backend, keras):
    layers = keras.layers
    tokens = np.random.default_rng(0).integers(0, 5, size=(48, 6))
    model = keras.Sequential(
        [
            keras.Input((6,), dtype="int32"),
            layers.Embedding(5, 4, mask_zero=True),
            layers.GlobalAveragePooling1D(),
            layers.Dense(8),
        ]
    )
    tuner = make_tuner(backend, model, freeze=["embeddings"])
    tuner.fit(ClassDataset(tokens, LABELS), epochs=1, cache_frozen=True)
    assert "global_average" in tuner.prefix_line  # after which there is no mask
    model = keras.Sequential([keras.Input((6,), dtype="int32"), layers.Embedding(5, 4, mask_zero=True), layers.LSTM(8)])
    tuner = make_tuner(backend, model, freeze=["embeddings"])
    with pytest.raises(ValueError, match="no single tensor without a mask"):
        tuner.fit(ClassDataset(tokens, LABELS), epochs=1, cache_frozen=True)


# Texts.


@pytest.mark.parametrize("pooler", ["mean", "cls", "GeM"])
@pytest.mark.parametrize(("freeze", "last"), [("embeddings", "embeddings"), ("embeddings|layer.0", "encoder.layer.0")])
@pytest.mark.parametrize("length_groups", [1, 3])
def test_texts(backend, folder, data, pooler, freeze, last, length_groups):
    """With the dropout of the model's blocks, which draw the same numbers as without the cache."""

    def run(cache_frozen):
        encoder = finetuner.load_model(folder, pooler=pooler)
        tuner = backend.Tuner(encoder, loss="NTXentLoss", freeze=[freeze], callbacks=[], optimizer="SGD",
                              learning_rate=0.1)  # fmt: skip
        return train(tuner, data, data, cache_frozen=cache_frozen, length_groups=length_groups, epochs=2)

    plain, cached = run(False), run(True)
    assert_same(plain, cached, atol=2e-6)
    assert f"{last}): 48 items" in cached.prefix_line


def test_texts_with_prompts(backend, folder, data):
    texts = data[0]

    def run(cache_frozen):
        encoder = finetuner.load_model(folder, prompts=("my ", "not "))
        tuner = backend.Tuner(encoder, loss="CLIPLoss", freeze=["embeddings"], callbacks=[], optimizer="SGD")
        pairs = PairDataset(texts[:24], texts[24:])
        return train(tuner, pairs, None, cache_frozen=cache_frozen, epochs=2)

    assert_same(run(False), run(True), atol=2e-6)


@pytest.mark.parametrize(
    ("kind", "sizes"),
    [
        ("Roberta", {}),
        ("Electra", {"embedding_size": 16}),
        ("MPNet", {}),
        ("DistilBert", {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32}),
    ],
)
def test_other_text_models(backend, folder, data, kind, sizes):
    import torch
    import transformers

    common = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    options = {"vocab_size": 30, "max_position_embeddings": 32, **(sizes if "dim" in sizes else {**common, **sizes})}
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)

    def run(cache_frozen):
        torch.manual_seed(0)
        config = getattr(transformers, f"{kind}Config")(**options, pad_token_id=0)
        model = getattr(transformers, f"{kind}Model")(config)
        encoder = finetuner.load_model(model, tokenizer=tokenizer, max_length=20)
        tuner = backend.Tuner(encoder, loss="NTXentLoss", freeze=["embeddings|layer.0|relative"], callbacks=[],
                              optimizer="SGD")  # fmt: skip
        return train(tuner, data, data, cache_frozen=cache_frozen, epochs=1)

    plain, cached = run(False), run(True)
    assert_same(plain, cached, atol=2e-6)
    assert "layer.0" in cached.prefix_line


def test_text_models_that_are_refused(backend, folder, data):
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    config = transformers.AlbertConfig(
        vocab_size=30, hidden_size=16, embedding_size=8, num_attention_heads=2, intermediate_size=32, pad_token_id=0
    )
    encoder = finetuner.load_model(transformers.AlbertModel(config), tokenizer=tokenizer)
    tuner = backend.Tuner(encoder, loss="NTXentLoss", freeze=["embeddings"], callbacks=[])
    with pytest.raises(ValueError, match=r"BERT-like text model .*, got AlbertModel"):
        tuner.fit(data, epochs=1, cache_frozen=True)
    tokenizer.padding_side = "left"
    model = transformers.AutoModel.from_pretrained(folder)
    tuner = backend.Tuner(finetuner.load_model(model, tokenizer=tokenizer), loss="NTXentLoss", freeze=["embeddings"],
                          callbacks=[])  # fmt: skip
    with pytest.raises(ValueError, match="a tokenizer that pads at the right"):
        tuner.fit(data, epochs=1, cache_frozen=True)
