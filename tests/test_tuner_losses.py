"""Training with each kind of loss: its data, its sampler, and its own weights."""

import numpy as np
import pytest

import finetuner
from finetuner import ClassDataset, PairDataset, RankingDataset, TargetDataset, TripletDataset
from finetuner.tuner.base import ProgressBar

from .toy import TEST, TRAIN, D, blobs, make_tuner, same_arrays, weights

pytest.importorskip("faiss")
MARGINS = ["ArcFaceLoss", "CosFaceLoss", "SphereFaceLoss", "ArcFaceLossWithMLP"]


def loss_weights(tuner):
    return {name: np.asarray(value) for name, value in tuner.loss_state().items()}


def centres(tuner):
    """The class centres in the order of the class names."""
    order = sorted(range(len(tuner.classes)), key=lambda i: tuner.classes[i])
    return tuner.loss.weights_on_host()["weight"][order]


# Margin losses and their weights.


@pytest.mark.parametrize("loss", MARGINS)
def test_margins_separate_unseen_classes(backend, loss):
    tuner = make_tuner(backend, loss=loss, loss_options={"scale": 16.0}, learning_rate=0.01)
    run = tuner.fit(TRAIN, TEST, epochs=15, batch_size=48)
    assert run.metrics["after"]["mAP@R"] > run.metrics["before"]["mAP@R"] + 0.1
    assert run.history[-1]["loss"] < run.history[1]["loss"]
    assert run.config["fit"]["sampler"] == "RandomSampler"
    assert run.config["loss"]["options"]["num_classes"] == 4
    assert "val_loss" not in run.history[-1]  # not defined for classes without a centre
    assert tuner.loss.weights_on_host()["weight"].shape == (4, 128 if "MLP" in loss else 8)


def test_validation_loss_with_training_classes(backend):
    run = make_tuner(backend, loss="ArcFaceLoss").fit(TRAIN, ClassDataset(*blobs([0, 2, 3], seed=4)), epochs=1)
    assert np.isfinite(run.history[-1]["val_loss"])


def test_initial_centres_are_the_same_in_every_framework(backend):
    loss = backend.losses.ArcFaceLoss(3, 2)
    bound = np.sqrt(6 / 5)
    expected = np.random.default_rng(0).uniform(-bound, bound, (2, 3)).astype(np.float32)
    np.testing.assert_array_equal(loss.weights_on_host()["weight"], expected)


@pytest.mark.parametrize("loss", ["ArcFaceLoss", "ArcFaceLossWithMLP"])
@pytest.mark.parametrize("optimizer", [None, "SGD"])
def test_resumed_training_matches_uninterrupted(backend, tmp_path, loss, optimizer):
    def create():
        return make_tuner(backend, loss=loss, optimizer="AdamW", loss_optimizer=optimizer, dropout=0.3)

    whole, first, second = create(), create(), create()
    whole.fit(TRAIN, epochs=4, batch_size=16)
    first.fit(TRAIN, epochs=2, batch_size=16)
    first.save(tmp_path / "run")
    second.load(tmp_path / "run").fit(TRAIN, epochs=2, batch_size=16)
    assert same_arrays(loss_weights(whole), loss_weights(second))
    assert same_arrays(weights(whole), weights(second))
    assert not same_arrays(loss_weights(first), loss_weights(second))


def test_new_classes_get_new_centres(backend):
    tuner = make_tuner(backend, loss="ArcFaceLoss", learning_rate=1e-9)
    tuner.fit(ClassDataset(*blobs([2, 6])), epochs=1)
    before = centres(tuner)
    tuner.fit(ClassDataset(*blobs([0, 2, 4, 6])), epochs=1)
    assert tuner.classes == [2, 6, 0, 4]
    after = centres(tuner)
    assert after.shape == (4, 8)
    np.testing.assert_allclose(after[[1, 3]], before, atol=1e-6)
    tuner.fit(ClassDataset(*blobs([4, 6])), epochs=1)
    assert centres(tuner).shape == (4, 8)


def test_loss_has_its_own_optimizer(backend):
    def max_change(**options):
        tuner = make_tuner(backend, loss=backend.losses.ArcFaceLoss(8, 4), **options)
        before = tuner.loss.weights_on_host()["weight"]
        tuner.fit(TRAIN, epochs=1, batch_size=48)
        return np.abs(tuner.loss.weights_on_host()["weight"] - before).max(), tuner

    default, tuner = max_change(learning_rate=1e-3)
    assert type(tuner.loss_optimizer) is type(tuner.optimizer)
    np.testing.assert_allclose(default, 1e-3, rtol=0.01)  # the first step of Adam
    slower, _ = max_change(loss_optimizer_options={"learning_rate": 1e-5})
    np.testing.assert_allclose(slower, 1e-5, rtol=0.01)
    other, tuner = max_change(loss_optimizer="SGD", loss_optimizer_options={"learning_rate": 1e-6})
    assert type(tuner.loss_optimizer).__name__ == "SGD"
    assert 0 < other < 1e-4
    assert tuner.config["loss_optimizer"] == "SGD"


def test_loss_optimizer_for_a_loss_without_weights(backend):
    with pytest.raises(
        ValueError, match="loss_optimizer must be used with a loss that has weights .* 'SGD' and TripletLoss"
    ):
        make_tuner(backend, loss_optimizer="SGD").fit(TRAIN)


def test_loading_with_another_loss_optimizer_is_an_error(backend, tmp_path):
    make_tuner(backend, loss="ArcFaceLoss", loss_optimizer="SGD").fit(TRAIN, epochs=1).save(tmp_path / "run")
    with pytest.raises(
        ValueError, match="settings must be those of the run in .*, and loss_optimizer is 'SGD' there and None here"
    ):
        make_tuner(backend, loss="ArcFaceLoss").load(tmp_path / "run")


def test_labels_out_of_range(backend):
    loss = backend.losses.ArcFaceLoss(8, 3)
    with pytest.raises(ValueError, match=r"labels must be integers in 0..2, got -1, 3"):
        loss(backend.tensor(TRAIN.x[:4]), backend.tensor(np.array([0, 3, -1, 3])))
    with pytest.raises(ValueError, match=r"labels must be integers in 0..7, got 8"):
        backend.losses.FocalLoss()(backend.tensor(TRAIN.x[:2]), backend.tensor(np.array([0, 8])))
    with pytest.raises(ValueError, match="the model must return a logit for each of 4 classes, got 3"):
        backend.Tuner(backend.mlp(D, 3), loss="FocalLoss", callbacks=[]).fit(TRAIN)
    with pytest.raises(ValueError, match="embeddings must have 8 features, as the loss has, got 5"):
        loss(backend.tensor(TRAIN.x[:4, :5]), backend.tensor(np.array([0, 1, 2, 0])))
    with pytest.raises(ValueError, match=r"in_features and num_classes must be given .*in_features=None"):
        backend.losses.ArcFaceLoss()(backend.tensor(TRAIN.x[:4]), backend.tensor(np.array([0, 1, 2, 0])))


def test_categories_refer_to_class_names(backend):
    names = np.array(["pike", "oak", "elm", "carp"])[TRAIN.labels]
    categories = {"pike": "fish", "carp": "fish", "oak": "tree", "elm": "tree"}
    tuner = make_tuner(
        backend, loss="ArcFaceLoss", loss_options={"smoothing_epsilon": 0.1, "label2category": categories}
    )
    tuner.fit(ClassDataset(TRAIN.x, names), epochs=1)
    assert tuner.classes == ["carp", "elm", "oak", "pike"]
    assert tuner.loss.categories.tolist() == [0, 1, 1, 0]
    del categories["oak"]
    with pytest.raises(ValueError, match="label2category must have a category for each class, and has none for oak"):
        make_tuner(
            backend, loss="ArcFaceLoss", loss_options={"smoothing_epsilon": 0.1, "label2category": categories}
        ).fit(ClassDataset(TRAIN.x, names))


def test_label_smoothing(backend):
    y, categories = backend.tensor(np.array([0, 2])), np.array([0, 0, 1], np.int32)
    plain = backend.numpy(backend.functional.label_smoothing(y, 3))
    np.testing.assert_allclose(plain, [[13 / 15, 1 / 15, 1 / 15], [1 / 15, 1 / 15, 13 / 15]], rtol=1e-6)
    by_category = backend.numpy(backend.functional.label_smoothing(y, 3, 0.2, categories))
    np.testing.assert_allclose(by_category, [[0.9, 0.1, 0], [0, 0, 1]], rtol=1e-6)


# Samplers.


def test_samplers_by_name(backend):
    def sampler_name(loss, sampler):
        run = make_tuner(backend, loss=loss).fit(TRAIN, sampler=sampler, epochs=1, batch_size=16)
        return run.config["fit"]["sampler"]

    assert sampler_name("TripletLoss", "auto") == "ClassSampler"
    assert sampler_name("ArcFaceLoss", "auto") == "RandomSampler"
    assert sampler_name("ArcFaceLoss", "class") == "ClassSampler"
    with pytest.warns(
        UserWarning, match="NTXentLoss compares the items of a batch.*sampler='class' is used instead"
    ) as caught:
        assert sampler_name("NTXentLoss", "random") == "ClassSampler"
    assert len([warning for warning in caught if "compares the items" in str(warning.message)]) == 1
    with pytest.raises(ValueError, match="sampler must be one of 'auto', 'random', 'class', got 'classs'"):
        sampler_name("TripletLoss", "classs")


# Pairs and triplets.


def pairs(seed, scored):
    """Pairs of points on a half circle, with noise dimensions. The scores are the cosines of the points."""
    rng = np.random.default_rng(seed)
    angles = rng.uniform(0, np.pi, (48, 2))
    if not scored:
        angles[:, 1] = angles[:, 0]
    points = np.stack([np.cos(angles), np.sin(angles)], axis=2)
    noise = rng.normal(size=(48, 2, D - 2))
    sides = np.concatenate([3 * points, noise], axis=2).astype(np.float32)
    return sides[:, 0], sides[:, 1], (1 + (points[:, 0] * points[:, 1]).sum(axis=1)) / 2


@pytest.mark.parametrize("loss", ["CosineSimilarityLoss", "ContrastiveLoss"])
def test_pairs_with_scores(backend, loss):
    first, second, score = pairs(0, scored=True)
    options = (
        {"low": 0.0, "high": 5.0} if loss == "CosineSimilarityLoss" else {"similar_label": 1, "distance": "cosine"}
    )
    train = PairDataset(first, second, score * 5 if loss == "CosineSimilarityLoss" else score)
    tuner = make_tuner(backend, loss=loss, loss_options=options, learning_rate=0.01)
    run = tuner.fit(train, PairDataset(*pairs(1, scored=True)), epochs=15, batch_size=16)
    assert run.metrics["after"].keys() == {"val_loss", "spearman", "pearson"}
    assert run.metrics["after"]["spearman"] > run.metrics["before"]["spearman"]
    assert run.history[-1]["loss"] < run.history[1]["loss"]


def test_scores_out_of_range(backend):
    first, second, score = pairs(0, scored=True)
    with pytest.raises(ValueError, match=r"scores must lie in -1..1, got .*low and high of CosineSimilarityLoss"):
        make_tuner(backend, loss="CosineSimilarityLoss").fit(PairDataset(first, second, score * 5))


def test_one_model_for_both_inputs(backend):
    first, second, _ = pairs(0, scored=False)
    run = make_tuner(backend, loss="CLIPLoss", learning_rate=0.01).fit(
        PairDataset(first, second),
        PairDataset(*pairs(1, scored=False)[:2]),
        epochs=10,
        batch_size=16,
        metrics=["hit@5"],
    )
    assert run.history[-1]["loss"] < run.history[1]["loss"]
    assert run.metrics["after"]["hit@5"] > run.metrics["before"]["hit@5"]


@pytest.mark.parametrize("kind", ["pair of models", "model with two inputs"])
def test_a_model_per_input(backend, tmp_path, kind):
    first, second, _ = pairs(0, scored=False)
    data = PairDataset(first, [row[:5] for row in second])  # with another width

    def create():
        towers = backend.mlp(D, 16, 4), backend.mlp(5, 16, 4, seed=1)
        model = towers if kind == "pair of models" else backend.two_inputs(*towers)
        return backend.Tuner(model, loss="CLIPLoss", loss_options={"learnable": True}, callbacks=[], learning_rate=0.01)

    tuner = create()
    run = tuner.fit(data, data, epochs=8, batch_size=16, metrics=["hit@5"])
    assert run.metrics["after"]["hit@5"] > run.metrics["before"]["hit@5"]
    assert tuner.loss.weights_on_host()["log_scale"] != np.float32(-np.log(0.07))
    run.save(tmp_path / "run")
    loaded = create().load(tmp_path / "run")
    assert same_arrays(weights(loaded), weights(tuner))
    assert same_arrays(loss_weights(loaded), loss_weights(tuner))
    assert loaded.embed(data).shape == (96, 4)
    if kind == "pair of models":
        assert run.model[0] is tuner.model[0]
        assert finetuner.embed(run.model[0], first).shape == (48, 4)
        with pytest.raises(ValueError, match="a pair of models must be given a PairDataset"):
            loaded.embed(first)


def test_a_collate_function_per_input(backend):
    first, second, _ = pairs(0, scored=False)
    towers = backend.mlp(D, 16, 4), backend.mlp(1, 16, 4)
    texts = [f"{row[0]:.3f}" for row in second]

    def parse(items):
        return np.array([[float(item)] for item in items], np.float32)

    run = finetuner.fit(
        towers, PairDataset(first, texts), loss="CLIPLoss", collate_fn=(np.stack, parse), epochs=2, callbacks=[]
    )
    assert np.isfinite(run.history[-1]["loss"])


@pytest.mark.parametrize("loss", ["TripletLoss", "NTXentLoss"])
def test_explicit_triplets(backend, loss):
    first, second, _ = pairs(0, scored=False)
    data = TripletDataset(first, second, np.roll(second, 7, axis=0))
    run = make_tuner(backend, loss=loss, learning_rate=0.01).fit(data, data, epochs=10, batch_size=16)
    assert run.metrics["after"]["triplet_accuracy"] > run.metrics["before"]["triplet_accuracy"]
    assert run.metrics["after"]["val_loss"] < run.metrics["before"]["val_loss"]


def test_explicit_triplets_as_rows_or_labels(backend):
    x = np.random.default_rng(0).normal(size=(12, D)).astype(np.float32)
    data = TripletDataset(x[0::3], x[1::3], x[2::3])
    loss = backend.loss("TripletLoss", margin=0.3)
    rows = data.batch(np.arange(12))
    np.testing.assert_array_equal(rows, x)
    expected = loss(*(backend.tensor(x[position::3]) for position in range(3)))
    for other in (loss(backend.tensor(x)), loss(backend.tensor(x), backend.tensor(data.labels))):
        np.testing.assert_allclose(backend.numpy(other), backend.numpy(expected), rtol=1e-5)


def test_smaller_last_batch_with_two_models(backend):
    first, second, _ = pairs(0, scored=False)
    towers = backend.mlp(D, 16, 4), backend.mlp(D, 16, 4)
    run = finetuner.fit(towers, PairDataset(first, second), loss="CLIPLoss", epochs=2, batch_size=20, callbacks=[])
    assert all(np.isfinite(row["loss"]) for row in run.history)


# Distillation, ranking, classification and regression.


@pytest.mark.parametrize("kind", ["embeddings", "model"])
def test_distillation(backend, kind):
    teacher = backend.mlp(D, 32, 5, seed=3)
    teacher_embeddings = finetuner.embed(teacher, TRAIN.x)
    data, options = (
        (TargetDataset(TRAIN.x, teacher_embeddings), {}) if kind == "embeddings" else (TRAIN, {"teacher": teacher})
    )
    tuner = make_tuner(backend, loss="DistillationLoss", loss_options=options, learning_rate=0.01)
    run = tuner.fit(data, TEST, epochs=10, batch_size=16, metrics=["hit@1"])
    assert run.history[-1]["loss"] < 0.8 * run.history[1]["loss"]
    assert "hit@1" in run.metrics["after"]
    np.testing.assert_array_equal(finetuner.embed(teacher, TRAIN.x), teacher_embeddings)
    with pytest.raises(ValueError, match="DistillationLoss needs a teacher's embeddings"):
        make_tuner(backend, loss="DistillationLoss").fit(TRAIN)


@pytest.mark.parametrize("loss", ["RankNetLoss", "ListNetLoss", "LambdaRankLoss", "mse"])
def test_ranking(backend, loss):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, D)).astype(np.float32)
    relevance = np.clip(np.round(x[:, 0] + 1), 0, 3)
    data = RankingDataset(x, relevance, [f"query {i // 5}" for i in range(60)])
    is_native = loss == "mse"
    name, options = backend.native["mse"] if is_native else (loss, {})
    tuner = backend.Tuner(backend.mlp(D, 16, 1), loss=name, loss_options=options, callbacks=[], learning_rate=0.01)
    run = tuner.fit(data, data, epochs=15, batch_size=20)
    assert run.metrics["after"]["nDCG"] > run.metrics["before"]["nDCG"] + 0.05
    assert run.config["fit"]["sampler"] == ("RandomSampler" if is_native else "GroupSampler")


@pytest.mark.parametrize("loss", ["FocalLoss", "cross-entropy", "instance"])
def test_classification(backend, loss):
    name, options = ("FocalLoss", {}) if loss == "FocalLoss" else backend.native["cross-entropy"]
    if loss == "instance":
        name, options = backend.native_loss(name, options), None
    tuner = backend.Tuner(backend.mlp(D, 16, 4), loss=name, loss_options=options, callbacks=[], learning_rate=0.01)
    run = tuner.fit(TRAIN, epochs=40, batch_size=48)
    assert run.history[-1]["loss"] < 0.5 * run.history[1]["loss"]
    assert (tuner.embed(TRAIN).argmax(axis=1) == TRAIN.labels).mean() > 0.9


@pytest.mark.parametrize("kind", ["mse", "mae", "huber"])
def test_regression(backend, kind):
    name, options = backend.native[kind]
    target = TRAIN.x[:, 0] * 2 + 1
    tuner = backend.Tuner(backend.mlp(D, 16, 1), loss=name, loss_options=options, callbacks=[], learning_rate=0.01)
    run = tuner.fit(
        TargetDataset(TRAIN.x, target), TargetDataset(TEST.x, TEST.x[:, 0] * 2 + 1), epochs=20, batch_size=16
    )
    assert run.metrics["after"]["val_loss"] < 0.5 * run.metrics["before"]["val_loss"]


@pytest.mark.parametrize("kind", ["mse", "cross-entropy"])
def test_item_weights(backend, kind):
    """An item with weight 2 counts twice, and an item with weight 0 does not count."""
    name, options = backend.native[kind]
    loss = backend.Tuner(backend.mlp(D, 4), loss=name, loss_options=options, callbacks=[]).loss
    x = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)
    y = np.array([1, 0, 3, 2]) if kind == "cross-entropy" else x[::-1].copy()
    weighted = loss(backend.tensor(x), backend.tensor(y), backend.tensor(np.array([2, 1, 0, 1], np.float32)))
    repeated = [0, 0, 1, 3]
    np.testing.assert_allclose(
        backend.numpy(weighted),
        backend.numpy(loss(backend.tensor(x[repeated]), backend.tensor(y[repeated]))),
        rtol=1e-5,
    )
    data = ClassDataset(TRAIN.x, TRAIN.labels, weights=np.where(TRAIN.labels == 0, 3.0, 1.0))
    if kind == "cross-entropy":
        make_tuner(backend, loss=name, loss_options=options).fit(data, epochs=1)
    with pytest.raises(ValueError, match="weights must be used with one of the framework's own losses"):
        make_tuner(backend).fit(data)


def test_column_of_outputs_with_vector_of_targets(backend):
    """Broadcasting would compare each output with each target."""
    name, options = backend.native["mse"]
    loss = backend.Tuner(backend.mlp(D, 4), loss=name, loss_options=options, callbacks=[]).loss
    x, y = np.array([[1.0], [2.0], [5.0]], np.float32), np.array([1, 2, 4], np.float32)
    np.testing.assert_allclose(backend.numpy(loss(backend.tensor(x), backend.tensor(y))), 1 / 3, rtol=1e-6)


def test_user_losses_get_labels_of_the_default_integer_type(backend):
    if backend.name != "pytorch":
        pytest.skip("Keras and Paddle accept all integer types")
    from torch.nn.functional import cross_entropy  # does not accept int32

    make_tuner(backend, loss=lambda embeddings, labels: cross_entropy(embeddings, labels)).fit(TRAIN, epochs=1)


# Errors and logs.


@pytest.mark.parametrize("loss", ["TripletLoss", "native"])
def test_loss_must_be_one_number(backend, loss):
    name, options = backend.native["mse"] if loss == "native" else (loss, {})
    with pytest.raises(ValueError, match="loss must give one number for a batch, got one with reduction='none'"):
        make_tuner(backend, loss=name, loss_options={**options, "reduction": "none"})


@pytest.mark.parametrize(
    ("loss", "data", "message"),
    [
        ("TripletLoss", TargetDataset(TRAIN.x, TRAIN.x[:, 0]), "TripletLoss needs items that belong together"),
        ("ArcFaceLoss", PairDataset(TRAIN.x, TRAIN.x), "ArcFaceLoss needs the class of each item"),
        ("CLIPLoss", TRAIN, "CLIPLoss needs pairs that belong together"),
        ("CosineSimilarityLoss", PairDataset(TRAIN.x, TRAIN.x), "CosineSimilarityLoss needs a score for each pair"),
        ("RankNetLoss", TRAIN, "RankNetLoss needs the relevance of each item"),
    ],
)
def test_dataset_must_match_the_loss(backend, loss, data, message):
    with pytest.raises(ValueError, match=message):
        make_tuner(backend, loss=loss).fit(data)


@pytest.mark.parametrize("loss", ["TripletLoss", "SiameseLoss", "SupConLoss", "SurrogatePrecision", "ArcFaceLoss"])
def test_logs_are_in_the_history(backend, loss):
    from rich.console import Console

    console = Console(width=200, record=True, force_terminal=True, file=open("/dev/null", "w"))  # noqa: SIM115
    options = {"need_logs": True}
    tuner = make_tuner(backend, [ProgressBar(console)], loss=loss, loss_options=options, learning_rate=0.01)
    run = tuner.fit(TRAIN, epochs=8, batch_size=48)
    console.file.close()
    for name in ("active", "positive_distance", "negative_distance", "spread"):
        assert all(0 <= row[name] <= 2 for row in run.history)
        assert f"{name} {run.history[-1][name]:.4f}" in console.export_text(clear=False)
    first, *_, last = (row["positive_distance"] / row["negative_distance"] for row in run.history)
    assert last < first
    plain = make_tuner(backend, loss=loss, learning_rate=0.01)
    assert "spread" not in plain.fit(TRAIN, epochs=1, batch_size=48).history[-1]


def test_last_logs(backend):
    x = np.array([[1, 0], [1, 0], [0, 1], [0, 1]], np.float32)
    loss = backend.loss("TripletLoss", margin=0.5, need_logs=True)
    loss(backend.tensor(x), backend.tensor(np.array([0, 0, 1, 1])))
    expected = {"active": 0, "positive_distance": 0, "negative_distance": 1, "spread": 0.5}
    assert loss.last_logs == pytest.approx(expected, abs=1e-6)
    loss(backend.tensor(x), backend.tensor(np.array([0, 1, 0, 1])))
    expected = {"active": 1, "positive_distance": 1, "negative_distance": 0.5}
    assert loss.last_logs == pytest.approx(expected | {"spread": 0.5}, abs=1e-6)


def test_last_logs_of_pairs_in_a_batch(backend):
    x = np.array([[1, 0], [0, 1]], np.float32)
    loss = backend.loss("CLIPLoss", need_logs=True)
    for second, positive, negative in ((x, 0, 1), (x[::-1].copy(), 1, 0)):
        loss(backend.tensor(x), backend.tensor(second))
        logs = loss.last_logs
        assert (logs["positive_distance"], logs["negative_distance"]) == pytest.approx((positive, negative), abs=1e-6)
        assert logs["active"] == 1


def test_the_interface_of_losses_is_no_loss(backend):
    with pytest.raises(ValueError, match="loss must be a known name, got 'Loss'"):
        make_tuner(backend, loss="Loss")
