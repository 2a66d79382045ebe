"""The tuner of PyTorch models: one step, and how weights and state are kept."""

import inspect
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from .. import base
from ..base.caching import Part, micro_batches
from ..base.framework import check_sides, checked_embeddings, no_device
from ..base.items import takes_two
from ..base.loader import Batch, Batches, TwoSides
from ..base.registry import create
from ..base.training import NotFiniteError
from . import losses, miner, poolers
from .caching import embed_in_parts
from .data import as_pairs, load_batches, to_device
from .losses.heads import NativeLoss
from .models import Towers, called
from .replacement import check_held, replace_pooling

__all__ = ["PytorchTuner"]


class PytorchTuner(base.Tuner):
    __doc__ = base.Tuner.__doc__

    backend = "pytorch"

    # The step, and what it needs.

    def train_step(self, inputs: Any, targets: tuple[np.ndarray, ...]) -> torch.Tensor:
        parts = micro_batches(inputs, len(targets[0]), self.micro_batch_size)
        replay = None
        if len(parts) == 1:
            embeddings = self.of_part(parts[0])
        else:
            embeddings, replay = embed_in_parts(self.of_part, parts, self.embed_model, self.device)
        loss = objective(self.loss)(embeddings, *to_device(targets, self.device))
        if self.device.type == "cpu":  # elsewhere this would wait for the device; the loop looks at the loss
            check_finite(embeddings, loss)
        optimizers = [one for one in (self.optimizer, self.loss_optimizer) if one is not None]
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if replay is not None:
            replay()
        for optimizer in optimizers:
            optimizer.step()
        return loss.detach()

    def of_part(self, part: Part) -> torch.Tensor:
        """Embeddings of a micro-batch, or of a batch that is one."""
        return self.forward(to_device(part.inputs, self.device), part.rows)

    def forward(self, inputs: Any, count: int) -> torch.Tensor:
        """Embeddings ``[count, D]`` of inputs on the device, in the mode that the model is in."""
        if isinstance(inputs, TwoSides):
            sides = check_sides(self.embed_model(*inputs), torch.is_tensor, count)
            return torch.stack(sides, dim=1).flatten(0, 1)
        embeddings = called(self.embed_model, inputs)
        return checked_embeddings(embeddings, isinstance(embeddings, torch.Tensor), count)

    @torch.no_grad()
    def embed_step(self, inputs: Any, count: int) -> np.ndarray:
        training = self.embed_model.training
        self.embed_model.eval().to(self.device)
        try:
            return self.forward(to_device(inputs, self.device), count).float().cpu().numpy()
        finally:
            self.embed_model.train(training)

    @torch.no_grad()
    def loss_of(self, embeddings: np.ndarray, targets: tuple[np.ndarray, ...]) -> float:
        return float(objective(self.loss)(*to_device((embeddings, *targets), self.device)))

    def noted(self) -> dict[str, torch.Tensor]:
        return dict(self.loss.noted) if getattr(self.loss, "need_logs", False) else {}

    def as_floats(self, losses: list[torch.Tensor]) -> list[float]:
        return torch.stack(losses).tolist()

    def own_data(self, data: Any) -> Any:
        return as_pairs(data)

    def load_batches(self, batches: Batches, num_workers: int) -> Iterable[Batch]:
        return load_batches(batches, num_workers)

    # What is trained, with what, and where.

    def check_model(self, model: Any) -> nn.Module:
        if not isinstance(model, nn.Module):
            raise TypeError(f"embed_model must be a torch.nn.Module, got {type(model).__name__}")
        return model

    def find_device(self, device: str) -> torch.device:
        if device != "auto":
            try:
                return torch.empty(0, device=device).device
            except (RuntimeError, AssertionError) as error:
                raise no_device(device, error) from None
        accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return accelerator or torch.device("cpu")

    def as_towers(self, first: nn.Module, second: nn.Module) -> nn.Module:
        return Towers(first, second)

    def takes_two_inputs(self, model: nn.Module) -> bool:
        return takes_two(model.forward)

    def as_loss(self, loss: Any) -> Any:
        return NativeLoss(loss) if NativeLoss.is_native(loss) else loss

    def find_optimizer(self, optimizer: Any, options: dict[str, Any]) -> torch.optim.Optimizer | None:
        self.embed_model.to(self.device)
        return self.optimizer_of("optimizer", self.embed_model, optimizer, options)

    def find_loss_optimizer(self, optimizer: Any, options: dict[str, Any]) -> torch.optim.Optimizer | None:
        if not isinstance(self.loss, nn.Module) or holds(self.optimizer, self.loss.parameters()):
            return None
        self.loss.to(self.device)
        return self.optimizer_of("loss_optimizer", self.loss, optimizer, options)

    def optimizer_of(
        self, kind: str, trained: nn.Module, optimizer: Any, options: dict[str, Any]
    ) -> torch.optim.Optimizer | None:
        """The optimizer by name, class or instance, of what is trained; None if it has no weights to train."""
        weights = [p for p in trained.parameters() if p.requires_grad]
        if isinstance(optimizer, torch.optim.Optimizer):
            if kind == "optimizer":
                check_held(self.embed_model, held_by(optimizer))
            elif not holds(optimizer, weights):
                raise ValueError(f"{kind} must hold the loss's weights, or be a name or a class, got an instance")
            return create(kind, optimizer, {}, options)
        if not weights:
            return None
        known = {name: cls for name, cls in vars(torch.optim).items() if inspect.isclass(cls)}
        known.pop("Optimizer")
        options = {"lr": options.pop("learning_rate", self.learning_rate), **options}
        return create(kind, optimizer, known, {**options, "params": weights})

    def kind_and_options(self, optimizer: torch.optim.Optimizer) -> tuple[Any, dict[str, Any]]:
        names = inspect.signature(type(optimizer)).parameters
        return type(optimizer), {name: value for name, value in optimizer.defaults.items() if name in names}

    def known_losses(self) -> dict[str, Any]:
        native = {name: getattr(nn, name) for name in NativeLoss.names}
        return native | {name: getattr(losses, name) for name in losses.__all__ if name != "Loss"}

    def known_miners(self) -> dict[str, Any]:
        return {name: getattr(miner, name) for name in miner.__all__ if name != "Miner"}

    def known_poolers(self) -> dict[str, Any]:
        return {name: getattr(poolers, name) for name in poolers.__all__ if name != "Pooler"}

    def replace_pooling(self, pooler: Any) -> nn.Module:
        return replace_pooling(self.embed_model, pooler)

    def versions(self) -> dict[str, str]:
        return {"torch": torch.__version__}

    def threads(self) -> int:
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

    # Weights and state.

    def model_state(self) -> dict[str, torch.Tensor]:
        return copied(self.embed_model.state_dict())

    def load_model_state(self, tensors: dict[str, torch.Tensor]) -> None:
        try:
            self.embed_model.load_state_dict(tensors)
        except RuntimeError as error:
            reason = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
            raise ValueError(f"the weights must be those of the same model: {reason}") from None

    def loss_state(self) -> dict[str, torch.Tensor]:
        return copied(self.loss.state_dict()) if isinstance(self.loss, nn.Module) else {}

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
        return copied(tensors), {"groups": state["param_groups"], "numbers": numbers}

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


def holds(optimizer: torch.optim.Optimizer, weights: Iterable[nn.Parameter]) -> bool:
    """Whether all of ``weights`` are trained by ``optimizer``."""
    return {id(p) for p in held_by(optimizer)}.issuperset(map(id, weights))


def held_by(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    """The weights that ``optimizer`` trains."""
    return [p for group in optimizer.param_groups for p in group["params"]]


def objective(loss: Any) -> Any:
    """How ``loss`` is called with the rows of a batch: of ours as a tuner has them, of others as embeddings.

    Others have classes as int64, as is the way of PyTorch's own losses.
    """
    if hasattr(loss, "of_batch"):
        return loss.of_batch
    return lambda embeddings, *targets: loss(embeddings, *(t.long() if t.dtype == torch.int32 else t for t in targets))


def check_finite(embeddings: torch.Tensor, loss: torch.Tensor) -> None:
    """Raise :class:`NotFiniteError` if the embeddings or the loss are not finite."""
    if not math.isfinite(loss.item()):
        raise NotFiniteError(f"the loss must be finite, and is {loss.item()}")
    embeddings = embeddings.detach()
    if not math.isfinite(embeddings.sum().item()) and not torch.isfinite(embeddings).all():  # a sum may overflow
        raise NotFiniteError("the embeddings must be finite, and are not")


def copied(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Copies of ``tensors`` on the host, none sharing memory with another."""
    return {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
