"""Static embeddings: a table with a vector for each token, and the mean of the vectors of a text."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ... import checks

__all__ = ["StaticEmbedding"]

Tensor = Any


class StaticEmbedding:
    r"""A model of texts: the mean of the vectors of a text's tokens.

    .. math:: f(t) = \frac{1}{|S|} \sum_{s \in S} E_{t_s}

    :math:`E` is a table with one row per token, and :math:`S` contains the positions whose mask is not 0. The table is
    the only weight. A text without any token becomes zeros, and the token ids at other positions do not matter.

    ``model(input_ids, attention_mask)`` takes integers ``[N, T]`` and returns float32 ``[N, D]``. Without a mask all
    positions count.

    Args:
        table: :math:`E`, ``[V, D]``; or the two numbers V and D, for a table of zeros whose values are loaded later.
        normalize: Whether embeddings have length 1.

    Raises:
        ValueError: If a shape does not fit, or the table is not finite.
        TypeError: If token ids are not integers.

    Example:
        >>> model = StaticEmbedding([[1.0, 2.0], [3.0, 4.0], [5.0, 9.0]])
        >>> embeddings = model(tensor([[0, 1, 2], [2, 0, 0]]), tensor([[1, 1, 0], [1, 0, 0]]))
        >>> tuple(embeddings.shape)  # [2.0, 3.0] and [5.0, 9.0]
        (2, 2)

    References:
        Arora et al., "A simple but tough-to-beat baseline for sentence embeddings", ICLR 2017.
    """

    def __init__(self, table: Any, normalize: bool = False):
        super().__init__()  # of the framework's model: attributes can be set from here on
        self.normalize = checks.boolean("normalize", normalize)
        self.table = self.new_table(as_table(table))

    def new_table(self, values: np.ndarray) -> Tensor:
        """A trainable weight with these values."""
        raise NotImplementedError

    def compute(self, table: Tensor, input_ids: Tensor, attention_mask: Tensor | None) -> Tensor:
        """Embeddings ``[N, D]`` of tokens ``[N, T]`` with a table ``[V, D]``."""
        raise NotImplementedError

    def arguments(self) -> dict[str, Any]:
        """The constructor's arguments of a model of the same size, with zeros in its table."""
        return {"table": [int(size) for size in self.table.shape], "normalize": self.normalize}

    def check(self, input_ids: Sequence[int], dtype: Any, attention_mask: Sequence[int] | None) -> None:
        """Raise an error if shapes or the type of token ids do not fit."""
        if len(input_ids) != 2:
            raise ValueError(f"input_ids must have shape [N, T], got {list(input_ids)}")
        if "int" not in str(dtype):
            raise TypeError(f"input_ids must be integers, got {dtype}")
        if attention_mask is not None and list(attention_mask) != list(input_ids):
            raise ValueError(
                f"attention_mask must have the shape of input_ids, got {list(attention_mask)} and {list(input_ids)}"
            )


def as_table(table: Any) -> np.ndarray:
    """A copy of a table ``[V, D]`` in float32, or zeros of two sizes.

    Raises:
        ValueError: If it has another shape, no row or no column, or values that are not finite.
    """
    if isinstance(table, tuple | list) and len(table) == 2 and all(isinstance(size, int) for size in table):
        return np.zeros([checks.integer("the size of a table", size, 1) for size in table], np.float32)
    values = np.array(table, np.float32)
    if values.ndim != 2 or 0 in values.shape:
        raise ValueError(f"table must have shape [V, D] with at least one row and column, got {list(values.shape)}")
    if not np.isfinite(values).all():
        raise ValueError(f"table must be finite, and is not in {int((~np.isfinite(values)).any(axis=1).sum())} rows")
    return values
