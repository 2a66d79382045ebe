"""The outputs of the frozen layers of a model for the rows of a dataset, in memory or in a file."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["PaddedRows", "PrefixOutputs", "PrefixRow"]

DTYPES = ("float32", "float16")  # that numpy has, and that reach the model as they are
MASKS = ("attention_mask", "pooling_mask")  # inputs [N, T] that come with states [N, T, C]


class PrefixRow:
    """The states ``[T, C]`` of the tokens of an item, without padding. Its length is that of the item."""

    def __init__(self, states: np.ndarray, masks: Mapping[str, np.ndarray], length: int):
        self.states, self.masks, self.length = states, masks, length

    def __len__(self) -> int:
        return self.length


class PaddedRows:
    """Makes a model's input of :class:`PrefixRow`: a ``collate_fn``.

    Args:
        name: The argument of the model for the states.

    Returns:
        The states ``[N, T, C]`` and the masks ``[N, T]``, padded with zeros to the longest row.
    """

    def __init__(self, name: str):
        self.name = name

    def __call__(self, rows: Sequence[PrefixRow]) -> dict[str, np.ndarray]:
        """Pad a batch."""
        first, longest = rows[0], max(len(row.states) for row in rows)
        padded = {self.name: np.zeros((len(rows), longest, *first.states.shape[1:]), first.states.dtype)}
        padded |= {name: np.zeros((len(rows), longest), mask.dtype) for name, mask in first.masks.items()}
        for number, row in enumerate(rows):
            padded[self.name][number, : len(row.states)] = row.states
            for name, mask in row.masks.items():
                padded[name][number, : len(mask)] = mask
        return padded


class PrefixOutputs:
    """The outputs of a frozen prefix, a sequence of rows.

    Args:
        num_rows: The number of rows.
        folder: Where the file is; None to keep the outputs in memory. The file is removed by :meth:`close`.

    Attributes:
        nbytes: The bytes of the outputs.
    """

    def __init__(self, num_rows: int, folder: str | Path | None = None):
        self.parts: list[np.ndarray] = []
        self.places = np.zeros((num_rows, 3), np.int64)  # of each row: the number of its part, start and end
        self.masks: list[Mapping[str, np.ndarray] | None] = [None] * num_rows
        self.lengths = np.zeros(num_rows, np.int64)
        self.nbytes = self.written = 0
        self.tail: tuple[int, ...] | None = None  # the shape of an entry of a part
        self.dtype: Any = None
        self.file: Any = None
        if folder is not None:
            Path(folder).mkdir(parents=True, exist_ok=True)
            self.file = tempfile.NamedTemporaryFile(prefix="frozen-prefix-", suffix=".bin", dir=folder)  # noqa: SIM115

    def append(self, rows: np.ndarray, outputs: np.ndarray) -> None:
        """Add rows whose outputs have one shape, ``[N, ...]``."""
        self._write(rows, outputs, np.arange(len(rows)), np.arange(1, len(rows) + 1))

    def append_padded(
        self, rows: np.ndarray, outputs: np.ndarray, masks: Mapping[str, np.ndarray], lengths: Sequence[int]
    ) -> None:
        """Add rows whose outputs ``[N, T, C]`` are padded.

        Args:
            rows: ``[N]``.
            outputs: The outputs.
            masks: Arrays ``[N, T]``. The attention mask says which tokens are no padding.
            lengths: ``[N]``, of the items.

        Raises:
            ValueError: If tokens do not stand at the left.
        """
        mask = masks["attention_mask"].astype(bool)
        counts = mask.sum(axis=1)
        if not np.array_equal(mask, np.arange(mask.shape[1]) < counts[:, None]):
            raise ValueError("cache_frozen must be used with a tokenizer that pads at the right, and this one does not")
        ends = np.cumsum(counts)
        self._write(rows, outputs[mask], ends - counts, ends)
        for position, (row, count) in enumerate(zip(rows, counts, strict=True)):
            self.masks[row] = {name: values[position, :count].copy() for name, values in masks.items()}
        self.lengths[rows] = lengths

    def _write(self, rows: np.ndarray, outputs: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> None:
        if str(outputs.dtype) not in DTYPES:
            raise ValueError(
                f"cache_frozen must be used with layers that return float32 or float16, and the last frozen one "
                f"returns {outputs.dtype}"
            )
        if self.tail not in (None, outputs.shape[1:]) or self.dtype not in (None, outputs.dtype):
            raise ValueError(
                "cache_frozen must be used with items for which the frozen layers return one shape, got "
                f"{list(self.tail or ())} and {list(outputs.shape[1:])}"
            )
        self.tail, self.dtype = outputs.shape[1:], outputs.dtype
        number, offset = len(self.parts), 0
        if self.file is None:
            self.parts.append(np.ascontiguousarray(outputs))
        else:
            self.file.write(np.ascontiguousarray(outputs).tobytes())
            number, offset = 0, self.written
            self.written += len(outputs)
        self.places[rows] = np.stack([np.full(len(rows), number), starts + offset, ends + offset], axis=1)
        self.nbytes += outputs.nbytes

    def finish(self) -> None:
        """Open the file to read, after the last row."""
        if self.file is not None:
            self.file.flush()
            shape = (self.written, *(self.tail or ()))
            self.parts = [np.memmap(self.file.name, self.dtype, "r", shape=shape)]

    def close(self) -> None:
        """Free the memory, and remove the file."""
        self.parts = []
        if self.file is not None:
            self.file.close()

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, indices: Any) -> Any:
        """The outputs of rows: an array ``[N, ...]``, or a list of :class:`PrefixRow`."""
        places = self.places[np.atleast_1d(indices)]
        rows = [self.parts[number][start:end] for number, start, end in places]
        if self.masks[0] is None:
            return np.concatenate(rows)
        numbers = np.atleast_1d(indices).tolist()
        return [
            PrefixRow(states, self.masks[number] or {}, int(self.lengths[number]))
            for states, number in zip(rows, numbers, strict=True)
        ]
