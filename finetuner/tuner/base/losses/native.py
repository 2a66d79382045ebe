"""The framework's own losses in the form that tuners use."""

from typing import Any, ClassVar

from .loss import Loss, Tensor

__all__: list[str] = []


class NativeLoss(Loss):
    """One of the framework's own losses, for a model that classifies, regresses or scores.

    Tuners make it from an instance or from one of :attr:`names`. It is called as ``loss(outputs, targets, weights)``.
    Targets are ``[N]`` or ``[N, C]``. Outputs ``[N, 1]`` are compared with targets ``[N]`` as ``[N]``. With weights
    ``[N]`` the result is the weighted mean over the sum of the weights; without, it is what the framework's loss
    returns.

    Args:
        loss: An instance of one of the framework's own losses.
        need_logs: Without effect. All losses have this argument.

    Raises:
        TypeError: If ``loss`` is not one of the framework's own.
    """

    target_type: ClassVar[str] = "values"
    sampler: ClassVar[str] = "random"
    takes_embeddings: ClassVar[bool] = False
    names: ClassVar[tuple[str, ...]]  # that tuners know

    def __init__(self, loss: Any, need_logs: bool = False):
        super().__init__(need_logs)
        self.loss = loss

    def check(self, outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> None:
        """Raise ``ValueError`` if the shapes do not fit."""
        tensors = {"outputs": outputs, "targets": targets} | ({} if weights is None else {"weights": weights})
        self.check_shapes(tensors, {"outputs": [["N"], ["N", "C"]], "targets": [["N"], ["N", "C"]], "weights": [["N"]]})
