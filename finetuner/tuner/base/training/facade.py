"""What a tuner offers besides training: it embeds, evaluates, saves and loads by the objects that it holds."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any, Self

import numpy as np

from ....parts import Part
from ..data.batches import ItemFunction
from ..data.frames import items_of_table, read_tables
from .encoder import Encoder
from .engine import Engine
from .saving import load_run, save_run
from .training_state import Training

__all__ = ["TunerFacade"]


class TunerFacade:
    """The methods of a tuner that pass a call on to its encoder, engine or training."""

    encoder: Encoder
    engine: Engine
    training: Training

    def embed(
        self,
        x: Any,
        preprocess_fn: ItemFunction | None = None,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        *,
        input_column: str | Sequence[str] | None = None,
        batch_size: int = 256,
        num_workers: int = 0,
        dim: int | None = None,
        dtype: str = "float32",
        calibration: Any = None,
        part: Part | None = None,
    ) -> np.ndarray:
        """Embed items, or a column of a table, with the model in evaluation mode, see :meth:`Encoder.embed`."""
        return self.encoder.embed(
            items_of_table(x, input_column),
            preprocess_fn,
            collate_fn,
            batch_size=batch_size,
            num_workers=num_workers,
            dim=dim,
            dtype=dtype,
            calibration=calibration,
            part=part,
        )

    def evaluate(
        self,
        data: Any,
        index_data: Any = None,
        preprocess_fn: ItemFunction | None = None,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        *,
        input_column: str | Sequence[str] | None = None,
        label_column: str | None = None,
        score_column: str | None = None,
        metrics: Iterable[str] | None = None,
        dims: Sequence[int] | None = None,
        exclude_duplicates: bool = False,
        batch_size: int = 256,
        num_workers: int = 0,
    ) -> dict[str, float]:
        """Metrics of the model, see :meth:`Encoder.evaluate`; the columns are those of :meth:`Tuner.fit`."""
        data, index_data = read_tables(
            data, index_data, input_column, label_column, score_column, ("data", "index_data")
        )
        return self.encoder.evaluate(
            data,
            index_data,
            preprocess_fn,
            collate_fn,
            metrics=metrics,
            dims=dims,
            exclude_duplicates=exclude_duplicates,
            batch_size=batch_size,
            num_workers=num_workers,
        )

    def save(self, path: str | Path) -> Path:
        """Write the run into the new folder ``path``: enough to embed with, or to resume the training.

        ``weights.safetensors`` contains the model's weights, ``training.safetensors`` and ``training.json`` the state
        of optimizer and loss, and ``config.json``, ``history.json``, ``log.json`` and ``metrics.json`` the rest.

        Of several processes the first one writes. The others wait for it.

        Raises:
            FileExistsError: If ``path`` exists and is not empty. Nothing is written then.
            OSError: If the disk is full. Nothing is at ``path`` then.
        """
        return self.engine.processes.write(partial(save_run, self.training), path)

    def load(self, path: str | Path, weights_only: bool = False, keep_settings: bool = False) -> Self:
        """Load a run that :meth:`save` wrote. A resumed training gives the same weights as an uninterrupted one.

        The folder is checked before anything is changed.

        Args:
            path: The folder.
            weights_only: Whether to load the model's weights only, without history, optimizer and loss.
            keep_settings: Whether to continue with the settings of this tuner where those of the run differ.

        Returns:
            This tuner.

        Raises:
            FileNotFoundError: If ``path`` is not the folder of a saved run.
            ValueError: If the run is of another framework or optimizer, has other settings, or its weights do not fit.
        """
        load_run(self.training, path, weights_only, keep_settings)
        return self

    # What the objects of a tuner hold, for users and callbacks.

    model = property(attrgetter("encoder.model"), doc="The model as it was given, with the new pooler.")
    embed_model = property(attrgetter("encoder.embed_model"), doc="The model that returns embeddings.")
    distance = property(attrgetter("encoder.distance"), doc="The distance of retrieval.")
    device = property(attrgetter("encoder.framework.device"), doc="Where the model computes.")
    classes = property(
        attrgetter("training.setup.classes"), doc="The names of the loss's classes, in the order of its centres."
    )
    config = property(attrgetter("training.config"), doc="The settings, as JSON can hold them.")
    history = property(attrgetter("training.history"), doc="One mapping per epoch or evaluation, see ``Run``.")
    log = property(attrgetter("training.log"), doc="One mapping per ``log_every`` steps, see ``Run``.")
    metrics = property(attrgetter("training.metrics"), doc="The metrics before and after training.")
    epoch = property(attrgetter("training.progress.epoch"), doc="The number of finished epochs.")
    step = property(attrgetter("training.progress.step"), doc="The number of steps.")

    @property
    def optimizer(self) -> Any:
        """The optimizer of the model's weights; None if it has none to train."""
        return self.engine.optimizers.get("optimizer")

    @property
    def loss_optimizer(self) -> Any:
        """The optimizer of the loss's weights; None if it has none."""
        return self.engine.optimizers.get("loss_optimizer")

    def model_state(self) -> dict[str, Any]:
        """A copy of the model's weights on the host; of their average if there is one."""
        return self.training.model_state()

    def loss_state(self) -> dict[str, Any]:
        """A copy of the loss's weights on the host."""
        return self.training.loss_state()

    def use_weights(self, tensors: dict[str, Any]) -> None:
        """Give the model other weights. A training that is continued goes on from the present ones."""
        self.training.use_weights(tensors)

    def blend(self, share: float) -> None:
        """Move the model towards what it was before the training, see :meth:`~.run.Run.blend`."""
        self.training.blend(share)
