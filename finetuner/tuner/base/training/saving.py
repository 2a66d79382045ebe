"""The part of a tuner that keeps, saves and loads its state."""

import shutil
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from ..data.datasets import Dataset
from ..losses.loss import WeightedLoss
from .averaging import WeightAverage
from .callbacks import Callback
from .checkpoint import (
    FIT_SETTINGS,
    SETTINGS,
    SavedRun,
    differing_settings,
    find_run,
    read_run,
    save_callbacks,
    write_run,
)
from .encoder import Encoder
from .encoder_files import read_tensors, write_tensors
from .engine import Engine
from .loop import Loop
from .loss_setup import LossSetup
from .state import Progress, State

__all__ = ["SavedTuner"]


class SavedTuner:
    """Progress, history and weights of a tuner, and their way to a folder and back.

    Attributes:
        encoder: The model with all that it needs to embed items.
        engine: The training step of the framework.
        setup: The loss, fitted to the data.
        progress: How far the training is.
        history: See ``Run``.
        log: See ``Run``.
        metrics: See ``Run``.
        config: The settings, as JSON can hold them.
    """

    encoder: Encoder
    engine: Engine
    setup: LossSetup
    loss: Any
    seed: int
    config: dict[str, Any]
    callbacks: list[Callback]
    loss_optimizer_spec: tuple[Any, dict[str, Any]]

    def begin_history(self) -> None:
        """Set what a tuner has before its first fit."""
        self.progress = Progress()
        self.history: list[dict[str, Any]] = []
        self.log: list[dict[str, Any]] = []
        self.metrics: dict[str, dict[str, float]] = {}
        self.warned_no_tuples = False
        self.loop: Loop | None = None  # during a fit
        self.loaded: SavedRun | None = None  # the run whose callbacks the next fit continues
        self.average: dict[str, Any] | None = None  # the average of the weights, between two fits
        self.trained: tuple[dict[str, Any], dict[str, Any]] | None = None  # trained weights, and those shown instead
        self.initial: Path | None = None  # the file with the weights before the training
        self.unblended: dict[str, Any] | None = None
        self.last_callbacks: tuple[list[dict[str, Any]], dict[str, Any]] = [], {}

    # What users and callbacks read.

    @property
    def model(self) -> Any:
        """The model as it was given, with the new pooler."""
        return self.encoder.model

    @property
    def embed_model(self) -> Any:
        """The model that returns embeddings."""
        return self.encoder.embed_model

    @property
    def optimizer(self) -> Any:
        """The optimizer of the model's weights; None if it has none to train."""
        return self.engine.optimizers.get("optimizer")

    @property
    def loss_optimizer(self) -> Any:
        """The optimizer of the loss's weights; None if it has none."""
        return self.engine.optimizers.get("loss_optimizer")

    @property
    def classes(self) -> list[Any]:
        """The names of the loss's classes, in the order of its centres."""
        return self.setup.classes

    @property
    def distance(self) -> str:
        """The distance of retrieval."""
        return self.encoder.distance

    @property
    def device(self) -> Any:
        """Where the model computes."""
        return self.encoder.framework.device

    @property
    def backend(self) -> str:
        """The name of the framework's subpackage."""
        return self.encoder.framework.name

    @property
    def epoch(self) -> int:
        """The number of finished epochs."""
        return self.progress.epoch

    @property
    def step(self) -> int:
        """The number of steps."""
        return self.progress.step

    def model_state(self) -> dict[str, Any]:
        """A copy of the model's weights on the host; of their average if there is one."""
        if self.loop is not None and self.loop.average is not None:
            return self.loop.average.state()
        return self.encoder.state()

    def loss_state(self) -> dict[str, Any]:
        """A copy of the loss's weights on the host."""
        return self.encoder.framework.state(self.loss)

    def use_weights(self, tensors: dict[str, Any]) -> None:
        """Give the model other weights. A training that is continued goes on from the present ones."""
        trained = self.encoder.state() if self.trained is None else self.trained[0]
        self.encoder.load_state(tensors)
        self.trained = trained, tensors

    def blend(self, share: float) -> None:
        """Move the model from the weights before its first fit to those after the last one, see ``Run.blend``."""
        if self.initial is None:
            raise ValueError("a model must be trained to be blended with what it was before, and this one is loaded")
        if self.unblended is None:
            self.unblended = self.encoder.state()
        trained = self.unblended
        initial = read_tensors(self.encoder.framework, self.initial)
        kept = self.trained
        self.encoder.load_state(trained)
        self.encoder.blend(initial, share)
        blended = self.encoder.state()
        self.trained = (trained if kept is None else kept[0]), blended

    # Parts of fit.

    def setup_loss(self, dataset: Dataset) -> None:
        """Create the weights of the loss and the optimizers that do not exist yet."""
        self.setup.create_weights(dataset, self.seed, lambda: self.engine.optimizers.pop("loss_optimizer", None))
        if self.optimizer is None:
            raise ValueError("the model must have weights to train, and has none or all of them are frozen")
        self.ensure_loss_optimizer()

    def ensure_loss_optimizer(self) -> None:
        """Create the optimizer of the loss's weights if there are weights and it does not exist yet.

        Raises:
            ValueError: If the user asked for one, and there are no weights.
        """
        if self.loss_optimizer is None:
            self.engine.make_optimizer("loss_optimizer", *self.loss_optimizer_spec)
        if self.loss_optimizer is None and self.config["loss_optimizer"] is not None:
            raise ValueError(
                "loss_optimizer must be used with a loss that has weights of its own, got "
                f"{self.config['loss_optimizer']!r} and {type(self.loss).__name__}"
            )

    def prepare_resume(self, resume: str | Path | None) -> None:
        """Load the run that a fit resumes, or the weights from which the last fit goes on."""
        if resume is not None:
            self.load(find_run(resume))
        if self.trained is not None:
            trained, shown = self.trained
            if same_tensors(self.encoder.state(), shown):  # else the user has set other weights
                self.encoder.load_state(trained)
            self.trained = None
        self.unblended = None

    def begin_fit(self, fit_config: dict[str, Any], resumed: bool) -> Progress:
        """The progress at the beginning of a fit; check that a fit in the middle of an epoch has the same batches.

        Raises:
            ValueError: If a resumed fit has other settings or data.
        """
        before = self.loaded.config.get("fit", {}) if self.loaded is not None else self.config.get("fit", {})
        if resumed or self.progress.batch:
            different = differing_settings(before, fit_config, FIT_SETTINGS)
            if different:
                raise ValueError(f"a fit that is resumed must have the same settings and data, and {'; '.join(different)}")
        if not resumed:
            self.progress.first_epoch, self.progress.first_step = self.progress.epoch, self.progress.step
        if self.initial is None:
            folder = tempfile.mkdtemp(prefix="finetuner-")
            weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
            self.initial = Path(folder) / "weights.safetensors"
            write_tensors(self.encoder.framework, self.initial, self.encoder.state())
        return self.progress

    def begin_average(self) -> WeightAverage | None:
        """The average of the weights, with the state of the last fit."""
        decay = self.engine.optimization.ema_decay
        return None if decay is None else WeightAverage(self.engine, decay, self.average)

    def end_fit(self, state: State, callbacks: Sequence[Callback]) -> None:
        """Keep what the next fit needs, and give the model the averaged weights."""
        if self.loop is None:
            return
        self.progress.take_over(state)
        average, self.warned_no_tuples = self.loop.average, self.loop.warned_no_tuples
        self.loop = None
        self.last_callbacks = save_callbacks(callbacks)
        if average is not None:
            self.average = average.state()
            if state.best_step is None:
                self.use_weights(self.average)

    # Files.

    def save(self, path: str | Path) -> Path:
        """Write the run into the new folder ``path``: enough to embed with, or to resume the training.

        ``weights.safetensors`` contains the model's weights, ``training.safetensors`` and ``training.json`` the state
        of optimizer and loss, and ``config.json``, ``history.json``, ``log.json`` and ``metrics.json`` the rest.

        Raises:
            FileExistsError: If ``path`` exists and is not empty. Nothing is written then.
            OSError: If the disk is full. Nothing is at ``path`` then.
        """
        framework, engine = self.encoder.framework, self.engine
        entries, callback_tensors = self.last_callbacks
        weights, trained, average = self.encoder.state(), self.trained[0] if self.trained else None, self.average
        if self.loop is not None:
            self.progress.take_over(self.loop.state)
            entries, callback_tensors = save_callbacks(self.loop.callbacks)
            if self.loop.average is not None:
                trained, average = weights, self.loop.average.state()
                weights = average
        tensors = {f"loss.{name}": value for name, value in framework.state(self.loss).items()} | callback_tensors
        for part, values in (("trained", trained), ("average", average)):
            tensors |= {f"{part}.{name}": value for name, value in (values or {}).items()}
        optimizers: dict[str, Any] = {}
        for kind in ("optimizer", "loss_optimizer"):
            optimizer = engine.optimizers.get(kind)
            slots, settings = ({}, {}) if optimizer is None else engine.optimizer_state(optimizer)
            tensors |= {f"{kind}.{name}": value for name, value in slots.items()}
            optimizers[kind] = None if optimizer is None else {"name": type(optimizer).__name__, **settings}
        training = {
            "progress": self.progress.state_dict(),
            "classes": self.classes,
            "loss_built_shape": getattr(self.loss, "built_shape", None),
            "scale": None if engine.scale is None else engine.scale.state_dict(),
            "schedule": engine.schedule_state(),
            "callbacks": entries,
            **optimizers,
        }
        run = SavedRun(weights, tensors, training, self.config, self.history, self.log, self.metrics)
        return write_run(path, framework, self.embed_model, run)

    def load(self, path: str | Path, weights_only: bool = False, keep_settings: bool = False) -> Self:
        """Load a run that :meth:`save` wrote. A resumed training gives the same weights as an uninterrupted one.

        The folder is checked before anything is changed.

        Args:
            path: The folder.
            weights_only: Whether to load the model's weights only, without history, optimizer and loss.
            keep_settings: Whether to continue with the settings of this tuner where those of the run differ.

        Raises:
            FileNotFoundError: If ``path`` is not the folder of a saved run.
            ValueError: If the run is of another framework or optimizer, has other settings, or its weights do not fit.
        """
        path, framework = Path(path), self.encoder.framework
        if weights_only:
            self.encoder.load(path)
            return self
        run = read_run(path, framework)
        different = differing_settings(run.config, self.config, SETTINGS)
        self.check_optimizer_name("optimizer", run.training, path)
        if different and not keep_settings:
            raise ValueError(
                f"the settings must be those of the run in {path}, and {'; '.join(different)}; "
                "load(..., keep_settings=True) continues with those of this tuner"
            )
        before = self.snapshot()
        try:
            self.take_over(run, path, bool(different))
        except Exception as error:
            self.restore(before)
            if isinstance(error, ValueError):
                raise
            raise ValueError(f"{path} must be a run of this model, loss and optimizer: {error!r}"[:300]) from error
        return self

    def take_over(self, run: SavedRun, path: Path, keep_settings: bool) -> None:
        """Set the state of a run."""
        training, engine = run.training, self.engine
        self.encoder.load_state(run.weights)
        if training["loss_built_shape"] is not None and isinstance(self.loss, WeightedLoss):
            in_features, num_classes = training["loss_built_shape"]
            self.loss.create_weights(in_features, num_classes, self.seed)
        self.ensure_loss_optimizer()
        self.check_optimizer_name("loss_optimizer", training, path)
        self.encoder.framework.load_state(self.loss, run.part("loss"))
        rates = engine.base_learning_rates()
        for kind, optimizer in engine.optimizers.items():
            engine.load_optimizer_state(optimizer, run.part(kind), training[kind])
        if keep_settings:
            engine.set_base_learning_rates(rates)
        if engine.scale is not None and training["scale"] is not None:
            engine.scale.load_state_dict(training["scale"])
        engine.load_schedule_state(training["schedule"])
        self.progress = Progress.from_state(training["progress"])
        self.history, self.log, self.metrics = run.history, run.log, run.metrics
        self.setup.classes[:] = training["classes"]
        trained, self.average = run.part("trained"), run.part("average") or None
        self.trained = (trained, run.weights) if trained else None
        self.loaded = run

    def snapshot(self) -> Any:
        """All that :meth:`take_over` changes."""
        framework = self.encoder.framework
        optimizers = {kind: self.engine.optimizer_state(one) for kind, one in self.engine.optimizers.items()}
        shape = getattr(self.loss, "built_shape", None)
        return self.encoder.state(), framework.state(self.loss), shape, optimizers

    def restore(self, snapshot: Any) -> None:
        """Undo :meth:`take_over`."""
        weights, loss_state, shape, optimizers = snapshot
        self.encoder.load_state(weights)
        if getattr(self.loss, "built_shape", None) != shape:
            self.loss.remove_weights()
            if shape is not None:
                self.loss.create_weights(*shape, self.seed)
        self.encoder.framework.load_state(self.loss, loss_state)
        for kind in list(self.engine.optimizers):
            if kind in optimizers:
                self.engine.load_optimizer_state(self.engine.optimizers[kind], *optimizers[kind])
            else:
                del self.engine.optimizers[kind]

    def check_optimizer_name(self, kind: str, training: dict[str, Any], path: Path) -> None:
        """Raise ``ValueError`` unless the tuner's optimizer of this kind has the class of the saved one."""
        saved, optimizer = (training[kind] or {}).get("name"), self.engine.optimizers.get(kind)
        name = None if optimizer is None else type(optimizer).__name__
        if saved != name:
            raise ValueError(f"the {kind} must be {saved} to resume from {path}, got {name}")


def same_tensors(first: dict[str, Any], second: dict[str, Any]) -> bool:
    """Whether two states have the same tensors, bit for bit but for NaN."""
    return first.keys() == second.keys() and all(bool((first[name] == second[name]).all()) for name in first)
