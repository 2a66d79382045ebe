"""The frozen prefix: layers at the input that are never trained are run once, and each step begins after them.

The numbers of a training are those of one without the cache. What would change them is refused: items that differ by
epoch, and layers that draw random numbers or update statistics. Both ways are compared on some items before the rest is
computed.
"""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ....arrays import as_list, item_length, item_lengths
from ....checks import preview
from ....containers import from_container
from ..data.batches import Batches, LengthGroups, PairInputs, all_finite
from ..data.datasets import Dataset
from ..data.embedded import EmbeddedDataset
from ..data.prefix_outputs import MASKS, PaddedRows, PrefixOutputs
from .bad_items import NotFiniteError, describe_bad_items
from .encoder import Encoder
from .split_model import SplitModel
from .training_state import Training

__all__ = ["FrozenPrefix", "check_cache_frozen"]

BATCH_SIZE = 64  # rows that the prefix embeds at once
PROBES = 16  # rows on which both ways are compared
TOLERANCE = 1e-4  # of the embeddings, relative to the largest component


def check_cache_frozen(value: Any) -> bool | Path:
    """The argument ``cache_frozen``, with a folder as a path; raise ``TypeError`` for another type."""
    if isinstance(value, bool):
        return value
    if not isinstance(value, str | os.PathLike) or not os.fspath(value):
        raise TypeError(f"cache_frozen must be True, False or a folder, got {value!r:.80}")
    return Path(value)


class FrozenPrefix:
    """The outputs of the frozen layers at the input of a model for all rows of a dataset.

    Args:
        training: The model with its functions, the engine and the loss.
        dataset: The training data.
        place: The folder where the outputs are kept; True for memory.
        num_workers: The number of processes (Keras: threads) that prepare batches.

    Attributes:
        split: The model in two parts.
        line: What was computed, in words.

    Raises:
        ValueError: If a training with the cache would not have the numbers of one without it.
    """

    def __init__(self, training: Training, dataset: Dataset, place: bool | Path, num_workers: int = 0):
        encoder, folder = training.encoder, place if isinstance(place, Path) else None
        self.folder = folder
        self.engine, self.framework, self.seed = training.engine, encoder.framework, training.seed
        self.check(encoder, dataset)
        self.engine.freeze(training.progress.epoch + 1)
        self.engine.begin_epoch(None)  # so that all layers have the mode that they are trained in
        self.split = self.split_model()
        self.model = encoder.embed_model
        functions = encoder.preprocess_fn, encoder.collate_fn
        self.batches = Batches(dataset, [], *functions, None, training.setup.target_type)
        self.refuse_varied_items()
        collate_fn = None if self.split.states is None else PaddedRows(self.split.states)
        by_side = any(isinstance(function, tuple) for function in functions)  # the rows of a batch are grouped alike
        self.collate_fn: Any = (collate_fn, collate_fn) if by_side else collate_fn
        self.refuse_other_numbers(dataset.num_rows)
        start = time.perf_counter()
        self.outputs = PrefixOutputs(dataset.num_rows, folder)
        try:
            self.compute(self.outputs, np.arange(dataset.num_rows), num_workers)
        except BaseException:
            self.outputs.close()
            raise
        self.dataset = EmbeddedDataset(dataset, self.outputs)
        first, last = self.split.layers[0], self.split.layers[-1]
        layers = first if first == last else f"{first} to {last}"
        nbytes = self.outputs.nbytes
        size = f"{nbytes / 1e6:,.0f} MB" if nbytes >= 1e6 else f"{nbytes / 1e3:,.0f} kB"
        size += f" in {'memory' if folder is None else folder}"
        seconds = f"{time.perf_counter() - start:,.0f} s"
        self.line = f"frozen prefix ({layers}): {len(self.outputs):,} items, {size}, computed in {seconds}"

    def check(self, encoder: Encoder, dataset: Dataset) -> None:
        """Raise ``ValueError`` for settings in which the outputs of a layer are not the same in each epoch."""
        if self.engine.processes.count > 1 and self.folder is not None:
            raise ValueError(f"cache_frozen must be True or False with several processes, got the folder {self.folder}")
        if dataset.views > 1 or dataset.augment is not None:
            raise ValueError(f"cache_frozen must be used with data without augment or views, got {dataset!r}")
        if isinstance(encoder.model, tuple | list) or self.framework.has_two_inputs(encoder.embed_model):
            raise ValueError("cache_frozen must be used with a model of one input, got a pair of models or two inputs")
        if self.engine.precision != "fp32":
            raise ValueError(f"cache_frozen must be used with precision 'fp32', got {self.engine.precision!r}")
        if not self.framework.is_built(encoder.embed_model):
            raise ValueError("cache_frozen must be used with a model whose weights exist: call it on a batch before")

    def split_model(self) -> SplitModel:
        """The model in two parts. What is trained from a later epoch on is trained."""
        engine, frozen = self.engine, set(self.engine.frozen)
        never = engine.optimization.frozen(list(frozen), float("inf"))
        trained = {weight.name for weight in self.framework.weights(engine.model)} | (frozen - never)
        try:
            return self.framework.split_frozen(engine.model, trained)
        except ValueError as error:
            if frozen == never:
                raise
            later = preview(sorted(frozen - never), 3)
            raise ValueError(f"{error}; freeze has weights that are trained from a later epoch on: {later}") from None

    def refuse_varied_items(self) -> None:
        """Raise ``ValueError`` if the preparation of items draws random numbers."""
        rows = np.arange(min(BATCH_SIZE, self.batches.dataset.num_rows))
        inputs = []
        for epoch in (0, 1):
            self.batches.begin_epoch([rows], (self.seed, epoch))
            inputs.append(self.batches[0].inputs)
        if not same_inputs(*inputs):
            raise ValueError(
                "cache_frozen must be used with items that are the same in each epoch, and preprocess_fn, collate_fn "
                "or the dataset varies them"
            )
        collate_fn = self.batches.collate_fn
        makes_images = hasattr(collate_fn, "adapt")  # each of one size
        if self.split.states is None and collate_fn is not None and not makes_images:
            given = self.batches.dataset.x
            lengths = [item_lengths(given), item_lengths(as_list(self.batches.dataset.batch(rows), len(rows)))]
            if any(one is not None for one in lengths):
                raise ValueError(
                    "cache_frozen must be used with items of one length, or with a text model of "
                    "finetuner.load_model: the outputs of padded items depend on their batch"
                )

    def refuse_other_numbers(self, num_rows: int) -> None:
        """Raise ``ValueError`` if the two parts do not return in training what the model returns.

        The outputs of the first part are from other batches, so that a model whose rows depend on each other is seen.
        """
        rows = np.unique(np.linspace(0, num_rows - 1, PROBES).astype(int))
        self.batches.begin_epoch([rows], None)
        inputs = self.batches[0].inputs
        whole = inputs.inputs[0] if isinstance(inputs, LengthGroups) else inputs
        order = inputs.positions[0] if isinstance(inputs, LengthGroups) else np.arange(len(rows))
        self.framework.check_pooling(self.model, whole, len(order))
        outputs = PrefixOutputs(num_rows)
        for half in (rows[::2], rows[1::2]):
            if len(half):
                self.compute(outputs, half)
        found = outputs[rows[order]]
        collate_fn = self.collate_fn[0] if isinstance(self.collate_fn, tuple) else self.collate_fn
        cached = found if collate_fn is None else collate_fn(found)
        both = [
            self.engine.embed_in_training(model, part, len(order), self.seed)
            for model, part in ((self.model, whole), (self.split.rest, cached))
        ]
        difference, limit = float(np.abs(both[0] - both[1]).max()), TOLERANCE * float(np.abs(both[0]).max())
        if not difference <= limit:
            raise ValueError(
                f"cache_frozen must be used with layers that do in training what they do in evaluation, and the "
                f"embeddings of {len(order)} items differ by {difference:.2g}: {self.split.layers[0]} to "
                f"{self.split.layers[-1]} draw random numbers, depend on the batch, add to the loss, or cannot be run "
                "by themselves"
            )

    def compute(self, outputs: PrefixOutputs, rows: np.ndarray, num_workers: int = 0) -> None:
        """Compute the outputs of rows, the longest first."""
        dataset = self.batches.dataset
        lengths = item_lengths(dataset.x) if dataset.rows_per_item == 1 else None
        if lengths is not None:
            rows = rows[np.argsort(-lengths[rows], kind="stable")]
        self.batches.begin_epoch(np.split(rows, range(BATCH_SIZE, len(rows), BATCH_SIZE)), None)
        for batch in self.framework.load_batches(self.batches, num_workers):
            if not all_finite(batch.inputs):
                raise NotFiniteError(f"inputs must be finite, and {describe_bad_items(batch)} are not")
            parts, positions = [batch.inputs], [np.arange(len(batch.indices))]
            if isinstance(batch.inputs, LengthGroups):
                parts, positions = batch.inputs.inputs, batch.inputs.positions
            for inputs, places in zip(parts, positions, strict=True):
                self.add(outputs, batch.indices[places], inputs)
        self.batches.loader = None  # ends the workers
        outputs.finish()

    def add(self, outputs: PrefixOutputs, rows: np.ndarray, inputs: Any) -> None:
        """Add the outputs of a batch."""
        computed = self.framework.run_prefix(self.split.prefix, inputs)
        if self.split.states is None:
            outputs.append(rows, computed)
            return
        masks = {name: np.asarray(inputs[name]) for name in MASKS if name in inputs}
        outputs.append_padded(rows, computed, masks, self.lengths_of(rows))

    def lengths_of(self, rows: np.ndarray) -> list[int]:
        """The lengths of items after ``preprocess_fn``, by which a batch is grouped; 0 for items without a length."""
        function = self.batches.preprocess_fn
        if isinstance(function, tuple):  # then a batch is grouped by side
            return [0] * len(rows)
        items = as_list(self.batches.dataset.batch(rows), len(rows))
        try:
            return [item_length(item if function is None else function(item)) for item in items]
        except TypeError:
            return [0] * len(rows)

    def begin(self, length_groups: int) -> Batches:
        """Run only the second part in a step. Returns its batches, without a plan."""
        self.engine.begin_at(self.split.rest)
        target_type = self.batches.target_type
        functions, processes = (None, self.collate_fn), self.engine.processes
        return Batches(
            self.dataset, [], *functions, None, target_type, length_groups=length_groups, processes=processes
        )

    def end(self) -> None:
        """Run the whole model again, free the memory, and remove the file."""
        self.engine.begin_at(None)
        self.outputs.close()


def same_inputs(first: Any, second: Any) -> bool:
    """Whether two inputs of a model have the same values."""
    if isinstance(first, Mapping):
        return first.keys() == second.keys() and all(same_inputs(first[key], second[key]) for key in first)
    if isinstance(first, LengthGroups | PairInputs | tuple | list):
        return len(first) == len(second) and all(map(same_inputs, first, second))
    arrays = [np.asarray(from_container("inputs", one)) for one in (first, second)]
    floats = all(array.dtype.kind == "f" for array in arrays)
    return bool(np.array_equal(arrays[0], arrays[1], equal_nan=floats))
