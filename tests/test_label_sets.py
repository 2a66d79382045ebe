"""Several labels for an item: training, validation and evaluation on label sets; and layers in evaluation mode."""

import numpy as np
import pytest

from finetuner import ClassDataset, PairDataset
from finetuner.evaluation import relevant_counts, retrieval_metrics

pytest.importorskip("faiss")

RNG = np.random.default_rng(0)
SETS = [set(RNG.choice(list("abcdef"), size=RNG.integers(1, 4), replace=False).tolist()) for _ in range(48)]
X = np.stack([[float(letter in labels) for letter in "abcdef"] for labels in SETS]).astype(np.float32)
X = np.concatenate([X, RNG.normal(size=(48, 10))], axis=1).astype(np.float32)


def true_hits(embeddings, sets, overlap):
    """hit@1 by loops: whether the nearest other item belongs to the query. Queries that belong to nothing do not count."""
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    hits = []
    for i, own in enumerate(sets):
        related = [
            j != i and bool(own & other) and len(own & other) / len(own | other) >= overlap
            for j, other in enumerate(sets)
        ]
        if any(related):
            similarity = [-2.0 if j == i else unit[i] @ unit[j] for j in range(len(sets))]
            hits.append(related[int(np.argmax(similarity))])
    return np.mean(hits)


@pytest.mark.parametrize("overlap", [None, 0.5])
@pytest.mark.parametrize("loss", ["TripletLoss", "SiameseLoss", "SupConLoss", "NTXentLoss"])
def test_a_training_on_label_sets(backend, loss, overlap):
    tuner = backend.Tuner(backend.mlp(16, 32, 8), loss=loss, learning_rate=0.003)
    data = ClassDataset(X, SETS, min_overlap=overlap)
    run = tuner.fit(data, data, epochs=8, batch_size=16, metrics=["hit@1"], keep_all=True)
    assert run.history[-1]["loss"] < run.history[1]["loss"]
    assert run.metrics["after"]["hit@1"] == pytest.approx(true_hits(tuner.embed(X), SETS, overlap or 0))


def test_losses_of_classes_refuse_label_sets(backend):
    with pytest.raises(ValueError, match="ArcFaceLoss needs the class of each item .* sets of 6 labels"):
        backend.Tuner(backend.mlp(16, 8), loss="ArcFaceLoss").fit(ClassDataset(X, SETS), epochs=1)


def test_metrics_of_label_sets():
    queries, index = X[:20], X[20:]
    found = retrieval_metrics(X, SETS, metrics=["hit@1", "recall@5"])
    assert found["hit@1"] == pytest.approx(true_hits(X, SETS, 0))
    matrix = np.array([[letter in labels for letter in "abcdef"] for labels in SETS])
    assert retrieval_metrics(X, matrix, metrics=["hit@1", "recall@5"]) == found
    counts = [sum(bool(own & other) for other in SETS[20:]) for own in SETS[:20]]
    assert relevant_counts(SETS[:20], SETS[20:]).tolist() == counts
    assert retrieval_metrics(queries, SETS[:20], index, SETS[20:], metrics=["recall@28"])["recall@28"] == 1.0
    with pytest.raises(ValueError, match="must both be label sets"):
        retrieval_metrics(queries, SETS[:20], index, range(28), metrics=["hit@1"])


def test_layers_keep_their_modes(backend):
    """Layers that the user has put into evaluation mode, or frozen, are the same after a fit, an embedding, a validation."""
    if backend.name.startswith("keras"):
        pytest.skip("layers of Keras have no mode of their own")
    model = backend.conv()
    norms = [layer for layer in layers_of(model) if "BatchNorm" in type(layer).__name__]
    modes = {}

    def remember(moment):
        modes[moment] = [layer.training for layer in layers_of(model)]

    model.train()
    norms[0].eval()
    remember("before")
    images, y = RNG.normal(size=(24, 1, 8, 8)).astype(np.float32), np.arange(24) % 4
    tuner = backend.Tuner(model, loss="TripletLoss")
    tuner.embed(images)
    remember("embedded")
    assert modes["embedded"] == modes["before"]
    statistics = [{name: value.copy() for name, value in weights_of(backend, layer).items()} for layer in norms]
    for _ in range(2):  # a second fit finds the model in evaluation mode as a whole
        tuner.fit((images, y), (images, y), epochs=1, batch_size=12, keep_all=True)
    moved = [
        any(
            not np.array_equal(before[name], value)
            for name, value in weights_of(backend, layer).items()
            if "mean" in name
        )
        for before, layer in zip(statistics, norms, strict=True)
    ]
    assert moved == [False, True]
    assert not model.training


def layers_of(model):
    return list(model.modules()) if hasattr(model, "modules") else model.sublayers(include_self=True)


def weights_of(backend, layer):
    return {name: backend.numpy(value) for name, value in layer.state_dict().items()}


def test_each_side_of_a_pair_has_its_function_in_a_model_with_one_tower(backend):
    """Functions of the two sides are what the items would be if they were prepared beforehand."""
    first, second = RNG.normal(size=(2, 24, 8)).astype(np.float32)

    def half(items):
        return np.stack(items) / 2

    def twice(items):
        return np.stack(items) * 2

    def train(data, **options):
        tuner = backend.Tuner(backend.mlp(8, 8, 4), loss="NTXentLoss", optimizer="SGD")
        run = tuner.fit(data, data, epochs=1, batch_size=8, metrics=["hit@1"], micro_batch_size=6, **options)
        return run.history, tuner.encoder.embed_rows(data, np.arange(48), batch_size=5)

    sides = (half, twice)
    (history, rows), (expected, expected_rows) = (
        train(PairDataset(first, second), collate_fn=sides),
        train(PairDataset(first / 2, second * 2)),
    )
    np.testing.assert_allclose(rows, expected_rows, rtol=1e-4, atol=1e-6)
    for row, other in zip(history, expected, strict=True):
        assert [row[name] for name in ("val_loss", "hit@1")] == pytest.approx(
            [other["val_loss"], other["hit@1"]], rel=1e-4
        )
