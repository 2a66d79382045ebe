"""What a tuner makes of models: one of two, and one with its loss, for Keras."""

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from ..base.callbacks import LOGS
from ..base.framework import check_sides, checked_embeddings, takes_keywords
from .data import SIDES

__all__ = ["Towers", "Trained", "called"]


@keras.saving.register_keras_serializable("finetuner")
class Towers(keras.Model):
    """Two models, one for each side of a pair."""

    def __init__(self, first: keras.Model, second: keras.Model):
        super().__init__()
        self.first, self.second = first, second
        self.built = first.built and second.built

    def build(self, input_shape: Any) -> None:
        """Nothing to do: the models build themselves when they are first called."""

    def call(self, first: Any, second: Any, training: bool = False) -> tuple[Any, Any]:
        return called(self.first, first, training), called(self.second, second, training)


def called(model: keras.Model, inputs: Any, training: bool) -> Any:
    """What ``model`` makes of inputs, of which a mapping is passed as keywords where it takes them so."""
    if isinstance(inputs, Mapping) and takes_keywords(model.call, inputs):
        return model(**inputs, training=training)
    return model(inputs, training=training)


def leading(inputs: Any) -> int | None:
    """How many items there are in a batch of inputs, if that is known."""
    return keras.tree.flatten(inputs)[0].shape[0]


def draws_by_itself() -> bool:
    """Whether what TensorFlow has traced so far draws random numbers that are seeded by its global seed alone."""
    import tensorflow

    if tensorflow.executing_eagerly():
        return True  # for all that is known
    graph = tensorflow.compat.v1.get_default_graph().as_graph_def()
    inner = (function.node_def for function in graph.library.function)
    return any("seed2" in node.attr for nodes in (graph.node, *inner) for node in nodes)


class Trained(keras.Model):
    """A model with its loss, which Keras' own step then trains, compiled as Keras sees fit for the engine."""

    draws: bool | None = None  # whether its step asks for TensorFlow's global seed; None before it is traced

    def __init__(self, embed_model: Any, loss: Any):
        super().__init__()
        self.embed_model, self.objective = embed_model, loss
        told = LOGS if getattr(loss, "need_logs", False) else ()
        self.notes = {name: keras.metrics.Mean(name=name) for name in told}  # made before anything is compiled

    def build(self, input_shape: Any) -> None:
        """Nothing to do: the model builds itself when it is first called."""

    def call(self, x: Any, training: bool = False) -> Any:
        """What the model makes of a batch of inputs."""
        if isinstance(x, Mapping) and x.keys() == set(SIDES):
            both = [x[side] for side in SIDES]
            functional = getattr(self.embed_model, "inputs", None) is not None
            sides = (
                self.embed_model(both, training=training) if functional else self.embed_model(*both, training=training)
            )
            count = leading(both[0])  # unknown where TensorFlow compiles for any
            rows = ops.stack(check_sides(sides, ops.is_tensor, count and 2 * count), axis=1)
            return ops.reshape(rows, (-1, rows.shape[-1]))
        return called(self.embed_model, x, training)

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        """The loss of a batch and the model's regularisers; NaN where an embedding is not finite."""
        loss = self.loss_of(y, y_pred)
        for name, value in self.told().items():
            self.notes[name].update_state(value)
        if keras.backend.backend() == "tensorflow":
            self.draws = self.draws or draws_by_itself()
        return sum(map(ops.sum, self.losses), start=loss)

    def loss_of(self, targets: Any, embeddings: Any) -> Any:
        """The loss of a batch by itself; NaN where an embedding is not finite."""
        targets = [ops.convert_to_tensor(one) for one in targets]  # on torch's engine they come as arrays
        checked_embeddings(embeddings, ops.is_tensor(embeddings), targets[0].shape[0])
        loss = getattr(self.objective, "of_batch", self.objective)(embeddings, *targets)
        return ops.where(ops.all(ops.isfinite(embeddings)), loss, float("nan"))

    def told(self) -> dict[str, Any]:
        """What the loss notes of the batch that it was last called with."""
        return {name: self.objective.noted[name] for name in self.notes if name in self.objective.noted}
