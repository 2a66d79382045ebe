"""Tensors of all types in losses, miners and metrics: the right number, or an error that names the argument."""

import numpy as np
import pytest

from finetuner.containers import from_container
from finetuner.evaluation import retrieval_metrics

from .reference import LOSSES
from .reference.batches import Batch, points

X, Y = points(8), np.array([0, 0, 1, 1, 2, 2, 3, 3])
BATCH_LOSSES = (
    *("TripletLoss", "SiameseLoss", "NTXentLoss", "SupConLoss"),
    *("MultiSimilarityLoss", "LiftedStructureLoss", "SurrogatePrecision"),
)


def value(backend, tensor):
    return float(backend.numpy(tensor))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_tensors_of_embeddings_are_read(backend, dtype):
    if dtype == "float64" and not backend.has_float64:
        pytest.skip("the engine has no float64")
    x = backend.cast(backend.tensor(X, "float32"), dtype)
    if hasattr(x, "requires_grad_"):
        x.requires_grad_(True)
    read = from_container("x", x)
    np.testing.assert_allclose(read, X, rtol=0.01, atol=0.01)
    found = retrieval_metrics(x, backend.tensor(Y), metrics=["hit@1", "mAP"]) if pytest.importorskip("faiss") else None
    assert found == retrieval_metrics(read, Y, metrics=["hit@1", "mAP"])


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "int32", "int64"])
def test_labels_of_all_integer_types(backend, dtype):
    for name in ("TripletLoss", "SupConLoss"):
        expected = LOSSES[name].function(Batch(X, Y))
        loss = backend.loss(name)(backend.tensor(X, "float32"), backend.tensor(Y.astype(dtype)))
        assert value(backend, loss) == pytest.approx(expected, rel=1e-5)
    margins = backend.loss("ArcFaceLoss", in_features=4, num_classes=4)
    x = backend.tensor(X, "float32")
    assert value(backend, margins(x, backend.tensor(Y.astype(dtype)))) == pytest.approx(
        value(backend, margins(x, backend.tensor(Y)))
    )


def test_operands_of_several_types(backend):
    """Embeddings in float64 beside weights, references or partners in float32 give the same number."""
    if not backend.has_float64:
        pytest.skip("the engine has no float64")
    single, double = backend.tensor(X, "float32"), backend.tensor(X, "float64")
    other, labels = backend.tensor(points(8, seed=1), "float32"), backend.tensor(Y)
    arc = backend.loss("ArcFaceLoss", in_features=4, num_classes=4)
    calls = {
        "references": lambda x: backend.loss("SupConLoss")(x, labels, other, labels),
        "centres": lambda x: arc(x, labels),
        "partners": lambda x: backend.loss("CLIPLoss", learnable=True)(x, other),
        "labelled pairs": lambda x: backend.loss("ContrastiveLoss")(x, other, labels % 2),
        "a teacher": lambda x: backend.loss("DistillationLoss")(x, other),
        "triplets": lambda x: backend.loss("TripletLoss")(x, other, single),
    }
    for name, call in calls.items():
        assert value(backend, call(double)) == pytest.approx(value(backend, call(single)), rel=1e-4), name


@pytest.mark.parametrize("name", BATCH_LOSSES)
def test_labels_that_are_none(backend, name):
    """What is no label at all is refused: one-hot integers, a column, and in PyTorch and Paddle what is no tensor."""
    loss, x = backend.loss(name), backend.tensor(X, "float32")
    for labels in (np.eye(4, dtype=np.int64)[Y], Y[:, None]):
        with pytest.raises(ValueError, match=r"labels must be \[N\] \(classes\)"):
            loss(x, backend.tensor(labels))
    if not backend.name.startswith("keras"):
        for arguments, wrong in (
            ((x, Y), "labels"),
            ((x, Y.tolist()), "labels"),
            ((X, backend.tensor(Y)), "embeddings"),
        ):
            with pytest.raises(TypeError, match=f"{wrong} must be a tensor of the loss's framework, got"):
                loss(*arguments)


@pytest.mark.parametrize("wrong", [float("nan"), 0.5, 7.0, -1.0])
@pytest.mark.parametrize("name", ["ArcFaceLoss", "FocalLoss"])
def test_a_label_of_no_class(backend, name, wrong):
    options = {"in_features": 4, "num_classes": 4} if name == "ArcFaceLoss" else {}
    loss, labels = backend.loss(name, **options), Y.astype(np.float32)
    labels[3] = wrong
    x, y = backend.tensor(X, "float32"), backend.tensor(labels, "float32")
    with pytest.raises(ValueError, match=r"labels must be integers in 0\.\.3, got"):
        loss(x, y)
    if "traced" in backend.modes:  # Keras on torch stays eager
        assert np.isnan(value(backend, backend.compiled(lambda x, y: loss(x, y), "traced")(x, y)))


@pytest.mark.parametrize("distance", ["euclidean", "sqeuclidean"])
def test_lengths_whose_squares_overflow(backend, distance):
    """Without a triplet the loss is 0. With one it is NaN, which a training refuses, and never a wrong number.

    The root of a distance that overflows may have a gradient of NaN, which a training refuses too.
    """
    loss = backend.loss("TripletLoss", distance=distance, margin=0.0)
    x = np.array([[0.0, 1], [1e20, 0], [0, 3]])

    def call(labels):
        return backend.value_and_grads(lambda x, y: loss(x, y), [x], [np.array(labels)])

    found, (grad,) = call([0, 0, 0])
    assert found == 0
    assert not grad[np.isfinite(grad)].any()
    assert np.isfinite(grad).all() or distance == "euclidean"
    assert np.isnan(call([0, 0, 1])[0])


@pytest.mark.parametrize("tiny", [1e-18, 1e-19, 2.3e-21, 1e-22, 1e-40])
@pytest.mark.parametrize("name", ["SiameseLoss", "TripletLoss"])
def test_gradients_of_tiny_distances_are_finite(backend, name, tiny):
    loss = backend.loss(name, distance="euclidean", margin=0.5)
    x, references = np.array([[0.0], [tiny], [1.0]]), np.array([[tiny], [1.0]])
    found, (grad,) = backend.value_and_grads(lambda x, y: loss(x, y), [x], [np.array([0, 0, 1])])
    assert np.isfinite(found)
    assert np.isfinite(grad).all()
    found, (grad,) = backend.value_and_grads(
        lambda x, y, r, z: loss(x, y, r, z), [x[:1]], [np.array([0]), references, np.array([0, 1])]
    )
    assert np.isfinite(found)
    assert np.isfinite(grad).all()


@pytest.mark.parametrize("shape", [(0, 4), (8, 4)])
@pytest.mark.parametrize("name", BATCH_LOSSES)
def test_batches_and_references_without_rows(backend, name, shape):
    loss, count = backend.loss(name), shape[0]
    x, y, references = X[:count], Y[:count], np.zeros((0, 4))
    found, grads = backend.value_and_grads(
        lambda x, r, y, z: loss(x, y, r, z), [x, references], [y, np.zeros(0, np.int64)]
    )
    assert found == 0
    assert [grad.shape for grad in grads] == [shape, (0, 4)]
    assert not grads[0].any()
    for miner in (backend.miner.TripletEasyHardMiner(), backend.miner.SiameseEasyHardMiner()):
        empty = backend.tensor(np.zeros((count, 0)), "float32")
        mined = miner.mine(backend.tensor(y), empty, backend.tensor(np.zeros(0, np.int64)))
        assert [len(backend.numpy(indices)) for indices in mined] == [0, 0, 0]
