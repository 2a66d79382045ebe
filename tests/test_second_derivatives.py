"""Second derivatives, which gradient penalties need, are right or refused by name."""

import numpy as np
import pytest

from finetuner.tuner.base.losses import blocks

CASES = {
    "TripletLoss": {},
    "TripletLoss:soft": {"margin": None, "distance": "euclidean"},
    "TripletLoss:soft per row": {"margin": None, "reduction": "none"},
    "SiameseLoss:per row": {"distance": "euclidean", "margin": 2.0, "reduction": "none"},
    "SiameseLoss": {"distance": "euclidean", "margin": 2.0},
    "NTXentLoss": {"temperature": 0.5},
    "SupConLoss": {"temperature": 0.5},
    "MultiSimilarityLoss": {},
    "LiftedStructureLoss": {"distance": "sqeuclidean"},
    "SurrogatePrecision": {"k": 2, "temperature2": 0.5},
    "SurrogatePrecision:with itself": {"k": 2, "temperature2": 0.5, "distance": "euclidean", "include_self": True},
}
X = np.random.default_rng(0).normal(size=(9, 3))
Y = np.array([0, 0, 0, 1, 1, 2, 2, 3, 1])
# What raises where a gradient was computed in parts. Paddle turns it into an error of its own, with the message.
REFUSED = (NotImplementedError, OSError)


def finite_differences(function, x, step):
    found = np.zeros_like(x)
    for index in np.ndindex(*x.shape):
        delta = np.zeros_like(x)
        delta[index] = step
        found[index] = (function(x + delta) - function(x - delta)) / (2 * step)
    return found


@pytest.mark.parametrize("size", [2**18, 20], ids=["whole", "in blocks"])
@pytest.mark.parametrize("name", CASES)
def test_gradient_penalty(backend, name, size, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK_SIZE", size)
    loss = backend.loss(name.partition(":")[0], **CASES[name])
    labels = backend.tensor(Y)

    def penalty(x):
        return (np.asarray(backend.gradient(lambda x: loss(x, labels), x), np.float64) ** 2).sum()

    exact = backend.name in ("pytorch", "paddle")  # in float64
    step = 1e-5 if exact else 1e-2
    in_blocks = size == 20 and not (backend.name.startswith("keras") and "per row" in name)  # Keras' rows are one block
    in_parts = in_blocks or name.startswith(("TripletLoss:soft", "SurrogatePrecision"))
    if backend.name != "pytorch" and in_parts:
        with pytest.raises(REFUSED, match="second derivatives of this loss"):
            backend.penalty_gradient(lambda x: loss(x, labels), X)
        return
    found = backend.penalty_gradient(lambda x: loss(x, labels), X)
    if name == "TripletLoss" and not exact:
        return  # the hinge has kinks within the step that float32 needs
    expected = finite_differences(penalty, X, step)
    np.testing.assert_allclose(
        found, expected, rtol=1e-4 if exact else 0.05, atol=(1e-6 if exact else 0.05) * np.abs(expected).max()
    )


def test_pytorch_checks_all_second_derivatives(backend):
    if backend.name != "pytorch":
        pytest.skip("gradgradcheck is PyTorch's")
    import torch

    x, other, centres = (torch.tensor(a, requires_grad=True) for a in (X, X + X[::-1] ** 2, X[:4] ** 2))
    labels = torch.tensor(Y)
    calls = {
        "CLIPLoss": (lambda loss, a, b: loss(a, b), (x, other)),
        "DistillationLoss": (lambda loss, a: loss(a, other.detach()), (x,)),
        "ContrastiveLoss": (lambda loss, a, b: loss(a, b, (labels % 2).double()), (x, other)),
        "ArcFaceLoss": (lambda loss, a, w: loss(a, labels, w), (x, centres)),
        "RankNetLoss": (lambda loss, a: loss(a[:, 0], labels), (x,)),
    }
    for name, (call, inputs) in calls.items():
        loss = backend.loss(
            name, **({"scale": 4.0, "in_features": 3, "num_classes": 4} if name == "ArcFaceLoss" else {})
        )
        assert torch.autograd.gradgradcheck(lambda *given, c=call, loss=loss: c(loss, *given), inputs, atol=1e-4)
