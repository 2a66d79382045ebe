"""The tuner of PaddlePaddle models: one step, and how weights and state are kept."""

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

from .. import base
from ..base.caching import Part, micro_batches
from ..base.framework import check_fit, check_sides, checked_embeddings, no_device
from ..base.items import takes_two
from ..base.loader import Batch, Batches, TwoSides
from ..base.registry import create
from ..base.training import NotFiniteError
from . import losses, miner, poolers
from .caching import embed_in_parts
from .data import as_pairs, load_batches, to_device
from .losses.heads import NativeLoss
from .models import Towers, called, plain_forward
from .replacement import check_held, replace_pooling

__all__ = ["PaddleTuner"]


class PaddleTuner(base.Tuner):
    __doc__ = base.Tuner.__doc__

    backend = "paddle"

    # The step, and what it needs.

    def train_step(self, inputs: Any, targets: tuple[np.ndarray, ...]) -> paddle.Tensor:
        parts = micro_batches(inputs, len(targets[0]), self.micro_batch_size)
        replay = None
        if len(parts) == 1:
            embeddings = self.of_part(parts[0])
        else:
            embeddings, replay = embed_in_parts(self.of_part, parts, self.embed_model, self.device)
        loss = objective(self.loss)(embeddings, *to_device(targets, self.device))
        if self.device == "cpu":  # elsewhere this would wait for the device; the loop looks at the loss
            check_finite(embeddings, loss)
        optimizers = [one for one in (self.optimizer, self.loss_optimizer) if one is not None]
        for optimizer in optimizers:
            optimizer.clear_grad(set_to_zero=False)
        loss.backward()
        if replay is not None:
            replay()
        for optimizer in optimizers:
            optimizer.step()
        return loss.detach()

    def of_part(self, part: Part) -> paddle.Tensor:
        """Embeddings of a micro-batch, or of a batch that is one."""
        return self.forward(to_device(part.inputs, self.device), part.rows)

    def forward(self, inputs: Any, count: int) -> paddle.Tensor:
        """Embeddings ``[count, D]`` of inputs on the device, in the mode that the model is in."""
        if isinstance(inputs, TwoSides):
            sides = check_sides(self.embed_model(*inputs), paddle.is_tensor, count)
            return paddle.stack(sides, axis=1).flatten(0, 1)
        embeddings = called(self.embed_model, inputs)
        return checked_embeddings(embeddings, isinstance(embeddings, paddle.Tensor), count)

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
    def loss_of(self, embeddings: np.ndarray, targets: tuple[np.ndarray, ...]) -> float:
        return float(objective(self.loss)(*to_device((embeddings, *targets), self.device)))

    def noted(self) -> dict[str, paddle.Tensor]:
        return dict(self.loss.noted) if getattr(self.loss, "need_logs", False) else {}

    def as_floats(self, losses: list[paddle.Tensor]) -> list[float]:
        return paddle.stack(losses).tolist()

    def own_data(self, data: Any) -> Any:
        return as_pairs(data)

    def load_batches(self, batches: Batches, num_workers: int) -> Iterable[Batch]:
        return load_batches(batches, num_workers)

    # What is trained, with what, and where.

    def check_model(self, model: Any) -> nn.Layer:
        if not isinstance(model, nn.Layer):
            raise TypeError(f"embed_model must be a paddle.nn.Layer, got {type(model).__name__}")
        return model

    def find_device(self, device: str) -> str:
        if device != "auto":
            try:
                paddle.empty([0]).to(device)
            except (ValueError, RuntimeError, OSError) as error:
                raise no_device(device, error) from None
            return device.lower()
        return str(paddle.device.get_device())

    def as_towers(self, first: nn.Layer, second: nn.Layer) -> nn.Layer:
        return Towers(first, second)

    def takes_two_inputs(self, model: nn.Layer) -> bool:
        return takes_two(plain_forward(model))

    def as_loss(self, loss: Any) -> Any:
        return NativeLoss(loss) if NativeLoss.is_native(loss) else loss

    def find_optimizer(self, optimizer: Any, options: dict[str, Any]) -> paddle.optimizer.Optimizer | None:
        self.embed_model.to(device=self.device)
        return self.optimizer_of("optimizer", self.embed_model, optimizer, options)

    def find_loss_optimizer(self, optimizer: Any, options: dict[str, Any]) -> paddle.optimizer.Optimizer | None:
        if not isinstance(self.loss, nn.Layer) or holds(self.optimizer, self.loss.parameters()):
            return None
        self.loss.to(device=self.device)
        return self.optimizer_of("loss_optimizer", self.loss, optimizer, options)

    def optimizer_of(
        self, kind: str, trained: nn.Layer, optimizer: Any, options: dict[str, Any]
    ) -> paddle.optimizer.Optimizer | None:
        """The optimizer by name, class or instance, of what is trained; None if it has no weights to train."""
        weights = [p for p in trained.parameters() if not p.stop_gradient]
        if isinstance(optimizer, paddle.optimizer.Optimizer):
            if kind == "optimizer":
                check_held(self.embed_model, held_by(optimizer))
            elif not holds(optimizer, weights):
                raise ValueError(f"{kind} must hold the loss's weights, or be a name or a class, got an instance")
            return create(kind, optimizer, {}, options)
        if not weights:
            return None
        known = {name: cls for name, cls in vars(paddle.optimizer).items() if inspect.isclass(cls)}
        known.pop("Optimizer")
        options = {"learning_rate": options.pop("learning_rate", self.learning_rate), **options}
        return create(kind, optimizer, known, {**options, "parameters": weights})

    def kind_and_options(self, optimizer: paddle.optimizer.Optimizer) -> tuple[Any, dict[str, Any]]:
        # Paddle keeps of an optimizer's arguments only some, each in a place of its own.
        names = inspect.signature(type(optimizer)).parameters
        kept = {name: getattr(optimizer, f"_{name}", None) for name in names}
        options = {name: value for name, value in kept.items() if isinstance(value, bool | int | float)}
        return type(optimizer), {**options, "learning_rate": optimizer.get_lr()}

    def known_losses(self) -> dict[str, Any]:
        native = {name: getattr(nn, name) for name in NativeLoss.names}
        return native | {name: getattr(losses, name) for name in losses.__all__ if name != "Loss"}

    def known_miners(self) -> dict[str, Any]:
        return {name: getattr(miner, name) for name in miner.__all__ if name != "Miner"}

    def known_poolers(self) -> dict[str, Any]:
        return {name: getattr(poolers, name) for name in poolers.__all__ if name != "Pooler"}

    def replace_pooling(self, pooler: Any) -> nn.Layer:
        return replace_pooling(self.embed_model, pooler)

    def versions(self) -> dict[str, str]:
        return {"paddle": paddle.__version__}

    def threads(self) -> int:
        # Paddle reads this once, when it is imported, takes 1 where it says nothing, and writes there what it
        # took. Its FLAGS_paddle_num_threads says something else.
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

    # Weights and state.

    def model_state(self) -> dict[str, paddle.Tensor]:
        return copied(self.embed_model.state_dict())

    def load_model_state(self, tensors: dict[str, paddle.Tensor]) -> None:
        check_fit("the weights must be those of the same model", self.embed_model.state_dict(), tensors)
        self.embed_model.set_state_dict(tensors)

    def loss_state(self) -> dict[str, paddle.Tensor]:
        return copied(self.loss.state_dict()) if isinstance(self.loss, nn.Layer) else {}

    def load_loss_state(self, tensors: dict[str, paddle.Tensor]) -> None:
        if isinstance(self.loss, nn.Layer):
            self.loss.set_state_dict(tensors)

    def optimizer_state(self, optimizer: paddle.optimizer.Optimizer) -> tuple[dict[str, paddle.Tensor], dict[str, Any]]:
        tensors: dict[str, paddle.Tensor] = {}
        numbers: dict[str, Any] = {}
        for name, value in optimizer.state_dict().items():
            (tensors if isinstance(value, paddle.Tensor) else numbers)[self.place_of(name)] = value
        return copied(tensors), {"learning_rate": optimizer.get_lr(), "numbers": numbers}

    def load_optimizer_state(
        self, optimizer: paddle.optimizer.Optimizer, tensors: dict[str, paddle.Tensor], plain: dict[str, Any]
    ) -> None:
        self.make_slots(optimizer, {place.partition(".")[0] for place in tensors})
        state = {**tensors, **plain["numbers"]}
        places = {name: self.place_of(name) for name in optimizer.state_dict()}
        if set(places.values()) != state.keys():
            raise ValueError(
                "the optimizer must have the options of the one that was saved, as their states differ in "
                f"{', '.join(sorted(state.keys() ^ set(places.values())))}"
            )
        optimizer.set_state_dict({name: state[place] for name, place in places.items()})
        if "LR_Scheduler" not in state:
            optimizer.set_lr(plain["learning_rate"])

    def place_of(self, name: str) -> str:
        """A slot's name on disk, by the place of its parameter.

        Paddle names parameters after how many layers the process has made before, and slots after these and
        how many optimizers there were: ``linear_3.w_0_moment1_2``.
        """
        owners = [(p.name, place) for place, p in self.by_place().items() if name.startswith(f"{p.name}_")]
        if not owners:
            return name
        owner, place = max(owners)  # one may begin with the other
        return f"{place}.{name.removeprefix(f'{owner}_').rpartition('_')[0]}"

    def by_place(self) -> dict[str, paddle.Tensor]:
        """The parameters of the model and then the loss, by their places."""
        loss = self.loss.parameters() if isinstance(self.loss, nn.Layer) else []
        return {str(place): p for place, p in enumerate([*self.embed_model.parameters(), *loss])}

    def make_slots(self, optimizer: paddle.optimizer.Optimizer, places: set[str]) -> None:
        """Bring the slots of these parameters into being, by a step of no effect; only then they have names."""
        parameters = [p for place, p in self.by_place().items() if place in places]
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


def holds(optimizer: paddle.optimizer.Optimizer, weights: Iterable[paddle.Tensor]) -> bool:
    """Whether all of ``weights`` are trained by ``optimizer``."""
    return {id(p) for p in held_by(optimizer)}.issuperset(map(id, weights))


def held_by(optimizer: paddle.optimizer.Optimizer) -> list[paddle.Tensor]:
    """The weights that ``optimizer`` trains."""
    groups = [one if isinstance(one, dict) else {"params": [one]} for one in optimizer._param_groups]
    return [p for group in groups for p in group["params"]]


def objective(loss: Any) -> Any:
    """How ``loss`` is called with the rows of a batch: of ours as a tuner has them, of others as embeddings."""
    return getattr(loss, "of_batch", loss)


def check_finite(embeddings: paddle.Tensor, loss: paddle.Tensor) -> None:
    """Raise :class:`NotFiniteError` if the embeddings or the loss are not finite."""
    if not math.isfinite(loss.item()):
        raise NotFiniteError(f"the loss must be finite, and is {loss.item()}")
    embeddings = embeddings.detach()
    if not math.isfinite(embeddings.sum().item()) and not paddle.isfinite(embeddings).all():  # a sum may overflow
        raise NotFiniteError("the embeddings must be finite, and are not")


def copied(tensors: Mapping[str, paddle.Tensor]) -> dict[str, paddle.Tensor]:
    """Copies of ``tensors`` on the host, none sharing memory with another."""
    return {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
