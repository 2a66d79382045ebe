"""Text models of transformers and sentence-transformers: opened by folder or as objects, trained, saved, exported."""

import json
import shutil
import warnings

import numpy as np
import pytest

import finetuner

TEXTS = ["where is my card", "", "my card my card " * 20, "is it", "CARD, where?"]
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "where", "is", "my", "card", "it", "not", ",", "?"]
WORDS += ["transfer", "late", "pin", "lost"]
LABELS = ["card", "pin", "late"]
WIDTH = 16


@pytest.fixture(scope="module")
def torch_backend(backend):
    if backend.name != "pytorch":
        pytest.skip("a library for PyTorch")
    pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def folder(torch_backend, tmp_path_factory):
    """A folder of transformers: a BERT of two layers with random weights, and a tokenizer of words."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    path = tmp_path_factory.mktemp("models") / "bert"
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(WORDS), hidden_size=WIDTH, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=24,
    )  # fmt: skip
    BertModel(config).save_pretrained(path)
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    special = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
    names = {f"{name}_token": token for name, token in special.items()}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(path)
    return path


@pytest.fixture
def sentence_transformers(folder):
    library = pytest.importorskip("sentence_transformers")
    from sentence_transformers.base.modules import Dense, Normalize, Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    def build(pooling="mean", dense=False, normalize=True, **options):
        transformer = Transformer(str(folder))
        modules = [transformer, Pooling(WIDTH, pooling)]
        if dense:
            modules.append(Dense(WIDTH, 8))
        return library.SentenceTransformer(modules=[*modules, *([Normalize()] * normalize)], **options)

    return build


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    texts, labels = [], []
    for number in range(48):
        label = number % len(LABELS)
        texts.append(" ".join([LABELS[label], *rng.choice(WORDS[5:], rng.integers(1, 6))]))
        labels.append(label)
    return texts, np.array(labels)


def embed(encoder, texts=TEXTS, **options):
    """Embeddings, without the warnings of texts that are empty or cut."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return encoder.embed(texts, **options)


@pytest.mark.parametrize("mode", ["mean", "cls", "max", "lasttoken", "weightedmean", "mean_sqrt_len_tokens"])
def test_embeddings_are_those_of_sentence_transformers(folder, sentence_transformers, tmp_path, mode):
    theirs = sentence_transformers(mode, dense=True)
    expected = theirs.encode(TEXTS)
    np.testing.assert_allclose(embed(finetuner.load_model(theirs)), expected, atol=1e-5)
    theirs.save_pretrained(str(tmp_path / "st"))
    np.testing.assert_allclose(embed(finetuner.load_model(tmp_path / "st")), expected, atol=1e-5)
    plain = sentence_transformers(mode, normalize=False).encode(TEXTS)
    np.testing.assert_allclose(embed(finetuner.load_model(folder, pooler=mode)), plain, atol=1e-5)


def test_several_modes_are_concatenated(sentence_transformers):
    theirs = sentence_transformers(("cls", "mean"), normalize=False)
    found = embed(finetuner.load_model(theirs))
    assert found.shape == (len(TEXTS), 2 * WIDTH)
    np.testing.assert_allclose(found, theirs.encode(TEXTS), atol=1e-5)


def test_prompts_by_side(folder, sentence_transformers):
    theirs = sentence_transformers()
    encoder = finetuner.load_model(theirs, prompts=("my ", "not "))
    np.testing.assert_allclose(embed(encoder), theirs.encode(TEXTS, prompt="my "), atol=1e-5)
    np.testing.assert_allclose(embed(encoder, side=1), theirs.encode(TEXTS, prompt="not "), atol=1e-5)
    queries, passages = (["card", "pin"], [0, 1]), (["card", "pin"], [0, 1])
    sides = [embed(encoder, queries[0]), embed(encoder, passages[0], side=1)]
    expected = finetuner.evaluation.retrieval_metrics(sides[0], [0, 1], sides[1], [0, 1], metrics=["MRR"])
    assert encoder.evaluate(queries, passages, metrics=["MRR"]) == expected


def test_a_prompt_can_be_left_out_of_the_pooling(sentence_transformers):
    theirs = sentence_transformers()
    theirs[1].include_prompt = False
    expected = theirs.encode(TEXTS, prompt="my pin ")
    np.testing.assert_allclose(embed(finetuner.load_model(theirs, prompts="my pin ")), expected, atol=1e-5)


def test_pairs_get_the_prompt_of_their_side(folder):
    encoder = finetuner.load_model(folder, prompts=("my ", "not "))
    pairs = finetuner.PairDataset(["card", "pin"], ["card", "pin"])
    both = embed(encoder, pairs)
    np.testing.assert_allclose(both[0::2], embed(encoder, ["card", "pin"]), atol=1e-6)
    np.testing.assert_allclose(both[1::2], embed(encoder, ["card", "pin"], side=1), atol=1e-6)


def test_a_transformers_model_is_trained_in_place(folder, data):
    from transformers import AutoModel, AutoTokenizer

    model, tokenizer = AutoModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    before = model.embeddings.word_embeddings.weight.detach().clone()
    encoder = finetuner.load_model(model, tokenizer=tokenizer)
    finetuner.fit(encoder, data, max_steps=2, callbacks=[])
    assert not np.array_equal(before.numpy(), model.embeddings.word_embeddings.weight.detach().numpy())


def test_losses_are_those_of_sentence_transformers(folder, sentence_transformers, data):
    """Five steps on the same batches: triplets of classes, both with AdamW and without dropout."""
    import torch
    from sentence_transformers.sentence_transformer.losses import BatchHardSoftMarginTripletLoss

    from finetuner.tuner.pytorch import PytorchTuner, TripletEasyHardMiner

    theirs = sentence_transformers(normalize=False)
    for layer in theirs.modules():
        if isinstance(layer, torch.nn.Dropout):
            layer.p = 0.0
    weights = {name: value.clone() for name, value in theirs.state_dict().items()}
    texts, labels = data
    batches = [np.arange(start, start + 12) for start in range(0, 48, 12)]
    loss = BatchHardSoftMarginTripletLoss(theirs)
    optimizer = torch.optim.AdamW(theirs.parameters(), lr=1e-3, weight_decay=0.0)
    expected = []
    theirs.train()
    for batch in batches:
        features = theirs.preprocess([texts[i] for i in batch])
        value = loss([features], torch.as_tensor(labels[batch]))
        expected.append(value.item())
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    theirs.load_state_dict(weights)
    tuner = PytorchTuner(
        theirs, "TripletLoss", "AdamW", 1e-3, [], loss_options={"distance": "euclidean", "margin": None},
        miner=TripletEasyHardMiner("hard", "hard"), weight_decay=0.0, schedule="constant", warmup=0,
        clip_norm=float("inf"),
    )  # fmt: skip
    run = tuner.fit(data, sampler=batches, epochs=1, log_every=1, length_groups=1)
    np.testing.assert_allclose([row["loss"] for row in run.log], expected, atol=1e-5)


def test_a_run_opens_by_itself(folder, data, tmp_path):
    run = finetuner.fit(
        str(folder),
        data,
        max_steps=2,
        callbacks=[],
        model_options={"pooler": "GeM", "prompts": "my ", "max_length": 12},
    )
    run.save(tmp_path / "run")
    encoder = finetuner.load(tmp_path / "run")
    np.testing.assert_array_equal(embed(encoder), embed(run.encoder))
    assert type(encoder.embed_model.pooling).__name__ == "GeM"
    assert json.loads((tmp_path / "run" / "model.json").read_text())["max_length"] == 12
    again = finetuner.fit(tmp_path / "run", data, max_steps=1, callbacks=[])  # a run is a model, too
    assert again.encoder.source.kind == "transformer"


def test_a_training_is_resumed_bit_for_bit(folder, data, tmp_path):
    settings = {"epochs": 2, "batch_size": 12, "callbacks": []}
    whole = finetuner.fit(str(folder), data, **settings)
    half = finetuner.fit(str(folder), data, **settings | {"callbacks": [StopAfter(3)]})
    half.save(tmp_path / "half")
    rest = finetuner.fit(str(folder), data, **settings, resume=tmp_path / "half")
    np.testing.assert_array_equal(embed(rest.encoder), embed(whole.encoder))


class StopAfter(finetuner.Callback):
    def __init__(self, step):
        self.after = step

    def on_batch_end(self, state):
        state.stop = state.step >= self.after


def test_the_settings_of_a_pretrained_model_are_told(folder, data, capsys):
    run = finetuner.fit(str(folder), data, max_steps=1)
    told = capsys.readouterr().err.splitlines()[0]
    assert told.startswith("pre-trained transformer: NTXentLoss(temperature=0.1), AdamW")
    assert run.config["optimizer"] == "AdamW"
    assert run.config["fit"]["length_groups"] == 4
    assert run.config["schedule"] == "linear"
    own = finetuner.fit(
        str(folder), data, loss="SupConLoss", optimizer="SGD", learning_rate=0.1, schedule="constant", warmup=0,
        clip_norm=float("inf"), epochs=2, batch_size=24, max_steps=1,
    )  # fmt: skip
    assert own.config["optimizer"] == "SGD"
    assert own.config["learning_rate"] == 0.1
    assert own.config["fit"]["batch_size"] == 24


@pytest.mark.parametrize(
    ("dataset", "loss"),
    [
        (finetuner.PairDataset(["card", "pin"], ["late", "lost"], [0.0, 5.0]), "CosineSimilarityLoss"),
        (finetuner.PairDataset(["card", "pin"], ["late", "lost"]), "CLIPLoss"),
        (finetuner.TripletDataset(["card", "pin"], ["late", "lost"], ["it", "is"]), "NTXentLoss"),
    ],
)
def test_the_data_choose_the_loss(folder, dataset, loss):
    run = finetuner.fit(str(folder), dataset, max_steps=1, callbacks=[])
    assert type(run.tuner.loss).__name__ == loss


def test_an_encoder_keeps_its_distance_and_pooler(folder, data, tmp_path):
    encoder = finetuner.load_model(folder, pooler="GeM", distance="euclidean")
    assert finetuner.load_model(encoder).distance == "euclidean"
    same = finetuner.evaluate(encoder, data, metrics=["mAP@R"])
    assert same == encoder.evaluate(data, metrics=["mAP@R"])
    assert same != finetuner.evaluate(encoder, data, distance="cosine", metrics=["mAP@R"])
    encoder.save(tmp_path / "encoder")
    assert finetuner.load_model(tmp_path / "encoder").distance == "euclidean"


@pytest.mark.parametrize("kind", ["Dense", "Normalize"])
def test_modules_on_tokens_are_refused(sentence_transformers, kind):
    from sentence_transformers.base import modules

    sizes = (WIDTH, WIDTH) if kind == "Dense" else ()
    theirs = sentence_transformers(normalize=False)
    theirs.insert(1, getattr(modules, kind)(*sizes, module_input_name="token_embeddings"))
    with pytest.raises(ValueError, match=f"the module {kind} .* must have the module_input_name sentence_embedding"):
        finetuner.load_model(theirs)


def test_a_model_with_a_head_is_refused(folder):
    from transformers import BertConfig, BertForMaskedLM

    model = BertForMaskedLM(BertConfig.from_pretrained(folder))
    with pytest.raises(ValueError, match="must be one without a head, such as model.base_model, got BertForMaskedLM"):
        finetuner.load_model(model, tokenizer=finetuner.load_model(folder).collate_fn.tokenizer)


# Heads ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["linear", "BNNeck", "MLP"])
def test_a_head_is_trained_saved_and_opened(folder, data, tmp_path, kind):
    import torch

    encoder = finetuner.load_model(folder, head=6, head_type=kind)
    pooled, head = embed(finetuner.load_model(folder)), encoder.embed_model.head
    before = embed(encoder)
    assert before.shape == (len(TEXTS), 6)
    with torch.no_grad():
        expected = head.eval()(torch.as_tensor(pooled)).numpy()
    np.testing.assert_allclose(before, expected, atol=1e-6)
    run = finetuner.fit(encoder, data, max_steps=3, callbacks=[])
    assert run.config["fit"]["length_groups"] == (1 if kind == "BNNeck" else 4)  # else a group may have a single row
    assert np.abs(embed(run.encoder) - before).max() > 1e-6
    run.save(tmp_path / "run")
    again = finetuner.load(tmp_path / "run")
    np.testing.assert_array_equal(embed(again), embed(run.encoder))
    assert type(again.embed_model.head) is type(head)


def test_a_head_stands_before_the_normalization(sentence_transformers, tmp_path):
    theirs = sentence_transformers(dense=True)
    theirs.save_pretrained(str(tmp_path / "st"))
    for source in (theirs, tmp_path / "st"):
        found = embed(finetuner.load_model(source, head=5, pooler="max"))
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
        assert found.shape == (len(TEXTS), 5)


def test_a_head_is_exported(folder, tmp_path):
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    for kind in ("linear", "BNNeck", "MLP"):
        encoder = finetuner.load_model(folder, head=6, head_type=kind)
        assert encoder.export(tmp_path / kind / "model.onnx") < 1e-4
    assert encoder.export(tmp_path / "model.pt2") < 1e-4


def test_heads_that_do_not_fit(folder, data, tmp_path):
    with pytest.raises(ValueError, match="head must be at least 1, got 0"):
        finetuner.load_model(folder, head=0)
    with pytest.raises(ValueError, match="head_type must be one of 'linear', 'bnneck', 'mlp', got 'deep'"):
        finetuner.load_model(folder, head=4, head_type="deep")
    with pytest.raises(ValueError, match="head_type must be used with a head, got 'mlp' and no head"):
        finetuner.load_model(folder, head_type="mlp")
    with pytest.raises(ValueError, match="image_size must be used with an image model"):
        finetuner.load_model(folder, image_size=32)
    finetuner.load_model(folder, head=4).save(tmp_path / "run")
    made = json.loads((tmp_path / "run" / "model.json").read_text())
    for head, message in [
        ({"name": "Sequential", "options": {}}, "must be one of BNNeckHead, LinearHead, MLPHead"),
        ({"name": "LinearHead", "options": {"size": 4}}, "must have the arguments of its class"),
    ]:
        (tmp_path / "run" / "model.json").write_text(json.dumps({**made, "head": head}))
        with pytest.raises(ValueError, match=f"the head of .*run {message}"):
            finetuner.load(tmp_path / "run")


# Bad input -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (["card", None], "items must be texts, got NoneType at item 1: None"),
        (["card", 3], "items must be texts, got int at item 1: 3"),
        (np.zeros((2, 3), np.float32), r"items must be texts, got an array of float32 \[2, 3\]"),
        ({"a": ["card"]}, "items must be texts, got a mapping with a"),
        (
            [np.zeros((2, 3)), np.ones((2, 3))],
            r"items must be texts, got ndarray at item 0: array\(\[\[0., 0., 0.\], \[",
        ),
    ],
)
def test_items_that_are_no_texts(folder, items, message):
    with pytest.raises(TypeError, match=message):
        finetuner.load_model(folder).embed(items)


def test_empty_and_long_texts_are_told(folder):
    encoder = finetuner.load_model(folder)
    with pytest.warns(UserWarning, match="1 of 2 texts are empty"):
        encoder.embed(["card", " "])
    with pytest.warns(
        UserWarning, match="1 of 2 texts are longer than 24 tokens and are cut; the longest has 42 tokens"
    ):
        encoder.embed(["card", "my card " * 20])


def test_sources_that_are_no_models(torch_backend, folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(FileNotFoundError, match="must exist, got ./nothing"):
        finetuner.load_model("./nothing")
    with pytest.raises(FileNotFoundError, match="'no-such-model' is no folder and cannot be downloaded"):
        finetuner.load_model("no-such-model")
    with pytest.raises(ValueError, match=r"must be the folder of a model, and has no config\.json"):
        finetuner.load_model(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ValueError, match="must have its weights as safetensors; a pickle is read with trust_code=True"):
        finetuner.load_model(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "x", "auto_map": {"AutoModel": "m.M"}}))
    with pytest.raises(ValueError, match="needs code of its own"):
        finetuner.load_model(tmp_path)
    with pytest.raises(ValueError, match="max_length must be at most 24, the positions of"):
        finetuner.load_model(folder, max_length=25)
    with pytest.raises(ValueError, match="pooler must be a known name, got 'maen'; did you mean 'mean'"):
        finetuner.load_model(folder, pooler="maen")
    with pytest.raises(ValueError, match="max_length must not be given with an encoder, which is complete, got 8"):
        finetuner.load_model(finetuner.load_model(folder), max_length=8)
    with pytest.raises(TypeError, match="prompts must be a text, or a pair of texts"):
        finetuner.load_model(folder, prompts=("a", "b", "c"))
    with pytest.raises(TypeError, match="model_options must be arguments of finetuner.load_model, got 'max_lenght'"):
        finetuner.fit(str(folder), (["a"], [0]), model_options={"max_lenght": 3})


def test_a_tokenizer_without_a_padding_token(folder):
    from transformers import AutoModel, AutoTokenizer

    model, tokenizer = AutoModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    tokenizer.pad_token = None
    with pytest.raises(ValueError, match="has no padding token: pass padding_token="):
        finetuner.load_model(model, tokenizer=tokenizer)
    assert embed(finetuner.load_model(model, tokenizer=tokenizer, padding_token="[PAD]")).shape == (5, WIDTH)

    with pytest.raises(ValueError, match=r"padding_token must be a token of BertModel, got '\[NOPE\]'"):
        finetuner.load_model(model, tokenizer=tokenizer, padding_token="[NOPE]")


def rewrite(path, change):
    """Change the tensors of a folder."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(path / "model.safetensors")
    change(tensors)
    save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})


def configure(path, **settings):
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, **settings}))


def halve(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


WORD_WEIGHTS = "embeddings.word_embeddings.weight"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: halve(path / "model.safetensors"), "cannot be opened: SafetensorError"),
        (lambda path: (path / "model.safetensors").write_bytes(b""), "cannot be opened: SafetensorError"),
        (lambda path: rewrite(path, lambda x: x.pop(WORD_WEIGHTS)), f"must be complete, and have no {WORD_WEIGHTS}"),
        (lambda path: configure(path, num_hidden_layers=3), r"must be complete, and have no encoder\.layer\.2"),
        (lambda path: rewrite(path, lambda x: x.update({WORD_WEIGHTS: x[WORD_WEIGHTS][:5].clone()})),
         rf"must fit its config.json, and {WORD_WEIGHTS} is \[5, 16\] in place of \[17, 16\]"),
        (lambda path: configure(path, hidden_size=8), r"must fit its config.json, and .* is \[16\] in place of \[8\]"),
        (lambda path: configure(path, model_type="nonsense"), "cannot be opened: ValueError"),
        (lambda path: (path / "config.json").write_text("{"), "config.json must be a JSON file"),
        (lambda path: (path / "tokenizer.json").write_text("{"), "cannot be opened: JSONDecodeError"),
        (lambda path: [file.unlink() for file in path.glob("tokenizer*")], "must have the vocabulary of its tokenizer"),
    ],
)  # fmt: skip
def test_damaged_folders(folder, tmp_path, damage, message):
    path = shutil.copytree(folder, tmp_path / "bert")
    damage(path)
    with pytest.raises(ValueError, match=message) as caught:
        finetuner.load_model(path)
    assert "\n" not in str(caught.value)


def test_a_tokenizer_with_more_tokens_than_the_model(folder, tmp_path):
    path = shutil.copytree(folder, tmp_path / "bert")
    configure(path, vocab_size=5)
    rewrite(path, lambda x: x.update({WORD_WEIGHTS: x[WORD_WEIGHTS][:5].clone()}))
    with pytest.raises(ValueError, match="the tokenizer of .* must have at most 5 tokens, .* got 17"):
        finetuner.load_model(path)


def test_weights_of_the_pooler_may_be_missing(folder, tmp_path):
    path = shutil.copytree(folder, tmp_path / "bert")
    rewrite(path, lambda x: [x.pop(name) for name in list(x) if name.startswith("pooler.")])
    np.testing.assert_array_equal(embed(finetuner.load_model(path)), embed(finetuner.load_model(folder)))


def test_poolers_that_do_not_fit(folder, data):
    with pytest.raises(TypeError, match="pooler must be a name or a pooler of finetuner, got int"):
        finetuner.load_model(folder, pooler=3)
    with pytest.raises(ValueError, match="pooler_options must be used with a pooler, got {'p': 2} and no pooler"):
        finetuner.load_model(folder, pooler_options={"p": 2})
    with pytest.raises(ValueError, match="pooler must be given to load_model for a model of texts, .* got 'GeM'"):
        finetuner.fit(finetuner.load_model(folder), data, pooler="GeM", callbacks=[])


def test_a_model_of_which_all_is_frozen(folder, data):
    encoder = finetuner.load_model(folder)
    with pytest.raises(
        ValueError, match="the model must have weights to train, and has none or all of them are frozen"
    ):
        finetuner.fit(encoder, data, freeze=[".*"], callbacks=[])
    headed = finetuner.load_model(folder, head=4)
    head = headed.embed_model.head.weight.detach().clone()
    weight = headed.embed_model.transformer.embeddings.word_embeddings.weight.detach().clone()
    run = finetuner.fit(headed, data, freeze=["transformer"], max_steps=2, callbacks=[])
    model = run.encoder.embed_model
    assert not np.array_equal(model.head.weight.detach().numpy(), head.numpy())
    np.testing.assert_array_equal(model.transformer.embeddings.word_embeddings.weight.detach().numpy(), weight.numpy())


def test_texts_that_are_long_in_bytes_alone(torch_backend):
    """Four characters, of which each has three bytes, are twelve tokens of bytes."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    from finetuner.models.text import Tokenize

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: number for number, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenize = Tokenize(PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="a"), 8)
    with pytest.warns(
        UserWarning, match="1 of 2 texts are longer than 8 tokens and are cut; the longest has 12 tokens"
    ):
        tokenize.check(["漢漢漢漢", "abcd"])


@pytest.mark.parametrize("ends", [True, False])
def test_a_prompt_of_a_tokenizer_that_knows_an_end(torch_backend, ends):
    """The token at the end of a prompt is part of the prompt unless the tokenizer adds it to each text."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    from finetuner.models.text import Tokenize

    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if ends:
        tokenizer.post_processor = processors.TemplateProcessing(single="$A [SEP]", special_tokens=[("[SEP]", 3)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", eos_token="[SEP]", unk_token="[UNK]", padding_side="right"
    )
    found = Tokenize(fast, 24, "my pin ", include_prompt=False)(["card", "where is it"])
    np.testing.assert_array_equal(
        found["pooling_mask"],
        [[0, 0, 1, 1, 0, 0], [0, 0, 1, 1, 1, 1]] if ends else [[0, 0, 1, 0, 0], [0, 0, 1, 1, 1]],
    )


# Exports -------------------------------------------------------------------------------------------------


def test_export_to_sentence_transformers(folder, sentence_transformers, data, tmp_path):
    library = pytest.importorskip("sentence_transformers")
    run = finetuner.fit(sentence_transformers(dense=True), data, data, max_steps=2, callbacks=[])
    assert run.encoder.export(tmp_path / "st", "sentence-transformers") < 1e-5
    loaded = library.SentenceTransformer(str(tmp_path / "st"))
    np.testing.assert_allclose(loaded.encode(TEXTS), embed(run.encoder), atol=1e-5)
    card = (tmp_path / "st" / "README.md").read_text()
    assert "library_name: sentence-transformers" in card
    with pytest.raises(FileExistsError, match="must not exist, so that nothing is overwritten"):
        run.encoder.export(tmp_path / "st", "sentence-transformers")
    with pytest.raises(ValueError, match="sentence-transformers has no GeM to pool tokens with"):
        finetuner.load_model(folder, pooler="GeM").export(tmp_path / "gem", "sentence-transformers")
    assert not (tmp_path / "gem").exists()


@pytest.mark.parametrize("head_type", ["linear", "BNNeck", "MLP"])
def test_export_of_a_head(folder, data, tmp_path, head_type):
    library = pytest.importorskip("sentence_transformers")
    encoder = finetuner.load_model(folder, head=6, head_type=head_type)
    run = finetuner.fit(encoder, data, max_steps=4, learning_rate=1e-2, callbacks=[])
    assert run.encoder.export(tmp_path / "st", "sentence-transformers") < 1e-5
    embeddings = library.SentenceTransformer(str(tmp_path / "st")).encode(TEXTS)
    assert embeddings.shape == (5, 6)
    np.testing.assert_allclose(embeddings, embed(run.encoder), atol=1e-5)


@pytest.mark.parametrize("kind", ["linear", "mlp"])
@pytest.mark.parametrize("normalize", [False, True])
def test_export_of_an_adapter(sentence_transformers, data, tmp_path, kind, normalize):
    library = pytest.importorskip("sentence_transformers")
    model = sentence_transformers(normalize=normalize)
    run = finetuner.fit(model, data, data, adapter=kind, epochs=20, learning_rate=3e-2, callbacks=[])
    before = model.encode(TEXTS)
    run.save(tmp_path / "run")
    for number, encoder in enumerate([run.encoder, finetuner.load(tmp_path / "run")]):
        assert encoder.export(tmp_path / f"st-{number}", "sentence-transformers") < 1e-5
        embeddings = library.SentenceTransformer(str(tmp_path / f"st-{number}")).encode(TEXTS)
        np.testing.assert_allclose(embeddings, embed(encoder), atol=1e-5)
        assert np.abs(embeddings - before).max() > 0.1
    assert encoder.export(tmp_path / "model.pt2") < 1e-5  # texts of our own are the sample


@pytest.mark.parametrize("pooler", ["mean", "GeM"])
def test_export_to_onnx(folder, tmp_path, pooler):
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    from tokenizers import Tokenizer

    encoder = finetuner.load_model(folder, pooler=pooler, max_length=16)
    assert encoder.export(tmp_path / "model.onnx") < 1e-4
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    session = runtime.InferenceSession(str(tmp_path / "model.onnx"))
    for texts in (TEXTS, TEXTS[:1], TEXTS[1:4]):  # other sizes and lengths than at the export
        rows = tokenizer.encode_batch(texts)
        arrays = {"input_ids": [r.ids for r in rows], "attention_mask": [r.attention_mask for r in rows]}
        arrays["token_type_ids"] = [r.type_ids for r in rows]
        names = [one.name for one in session.get_inputs()]
        found = session.run(None, {name: np.array(arrays[name], np.int64) for name in names})[0]
        np.testing.assert_allclose(found, embed(encoder, texts), atol=1e-4)


def test_export_to_torch(folder, tmp_path):
    import torch

    encoder = finetuner.load_model(folder)
    assert encoder.export(tmp_path / "model.pt2") < 1e-4
    assert torch.export.load(tmp_path / "model.pt2").module() is not None
    with pytest.raises(ValueError, match=r"format must be given for model\.bin"):
        encoder.export(tmp_path / "model.bin")


def test_an_export_that_differs_is_refused(folder, tmp_path, monkeypatch):
    from finetuner.models.export import exporting

    encoder = finetuner.load_model(folder)
    monkeypatch.setattr(exporting, "embed", lambda encoder, sample: embed(encoder, list(sample)) + 2e-4)
    with pytest.raises(ValueError, match="must be within 0.0001 of those of the encoder, got 0.0002"):
        encoder.export(tmp_path / "model.pt2")
    assert not list(tmp_path.iterdir())


def test_errors_of_an_exporter_are_of_one_line(folder, tmp_path, monkeypatch):
    from finetuner.models.export import pytorch_formats

    def fail(*args):
        raise RuntimeError("\x1b[1mno\nsuch operator\x1b[0m")

    monkeypatch.setattr(pytorch_formats, "write_torch_export", fail)
    with pytest.raises(
        ValueError, match="^the model cannot be exported to torch-export: RuntimeError: no such operator$"
    ):
        finetuner.load_model(folder).export(tmp_path / "model.pt2")
    assert not list(tmp_path.iterdir())


def test_plain_models_are_exported_with_items(backend, tmp_path):
    if backend.name != "pytorch":
        pytest.skip("other formats")
    import torch

    encoder = finetuner.load_model(torch.nn.Linear(4, 3))
    with pytest.raises(ValueError, match="items must be given to compare the export with"):
        encoder.export(tmp_path / "model.pt2")
    assert encoder.export(tmp_path / "model.pt2", items=np.eye(4, dtype=np.float32)) < 1e-6
