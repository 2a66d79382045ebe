"""Distillation: a student learns the similarities that a teacher's embeddings have."""

from typing import Any, ClassVar

from .... import checks
from .loss import Loss, Tensor

__all__ = ["DistillationLoss"]


class DistillationLoss(Loss):
    r"""KL divergence between the similarity distributions of a teacher and a student.

    .. math:: \frac{1}{N} \sum_i \sum_{j \ne i} p_{ij} \log \frac{p_{ij}}{q_{ij}}, \qquad
        q_{ij} = \frac{e^{s_{ij} / \tau}}{\sum_{k \ne i} e^{s_{ik} / \tau}}

    s are the cosine similarities of the student's embeddings, and p is the same for the teacher. The loss is called as
    ``loss(embeddings, teacher_embeddings)`` with ``[N, D]`` and ``[N, E]``. The teacher gets no gradient.

    Args:
        temperature: tau, at least 1e-26, so that gradients are finite in float32.
        teacher: A model of the same framework. A tuner embeds all items with it once, before training. None if the data
            has the teacher's embeddings (``TargetDataset(x, teacher_embeddings)``).
        need_logs: Whether to keep ``last_logs``, see :class:`Loss`.

    Raises:
        ValueError: If the temperature is out of its range, or a shape does not fit.

    Example:
        >>> student = tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
        >>> teacher = tensor([[1.0, 0.0, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]])
        >>> loss = DistillationLoss(temperature=0.5)
        >>> round(float(loss(student, teacher)), 4)
        0.0826

    References:
        Passalis and Tefas, "Learning deep representations with probabilistic knowledge transfer", ECCV 2018, with a
        softmax of cosines as the kernel.
    """

    target_type: ClassVar[str] = "vectors"
    sampler: ClassVar[str] = "random"
    distance = "cosine"

    def __init__(self, temperature: float = 0.1, teacher: Any = None, need_logs: bool = False):
        super().__init__(need_logs)
        self.temperature = checks.temperature(temperature)
        self.__dict__["teacher"] = teacher  # not a sublayer: it is neither trained nor saved

    def compute(self, queries: Tensor, teacher: Tensor) -> Tensor:
        """The loss of ``[N, D]`` with the teacher's ``[N, E]``, both in float32 at least."""
        raise NotImplementedError

    def check(self, embeddings: Tensor, teacher_embeddings: Tensor) -> None:
        """Raise ``ValueError`` if the shapes do not fit."""
        self.check_shapes(
            {"embeddings": embeddings, "teacher_embeddings": teacher_embeddings},
            {"embeddings": [["N", "D"]], "teacher_embeddings": [["N", "E"]]},
        )

    def serialized_arguments(self) -> dict[str, Any]:
        """The constructor's arguments without the teacher."""
        return {**super().serialized_arguments(), "teacher": None}
