"""PyTorch's models and data, as an encoder uses them."""

import contextlib
import inspect
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from ...arrays import takes_two_arguments
from ..base.data.batches import Batch, Batches, PairInputs
from ..base.processes import started_processes
from ..base.registry import public_classes
from ..base.training import framework as base
from ..base.training.framework import check_embeddings, check_pair_embeddings, check_same_shapes, device_error
from ..base.training.lora import LoRAWeights
from ..base.training.parameter_groups import Weight
from ..base.training.pooling import PoolingCheck
from ..base.training.split_model import SplitModel
from . import losses, miner, poolers
from .combined_loss import CombinedLoss
from .data import convert_dataset, load_batches, to_device
from .frozen import split_frozen
from .gradient_cache import mutable_buffers, random_state, restore_buffers, set_random_state
from .lora import add_lora, base_digest, lora_of, merge_lora
from .matryoshka_loss import MatryoshkaLoss
from .models import TwoTower, call_model, evaluation_mode, named_weights, plain_model, plain_name
from .native_loss import NativeLoss
from .surgery import find_pooling, precedes_pooling, put_pooler, replace_layer

__all__ = ["PytorchFramework"]


class PytorchFramework(base.Framework):
    name = "pytorch"

    def __init__(self, device: str = "auto"):
        self.device = resolve_device(device)

    def versions(self) -> dict[str, str]:
        return {"torch": torch.__version__}

    def num_threads(self) -> int:
        return torch.get_num_threads()

    def registry(self, kind: str) -> dict[str, Any]:
        if kind == "optimizer":
            known = {name: cls for name, cls in vars(torch.optim).items() if inspect.isclass(cls)}
            return {name: cls for name, cls in known.items() if name != "Optimizer"}
        if kind == "loss":
            return {name: getattr(nn, name) for name in NativeLoss.names} | public_classes(losses, "Loss")
        return public_classes(miner, "Miner") if kind == "miner" else public_classes(poolers, "Pooler")

    def check_model(self, model: Any) -> nn.Module:
        if not isinstance(model, nn.Module):
            raise TypeError(f"embed_model must be a torch.nn.Module, got {type(model).__name__}")
        if any(cls.__module__.partition(".")[0] == "keras" for cls in type(model).__mro__):
            raise TypeError(  # it does not follow model.train(): dropout and batch norm would stay in evaluation mode
                f"embed_model must not be a model of Keras, which KerasTuner trains, got {type(model).__name__}"
            )
        return model

    def combine_towers(self, first: nn.Module, second: nn.Module) -> nn.Module:
        return TwoTower(first, second)

    def has_two_inputs(self, model: nn.Module) -> bool:
        return takes_two_arguments(plain_model(model).forward)

    def replace_pooling(self, model: nn.Module, pooler: Any) -> nn.Module:
        place = find_pooling(model, pooler)
        model, layer = put_pooler(model, place.layer, pooler)
        others = [one for one in model.modules() if precedes_pooling(one)]
        self.unchecked = PoolingCheck(model, place.name, place.layer, layer, place.is_global, others)
        return model

    def put_back(self, model: nn.Module, new: nn.Module, old: nn.Module) -> None:
        replace_layer(model, new, old)

    def wrap_native_loss(self, loss: Any) -> Any:
        return NativeLoss(loss) if NativeLoss.is_native(loss) else loss

    def combine_losses(self, losses: Sequence[Any], weights: Sequence[float]) -> Any:
        return CombinedLoss(losses, weights)

    def nest_loss(self, loss: Any, dims: Sequence[int], weights: Sequence[float] | None) -> Any:
        return MatryoshkaLoss(loss, dims, weights)

    def convert_dataset(self, data: Any) -> Any:
        return convert_dataset(data)

    def load_batches(self, batches: Batches, num_workers: int) -> Iterable[Batch]:
        return load_batches(batches, num_workers)

    @torch.no_grad()
    def embed(self, model: nn.Module, inputs: Any, count: int) -> np.ndarray:
        model.to(self.device)
        with evaluation_mode(model):
            return forward(model, to_device(inputs, self.device), count).float().cpu().numpy()

    def embed_eagerly(self, model: nn.Module, inputs: Any, count: int) -> np.ndarray:
        buffers = [value.detach().clone() for value in mutable_buffers(model)]
        state = random_state(self.device)
        try:
            with compilation_disabled():
                return self.embed(plain_model(model), inputs, count)
        finally:
            set_random_state(state, self.device)
            restore_buffers(model, buffers)

    def split_frozen(self, model: nn.Module, trained: set[str]) -> SplitModel:
        return split_frozen(model, trained)

    @torch.no_grad()
    def run_prefix(self, prefix: nn.Module, inputs: Any) -> np.ndarray:
        with evaluation_mode(prefix):
            outputs = call_model(prefix, to_device(inputs, self.device))
        if not isinstance(outputs, torch.Tensor) or outputs.dtype == torch.bfloat16:
            kind = getattr(outputs, "dtype", type(outputs).__name__)
            raise ValueError(f"cache_frozen must be used with frozen layers that return a float32 tensor, got {kind}")
        return outputs.cpu().numpy()

    def as_array(self, x: torch.Tensor) -> np.ndarray:
        return x.detach().float().cpu().numpy()

    def weights(self, module: Any) -> list[Weight]:
        return [Weight(name, p.ndim) for name, p in named_weights(module).items() if p.requires_grad]

    def state(self, module: Any) -> dict[str, torch.Tensor]:
        if not isinstance(module, nn.Module):
            return {}
        return {name: copy_to_host(value) for name, (_, value) in saved_tensors(module).items()}

    def load_state(self, module: Any, tensors: dict[str, torch.Tensor]) -> None:
        if not isinstance(module, nn.Module):
            return
        own = saved_tensors(module)
        check_same_shapes(
            "the weights must be those of the same model", {name: value for name, (_, value) in own.items()}, tensors
        )
        found = {key: tensors[name] for name, (key, _) in own.items()}
        plain_model(module).load_state_dict(found, strict=lora_of(module) is None)

    def add_lora(self, model: nn.Module, lora: Any, seed: int) -> None:
        add_lora(model, lora, seed)

    def lora_of(self, model: nn.Module) -> LoRAWeights | None:
        return lora_of(model)

    def base_digest(self, model: nn.Module) -> str:
        return base_digest(model)

    def merge_lora(self, model: nn.Module) -> nn.Module:
        return merge_lora(model)

    def model_config(self, model: nn.Module) -> dict[str, Any] | None:
        return None

    def model_from_config(self, config: dict[str, Any], trust_code: bool) -> Any:
        raise ValueError("a PyTorch model cannot say how it is made, so it must be given: load(folder, model=...)")

    def write_tensors(self, path: Path, tensors: dict[str, torch.Tensor]) -> None:
        save_file(tensors, path)

    def read_tensors(self, path: Path) -> dict[str, torch.Tensor]:
        return load_file(path)


def resolve_device(device: str) -> torch.device:
    """The device of this name; an accelerator, if there is one, for ``"auto"``.

    Of several processes of a machine, each takes the accelerator of its own number.
    """
    if device == "auto":
        accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return with_own_number(accelerator or torch.device("cpu"))
    try:
        chosen = with_own_number(torch.device(device))
        return torch.empty(0, device=chosen).device
    except (RuntimeError, AssertionError) as error:
        raise device_error(device, error) from None


def with_own_number(device: torch.device) -> torch.device:
    """The accelerator of this process, if a launcher has started several and ``device`` has no number."""
    number = os.environ.get("LOCAL_RANK", "")
    if device.type == "cpu" or device.index is not None or started_processes() is None or not number.isdigit():
        return device
    chosen = torch.device(device.type, int(number))
    torch.accelerator.set_device_index(chosen)
    return chosen


def compilation_disabled() -> contextlib.AbstractContextManager[Any]:
    """A context in which compiled models run as they are written."""
    compiled = "torch._dynamo" in sys.modules  # else nothing is compiled, and its import takes a second
    return torch.compiler.set_stance("force_eager") if compiled else contextlib.nullcontext()


def forward(model: nn.Module, inputs: Any, count: int) -> torch.Tensor:
    """Embeddings ``[count, D]`` of inputs on the device, in the model's current mode."""
    if isinstance(inputs, PairInputs):
        sides = check_pair_embeddings(model(*inputs), torch.is_tensor, count)
        return torch.stack(sides, dim=1).flatten(0, 1)
    embeddings = call_model(model, inputs)
    return check_embeddings(embeddings, isinstance(embeddings, torch.Tensor), count)


def saved_tensors(module: nn.Module) -> dict[str, tuple[str, torch.Tensor]]:
    """What a saved run has of a module, by plain name: the name in the module, and the tensor.

    Of a model with LoRA, this is what is trained.
    """
    weights = lora_of(module)
    named = {plain_name(name): (name, value) for name, value in plain_model(module).state_dict().items()}
    return named if weights is None else {name: pair for name, pair in named.items() if name in weights.names}


def copy_to_host(value: torch.Tensor) -> torch.Tensor:
    """A copy of a tensor on the host that shares no memory."""
    return value.detach().cpu().clone().contiguous()
