"""Models: two towers, a model with its loss, calls, and the names of weights, for Keras."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import keras
from keras import ops

from ..base.training.callbacks.progress import LOGS
from ..base.training.framework import accepts_keywords, check_embeddings, check_pair_embeddings
from .data import ORDER, SIDES

__all__ = [
    "TrainingModel",
    "TwoTower",
    "call_model",
    "check_config",
    "in_precision",
    "named_variables",
    "named_weights",
]

POLICIES = {"bf16": "mixed_bfloat16", "fp16": "mixed_float16"}


@keras.saving.register_keras_serializable("finetuner")
class TwoTower(keras.Model):
    """Two models, one per side of a pair."""

    def __init__(self, first: keras.Model, second: keras.Model):
        super().__init__()
        self.first, self.second = first, second
        self.built = first.built and second.built

    def build(self, input_shape: Any) -> None:
        """Nothing to do: the two models are built by their first call."""

    def call(self, first: Any, second: Any, training: bool = False) -> tuple[Any, Any]:
        return call_model(self.first, first, training), call_model(self.second, second, training)


def call_model(model: keras.Model, inputs: Any, training: bool) -> Any:
    """Call ``model``. A mapping is passed as keyword arguments if the model has such arguments."""
    if isinstance(inputs, Mapping) and accepts_keywords(model.call, inputs):
        return model(**inputs, training=training)
    return model(inputs, training=training)


@contextlib.contextmanager
def in_precision(model: keras.Model, precision: str) -> Iterator[None]:
    """A context in which the layers of a model compute in a precision of the engine."""
    if precision == "fp32":
        yield
        return
    layers = [one for one in model._flatten_layers() if one.dtype_policy.name == "float32" and one.autocast]
    for layer in layers:
        layer.dtype_policy = POLICIES[precision]
    try:
        yield
    finally:
        for layer in layers:
            layer.dtype_policy = "float32"


def as_float32(embeddings: Any) -> Any:
    """Embeddings of half precision in float32, in which losses are computed."""
    half = keras.backend.standardize_dtype(embeddings.dtype) in ("float16", "bfloat16")
    return ops.cast(embeddings, "float32") if half else embeddings


def named_weights(module: Any) -> dict[str, Any]:
    """The weights of a model or a loss that are trained, by their path; empty if they do not exist yet."""
    trained = {id(variable) for variable in getattr(module, "trainable_variables", [])}
    return {name: variable for name, variable in named_variables(module).items() if id(variable) in trained}


def named_variables(module: Any) -> dict[str, Any]:
    """All variables of a model or a loss by their path, also those that are not trained.

    A weight of a loss has the path inside the loss, such as ``weight``. A path that is there twice gets a number.
    """
    names: dict[str, Any] = {}
    for variable in getattr(module, "variables", []):
        name = variable.path if isinstance(module, keras.Model) else loss_path(module, variable)
        names[name if name not in names else f"{name}:{len(names)}"] = variable
    return names


def loss_path(loss: Any, variable: Any) -> str:
    """The name of a weight inside a loss, or inside one of the losses that it contains."""
    for name in getattr(loss, "part_names", ()):
        part = getattr(loss, name)
        if any(one is variable for one in getattr(part, "variables", [])):
            return f"{name}.{loss_path(part, variable)}"
    return str(variable.name)


def check_config(config: Any) -> None:
    """Raise ``ValueError`` if the description of a model names code that is not Keras' or ours.

    Keras imports what a description names, and a Lambda layer holds code itself. A class of the user's own that is
    registered in this process is allowed.
    """
    if isinstance(config, list | dict):
        for value in config.values() if isinstance(config, dict) else config:
            check_config(value)
    if not isinstance(config, dict) or "class_name" not in config:
        return
    module, name, registered = (config.get(key) for key in ("module", "class_name", "registered_name"))
    wanted = config.get("config") if name == "function" else registered or name  # what Keras looks for among those
    if isinstance(wanted, str) and wanted in keras.saving.get_custom_objects():
        return
    package = "keras" if module is None else str(module).partition(".")[0]
    is_ours = package in ("keras", "finetuner", "builtins") and name not in ("Lambda", "__lambda__")
    if not is_ours or registered not in (None, name, *([wanted] if name == "function" else [])):
        raise ValueError(
            f"the model in this folder names code, {module}.{name}; finetuner.load(folder, trust_code=True) runs it, "
            "or give model=..."
        )


def batch_length(inputs: Any) -> int | None:
    """The number of items in a batch of inputs, if it is known."""
    return keras.tree.flatten(inputs)[0].shape[0]


def uses_global_seed() -> bool:
    """Whether the TensorFlow graph traced so far has random operations that only the global seed controls."""
    import tensorflow

    if tensorflow.executing_eagerly():
        return True  # unknown
    graph = tensorflow.compat.v1.get_default_graph().as_graph_def()
    inner = (function.node_def for function in graph.library.function)
    return any("seed2" in node.attr for nodes in (graph.node, *inner) for node in nodes)


class TrainingModel(keras.Model):
    """A model with its loss. Keras' own step trains it, compiled as Keras does on the engine.

    Args:
        embed_model: The model that returns embeddings.
        loss: The loss.
    """

    needs_global_seed: bool | None = None  # whether the step uses TensorFlow's global seed; None before tracing

    def __init__(self, embed_model: Any, loss: Any):
        super().__init__()
        self.embed_model, self.batch_objective = embed_model, loss
        names = LOGS if getattr(loss, "need_logs", False) else ()
        self.log_metrics = {name: keras.metrics.Mean(name=name) for name in names}  # created before compilation

    def build(self, input_shape: Any) -> None:
        """Nothing to do: the model is built by its first call."""

    def call(self, x: Any, training: bool = False) -> Any:
        """The embeddings of a batch of inputs."""
        if isinstance(x, Mapping) and ORDER in x:  # groups of similar length
            groups = [self.call(part, training) for name, part in x.items() if name != ORDER]
            return ops.take(ops.concatenate(groups), x[ORDER], axis=0)
        if isinstance(x, Mapping) and x.keys() == set(SIDES):
            both = [x[side] for side in SIDES]
            functional = getattr(self.embed_model, "inputs", None) is not None
            arguments = (both,) if functional else both
            sides = self.embed_model(*arguments, training=training)
            count = batch_length(both[0])  # None if TensorFlow compiles for any number
            rows = ops.stack(check_pair_embeddings(sides, ops.is_tensor, count and 2 * count), axis=1)
            return ops.reshape(rows, (-1, rows.shape[-1]))
        return call_model(self.embed_model, x, training)

    def call_in_training(self, x: Any) -> Any:
        """The embeddings of a batch as in a training step, and as last column the sum of the losses that layers add.

        No variable is changed, such as a running statistic.
        """
        self.built = True
        weights, state = (
            [v.value for v in group] for group in (self.trainable_variables, self.non_trainable_variables)
        )
        embeddings, _, losses = self.stateless_call(weights, state, x, training=True, return_losses=True)
        added = sum(map(ops.sum, losses), start=ops.zeros((), embeddings.dtype))
        return ops.concatenate([embeddings, ops.broadcast_to(added, (embeddings.shape[0], 1))], axis=1)

    def train_step(self, *arguments: Any) -> Any:
        """Keras' own step. State such as the statistics of batch norm stays as it was if the step is not taken."""
        if keras.backend.backend() == "jax":
            logs, (weights, state, slots, metrics) = super().train_step(*arguments)
            place = next(i for i, variable in enumerate(self.optimizer.variables) if variable is self.optimizer.norm)
            finite = ops.isfinite(slots[place])
            kept = [ops.where(finite, new, old) for new, old in zip(state, arguments[0][1], strict=True)]
            return logs, (weights, kept, slots, metrics)
        variables = self.non_trainable_variables
        before = [ops.copy(variable) for variable in variables]
        logs = super().train_step(*arguments)
        if variables:
            finite = ops.isfinite(self.optimizer.norm)
            if keras.backend.backend() == "torch" and finite:
                return logs
            for variable, old in zip(variables, before, strict=True):
                variable.assign(ops.where(finite, variable.value, old))
        return logs

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        """The loss of a batch and the model's regularizers; NaN if an embedding is not finite."""
        loss = self.batch_loss(y, y_pred)
        for name, value in self.current_logs().items():
            self.log_metrics[name].update_state(value)
        if keras.backend.backend() == "tensorflow":
            self.needs_global_seed = self.needs_global_seed or uses_global_seed()
        return sum(map(ops.sum, self.losses), start=loss)

    def batch_loss(self, targets: Any, embeddings: Any) -> Any:
        """The loss of a batch; NaN if an embedding is not finite."""
        targets = [ops.convert_to_tensor(target) for target in targets]  # arrays on the torch engine
        check_embeddings(embeddings, ops.is_tensor(embeddings), targets[0].shape[0])
        loss = getattr(self.batch_objective, "on_batch", self.batch_objective)(as_float32(embeddings), *targets)
        finite = ops.logical_and(ops.all(ops.isfinite(embeddings)), ops.all(ops.isfinite(loss)))
        return loss * ops.where(finite, 1.0, float("nan"))  # a product, so that the gradient is NaN as well

    def current_logs(self) -> dict[str, Any]:
        """The logs of the loss's last call."""
        logs = self.batch_objective.logs if self.log_metrics else {}
        return {name: logs[name] for name in self.log_metrics if name in logs}
