"""Models that a tuner makes: two towers, and a model with its loss, for Keras."""

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from ..base.training.callbacks.progress import LOGS
from ..base.training.framework import accepts_keywords, check_embeddings, check_pair_embeddings
from .data import SIDES

__all__ = ["TrainingModel", "TwoTower", "call_model"]


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
        if isinstance(x, Mapping) and x.keys() == set(SIDES):
            both = [x[side] for side in SIDES]
            functional = getattr(self.embed_model, "inputs", None) is not None
            arguments = (both,) if functional else both
            sides = self.embed_model(*arguments, training=training)
            count = batch_length(both[0])  # None if TensorFlow compiles for any number
            rows = ops.stack(check_pair_embeddings(sides, ops.is_tensor, count and 2 * count), axis=1)
            return ops.reshape(rows, (-1, rows.shape[-1]))
        return call_model(self.embed_model, x, training)

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
        loss = getattr(self.batch_objective, "on_batch", self.batch_objective)(embeddings, *targets)
        return ops.where(ops.all(ops.isfinite(embeddings)), loss, float("nan"))

    def current_logs(self) -> dict[str, Any]:
        """The logs of the loss's last call."""
        logs = self.batch_objective.logs if self.log_metrics else {}
        return {name: logs[name] for name in self.log_metrics if name in logs}
