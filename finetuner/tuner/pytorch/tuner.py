"""The tuner of PyTorch models: the training step, optimizers, and state."""

import inspect
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from ...arrays import takes_two_arguments
from .. import base
from ..base.data.batches import Batch, Batches, PairInputs
from ..base.registry import create, public_classes
from ..base.training.framework import check_embeddings, check_pair_embeddings, device_error
from ..base.training.micro_batches import MicroBatch, split_batch
from ..base.training.state import NotFiniteError
from . import losses, miner, poolers
from .data import convert_dataset, load_batches, to_device
from .gradient_cache import embed_micro_batches
from .models import TwoTower, call_model
from .native_loss import NativeLoss
from .surgery import check_optimizer_covers_poolers, replace_pooling

__all__ = ["PytorchTuner"]


class PytorchTuner(base.Tuner):
    __doc__ = base.Tuner.__doc__

    backend = "pytorch"

    # The training step.

    def train_step(self, inputs: Any, targets: tuple[np.ndarray, ...]) -> torch.Tensor:
        micro_batches = split_batch(inputs, len(targets[0]), self.micro_batch_size)
        backward_micro_batches = None
        if len(micro_batches) == 1:
            embeddings = self.embed_micro_batch(micro_batches[0])
        else:
            embeddings, backward_micro_batches = embed_micro_batches(
                self.embed_micro_batch, micro_batches, self.embed_model, self.device
            )
        loss = loss_function(self.loss)(embeddings, *to_device(targets, self.device))
        if self.device.type == "cpu":  # elsewhere this would wait for the device; the loop checks the loss
            check_finite(embeddings, loss)
        optimizers = [optimizer for optimizer in (self.optimizer, self.loss_optimizer) if optimizer is not None]
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if backward_micro_batches is not None:
            backward_micro_batches()
        for optimizer in optimizers:
            optimizer.step()
        return loss.detach()

    def embed_micro_batch(self, micro_batch: MicroBatch) -> torch.Tensor:
        """Embeddings of a micro-batch."""
        return self.forward(to_device(micro_batch.inputs, self.device), micro_batch.rows)

    def forward(self, inputs: Any, count: int) -> torch.Tensor:
        """Embeddings ``[count, D]`` of inputs on the device, in the model's current mode."""
        if isinstance(inputs, PairInputs):
            sides = check_pair_embeddings(self.embed_model(*inputs), torch.is_tensor, count)
            return torch.stack(sides, dim=1).flatten(0, 1)
        embeddings = call_model(self.embed_model, inputs)
        return check_embeddings(embeddings, isinstance(embeddings, torch.Tensor), count)

    @torch.no_grad()
    def embed_step(self, inputs: Any, count: int) -> np.ndarray:
        training = self.embed_model.training
        self.embed_model.eval().to(self.device)
        try:
            return self.forward(to_device(inputs, self.device), count).float().cpu().numpy()
        finally:
            self.embed_model.train(training)

    @torch.no_grad()
    def evaluate_loss(self, embeddings: np.ndarray, targets: tuple[np.ndarray, ...]) -> float:
        return float(loss_function(self.loss)(*to_device((embeddings, *targets), self.device)))

    def loss_logs(self) -> dict[str, torch.Tensor]:
        return dict(self.loss.logs) if getattr(self.loss, "need_logs", False) else {}

    def to_floats(self, values: list[torch.Tensor]) -> list[float]:
        return torch.stack(values).tolist()

    def convert_dataset(self, data: Any) -> Any:
        return convert_dataset(data)

    def load_batches(self, batches: Batches, num_workers: int) -> Iterable[Batch]:
        return load_batches(batches, num_workers)

    # Model, optimizers and device.

    def check_model(self, model: Any) -> nn.Module:
        if not isinstance(model, nn.Module):
            raise TypeError(f"embed_model must be a torch.nn.Module, got {type(model).__name__}")
        return model

    def resolve_device(self, device: str) -> torch.device:
        if device != "auto":
            try:
                return torch.empty(0, device=device).device
            except (RuntimeError, AssertionError) as error:
                raise device_error(device, error) from None
        accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return accelerator or torch.device("cpu")

    def combine_towers(self, first: nn.Module, second: nn.Module) -> nn.Module:
        return TwoTower(first, second)

    def has_two_inputs(self, model: nn.Module) -> bool:
        return takes_two_arguments(model.forward)

    def wrap_native_loss(self, loss: Any) -> Any:
        return NativeLoss(loss) if NativeLoss.is_native(loss) else loss

    def make_optimizer(self, optimizer: Any, options: dict[str, Any]) -> torch.optim.Optimizer | None:
        self.embed_model.to(self.device)
        return self.make_optimizer_of("optimizer", self.embed_model, optimizer, options)

    def make_loss_optimizer(self, optimizer: Any, options: dict[str, Any]) -> torch.optim.Optimizer | None:
        if not isinstance(self.loss, nn.Module) or optimizer_covers(self.optimizer, self.loss.parameters()):
            return None
        self.loss.to(self.device)
        return self.make_optimizer_of("loss_optimizer", self.loss, optimizer, options)

    def make_optimizer_of(
        self, kind: str, module: nn.Module, optimizer: Any, options: dict[str, Any]
    ) -> torch.optim.Optimizer | None:
        """The optimizer of a module's weights, from a name, class or instance; None if it has no weights to train."""
        weights = [p for p in module.parameters() if p.requires_grad]
        if isinstance(optimizer, torch.optim.Optimizer):
            if kind == "optimizer":
                check_optimizer_covers_poolers(self.embed_model, optimizer_params(optimizer))
            elif not optimizer_covers(optimizer, weights):
                raise ValueError(f"{kind} must hold the loss's weights, or be a name or a class, got an instance")
            return create(kind, optimizer, {}, options)
        if not weights:
            return None
        known = {name: cls for name, cls in vars(torch.optim).items() if inspect.isclass(cls)}
        known.pop("Optimizer")
        options = {"lr": options.pop("learning_rate", self.learning_rate), **options}
        return create(kind, optimizer, known, {**options, "params": weights})

    def clone_config(self, optimizer: torch.optim.Optimizer) -> tuple[Any, dict[str, Any]]:
        names = inspect.signature(type(optimizer)).parameters
        return type(optimizer), {name: value for name, value in optimizer.defaults.items() if name in names}

    def loss_registry(self) -> dict[str, Any]:
        native = {name: getattr(nn, name) for name in NativeLoss.names}
        return native | public_classes(losses, "Loss")

    def miner_registry(self) -> dict[str, Any]:
        return public_classes(miner, "Miner")

    def pooler_registry(self) -> dict[str, Any]:
        return public_classes(poolers, "Pooler")

    def replace_pooling(self, pooler: Any) -> nn.Module:
        return replace_pooling(self.embed_model, pooler)

    def versions(self) -> dict[str, str]:
        return {"torch": torch.__version__}

    def num_threads(self) -> int:
        return torch.get_num_threads()

    def begin_training(self) -> None:
        self.embed_model.to(self.device)
        if isinstance(self.loss, nn.Module):
            self.loss.to(self.device)

    def begin_epoch(self, seed: int) -> None:
        torch.manual_seed(seed)
        self.embed_model.train()

    def end_training(self) -> None:
        self.embed_model.eval()

    # State.

    def model_state(self) -> dict[str, torch.Tensor]:
        return copy_to_host(self.embed_model.state_dict())

    def load_model_state(self, tensors: dict[str, torch.Tensor]) -> None:
        try:
            self.embed_model.load_state_dict(tensors)
        except RuntimeError as error:
            reason = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
            raise ValueError(f"the weights must be those of the same model: {reason}") from None

    def loss_state(self) -> dict[str, torch.Tensor]:
        return copy_to_host(self.loss.state_dict()) if isinstance(self.loss, nn.Module) else {}

    def load_loss_state(self, tensors: dict[str, torch.Tensor]) -> None:
        if isinstance(self.loss, nn.Module):
            self.loss.load_state_dict(tensors)

    def optimizer_state(self, optimizer: torch.optim.Optimizer) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        state = optimizer.state_dict()
        tensors: dict[str, torch.Tensor] = {}
        numbers: dict[str, Any] = {}
        for index, slots in state["state"].items():
            for slot, value in slots.items():
                (tensors if isinstance(value, torch.Tensor) else numbers)[f"{index}.{slot}"] = value
        return copy_to_host(tensors), {"groups": state["param_groups"], "numbers": numbers}

    def load_optimizer_state(
        self, optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor], plain: dict[str, Any]
    ) -> None:
        slots: dict[int, dict[str, Any]] = {}
        for name, value in {**tensors, **plain["numbers"]}.items():
            index, slot = name.split(".", 1)
            slots.setdefault(int(index), {})[slot] = value
        optimizer.load_state_dict({"state": slots, "param_groups": plain["groups"]})

    def write_tensors(self, path: Path, tensors: dict[str, torch.Tensor]) -> None:
        save_file(tensors, path)

    def read_tensors(self, path: Path) -> dict[str, torch.Tensor]:
        return load_file(path)


def optimizer_covers(optimizer: torch.optim.Optimizer, weights: Iterable[nn.Parameter]) -> bool:
    """Whether ``optimizer`` trains all of ``weights``."""
    return {id(p) for p in optimizer_params(optimizer)}.issuperset(map(id, weights))


def optimizer_params(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    """The parameters that ``optimizer`` trains."""
    return [p for group in optimizer.param_groups for p in group["params"]]


def loss_function(loss: Any) -> Any:
    """A function that calls ``loss`` with the rows of a batch.

    A loss of another library gets embeddings, and its classes as int64, like PyTorch's own losses.
    """
    if hasattr(loss, "on_batch"):
        return loss.on_batch
    return lambda embeddings, *targets: loss(embeddings, *(t.long() if t.dtype == torch.int32 else t for t in targets))


def check_finite(embeddings: torch.Tensor, loss: torch.Tensor) -> None:
    """Raise :class:`NotFiniteError` if the embeddings or the loss are not finite."""
    if not math.isfinite(loss.item()):
        raise NotFiniteError(f"the loss must be finite, and is {loss.item()}")
    embeddings = embeddings.detach()
    if not math.isfinite(embeddings.sum().item()) and not torch.isfinite(embeddings).all():  # a sum may overflow
        raise NotFiniteError("the embeddings must be finite, and are not")


def copy_to_host(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Copies of ``tensors`` on the host that share no memory."""
    return {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
