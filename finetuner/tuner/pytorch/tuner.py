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
from ..base.framework import checked_embeddings, no_device, takes_keywords
from ..base.loader import Batch, Batches
from ..base.registry import create
from ..base.training import NotFiniteError
from . import losses, miner, poolers
from .data import as_pairs, load_batches, to_device
from .replacement import check_held, replace_pooling

__all__ = ["PytorchTuner"]


class PytorchTuner(base.Tuner):
    __doc__ = base.Tuner.__doc__

    backend = "pytorch"

    # The step, and what it needs.

    def train_step(self, inputs: Any, labels: np.ndarray) -> torch.Tensor:
        embeddings = self.forward(to_device(inputs, self.device), len(labels))
        loss = self.loss(embeddings, torch.from_numpy(labels).to(self.device, non_blocking=True))
        if self.device.type == "cpu":  # elsewhere this would wait for the device; the loop looks at the loss
            check_finite(embeddings, loss)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def forward(self, inputs: Any, count: int) -> torch.Tensor:
        """Embeddings ``[count, D]`` of inputs on the device, in the mode that the model is in."""
        if isinstance(inputs, Mapping) and takes_keywords(self.embed_model.forward, inputs):
            embeddings = self.embed_model(**inputs)
        else:
            embeddings = self.embed_model(inputs)
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
    def loss_of(self, embeddings: np.ndarray, labels: np.ndarray) -> float:
        tensors = (torch.from_numpy(array).to(self.device) for array in (embeddings, labels))
        return float(self.loss(*tensors))

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

    def find_optimizer(self, optimizer: Any, options: dict[str, Any]) -> torch.optim.Optimizer | None:
        if isinstance(optimizer, torch.optim.Optimizer):
            check_held(self.embed_model, (p for group in optimizer.param_groups for p in group["params"]))
            return create("optimizer", optimizer, {}, options)
        self.embed_model.to(self.device)
        trained = [p for p in self.embed_model.parameters() if p.requires_grad]
        if not trained:
            return None
        known = {name: cls for name, cls in vars(torch.optim).items() if inspect.isclass(cls)}
        known.pop("Optimizer")
        return create("optimizer", optimizer, known, {"lr": self.learning_rate, **options, "params": trained})

    def known_losses(self) -> dict[str, Any]:
        return {name: getattr(losses, name) for name in losses.__all__ if name != "Loss"}

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

    def optimizer_state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        state = self.optimizer.state_dict()
        tensors: dict[str, torch.Tensor] = {}
        numbers: dict[str, Any] = {}
        for index, slots in state["state"].items():
            for slot, value in slots.items():
                (tensors if isinstance(value, torch.Tensor) else numbers)[f"{index}.{slot}"] = value
        return copied(tensors), {"groups": state["param_groups"], "numbers": numbers}

    def load_optimizer_state(self, tensors: dict[str, torch.Tensor], plain: dict[str, Any]) -> None:
        slots: dict[int, dict[str, Any]] = {}
        for name, value in {**tensors, **plain["numbers"]}.items():
            index, slot = name.split(".", 1)
            slots.setdefault(int(index), {})[slot] = value
        self.optimizer.load_state_dict({"state": slots, "param_groups": plain["groups"]})

    def write_tensors(self, path: Path, tensors: dict[str, torch.Tensor]) -> None:
        save_file(tensors, path)

    def read_tensors(self, path: Path) -> dict[str, torch.Tensor]:
        return load_file(path)


def check_finite(embeddings: torch.Tensor, loss: torch.Tensor) -> None:
    """Raise :class:`NotFiniteError` if the embeddings or the loss are not finite."""
    if not math.isfinite(loss.item()):
        raise NotFiniteError(f"the loss must be finite, and is {loss.item()}")
    if not torch.isfinite(embeddings.detach()).all():
        raise NotFiniteError("the embeddings must be finite, and are not")


def copied(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Copies of ``tensors`` on the host, none sharing memory with another."""
    return {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
