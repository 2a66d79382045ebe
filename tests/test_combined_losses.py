"""Several losses with weights, and losses of other libraries."""

import numpy as np
import pytest

from finetuner import ClassDataset, ClassSampler

from .toy import TEST, TRAIN, D, make_tuner, same_arrays, weights

pytest.importorskip("faiss")

CASES = {
    "two that compare": {"NTXentLoss": 1.0, "TripletLoss": 0.5},
    "centres and a teacher": {"ArcFaceLoss": 0.1, "DistillationLoss": 2.0},
    "three": {"SupConLoss": 1.0, "CosFaceLoss": 0.1, "DistillationLoss": 0.5},
}


def options_of(backend, losses):
    teacher = backend.mlp(D, 16, seed=5)
    return {"DistillationLoss": {"teacher": teacher}} if "DistillationLoss" in losses else {}


@pytest.mark.parametrize("name", CASES)
def test_the_sum_is_that_of_the_single_losses(backend, name):
    """The first loss of a training, before any step, is the weighted sum of the first losses of single trainings."""
    losses = CASES[name]
    options, sampler = options_of(backend, losses), ClassSampler(TRAIN.labels, 16)

    def first_loss(loss, loss_options):
        tuner = make_tuner(backend, loss=loss, loss_options=loss_options)
        return tuner.fit(TRAIN, TEST, epochs=1, batch_size=16, log_every=1, sampler=sampler).log[0]["loss"]

    total = first_loss(losses, options)
    parts = {one: first_loss(one, options.get(one)) for one in losses}
    assert total == pytest.approx(sum(weight * parts[one] for one, weight in losses.items()), rel=1e-5)


def test_a_combined_loss_is_saved_and_resumed(backend, tmp_path):
    losses = {"NTXentLoss": 1.0, "ArcFaceLoss": 0.1}
    whole = make_tuner(backend, loss=losses)
    whole.fit(TRAIN, TEST, epochs=2, batch_size=16)
    first = make_tuner(backend, loss=losses)
    first.fit(TRAIN, TEST, epochs=1, batch_size=16).save(tmp_path / "run")
    second = make_tuner(backend, loss=losses).load(tmp_path / "run")
    second.fit(TRAIN, TEST, epochs=1, batch_size=16)
    assert same_arrays(weights(second), weights(whole))
    assert second.config["loss"]["options"]["weights"] == [1.0, 0.1]
    with pytest.raises(ValueError, match="loss is .* there and .* here"):
        make_tuner(backend, loss={"NTXentLoss": 1.0, "ArcFaceLoss": 0.2}).load(tmp_path / "run")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": {}}, "loss must have at least one loss"),
        ({"loss": {"NTXentLoss": 0}}, "the weight of a loss must be above 0"),
        ({"loss": {"NTXentLos": 1}}, "did you mean 'NTXentLoss'"),
        (
            {"loss": {"NTXentLoss": 1}, "loss_options": {"temperature": 1}},
            "loss_options must have the names of the losses",
        ),
        ({"loss": {"TripletLoss": 1}, "miner": "TripletEasyHardMiner"}, "miner must be an option of one of the losses"),
    ],
)
def test_wrong_combinations(backend, options, message):
    with pytest.raises(ValueError, match=message):
        make_tuner(backend, **options)


def test_options_of_an_instance_are_refused(backend):
    losses = {backend.losses.NTXentLoss(): 1.0, "TripletLoss": 1.0}
    with pytest.raises(ValueError, match="names of the losses, TripletLoss, got 'NTXentLoss'"):
        make_tuner(backend, loss=losses, loss_options={"NTXentLoss": {"temperature": 1.0}})
    tuner = make_tuner(backend, loss=losses, loss_options={"TripletLoss": {"margin": 0.25}})
    assert tuner.loss.part_1.margin == 0.25


def test_data_that_one_of_the_losses_cannot_use(backend):
    with pytest.raises(ValueError, match="CosineSimilarityLoss needs a score for each pair"):
        make_tuner(backend, loss={"NTXentLoss": 1.0, "CosineSimilarityLoss": 1.0}).fit(TRAIN)


def test_a_loss_of_another_library(backend):
    """It gets embeddings and classes, its ``distance`` is not taken for ours, and validation does not feed its memory."""
    if backend.name != "pytorch":
        pytest.skip("losses of other libraries are PyTorch's")
    import torch

    class Distance:
        """As in pytorch-metric-learning, an object."""

    class WithMemory(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.distance, self.memory = Distance(), []

        def forward(self, embeddings, labels, indices_tuple=None, ref_emb=None, ref_labels=None):
            assert labels.dtype == torch.int64
            self.memory.append(len(labels))
            similar = labels[:, None] == labels[None]
            return ((embeddings @ embeddings.T - similar.float()) ** 2).mean()

    loss = WithMemory()
    run = make_tuner(backend, loss=loss).fit(
        TRAIN, {"a": TEST, "b": ClassDataset(TEST.x, TEST.labels)}, epochs=1, batch_size=16
    )
    assert sum(loss.memory) == 48
    assert np.isfinite(run.history[-1]["a/val_loss"])
    assert run.tuner.distance == "cosine"


@pytest.mark.parametrize(
    ("losses", "sampler"),
    [(("NTXentLoss", "ArcFaceLoss"), "class"), (("ArcFaceLoss", "CosFaceLoss"), "random")],
)
def test_batches_hold_several_items_of_a_class_if_one_loss_compares(backend, losses, sampler):
    assert make_tuner(backend, loss=dict.fromkeys(losses, 1.0)).loss.sampler == sampler
