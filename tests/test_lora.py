"""LoRA: steps equal to those of peft, runs that name their base, and what is refused."""

import hashlib
import json
import shutil
import sys
from collections import OrderedDict

import numpy as np
import pytest

import finetuner
from finetuner import BestModel, Callback, Checkpoint
from finetuner.tuner import load_subpackage

from .test_text_models import WIDTH, data, embed, folder, torch_backend  # noqa: F401  (fixtures)
from .toy import TEST, TRAIN, D, same_arrays

PLAIN = {"schedule": "constant", "warmup": 0, "clip_norm": np.inf, "length_groups": 1, "callbacks": []}
FAST = {"callbacks": [], "max_steps": 6, "batch_size": 8, "learning_rate": 1e-2}


@pytest.fixture
def peft(torch_backend):
    return pytest.importorskip("peft")


@pytest.fixture
def bert(folder, tmp_path, peft):
    """A folder of BERT without dropout, so that two libraries draw the same numbers: none."""
    path = tmp_path / "bert"
    shutil.copytree(folder, path)
    config = json.loads((path / "config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (path / "config.json").write_text(json.dumps(config))
    return path


def mlp(backend, seed=0):
    return backend.mlp(D, 16, 6, seed=seed)


def arrays(state):
    return {name: np.asarray(value) for name, value in state.items()}


def sizes(path):
    return {file.name: file.stat().st_size for file in path.rglob("*.safetensors")}


# Training.


class Losses(Callback):
    def __init__(self):
        self.values = []

    def on_batch_end(self, state):
        self.values.append(state.last_loss)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # of transformers, by peft
@pytest.mark.parametrize("settings", [4, {"r": 2, "lora_alpha": 3, "target_modules": ["dense"], "use_rslora": True}])
def test_the_steps_are_those_of_peft(bert, data, peft, settings):
    import torch
    from transformers import AutoModel, AutoTokenizer

    from finetuner.tuner.pytorch.losses import NTXentLoss

    texts, labels = data
    order = np.random.default_rng(3).permutation(len(texts)).reshape(-1, 12).tolist()
    watch = Losses()
    run = finetuner.fit(
        str(bert), (texts, labels), lora=settings, optimizer="AdamW", learning_rate=1e-2, sampler=order,
        epochs=3, seed=7, **PLAIN | {"callbacks": [watch]},
    )  # fmt: skip
    model, tokenizer = AutoModel.from_pretrained(bert), AutoTokenizer.from_pretrained(bert)
    torch.manual_seed(7)
    options = {"r": 4, "lora_alpha": 8} if settings == 4 else settings
    model = peft.get_peft_model(model, peft.LoraConfig(**options)).train()
    weights = [p for p in model.parameters() if p.requires_grad]
    assert len(weights) == len(run.tuner.training.engine.parameters)
    optimizer, loss_of = torch.optim.AdamW(weights, lr=1e-2, weight_decay=0.01), NTXentLoss(temperature=0.1)
    expected = []
    for batch in order * 3:
        tokens = tokenizer([texts[row] for row in batch], padding=True, truncation=True, max_length=24,
                           return_tensors="pt")  # fmt: skip
        states, mask = model(**tokens).last_hidden_state, tokens["attention_mask"][:, :, None]
        loss = loss_of((states * mask).sum(1) / mask.sum(1), torch.as_tensor(labels[batch]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        expected.append(loss.item())
    np.testing.assert_allclose(watch.values, expected, rtol=0, atol=1e-6)
    assert np.mean(expected[-4:]) < np.mean(expected[:4]) - 0.01


def test_the_weights_of_the_base_stay(backend, bert, data):
    base = finetuner.load_model(str(bert))
    before = arrays(base.state())
    run = finetuner.fit(str(bert), data, lora=2, **FAST)
    model = run.encoder.embed_model
    found = {name.replace(".base_layer.", "."): value for name, value in model.state_dict().items()}
    assert same_arrays(before, arrays({name: found[name] for name in before}))
    held = {id(p) for group in run.tuner.optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for name, p in model.named_parameters() if "lora_" in name}
    assert run.encoder.state().keys() == {name for name in model.state_dict() if "lora_" in name}


def test_new_layers_are_trained_and_saved(bert, data, tmp_path):
    import torch
    from torch import nn

    run = finetuner.fit(str(bert), data, lora=2, pooler="GeM", pooler_options={"trainable": True}, **FAST)
    assert "pooling.p" in run.encoder.state()
    assert run.encoder.state()["pooling.p"] != 3
    opened = finetuner.load(run.save(tmp_path / "pooled"))
    np.testing.assert_array_equal(embed(opened), embed(run.encoder))

    def model():
        return nn.Sequential(
            OrderedDict(body=nn.Linear(D, 8), norm=nn.BatchNorm1d(8), free=nn.BatchNorm1d(8, affine=False),
                        head=nn.Linear(8, 4))
        )  # fmt: skip

    first = model()
    before = arrays(load_subpackage("pytorch").Framework().state(first))
    settings = {"r": 2, "target_modules": ["body"], "modules_to_save": ["head"]}
    run = finetuner.fit(first, TRAIN, lora=settings, **FAST)
    kept = arrays(run.encoder.state())
    statistics = {f"free.{name}" for name in ("running_mean", "running_var", "num_batches_tracked")}
    assert {name for name in kept if "lora" not in name} == {"head.weight", "head.bias", *statistics}
    assert not np.array_equal(kept["head.weight"], before["head.weight"])
    again = model()
    again.load_state_dict({name: torch.as_tensor(value) for name, value in before.items()})
    opened = finetuner.load(run.save(tmp_path / "run"), model=again)
    np.testing.assert_array_equal(opened.embed(TEST.x), run.encoder.embed(TEST.x))


@pytest.mark.parametrize("head_type", ["linear", "BNNeck"])
def test_heads_of_pre_trained_models(bert, data, tmp_path, head_type):
    run = finetuner.fit(
        finetuner.load_model(str(bert), head=4, head_type=head_type), data, lora=2, length_groups=1, **FAST
    )
    names = {name for name in run.encoder.state() if "lora" not in name}
    assert len(names) == {"linear": 2, "BNNeck": 6}[head_type]
    assert not any(p.requires_grad for name, p in run.model.named_parameters() if name.endswith("norm.bias"))
    opened = finetuner.load(run.save(tmp_path / "run"))
    np.testing.assert_array_equal(embed(opened), embed(run.encoder))


def test_image_models_of_transformers(torch_backend, peft, tmp_path):
    from transformers import ViTConfig, ViTImageProcessor, ViTModel

    size = {"height": 16, "width": 16}
    config = ViTConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, image_size=16,
                       patch_size=8)  # fmt: skip
    ViTModel(config).save_pretrained(tmp_path / "vit")
    ViTImageProcessor(size=size).save_pretrained(tmp_path / "vit")
    images = np.random.default_rng(0).integers(0, 255, (24, 16, 16, 3)).astype(np.uint8)
    encoder = finetuner.load_model(str(tmp_path / "vit"), head=4)
    run = finetuner.fit(encoder, (images, np.arange(24) % 3), lora=2, **FAST)
    assert "pre-trained image model with LoRA of rank 2 in 13 layers" in run.tuner.defaults_line
    opened = finetuner.load(run.save(tmp_path / "run"))
    np.testing.assert_array_equal(opened.embed(images), run.encoder.embed(images))


def test_the_line_says_what_is_chosen(backend, bert, data):
    run = finetuner.fit(str(bert), data, lora=2, callbacks=[], max_steps=1)
    start = f"pre-trained transformer with LoRA of rank 2 in 4 layers (query, value), {4 * 4 * WIDTH} of "
    assert run.tuner.defaults_line.startswith(start)
    assert run.config["learning_rate"] == finetuner.tuner.base.training.defaults.LORA_RATES["transformer"]
    assert run.config["lora"]["lora_alpha"] == 4
    run = finetuner.fit(mlp(backend), TRAIN, lora=2, callbacks=[], max_steps=1)
    assert run.tuner.defaults_line.startswith("a model of your own with LoRA of rank 2 in 2 layers (all linear), ")
    assert run.config["learning_rate"] == 1e-3


@pytest.mark.parametrize("options", [{"micro_batch_size": 3}, {"layer_decay": 0.9}])
def test_other_settings_of_a_training(bert, data, options):
    plain, other = Losses(), Losses()
    finetuner.fit(str(bert), data, lora=2, **FAST | {"callbacks": [plain]})
    run = finetuner.fit(str(bert), data, lora=2, **FAST | {"callbacks": [other]}, **options)
    assert other.values[0] == pytest.approx(plain.values[0], abs=1e-6)
    if "layer_decay" in options:
        assert sorted({round(rate, 10) for rate in run.tuner.engine.base_learning_rates()}) == [0.009, 0.01]
    else:
        np.testing.assert_allclose(other.values, plain.values, atol=1e-5)


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing:FutureWarning", "ignore:.*checkpoint:UserWarning")
def test_checkpoints_of_activations(bert, data):
    plain, other = Losses(), Losses()
    finetuner.fit(str(bert), data, lora=2, **FAST | {"callbacks": [plain]})
    for reentrant in (False, True):
        encoder = finetuner.load_model(str(bert))
        encoder.embed_model.transformer.gradient_checkpointing_enable({"use_reentrant": reentrant})
        other.values = []
        finetuner.fit(encoder, data, lora=2, **FAST | {"callbacks": [other]})
        np.testing.assert_allclose(other.values, plain.values, atol=1e-6)


def test_frozen_weights_average_and_best_model(bert, data, tmp_path):
    run = finetuner.fit(str(bert), data, lora=2, freeze=[r"layer\.0\."], ema_decay=0.5, **FAST)
    state = arrays(run.encoder.state())
    for name, value in state.items():
        assert bool((value != 0).any()) == ("lora_A" in name or "layer.1." in name), name
    np.testing.assert_array_equal(embed(finetuner.load(run.save(tmp_path / "run"))), embed(run.encoder))
    best = BestModel("loss", mode="max")
    run = finetuner.fit(str(bert), data, lora=2, **FAST | {"callbacks": [best], "max_steps": None, "epochs": 3})
    assert best.weights.keys() == run.encoder.state().keys()
    assert same_arrays(arrays(best.weights), arrays(run.encoder.state()))


def test_a_run_that_is_resumed_has_the_same_bits(bert, data, tmp_path):
    texts = [" ".join([text] * 2) for text in data[0]]
    options = {"lora": 2, "batch_size": 8, "learning_rate": 1e-2, "ema_decay": 0.9, "blend": 0.5}
    whole = finetuner.fit(str(bert), (texts, data[1]), epochs=2, callbacks=[], **options)
    saver = Checkpoint(tmp_path / "saved", "4 steps")
    finetuner.fit(str(bert), (texts, data[1]), epochs=2, callbacks=[saver], **options)
    first = sorted((tmp_path / "saved").iterdir())[0]
    assert max(sizes(first).values()) < 40_000
    resumed = finetuner.fit(str(bert), (texts, data[1]), epochs=2, callbacks=[], resume=first, **options)
    assert same_arrays(arrays(whole.encoder.state()), arrays(resumed.encoder.state()))
    with pytest.raises(ValueError, match=r"the settings must be those of the run in .*, and lora is \{'r': 2"):
        finetuner.fit(str(bert), (texts, data[1]), epochs=2, resume=first, callbacks=[], **options | {"lora": 4})
    with pytest.raises(ValueError, match="the settings must be those of the run in .*, and lora is .* None here"):
        finetuner.fit(str(bert), (texts, data[1]), epochs=2, resume=first, callbacks=[], **options | {"lora": None})


def test_a_second_training_goes_on(bert, data, tmp_path):
    run = finetuner.fit(str(bert), data, lora=2, **FAST)
    opened = finetuner.load(run.save(tmp_path / "run"))
    before = arrays(opened.state())
    again = finetuner.fit(opened, data, lora=2, **FAST)
    assert again.encoder.state().keys() == before.keys()
    assert not same_arrays(arrays(again.encoder.state()), before)
    np.testing.assert_array_equal(embed(finetuner.load(again.save(tmp_path / "again"))), embed(again.encoder))
    with pytest.raises(ValueError, match="lora must be as in the model, which has LoRA with .*'r': 2.*, got .*'r': 4"):
        finetuner.fit(opened, data, lora=4, **FAST)
    with pytest.raises(ValueError, match="base of a blend with LoRA must be the model before LoRA was trained"):
        finetuner.fit(opened, data, blend=0.5, **FAST)


# Saved runs.


def test_a_saved_run_has_what_is_trained(bert, data, tmp_path):
    run = finetuner.fit(str(bert), data, lora=2, **FAST)
    run.save(tmp_path / "run")
    run.encoder.save(tmp_path / "encoder")
    found = sizes(tmp_path / "run")
    assert found.keys() == {"weights.safetensors", "training.safetensors"}
    assert 4 * 4 * 4 * WIDTH <= found["weights.safetensors"] < sizes(bert)["model.safetensors"] / 5
    made = json.loads((tmp_path / "run" / "model.json").read_text())
    assert made["base"] == str(bert.resolve())
    assert len(made["base_sha256"]) == len(hashlib.sha256().hexdigest())
    for name in ("run", "encoder"):
        opened = finetuner.load(tmp_path / name)
        np.testing.assert_array_equal(embed(opened), embed(run.encoder))
        assert opened.distance == run.encoder.distance
    np.testing.assert_array_equal(embed(finetuner.load_model(str(tmp_path / "run"))), embed(run.encoder))
    np.testing.assert_array_equal(embed(finetuner.load(tmp_path / "run", model=str(bert))), embed(run.encoder))
    given = finetuner.load_model(str(bert))
    np.testing.assert_array_equal(embed(finetuner.load(tmp_path / "run", model=given)), embed(run.encoder))
    tuner = load_subpackage("pytorch").Tuner(str(bert), lora=2, loss="NTXentLoss", optimizer="AdamW", callbacks=[])
    with pytest.raises(ValueError, match="the settings must be those"):
        tuner.load(tmp_path / "run")
    np.testing.assert_array_equal(embed(tuner.load(tmp_path / "run", weights_only=True)), embed(run.encoder))


def change_base(path):
    from safetensors.torch import load_file, save_file

    tensors = load_file(path / "model.safetensors")
    name = next(name for name in tensors if "layer.1" in name)
    tensors[name].view(-1)[0] += 1e-3
    save_file(tensors, path / "model.safetensors", {"format": "pt"})


def test_another_base_is_refused(bert, data, tmp_path):
    run = finetuner.fit(str(bert), data, lora=2, **FAST)
    path = run.save(tmp_path / "run")
    made = json.loads((path / "model.json").read_text())
    for name in ("base_sha256", "lora", "base"):
        (path / "model.json").write_text(json.dumps({key: value for key, value in made.items() if key != name}))
        with pytest.raises(ValueError, match=f"model.json of a run with LoRA must have .*, and lacks {name}"):
            finetuner.load(path)
    (path / "model.json").write_text(json.dumps(made | {"base_sha256": None}))
    with pytest.raises(ValueError, match="must name the hash of its base as base_sha256 in model.json"):
        finetuner.load(path)
    (path / "model.json").write_text(json.dumps(made | {"base": str(path)}))
    with pytest.raises(ValueError, match="must be a model without LoRA, and .* is a run with LoRA"):
        finetuner.load(path)
    (path / "model.json").write_text(json.dumps(made))
    change_base(bert)
    with pytest.raises(
        ValueError, match=r"must have the weights with which it was trained, and .*bert has others \(SHA"
    ):
        finetuner.load(path)
    with pytest.raises(ValueError, match="must have the weights with which it was trained"):
        finetuner.fit(str(bert), data, lora=2, resume=path, **FAST)
    bert.rename(tmp_path / "moved")
    with pytest.raises(
        FileNotFoundError, match=r"the base of .*run, .*bert, cannot be opened; finetuner.load\(path, mo"
    ):
        finetuner.load(path)


def test_a_model_that_was_trained_is_no_longer_what_was_opened(bert, data, tmp_path):
    first = finetuner.fit(str(bert), data, **FAST)
    first.save(tmp_path / "first")
    run = finetuner.fit(first.encoder, data, lora=2, **FAST)
    path = run.save(tmp_path / "run")
    with pytest.raises(ValueError, match="does not say where the base of its LoRA is, so it must be given"):
        finetuner.load(path)
    opened = finetuner.load(path, model=tmp_path / "first")
    np.testing.assert_array_equal(embed(opened), embed(run.encoder))
    run = finetuner.fit(finetuner.load(tmp_path / "first"), data, lora=2, **FAST)  # which is opened by itself
    opened = finetuner.load(run.save(tmp_path / "third"))
    np.testing.assert_array_equal(embed(opened), embed(run.encoder))


def test_a_model_of_the_user(backend, peft, tmp_path):
    model = mlp(backend)
    before = finetuner.embed(model, TEST.x)
    run = finetuner.fit(model, TRAIN, lora=2, **FAST)
    path = run.save(tmp_path / "run")
    finetuner.tuner.base.Encoder(model, run.encoder.framework).save(tmp_path / "encoder")
    after = run.encoder.embed(TEST.x)
    assert np.abs(after - before).max() > 1e-3
    for name in ("run", "encoder"):
        opened = finetuner.load(tmp_path / name, model=mlp(backend))
        np.testing.assert_array_equal(opened.embed(TEST.x), after)
    np.testing.assert_array_equal(finetuner.load(path, model=model).embed(TEST.x), after)
    with pytest.raises(ValueError, match="does not say where the base of its LoRA is, so it must be given"):
        finetuner.load(path)
    with pytest.raises(ValueError, match="must have the weights with which it was trained, and the model that was giv"):
        finetuner.load(path, model=mlp(backend, seed=1))
    run.blend(0)
    np.testing.assert_allclose(run.encoder.embed(TEST.x), before, atol=1e-6)


# Merged weights.


def merged(run):
    return arrays(run.encoder.framework.state(run.encoder.framework.merge_lora(run.encoder.embed_model)))


@pytest.mark.parametrize("settings", [2, {"r": 2, "bias": "lora_only", "target_modules": ["dense", "word_embeddings"]}])
def test_blend_is_one_of_merged_weights(bert, data, settings):
    base = arrays(finetuner.load_model(str(bert)).state())
    run = finetuner.fit(str(bert), data, lora=settings, **FAST)
    trained = merged(run)
    assert trained.keys() == base.keys()
    assert not same_arrays(trained, base)
    for share in (0.25, 0, 1):
        run.blend(share)
        for name, value in merged(run).items():
            expected = base[name] + share * (trained[name] - base[name])
            np.testing.assert_allclose(value, expected, atol=1e-6, err_msg=name)


def test_exports_have_merged_weights(bert, data, tmp_path):
    run = finetuner.fit(str(bert), data, lora={"r": 2, "use_dora": True}, **FAST)
    state, before = arrays(run.encoder.state()), embed(run.encoder)
    library = pytest.importorskip("sentence_transformers")
    assert run.export(tmp_path / "st", "sentence-transformers") < 1e-5
    found = library.SentenceTransformer(str(tmp_path / "st"), device="cpu", local_files_only=True)
    assert not any("lora" in name for name in found.state_dict())
    assert run.export(tmp_path / "model.pt2") < 1e-5
    assert same_arrays(arrays(run.encoder.state()), state)  # which is still that of LoRA
    np.testing.assert_array_equal(embed(run.encoder), before)
    with pytest.raises(ValueError, match=r"a blend must be of weights that are sums, and those of DoRA \(use_dora\)"):
        run.blend(0.5)
    adapted = finetuner.fit(run.encoder, data, adapter="linear", callbacks=[], max_steps=2)
    opened = finetuner.load(adapted.save(tmp_path / "adapted"))
    np.testing.assert_array_equal(embed(opened), embed(adapted.encoder))


# What is refused.


def test_only_models_of_pytorch(backend):
    if backend.name == "pytorch":
        pytest.skip("PyTorch has LoRA")
    with pytest.raises(
        ValueError, match=f"lora must be used with a model of PyTorch, got lora=4 and one of {backend.name}"
    ):
        finetuner.fit(mlp(backend), TRAIN, lora=4, callbacks=[])


@pytest.mark.parametrize(
    ("lora", "error"),
    [
        (0, "lora must be at least 1, got 0"),
        ("8", "lora must be a rank, a mapping of arguments or a peft.LoraConfig, got '8'"),
        (True, "lora must be a rank"),
        ({"rank": 8}, "lora must have arguments of peft.LoraConfig, got 'rank'"),
        ({"r": -1}, "r"),
        ({"lora_alpha": 0}, "lora_alpha must be above 0"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights must be True or 'gaussian'"),
        ({"layer_replication": [[0, 2], [1, 2]]}, "layer_replication of LoraConfig is not supported"),
        ({"target_modules": ["nothing"]}, "lora must have target_modules that are layers of the model, got"),
        ({"modules_to_save": ["nothing"]}, "modules_to_save must name layers of the model, got 'nothing'"),
    ],
)
def test_bad_settings(backend, peft, lora, error):
    model = mlp(backend)
    names = set(model.state_dict())
    with pytest.raises((ValueError, TypeError), match=error):
        finetuner.fit(model, TRAIN, lora=lora, callbacks=[])
    assert set(model.state_dict()) == names


def test_bad_models(backend, peft):
    import torch
    from torch import nn

    def fit(model, **options):
        finetuner.fit(model, TRAIN, **{"lora": 2, "callbacks": [], **options})

    with pytest.raises(
        ValueError, match="lora must have target_modules that are layers of the model, .* no linear layer"
    ):
        fit(nn.Sequential(nn.Conv1d(1, 2, 3), nn.Flatten()))
    with pytest.raises(ValueError, match="lora must be used with one model, got a pair of models"):
        fit((mlp(backend), mlp(backend)))
    model = mlp(backend)
    with pytest.raises(ValueError, match="optimizer must be a name or a class with lora"):
        fit(model, optimizer=torch.optim.SGD(model.parameters(), 0.1))
    with pytest.raises(ValueError, match="lora must not be used with an adapter"):
        fit(model, adapter="linear")
    with pytest.raises(ValueError, match="freeze must have patterns that match a weight, got 'nothing'"):
        fit(mlp(backend), freeze=["nothing"])
    with pytest.raises(ValueError, match="lora must be used with a model without layers of peft"):
        fit(peft.inject_adapter_in_model(peft.LoraConfig(target_modules=["0"]), mlp(backend)))
    attention = nn.Sequential(nn.Unflatten(1, (1, D)), nn.TransformerEncoderLayer(D, 2, 16), nn.Flatten())
    with pytest.raises(ValueError, match="got .* and none of no linear layers"):
        fit(attention)
    with pytest.raises(
        ValueError, match=r"target_modules must name layers that are called, and 1.linear1 is in a layer"
    ):
        fit(attention, lora={"target_modules": ["linear1"]})


def test_without_peft(backend, peft, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ImportError, match=r'lora needs peft: pip install "finetuner\[lora\]"'):
        finetuner.fit(mlp(backend), TRAIN, lora=2, callbacks=[])


# The command line.


def test_on_the_command_line(bert, data, tmp_path):
    from typer.testing import CliRunner

    from finetuner.cli.commands import app

    rows = [f"{text.replace(',', '?')},{label}" for text, label in zip(*data, strict=True)]
    (tmp_path / "data.csv").write_text("\n".join(["text,label", *rows]))
    table = ["--data", str(tmp_path / "data.csv"), "--input-column", "text", "--label-column", "label"]
    run = str(tmp_path / "run")

    def call(*arguments):
        result = CliRunner().invoke(app, list(map(str, arguments)))
        assert result.exit_code == 0, result.output
        return result.output

    output = call("fit", *table, "--model", bert, "--lora", 2, "--epochs", 1, "--output", run)
    assert "with LoRA of rank 2 in 4 layers (query, value)" in " ".join(output.split())
    call("embed", *table[:4], "--run", run, "--output", tmp_path / "x.npz")
    found = finetuner.load(run)
    np.testing.assert_allclose(
        np.load(tmp_path / "x.npz")["embeddings"], embed(found, [row.partition(",")[0] for row in rows]), atol=1e-6
    )
    call("embed", *table[:4], "--run", run, "--model", bert, "--output", tmp_path / "y.npz")
    np.testing.assert_array_equal(np.load(tmp_path / "y.npz")["embeddings"], np.load(tmp_path / "x.npz")["embeddings"])
    call("fit", "--resume", run, "--epochs", 2, "--output", tmp_path / "more")
    assert json.loads((tmp_path / "more" / "history.json").read_text())[-1]["epoch"] == 2
    call("export", run, tmp_path / "out.pt2")
    assert (tmp_path / "out.pt2").is_file()
