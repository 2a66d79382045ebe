"""The tuner of PaddlePaddle models: the training step, optimizers, and state."""

import inspect
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddle import nn
from safetensors.paddle import load_file, save_file

from ...arrays import takes_two_arguments
from .. import base
from ..base.data.batches import Batch, Batches, PairInputs
from ..base.registry import create, public_classes
from ..base.training.framework import check_embeddings, check_pair_embeddings, check_same_shapes, device_error
from ..base.training.micro_batches import MicroBatch, split_batch
from ..base.training.state import NotFiniteError
from . import losses, miner, poolers
from .data import convert_dataset, load_batches, to_device
from .gradient_cache import embed_micro_batches
from .models import TwoTower, call_model, plain_forward
from .native_loss import NativeLoss
from .surgery import check_optimizer_covers_poolers, replace_pooling

__all__ = ["PaddleTuner"]


class PaddleTuner(base.Tuner):
    __doc__ = base.Tuner.__doc__

    backend = "paddle"

    # The training step.

    def train_step(self, inputs: Any, targets: tuple[np.ndarray, ...]) -> paddle.Tensor:
        micro_batches = split_batch(inputs, len(targets[0]), self.micro_batch_size)
        backward_micro_batches = None
        if len(micro_batches) == 1:
            embeddings = self.embed_micro_batch(micro_batches[0])
        else:
            embeddings, backward_micro_batches = embed_micro_batches(
                self.embed_micro_batch, micro_batches, self.embed_model, self.device
            )
        loss = loss_function(self.loss)(embeddings, *to_device(targets, self.device))
        if self.device == "cpu":  # elsewhere this would wait for the device; the loop checks the loss
            check_finite(embeddings, loss)
        optimizers = [optimizer for optimizer in (self.optimizer, self.loss_optimizer) if optimizer is not None]
        for optimizer in optimizers:
            optimizer.clear_grad(set_to_zero=False)
        loss.backward()
        if backward_micro_batches is not None:
            backward_micro_batches()
        for optimizer in optimizers:
            optimizer.step()
        return loss.detach()

    def embed_micro_batch(self, micro_batch: MicroBatch) -> paddle.Tensor:
        """Embeddings of a micro-batch."""
        return self.forward(to_device(micro_batch.inputs, self.device), micro_batch.rows)

    def forward(self, inputs: Any, count: int) -> paddle.Tensor:
        """Embeddings ``[count, D]`` of inputs on the device, in the model's current mode."""
        if isinstance(inputs, PairInputs):
            sides = check_pair_embeddings(self.embed_model(*inputs), paddle.is_tensor, count)
            return paddle.stack(sides, axis=1).flatten(0, 1)
        embeddings = call_model(self.embed_model, inputs)
        return check_embeddings(embeddings, isinstance(embeddings, paddle.Tensor), count)

    @paddle.no_grad()
    def embed_step(self, inputs: Any, count: int) -> np.ndarray:
        training = self.embed_model.training
        self.embed_model.eval()
        self.embed_model.to(device=self.device)
        try:
            return self.forward(to_device(inputs, self.device), count).astype("float32").numpy()
        finally:
            if training:
                self.embed_model.train()

    @paddle.no_grad()
    def evaluate_loss(self, embeddings: np.ndarray, targets: tuple[np.ndarray, ...]) -> float:
        return float(loss_function(self.loss)(*to_device((embeddings, *targets), self.device)))

    def loss_logs(self) -> dict[str, paddle.Tensor]:
        return dict(self.loss.logs) if getattr(self.loss, "need_logs", False) else {}

    def to_floats(self, values: list[paddle.Tensor]) -> list[float]:
        return paddle.stack(values).tolist()

    def convert_dataset(self, data: Any) -> Any:
        return convert_dataset(data)

    def load_batches(self, batches: Batches, num_workers: int) -> Iterable[Batch]:
        return load_batches(batches, num_workers)

    # Model, optimizers and device.

    def check_model(self, model: Any) -> nn.Layer:
        if not isinstance(model, nn.Layer):
            raise TypeError(f"embed_model must be a paddle.nn.Layer, got {type(model).__name__}")
        return model

    def resolve_device(self, device: str) -> str:
        if device != "auto":
            try:
                paddle.empty([0]).to(device)
            except (ValueError, RuntimeError, OSError) as error:
                raise device_error(device, error) from None
            return device.lower()
        return str(paddle.device.get_device())

    def combine_towers(self, first: nn.Layer, second: nn.Layer) -> nn.Layer:
        return TwoTower(first, second)

    def has_two_inputs(self, model: nn.Layer) -> bool:
        return takes_two_arguments(plain_forward(model))

    def wrap_native_loss(self, loss: Any) -> Any:
        return NativeLoss(loss) if NativeLoss.is_native(loss) else loss

    def make_optimizer(self, optimizer: Any, options: dict[str, Any]) -> paddle.optimizer.Optimizer | None:
        self.embed_model.to(device=self.device)
        return self.make_optimizer_of("optimizer", self.embed_model, optimizer, options)

    def make_loss_optimizer(self, optimizer: Any, options: dict[str, Any]) -> paddle.optimizer.Optimizer | None:
        if not isinstance(self.loss, nn.Layer) or optimizer_covers(self.optimizer, self.loss.parameters()):
            return None
        self.loss.to(device=self.device)
        return self.make_optimizer_of("loss_optimizer", self.loss, optimizer, options)

    def make_optimizer_of(
        self, kind: str, module: nn.Layer, optimizer: Any, options: dict[str, Any]
    ) -> paddle.optimizer.Optimizer | None:
        """The optimizer of a module's weights, from a name, class or instance; None if it has no weights to train."""
        weights = [p for p in module.parameters() if not p.stop_gradient]
        if isinstance(optimizer, paddle.optimizer.Optimizer):
            if kind == "optimizer":
                check_optimizer_covers_poolers(self.embed_model, optimizer_params(optimizer))
            elif not optimizer_covers(optimizer, weights):
                raise ValueError(f"{kind} must hold the loss's weights, or be a name or a class, got an instance")
            return create(kind, optimizer, {}, options)
        if not weights:
            return None
        known = {name: cls for name, cls in vars(paddle.optimizer).items() if inspect.isclass(cls)}
        known.pop("Optimizer")
        options = {"learning_rate": options.pop("learning_rate", self.learning_rate), **options}
        return create(kind, optimizer, known, {**options, "parameters": weights})

    def clone_config(self, optimizer: paddle.optimizer.Optimizer) -> tuple[Any, dict[str, Any]]:
        # Paddle keeps only some of the arguments, each in its own attribute.
        names = inspect.signature(type(optimizer)).parameters
        kept = {name: getattr(optimizer, f"_{name}", None) for name in names}
        options = {name: value for name, value in kept.items() if isinstance(value, bool | int | float)}
        return type(optimizer), {**options, "learning_rate": optimizer.get_lr()}

    def loss_registry(self) -> dict[str, Any]:
        native = {name: getattr(nn, name) for name in NativeLoss.names}
        return native | public_classes(losses, "Loss")

    def miner_registry(self) -> dict[str, Any]:
        return public_classes(miner, "Miner")

    def pooler_registry(self) -> dict[str, Any]:
        return public_classes(poolers, "Pooler")

    def replace_pooling(self, pooler: Any) -> nn.Layer:
        return replace_pooling(self.embed_model, pooler)

    def versions(self) -> dict[str, str]:
        return {"paddle": paddle.__version__}

    def num_threads(self) -> int:
        # Paddle reads this once, at import, uses 1 if it is not set, and writes the number it uses. Its own
        # FLAGS_paddle_num_threads means something else.
        return int(os.environ.get("OMP_NUM_THREADS", "1"))

    def begin_training(self) -> None:
        self.embed_model.to(device=self.device)
        if isinstance(self.loss, nn.Layer):
            self.loss.to(device=self.device)

    def begin_epoch(self, seed: int) -> None:
        paddle.seed(seed)
        self.embed_model.train()

    def end_training(self) -> None:
        self.embed_model.eval()

    # State.

    def model_state(self) -> dict[str, paddle.Tensor]:
        return copy_to_host(self.embed_model.state_dict())

    def load_model_state(self, tensors: dict[str, paddle.Tensor]) -> None:
        check_same_shapes("the weights must be those of the same model", self.embed_model.state_dict(), tensors)
        self.embed_model.set_state_dict(tensors)

    def loss_state(self) -> dict[str, paddle.Tensor]:
        return copy_to_host(self.loss.state_dict()) if isinstance(self.loss, nn.Layer) else {}

    def load_loss_state(self, tensors: dict[str, paddle.Tensor]) -> None:
        if isinstance(self.loss, nn.Layer):
            self.loss.set_state_dict(tensors)

    def optimizer_state(self, optimizer: paddle.optimizer.Optimizer) -> tuple[dict[str, paddle.Tensor], dict[str, Any]]:
        tensors: dict[str, paddle.Tensor] = {}
        numbers: dict[str, Any] = {}
        for name, value in optimizer.state_dict().items():
            (tensors if isinstance(value, paddle.Tensor) else numbers)[self.slot_name(name)] = value
        return copy_to_host(tensors), {"learning_rate": optimizer.get_lr(), "numbers": numbers}

    def load_optimizer_state(
        self, optimizer: paddle.optimizer.Optimizer, tensors: dict[str, paddle.Tensor], plain: dict[str, Any]
    ) -> None:
        self.create_slots(optimizer, {position.partition(".")[0] for position in tensors})
        state = {**tensors, **plain["numbers"]}
        positions = {name: self.slot_name(name) for name in optimizer.state_dict()}
        if set(positions.values()) != state.keys():
            raise ValueError(
                "the optimizer must have the options of the one that was saved, as their states differ in "
                f"{', '.join(sorted(state.keys() ^ set(positions.values())))}"
            )
        optimizer.set_state_dict({name: state[position] for name, position in positions.items()})
        if "LR_Scheduler" not in state:
            optimizer.set_lr(plain["learning_rate"])

    def slot_name(self, name: str) -> str:
        """The name of an optimizer slot on disk, with the position of its parameter.

        Paddle's names depend on how many layers and optimizers the process has created before:
        ``linear_3.w_0_moment1_2``.
        """
        owners = [
            (p.name, position) for position, p in self.params_by_position().items() if name.startswith(f"{p.name}_")
        ]
        if not owners:
            return name
        owner, position = max(owners)  # one name may be the beginning of another
        return f"{position}.{name.removeprefix(f'{owner}_').rpartition('_')[0]}"

    def params_by_position(self) -> dict[str, paddle.Tensor]:
        """The parameters of the model, then those of the loss, by position."""
        loss = self.loss.parameters() if isinstance(self.loss, nn.Layer) else []
        return {str(position): p for position, p in enumerate([*self.embed_model.parameters(), *loss])}

    def create_slots(self, optimizer: paddle.optimizer.Optimizer, positions: set[str]) -> None:
        """Create the slots of these parameters by a step without effect. They have no names before."""
        parameters = [p for position, p in self.params_by_position().items() if position in positions]
        before = [p.detach().clone() for p in parameters]
        for p in parameters:
            p.grad = paddle.zeros_like(p)
        if parameters:
            optimizer.step()
            optimizer.clear_grad(set_to_zero=False)
        for p, value in zip(parameters, before, strict=True):
            p.set_value(value)

    def write_tensors(self, path: Path, tensors: dict[str, paddle.Tensor]) -> None:
        save_file(tensors, path)

    def read_tensors(self, path: Path) -> dict[str, paddle.Tensor]:
        return load_file(path)


def optimizer_covers(optimizer: paddle.optimizer.Optimizer, weights: Iterable[paddle.Tensor]) -> bool:
    """Whether ``optimizer`` trains all of ``weights``."""
    return {id(p) for p in optimizer_params(optimizer)}.issuperset(map(id, weights))


def optimizer_params(optimizer: paddle.optimizer.Optimizer) -> list[paddle.Tensor]:
    """The parameters that ``optimizer`` trains."""
    groups = [one if isinstance(one, dict) else {"params": [one]} for one in optimizer._param_groups]
    return [p for group in groups for p in group["params"]]


def loss_function(loss: Any) -> Any:
    """A function that calls ``loss`` with the rows of a batch. A loss of another library gets embeddings."""
    return getattr(loss, "on_batch", loss)


def check_finite(embeddings: paddle.Tensor, loss: paddle.Tensor) -> None:
    """Raise :class:`NotFiniteError` if the embeddings or the loss are not finite."""
    if not math.isfinite(loss.item()):
        raise NotFiniteError(f"the loss must be finite, and is {loss.item()}")
    embeddings = embeddings.detach()
    if not math.isfinite(embeddings.sum().item()) and not paddle.isfinite(embeddings).all():  # a sum may overflow
        raise NotFiniteError("the embeddings must be finite, and are not")


def copy_to_host(tensors: Mapping[str, paddle.Tensor]) -> dict[str, paddle.Tensor]:
    """Copies of ``tensors`` on the host that share no memory."""
    return {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
