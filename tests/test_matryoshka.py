"""Nested sizes of embeddings (Matryoshka): the loss against its reference, and trainings with ``dims``."""

import importlib

import numpy as np
import pytest

from finetuner import ClassDataset, PairDataset, TargetDataset, TripletDataset

from .backends import weighted
from .reference import LOSSES, numerical_gradient
from .reference.batches import Batch, Centres, Rows, Taught, Triplets, TwoTower, points
from .reference.nested import nested_loss
from .test_parity import assert_gradient
from .toy import TEST, TRAIN, D, make_tuner, same_arrays, weights

DIMS, FACTORS = (8, 5, 2), (1.0, 0.25, 2.0)
N = 6
CLASSES, WEIGHT = np.array([0, 0, 1, 1, 2, 2]), points(3, 8, seed=4)
SCORES, TEACHER = np.repeat([0.0, 1.0, 0.25], 2), points(N, 5, seed=2)
HEAD = {
    "mlp_weight_0": points(5, 8, seed=6),
    "mlp_bias_0": points(1, 5, seed=7)[0],
    "weight": points(3, 5, seed=10),
}


# Of each case: the loss, its options, the targets of the rows as a tuner has them, and the batch of the reference.
def classes(x):
    return Batch(x, CLASSES)


def centres(x):
    return Centres(x, CLASSES, WEIGHT)


def pairs(x):
    return TwoTower(x[0::2], x[1::2])


CASES = {
    "triplets": ("TripletLoss", {"margin": 0.5}, (CLASSES,), classes),
    "euclidean pairs": ("SiameseLoss", {"distance": "euclidean"}, (CLASSES,), classes),
    "NT-Xent": ("NTXentLoss", {"temperature": 0.5}, (CLASSES,), classes),
    "SupCon": ("SupConLoss", {}, (CLASSES,), classes),
    "ArcFace": ("ArcFaceLoss", {"scale": 8.0, "weights": {"weight": WEIGHT}}, (CLASSES,), centres),
    "CosFace": ("CosFaceLoss", {"scale": 8.0, "weights": {"weight": WEIGHT}}, (CLASSES,), centres),
    "ArcFace of a head": (
        "ArcFaceLossWithMLP",
        {"scale": 8.0, "mlp_features": [5], "weights": HEAD},
        (CLASSES,),
        lambda x: Centres(x, CLASSES, HEAD["weight"]),
    ),
    "CLIP": ("CLIPLoss", {"temperature": 0.5}, (np.repeat([0, 1, 2], 2),), pairs),
    "scores": ("CosineSimilarityLoss", {}, (SCORES,), lambda x: Rows(*pairs(x), SCORES[0::2])),
    "teacher": ("DistillationLoss", {"temperature": 0.5}, (TEACHER,), lambda x: Taught(x, TEACHER)),
    "explicit triplets": (
        "TripletLoss",
        {"margin": 0.5, "distance": "euclidean"},
        (np.array([[0, 0], [0, 2], [0, -2], [1, 0], [1, 2], [1, -2]]),),
        lambda x: Triplets(x[0::3], x[1::3], x[2::3]),
    ),
}


COMPILED = ("triplets", "ArcFace", "ArcFace of a head", "CLIP", "teacher")


def nested(backend, name, dims=DIMS, factors=FACTORS, **options):
    if "Face" in name:
        options |= {"in_features": 8, "num_classes": 3}
    return matryoshka(backend)(backend.loss(name, **options), dims, factors)


def matryoshka(backend):
    return importlib.import_module(f"finetuner.tuner.{backend.name}").MatryoshkaLoss


@pytest.mark.parametrize(
    ("case", "mode"), [*((case, "eager") for case in CASES), *((case, "traced") for case in COMPILED)]
)
def test_value_and_gradient(backend, case, mode):
    if mode not in backend.modes:
        pytest.skip("Keras leaves its torch engine uncompiled")
    name, options, targets, batch_of = CASES[case]
    loss, x = nested(backend, name, **options), points(N, 8, seed=1)

    def function(x, *targets):
        return loss.on_batch(x, *targets)

    function = function if mode == "eager" else backend.compiled(function, mode)
    value, (grad,) = backend.value_and_grads(function, [x], targets)
    own = {key: option for key, option in options.items() if key != "weights" or "mlp" in str(option)}
    reference = "TripletLoss:rows" if case == "explicit triplets" else name

    def truth(x):
        return nested_loss(reference, batch_of(x), DIMS, FACTORS, **own)

    np.testing.assert_allclose(value, truth(x), rtol=1e-5)
    assert_gradient(grad, *numerical_gradient(lambda x: weighted(truth(x)), x), x, directional=False)


def test_blocks_of_rows(backend, monkeypatch):
    loss, x = nested(backend, "NTXentLoss", temperature=0.5), points(N, 8, seed=1)
    whole = backend.value_and_grads(loss.on_batch, [x], [CLASSES])
    monkeypatch.setattr("finetuner.tuner.base.losses.blocks.rows_per_block", lambda *_: 2)
    value, (grad,) = backend.value_and_grads(loss.on_batch, [x], [CLASSES])
    np.testing.assert_allclose(value, whole[0], rtol=1e-6)
    np.testing.assert_allclose(grad, whole[1][0], rtol=1e-4, atol=1e-7)


def test_logs_are_those_of_the_largest_size(backend):
    x, labels = backend.tensor(points(N, 8, seed=1), "float32"), backend.tensor(CLASSES)
    loss, single = nested(backend, "TripletLoss", need_logs=True), backend.loss("TripletLoss", need_logs=True)
    loss(x, labels)
    single(x, labels)
    assert loss.last_logs == pytest.approx(single.last_logs)


def test_sizes_are_sorted_and_described(backend):
    loss = nested(backend, "TripletLoss", dims=[2, 8, np.int64(5)], factors=(2.0, 1.0, 0.25))
    assert (loss.dims, loss.weights_of_dims) == ([8, 5, 2], [1.0, 0.25, 2.0])
    assert (loss.target_type, loss.sampler, loss.distance, loss.tuples) == ("relations", "class", "cosine", "triplets")
    assert nested(backend, "SupConLoss", factors=None).weights_of_dims == [1.0] * 3
    assert nested(backend, "ArcFaceLoss").sampler == "random"
    assert not hasattr(nested(backend, "ArcFaceLoss"), "tuples")


@pytest.mark.parametrize(
    ("name", "options", "error", "message"),
    [
        ("TripletLoss", {"dims": ()}, ValueError, "dims must have at least one size"),
        ("TripletLoss", {"dims": (8, 8, 2)}, ValueError, r"dims must be different sizes, got \[8, 8, 2\]"),
        ("TripletLoss", {"dims": (8, 0, 2)}, ValueError, "dims must be at least 1, got 0"),
        ("TripletLoss", {"dims": (8, 2.5, 2)}, TypeError, "dims must be an integer, got 2.5"),
        ("TripletLoss", {"dims": 8}, ValueError, "dims must be a sequence of integers"),
        ("TripletLoss", {"dims": "8,2"}, ValueError, "dims must be a sequence of integers"),
        ("TripletLoss", {"factors": (1,)}, ValueError, "weights must have a number for each of 3 dims, got 1"),
        ("TripletLoss", {"factors": (1, 0, 1)}, ValueError, "the weight of a size must be above 0, got 0"),
        ("FocalLoss", {}, ValueError, "a loss that compares embeddings, got FocalLoss, a loss of logits"),
        ("RankNetLoss", {}, ValueError, "a loss that compares embeddings, got RankNetLoss, a loss of logits, scores"),
    ],
)
def test_wrong_arguments(backend, name, options, error, message):
    with pytest.raises(error, match=message):
        nested(backend, name, **options)


def test_embeddings_that_are_too_small(backend):
    x, labels = backend.tensor(points(N, 8), "float32"), backend.tensor(CLASSES)
    with pytest.raises(ValueError, match="dims must be at most 8, the size of the embeddings, got 16"):
        nested(backend, "TripletLoss", (16, 8), (1, 1))(x, labels)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dim_weights": (1, 1)}, "dim_weights must be used with dims"),
        ({"dims": (8, 2), "dim_weights": 1.0}, "dim_weights must be a sequence of numbers"),
        ({"dims": (8, 2), "dim_weights": (1.0,)}, "weights must have a number for each of 2 dims"),
        ({"dims": (8, 2), "loss": "FocalLoss"}, "got FocalLoss"),
        ({"dims": (8, 2), "loss": {"NTXentLoss": 1.0, "RankNetLoss": 1.0}}, "got RankNetLoss"),
    ],
)
def test_wrong_arguments_of_a_tuner(backend, options, message):
    with pytest.raises(ValueError, match=message):
        make_tuner(backend, **options)


def test_a_loss_of_the_framework_is_refused(backend):
    name, options = backend.native["mse"]
    with pytest.raises(ValueError, match=f"got {name}, a loss of logits, scores or other outputs"):
        make_tuner(backend, loss=name, loss_options=options, dims=(8, 2))


def test_sizes_are_checked_before_the_first_step(backend):
    with pytest.raises(ValueError, match="dims must be at most 8, the size of the embeddings, got 16"):
        make_tuner(backend, dims=(16, 8)).fit(TRAIN, TEST, epochs=1)
    with pytest.raises(ValueError, match="dims must be given once"):
        make_tuner(backend, loss=nested(backend, "TripletLoss"), dims=(8, 2))
    with pytest.warns(UserWarning, match="the first 4 components of the embeddings, which have 8: add 8 to dims"):
        make_tuner(backend, dims=(4, 2)).fit(TRAIN, epochs=1, batch_size=48)


# Trainings.


def test_the_first_components_are_trained(backend):
    def loss_of_two_components(**options):
        settings = {"loss": "NTXentLoss", "loss_options": {"temperature": 0.5}, "learning_rate": 0.01}
        tuner = make_tuner(backend, **settings, **options)
        tuner.fit(TRAIN, epochs=40, batch_size=48)
        first = tuner.embed(TRAIN.x, dim=2).astype(float)
        return LOSSES["NTXentLoss"].function(Batch(first, TRAIN.labels), temperature=0.5)

    assert loss_of_two_components(dims=(8, 2)) < 0.95 * loss_of_two_components()


@pytest.mark.parametrize("loss", ["ArcFaceLoss", "ArcFaceLossWithMLP"])
def test_the_gradient_of_centres(backend, loss):
    """One step of plain SGD moves the weights of the loss by the gradient of the reference."""
    options = {"scale": 8.0} | ({"mlp_features": (5,)} if "MLP" in loss else {})
    tuner = make_tuner(
        backend,
        loss=loss,
        loss_options=options,
        dims=DIMS,
        dim_weights=FACTORS,
        optimizer="SGD",
        learning_rate=1e-12,
        loss_optimizer_options={"learning_rate": 1.0},
    )
    data = ClassDataset(TRAIN.x[::4], TRAIN.labels[::4])
    tuner.training.setup_loss(tuner.training.setup.dataset_for_loss(data))
    before, embeddings = tuner.loss.loss.weights_on_host(), tuner.embed(data.x)
    assert tuner.loss.built_shape == (8, 4)
    run = tuner.fit(data, epochs=1, batch_size=len(data.x))
    after = tuner.loss.loss.weights_on_host()
    x, labels = embeddings.astype(float), np.array([tuner.classes.index(label) for label in data.labels.tolist()])
    start = {name: array.astype(float) for name, array in before.items()}

    def truth(name, value):
        given = {**start, name: value}
        own = {**options, "weights": given} if "MLP" in loss else options
        return nested_loss(loss, Centres(x, labels, given["weight"]), DIMS, FACTORS, **own)

    assert run.history[-1]["loss"] == pytest.approx(float(truth("weight", start["weight"])), rel=1e-5)
    for name in start:
        if start[name].ndim == 2:
            slopes = np.mean(numerical_gradient(lambda value, name=name: truth(name, value), start[name]), axis=0)
            np.testing.assert_allclose(before[name] - after[name], slopes, rtol=1e-3, atol=1e-5)


def test_names_of_the_weights_of_the_loss(backend):
    """A pattern for ``loss.weight`` means the same with and without nested sizes."""
    tuner = make_tuner(
        backend, loss="ArcFaceLoss", optimizer="SGD", learning_rate={"loss.weight": 0.5, "": 1e-3}, dims=DIMS
    )
    tuner.fit(TRAIN, epochs=1, batch_size=48)
    assert tuner.engine.learning_rates()[-1] == pytest.approx(0.5)


@pytest.mark.parametrize("loss", ["NTXentLoss", "ArcFaceLoss"])
def test_micro_batches(backend, loss):
    def trained(micro_batch_size):
        tuner = make_tuner(backend, loss=loss, dims=DIMS, learning_rate=0.01)
        run = tuner.fit(TRAIN, epochs=2, batch_size=16, micro_batch_size=micro_batch_size)
        return weights(tuner), run.history[-1]["loss"]

    (whole, whole_loss), (parts, parts_loss) = trained(None), trained(5)
    assert parts_loss == pytest.approx(whole_loss, rel=1e-4)
    for name, value in whole.items():
        np.testing.assert_allclose(parts[name], value, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize(
    "loss",
    ["TripletLoss", "ArcFaceLoss", "ArcFaceLossWithMLP", {"NTXentLoss": 1.0, "ArcFaceLoss": 0.1}],
    ids=["triplets", "centres", "head", "sum"],
)
def test_a_resumed_training_matches_an_uninterrupted_one(backend, tmp_path, loss):
    def create(**options):
        return make_tuner(backend, loss=loss, dims=(8, 4), dim_weights=(1.0, 0.5), dropout=0.3, **options)

    whole, first, second = create(), create(), create()
    whole.fit(TRAIN, epochs=2, batch_size=16)
    first.fit(TRAIN, epochs=1, batch_size=16).save(tmp_path / "run")
    run = second.fit(TRAIN, epochs=2, batch_size=16, resume=tmp_path / "run")
    assert same_arrays(weights(whole), weights(second))
    assert same_arrays(
        *({name: np.asarray(value) for name, value in tuner.loss_state().items()} for tuner in (whole, second))
    )
    described = run.config["loss"]
    assert described["name"] == "MatryoshkaLoss"
    assert (described["options"]["dims"], described["options"]["weights"]) == ([8, 4], [1.0, 0.5])
    with pytest.raises(ValueError, match="settings must be those of the run in .*, and loss is"):
        make_tuner(backend, loss=loss, dims=(8, 2)).load(tmp_path / "run")


def test_pairs_and_teachers(backend):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(32, D)).astype(np.float32)
    other = (x + 0.1 * rng.normal(size=x.shape)).astype(np.float32)
    towers = backend.mlp(D, 16, 8), backend.mlp(D, 16, 8, seed=1)
    datasets = {
        "CLIPLoss": (towers, PairDataset(x, other), {"learnable": True}),
        "CosineSimilarityLoss": (backend.mlp(D, 16, 8), PairDataset(x, other, rng.uniform(size=32)), {}),
        "TripletLoss": (backend.mlp(D, 16, 8), TripletDataset(x, other, x[::-1]), {}),
        "DistillationLoss": (backend.mlp(D, 16, 8), TargetDataset(x, rng.normal(size=(32, 5))), {}),
    }
    for loss, (model, data, options) in datasets.items():
        tuner = backend.Tuner(model, loss=loss, loss_options=options, dims=(8, 2), learning_rate=0.01, callbacks=[])
        run = tuner.fit(data, epochs=8, batch_size=16)
        assert run.history[-1]["loss"] < run.history[0]["loss"], loss


def test_a_teacher_model(backend):
    teacher = backend.mlp(D, 16, 5, seed=3)
    tuner = make_tuner(
        backend, loss="DistillationLoss", loss_options={"teacher": teacher}, dims=(8, 2), learning_rate=0.01
    )
    run = tuner.fit(TRAIN, epochs=5, batch_size=16)
    assert run.history[-1]["loss"] < run.history[0]["loss"]
    with pytest.raises(ValueError, match="DistillationLoss needs a teacher's embeddings"):
        make_tuner(backend, loss="DistillationLoss", dims=(8, 2)).fit(TRAIN)


def test_validation_loss_has_all_sizes(backend):
    pytest.importorskip("faiss")

    def first_value(**options):
        tuner = make_tuner(backend, loss="SupConLoss", **options)
        return tuner.fit(TRAIN, TEST, epochs=1, batch_size=48, metrics=["hit@1"]).metrics["before"]["val_loss"]

    whole, both = first_value(), first_value(dims=(8, 2), dim_weights=(1.0, 1.0))
    assert both > whole * 1.5


def test_a_loss_of_another_library(backend):
    """It is called with the first components, and validation does not feed its memory."""
    if backend.name != "pytorch":
        pytest.skip("losses of other libraries are PyTorch's")
    pytest.importorskip("faiss")
    import torch

    class WithMemory(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.memory = []

        def forward(self, embeddings, labels):
            assert labels.dtype == torch.int64
            self.memory.append(tuple(embeddings.shape))
            similar = labels[:, None] == labels[None]
            return ((embeddings @ embeddings.T - similar.float()) ** 2).mean()

    loss = WithMemory()
    make_tuner(backend, loss=loss, dims=(8, 2)).fit(TRAIN, TEST, epochs=1, batch_size=48)
    assert loss.memory == [(48, 8), (48, 2)]


@pytest.mark.filterwarnings("ignore:The MultipleNegatives:DeprecationWarning")
@pytest.mark.parametrize("loss", ["CLIPLoss", "CosineSimilarityLoss"])
def test_against_sentence_transformers(backend, loss):
    """Its loss of the same name, on the same embeddings, has the same value and gradient for losses of cosines."""
    if backend.name != "pytorch":
        pytest.skip("sentence-transformers is PyTorch's")
    library = pytest.importorskip("sentence_transformers.sentence_transformer.losses")
    import torch

    class Given(torch.nn.Module):
        """A model whose inputs are the embeddings."""

        def forward(self, features):
            return {"sentence_embedding": features["x"]}

        def get_embedding_dimension(self):
            return 8

    model = Given()  # one, which their loss patches
    x = torch.tensor(points(N, 8, seed=1), dtype=torch.float32, requires_grad=True)
    scores = torch.tensor(SCORES, dtype=torch.float32)
    if loss == "CLIPLoss":
        inner = library.MultipleNegativesSymmetricRankingLoss(model, scale=2.0)
        own = nested(backend, loss, temperature=0.5).on_batch(x, torch.repeat_interleave(torch.arange(3), 2))
    else:
        inner, own = library.CosineSimilarityLoss(model), nested(backend, loss).on_batch(x, scores)
    theirs = library.MatryoshkaLoss(model, inner, list(DIMS), list(FACTORS))(
        [{"x": x[0::2]}, {"x": x[1::2]}], scores[0::2]
    )
    assert own.item() == pytest.approx(theirs.item(), rel=1e-5)
    gradients = [torch.autograd.grad(value, x)[0].numpy() for value in (own, theirs)]
    np.testing.assert_allclose(*gradients, rtol=1e-4, atol=1e-6)
