"""What a framework provides for training: the step, optimizers and their state. A tuner holds one."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ....checks import preview
from ..processes import ALONE, Processes, check_processes, sharing, started_processes
from .bad_items import NotFiniteError
from .framework import Framework
from .micro_batches import Parts, split_batch
from .optimization import Optimization
from .precision import LossScale, check_precision

__all__ = ["Engine", "StepResult", "preview_names"]


class StepResult(NamedTuple):
    """What a step returns. Both numbers may still be on the device."""

    loss: Any
    gradient_norm: Any  # of all weights, before clipping; None if the weights were not updated


class Engine(ABC):
    """The training step of one framework, for a model and a loss.

    A step has four seams: embed, gather, loss, update. One path serves ordinary batches and micro-batches.

    Args:
        framework: The framework's models and data.
        model: The model, from inputs to embeddings.
        loss: The loss.
        optimization: How weights are updated.
        precision: ``"fp32"``, ``"bf16"``, ``"fp16"``, or ``"auto"``: bfloat16 on an accelerator that has it. The loss
            is always computed in float32.
        compile: Whether to compile the model.

    Attributes:
        optimizers: The optimizers in use by name: ``"optimizer"`` of the model and ``"loss_optimizer"`` of the loss.
        scale: The loss scale of float16; None for other precisions.
        micro_batch_size: The rows of the model's input that are in memory at once; None for the whole batch.
        rest: The part of the model that a step runs; None for the whole model.
        statistics: What the norms of the model keep of batches; empty where the engine leaves them to the framework.
        processes: The processes that train the model.

    Raises:
        ValueError: If the framework, or the device, does not have the precision or a compiler.
    """

    framework: Framework
    model: Any
    loss: Any
    optimization: Optimization
    precision: str
    scale: LossScale | None
    optimizers: dict[str, Any]
    micro_batch_size: int | None = None
    rest: Any = None
    statistics: Sequence[Any] = ()
    processes: Processes = ALONE
    step_seed: int = 0

    def __init__(
        self,
        framework: Framework,
        model: Any,
        loss: Any,
        optimization: Optimization,
        precision: str = "fp32",
        compile: bool = False,
    ):
        self.framework, self.model, self.loss, self.optimization = framework, model, loss, optimization
        self.optimizers = {}
        self.frozen: set[str] = set()  # the names of the weights that this engine has frozen
        self.accumulated = 0  # batches whose gradients have been added up since the last update
        self.precision = self.resolve_precision(check_precision(precision))
        self.scale = LossScale() if self.precision == "fp16" else None
        self.set_up(compile)

    @property
    def length_groups(self) -> int | None:
        """The number of groups of a batch, if the model needs one: statistics of a norm are those of a whole batch."""
        return 1 if len(self.statistics) else None

    # The step.

    def step(
        self, inputs: Any, targets: tuple[np.ndarray, ...], update: bool = True, rows_per_item: int = 1
    ) -> StepResult:
        """Take one step.

        Args:
            inputs: The model's input; of this process's slice of the batch.
            targets: The targets of all rows, for the loss.
            update: Whether to update the weights. Otherwise the gradients are added to those of the next batch.
            rows_per_item: The rows that slices keep together.

        Raises:
            NotFiniteError: If the loss or a gradient is not finite. On an accelerator, where this would wait for the
                device, the step is left out and its loss is NaN.
        """
        slices = self.processes.slices(len(targets[0]), rows_per_item)
        own = slices[self.processes.rank]
        self.framework.check_pooling(self.model, inputs, own.stop - own.start)
        if not self.accumulated:
            self.clear_gradients()
        try:
            parts = split_batch(inputs, own.stop - own.start, self.micro_batch_size)
            embeddings, backward = self.embed(parts, update)
            if self.processes.count > 1:
                self.begin_step(self.step_seed)  # what the loss draws is the same in all processes
            with sharing(self.processes):
                loss, gradient = self.loss_gradient(self.processes.gather(embeddings, slices), targets)
            backward(self.own_gradient(gradient, own))
            self.accumulated += 1
            return self.update(loss) if update else StepResult(loss, None)
        except NotFiniteError:
            self.undo_step()
            raise

    @abstractmethod
    def clear_gradients(self) -> None:
        """Free the gradients of the last step."""

    @abstractmethod
    def embed(self, parts: Parts, update: bool) -> tuple[Any, Any]:
        """The embeddings ``[N, D]`` of a batch, and a function from their gradient to the backward pass.

        Args:
            parts: The batch; of several processes, the slice of this one.
            update: Whether an update follows, so that the processes exchange the gradients of the weights.
        """

    def own_gradient(self, gradient: Any, own: slice) -> Any:
        """The gradient by the embeddings of this process, from that of all; the processes average gradients."""
        if self.processes.count == 1 or gradient is None:
            return gradient
        return gradient[own] * self.processes.count

    @abstractmethod
    def loss_gradient(self, embeddings: Any, targets: tuple[np.ndarray, ...]) -> tuple[Any, Any]:
        """The loss and its gradient by the embeddings. The gradients of the loss's own weights are added up."""

    @abstractmethod
    def update(self, loss: Any) -> StepResult:
        """Update all weights by the mean gradient of the accumulated batches, if it is finite.

        Returns:
            The loss, NaN if the step was left out, and the norm of the gradient before clipping.
        """

    @abstractmethod
    def undo_step(self) -> None:
        """Forget the gradients, and undo what the forward pass has changed, such as the statistics of batch norm."""

    # Everything else.

    def join_processes(self, setting: str | bool) -> None:
        """Train together with the processes that a launcher has started, from the weights of the first one.

        Args:
            setting: The argument ``processes`` of a tuner.

        Raises:
            ValueError: If there are several, and the framework cannot.
        """
        if check_processes(setting):
            self.processes = self.find_processes()
            if self.processes.count > 1:
                self.copy_from_first()

    def find_processes(self) -> Processes:
        """The processes that a launcher has started, or this one alone."""
        if started_processes() is not None:
            raise ValueError("several processes must be of PyTorch or Paddle, and this model is not; processes=False")
        return ALONE

    def copy_from_first(self) -> None:
        """Give all processes the weights of the first one."""
        raise NotImplementedError

    @abstractmethod
    def resolve_precision(self, precision: str) -> str:
        """The precision to compute with; raise ``ValueError`` if the framework or the device lacks it."""

    @abstractmethod
    def set_up(self, compile: bool) -> None:
        """Move model and loss to the device, and compile the model if asked."""

    @abstractmethod
    def make_optimizer(self, kind: str, optimizer: Any, options: Mapping[str, Any]) -> None:
        """Create an optimizer in :attr:`optimizers`, unless there are no weights or another optimizer has them.

        Args:
            kind: ``"optimizer"`` of the model's weights or ``"loss_optimizer"`` of the loss's.
            optimizer: A name, a class, or an instance that has the weights.
            options: Arguments of a name or a class.
        """

    @abstractmethod
    def clone_config(self, optimizer: Any) -> tuple[Any, dict[str, Any]]:
        """Class and settings of an optimizer, from which another one can be made."""

    @abstractmethod
    def learning_rates(self) -> list[float]:
        """The current learning rate of each group of all optimizers."""

    @abstractmethod
    def set_learning_rates(self, factor: float) -> None:
        """Multiply the learning rate that each group had at the beginning by ``factor``."""

    def freeze(self, epoch: int) -> None:
        """Freeze the weights that are frozen in ``epoch``, from 1, and train the others again."""
        if self.optimization.freeze:
            names = [*(weight.name for weight in self.framework.weights(self.model)), *self.frozen]
            self.set_frozen(self.optimization.frozen(names, epoch))

    @abstractmethod
    def set_frozen(self, names: set[str]) -> None:
        """Freeze these weights of the model, and train all others that were not frozen by the user."""

    @abstractmethod
    def begin_at(self, rest: Any) -> None:
        """Run only this part of the model in a step, see :meth:`~.framework.Framework.split_frozen`; None for all."""

    @abstractmethod
    def embed_in_training(self, model: Any, inputs: Any, count: int, seed: int) -> np.ndarray:
        """What a step computes with the model, or with a part of it. No statistics are changed.

        Returns:
            Embeddings ``[count, D]``; of Keras with another column for the losses that layers add.
        """

    @abstractmethod
    def begin_training(self) -> None:
        """Called before the first step of a fit: the optimizers get weights that have been unfrozen since."""

    @abstractmethod
    def end_training(self) -> None:
        """Called when a fit ends, even by an error: put the model into evaluation mode, and free gradients."""

    @abstractmethod
    def begin_epoch(self, seed: int | None) -> None:
        """Put the model into training mode.

        Args:
            seed: Of the generators that layers have, in a framework where they do; None to leave them as they are, for
                an epoch that is continued.
        """

    def seed_step(self, seed: int) -> None:
        """Seed a step. What the model draws, such as dropout, differs from process to process."""
        self.step_seed = seed
        self.begin_step((seed + self.processes.rank * 0x9E3779B1) % 2**31)

    @abstractmethod
    def begin_step(self, seed: int) -> None:
        """Seed the framework's random numbers, so that any step can be reproduced."""

    @abstractmethod
    def loss_logs(self) -> dict[str, Any]:
        """Statistics of the last step from a loss with ``need_logs``, on the device; empty for any other loss."""

    @abstractmethod
    def to_floats(self, values: list[Any]) -> list[float]:
        """Fetch values of :class:`StepResult` or :meth:`loss_logs`."""

    @abstractmethod
    def evaluate_loss(self, embeddings: np.ndarray, targets: tuple[np.ndarray, ...]) -> float:
        """The loss of given embeddings ``[N, D]``, without gradients."""

    @abstractmethod
    def peak_memory(self) -> int | None:
        """The largest number of bytes that the accelerator has held since the last call; None on a CPU."""

    # State.

    @abstractmethod
    def optimizer_state(self, optimizer: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """The state of an optimizer: tensors, and what JSON can hold."""

    @abstractmethod
    def load_optimizer_state(self, optimizer: Any, tensors: dict[str, Any], plain: dict[str, Any]) -> None:
        """Set the state that :meth:`optimizer_state` returned."""

    @abstractmethod
    def base_learning_rates(self) -> list[float]:
        """The learning rate that each group of all optimizers had at the beginning."""

    @abstractmethod
    def set_base_learning_rates(self, rates: list[float]) -> None:
        """Set the learning rates that :meth:`base_learning_rates` returned."""

    @abstractmethod
    def schedule_state(self) -> dict[str, Any] | None:
        """The state of the framework's own scheduler, as JSON can hold it; None without one."""

    @abstractmethod
    def load_schedule_state(self, state: dict[str, Any] | None) -> None:
        """Set the state that :meth:`schedule_state` returned."""

    @abstractmethod
    def average_weights(self, average: Any, share: float) -> Any:
        """Move an average of the model's weights towards them: ``average + share * (weights - average)``.

        Args:
            average: What the last call returned; None for a copy of the weights.
            share: 1 minus the decay.
        """

    @abstractmethod
    def average_to_state(self, average: Any) -> dict[str, Any]:
        """An average as ``framework.state`` returns it: averaged weights with the model's current buffers."""

    @abstractmethod
    def average_from_state(self, tensors: dict[str, Any]) -> Any:
        """The average that :meth:`average_to_state` returned."""


def preview_names(names: list[str]) -> str:
    """The first of the names of weights, for an error message."""
    return preview(names, 3) if names else "the weights of the loss"
