"""A text model of Keras: a backbone of KerasHub, pooling over its tokens, a head."""

from typing import Any

import keras
from keras import KerasTensor, ops

from .interop import PlainModel
from .poolers import Pooler

__all__ = ["INPUTS", "LastPooling", "TextModel"]

INPUTS = ("token_ids", "padding_mask", "segment_ids")


class LastPooling(Pooler):
    """The last step that counts of a sequence ``[N, T, C]``."""

    def compute(self, x: KerasTensor, mask: KerasTensor) -> KerasTensor:
        counts = ops.cast(mask, "int32")
        after = ops.sum(counts, axis=1, keepdims=True) - ops.cumsum(counts, axis=1)  # the steps after each that count
        return ops.sum(ops.where(ops.logical_and(mask, after == 0), x, 0.0), axis=1)


class TextModel(PlainModel):
    """From the tokens of texts to embeddings ``[N, D]``.

    Args:
        backbone: A functional model of KerasHub whose inputs are among :data:`INPUTS`. It returns the states of the
            tokens, ``[N, T, C]``, alone or as ``sequence_output``.
        pooling: Pools the states with the padding mask.
        head: A layer on the pooled states.
    """

    def __init__(self, backbone: keras.Model, pooling: Pooler, head: Any = None):
        super().__init__()
        self.backbone, self.pooling, self.head = backbone, pooling, head
        self.built = True

    def build(self, input_shape: Any) -> None:
        """Nothing to do: the layers have their weights."""

    def call(
        self,
        token_ids: KerasTensor,
        padding_mask: KerasTensor | None = None,
        segment_ids: KerasTensor | None = None,
        training: bool = False,
    ) -> KerasTensor:
        given = dict(zip(INPUTS, (token_ids, padding_mask, segment_ids), strict=True))
        outputs = self.backbone({name: given[name] for name in self.backbone.input}, training=training)
        states = outputs["sequence_output"] if isinstance(outputs, dict) else outputs
        pooled = self.pooling(states, mask=padding_mask)
        return pooled if self.head is None else self.head(pooled)
