"""PaddlePaddle's models and data, as an encoder uses them."""

import inspect
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddle import nn
from paddle.jit.dy2static.program_translator import ProgramTranslator
from safetensors.paddle import load_file, save_file

from ...arrays import takes_two_arguments
from ..base.data.batches import Batch, Batches, PairInputs
from ..base.processes import started_processes
from ..base.registry import public_classes
from ..base.training import framework as base
from ..base.training.framework import check_embeddings, check_pair_embeddings, check_same_shapes, device_error
from ..base.training.parameter_groups import Weight
from ..base.training.pooling import PoolingCheck
from ..base.training.split_model import SplitModel
from . import losses, miner, poolers
from .combined_loss import CombinedLoss
from .data import convert_dataset, load_batches, to_device
from .frozen import split_frozen
from .gradient_cache import mutable_buffers, random_state, restore_buffers, set_random_state
from .matryoshka_loss import MatryoshkaLoss
from .models import TwoTower, call_model, evaluation_mode, named_weights, plain_forward, plain_model
from .native_loss import NativeLoss
from .surgery import find_pooling, precedes_pooling, put_pooler, replace_layer

__all__ = ["PaddleFramework"]


class PaddleFramework(base.Framework):
    name = "paddle"

    def __init__(self, device: str = "auto"):
        self.device = resolve_device(device)

    def versions(self) -> dict[str, str]:
        return {"paddle": paddle.__version__}

    def num_threads(self) -> int:
        # Paddle reads this once, at import, uses 1 if it is not set, and writes the number it uses. Its own
        # FLAGS_paddle_num_threads means something else.
        return int(os.environ.get("OMP_NUM_THREADS", "1"))

    def registry(self, kind: str) -> dict[str, Any]:
        if kind == "optimizer":
            known = {name: cls for name, cls in vars(paddle.optimizer).items() if inspect.isclass(cls)}
            return {name: cls for name, cls in known.items() if name != "Optimizer"}
        if kind == "loss":
            return {name: getattr(nn, name) for name in NativeLoss.names} | public_classes(losses, "Loss")
        return public_classes(miner, "Miner") if kind == "miner" else public_classes(poolers, "Pooler")

    def check_model(self, model: Any) -> nn.Layer:
        if not isinstance(model, nn.Layer):
            raise TypeError(f"embed_model must be a paddle.nn.Layer, got {type(model).__name__}")
        return model

    def combine_towers(self, first: nn.Layer, second: nn.Layer) -> nn.Layer:
        return TwoTower(first, second)

    def has_two_inputs(self, model: nn.Layer) -> bool:
        return takes_two_arguments(plain_forward(model))

    def replace_pooling(self, model: nn.Layer, pooler: Any) -> nn.Layer:
        place = find_pooling(model, pooler)
        model, layer = put_pooler(model, place.layer, pooler)
        others = [one for one in model.sublayers(include_self=True) if precedes_pooling(one)]
        self.unchecked = PoolingCheck(model, place.name, place.layer, layer, place.is_global, others)
        return model

    def put_back(self, model: nn.Layer, new: nn.Layer, old: nn.Layer) -> None:
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

    @paddle.no_grad()
    def embed(self, model: nn.Layer, inputs: Any, count: int) -> np.ndarray:
        model.to(device=self.device)
        with evaluation_mode(model):
            return forward(model, to_device(inputs, self.device), count).astype("float32").numpy()

    def embed_eagerly(self, model: nn.Layer, inputs: Any, count: int) -> np.ndarray:
        buffers = [value.detach().clone() for value in mutable_buffers(model)]
        state = random_state(self.device)
        try:
            with compilation_disabled():
                return self.embed(plain_model(model), inputs, count)
        finally:
            set_random_state(state, self.device)
            restore_buffers(model, buffers)

    def split_frozen(self, model: nn.Layer, trained: set[str]) -> SplitModel:
        return split_frozen(model, trained)

    @paddle.no_grad()
    def run_prefix(self, prefix: nn.Layer, inputs: Any) -> np.ndarray:
        with evaluation_mode(prefix):
            outputs = call_model(prefix, to_device(inputs, self.device))
        if not isinstance(outputs, paddle.Tensor) or outputs.dtype == paddle.bfloat16:
            kind = getattr(outputs, "dtype", type(outputs).__name__)
            raise ValueError(f"cache_frozen must be used with frozen layers that return a float32 tensor, got {kind}")
        array: np.ndarray = outputs.numpy()
        return array

    def as_array(self, x: paddle.Tensor) -> np.ndarray:
        return x.detach().astype("float32").numpy()

    def weights(self, module: Any) -> list[Weight]:
        return [Weight(name, p.ndim) for name, p in named_weights(module).items() if not p.stop_gradient]

    def state(self, module: Any) -> dict[str, paddle.Tensor]:
        if not isinstance(module, nn.Layer):
            return {}
        return {name: copy_to_host(value) for name, value in plain_model(module).state_dict().items()}

    def load_state(self, module: Any, tensors: dict[str, paddle.Tensor]) -> None:
        if not isinstance(module, nn.Layer):
            return
        own = plain_model(module).state_dict()
        check_same_shapes("the weights must be those of the same model", own, tensors)
        plain_model(module).set_state_dict(tensors)

    def model_config(self, model: nn.Layer) -> dict[str, Any] | None:
        return None

    def model_from_config(self, config: dict[str, Any], trust_code: bool) -> Any:
        raise ValueError("a Paddle model cannot say how it is made, so it must be given: load(folder, model=...)")

    def write_tensors(self, path: Path, tensors: dict[str, paddle.Tensor]) -> None:
        save_file(tensors, path)

    def read_tensors(self, path: Path) -> dict[str, paddle.Tensor]:
        return load_file(path)


def resolve_device(device: str) -> str:
    """The device of this name; an accelerator, if there is one, for ``"auto"``.

    Of several processes of a machine, each takes the accelerator of its own number.
    """
    if device == "auto":
        return str(paddle.device.get_device())  # which has the number
    chosen = with_own_number(device.lower())
    try:
        paddle.empty([0]).to(chosen)
    except (ValueError, RuntimeError, OSError) as error:
        raise device_error(device, error) from None
    return chosen


def with_own_number(device: str) -> str:
    """The accelerator of this process, if a launcher has started several and ``device`` has no number."""
    number = os.environ.get(f"FLAGS_selected_{device}s", "")
    return f"{device}:{number}" if number.isdigit() and started_processes() is not None else device


@contextmanager
def compilation_disabled() -> Iterator[None]:
    """A context in which compiled models run as they are written."""
    enabled = ProgramTranslator.get_instance().enable_to_static
    paddle.jit.enable_to_static(False)
    try:
        yield
    finally:
        paddle.jit.enable_to_static(enabled)


def forward(model: nn.Layer, inputs: Any, count: int) -> paddle.Tensor:
    """Embeddings ``[count, D]`` of inputs on the device, in the model's current mode."""
    if isinstance(inputs, PairInputs):
        sides = check_pair_embeddings(model(*inputs), paddle.is_tensor, count)
        return paddle.stack(sides, axis=1).flatten(0, 1)
    embeddings = call_model(model, inputs)
    return check_embeddings(embeddings, isinstance(embeddings, paddle.Tensor), count)


def copy_to_host(value: paddle.Tensor) -> paddle.Tensor:
    """A copy of a tensor on the host that shares no memory."""
    return value.detach().cpu().clone().contiguous()
