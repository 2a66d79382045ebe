"""What a tuner trains: its weights, and all that a saved run keeps of them."""

import shutil
import tempfile
import warnings
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..data.datasets import Dataset
from .averaging import WeightAverage
from .callbacks import Callback
from .checkpoint import FIT_SETTINGS, SavedRun, differing_settings, save_callbacks
from .encoder import Encoder
from .encoder_files import read_tensors, write_tensors
from .engine import Engine
from .loop import Loop
from .lora import check_blend_base
from .loss_setup import LossSetup
from .state import Progress, State

__all__ = ["Training"]


class Training:
    """The state of a tuner between and during its fits.

    Args:
        encoder: The model with all that it needs to embed items.
        engine: The training step of the framework.
        setup: The loss, fitted to the data.
        seed: Of all random numbers.
        loss_optimizer: The optimizer of the loss's weights, which is created with them, and its options.
        config: The settings, as JSON can hold them.

    Attributes:
        progress: How far the training is.
        history: See ``Run``.
        log: See ``Run``.
        metrics: See ``Run``.
        loop: The loop of the present fit; None between two fits.
        loaded: The run whose callbacks the next fit continues.
        average: The average of the weights, between two fits.
        trained: The weights from which the next fit goes on, and those that the model has instead of them.
    """

    def __init__(
        self,
        encoder: Encoder,
        engine: Engine,
        setup: LossSetup,
        seed: int,
        loss_optimizer: tuple[Any, dict[str, Any]],
        config: dict[str, Any],
    ):
        self.encoder, self.engine, self.setup, self.seed = encoder, engine, setup, seed
        self.loss, self.loss_optimizer_spec, self.config = setup.loss, loss_optimizer, config
        self.progress = Progress()
        self.history: list[dict[str, Any]] = []
        self.log: list[dict[str, Any]] = []
        self.metrics: dict[str, dict[str, float]] = {}
        self.warned_no_tuples = False
        self.loop: Loop | None = None
        self.loaded: SavedRun | None = None
        self.average: dict[str, Any] | None = None
        self.trained: tuple[dict[str, Any], dict[str, Any]] | None = None
        self.initial: Path | None = None  # the file with the weights before the training
        self.saves_initial = False  # for a fit that ends with a blend
        self.unblended: dict[str, Any] | None = None
        self.last_callbacks: tuple[list[dict[str, Any]], dict[str, Any]] = [], {}

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
            raise ValueError(
                "the weights before the training must be known for a blend, and are not: the run was not trained here, "
                "or was resumed from one that was trained without blend"
            )
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

    def check_blend(self) -> None:
        """Raise ``ValueError`` before a training whose end cannot be blended with its beginning."""
        if self.initial is not None and self.encoder.framework.lora_of(self.encoder.embed_model) is not None:
            check_blend_base(read_tensors(self.encoder.framework, self.initial))

    def setup_loss(self, dataset: Dataset) -> None:
        """Create the weights of the loss and the optimizers that do not exist yet."""
        self.setup.create_weights(dataset, self.seed, lambda: self.engine.optimizers.pop("loss_optimizer", None))
        if "optimizer" not in self.engine.optimizers:
            raise ValueError("the model must have weights to train, and has none or all of them are frozen")
        self.ensure_loss_optimizer()

    def ensure_loss_optimizer(self) -> None:
        """Create the optimizer of the loss's weights if there are weights and it does not exist yet.

        Raises:
            ValueError: If the user asked for one, and there are no weights.
        """
        if "loss_optimizer" not in self.engine.optimizers:
            self.engine.make_optimizer("loss_optimizer", *self.loss_optimizer_spec)
        if "loss_optimizer" not in self.engine.optimizers and self.config["loss_optimizer"] is not None:
            raise ValueError(
                "loss_optimizer must be used with a loss that has weights of its own, got "
                f"{self.config['loss_optimizer']!r} and {type(self.loss).__name__}"
            )

    def continue_weights(self) -> None:
        """Give the model the weights from which the training goes on, if it has others."""
        if self.trained is not None:
            trained, shown = self.trained
            if same_tensors(self.encoder.state(), shown):  # else the user has set other weights
                self.encoder.load_state(trained)
            self.trained = None
        self.unblended = None

    def begin_fit(self, fit_config: dict[str, Any], resumed: bool) -> Progress:
        """The progress at the beginning of a fit.

        A fit after one that was interrupted goes on in the middle of its epoch. With other settings or data, the epoch
        is begun again, with a warning.

        Raises:
            ValueError: If a resumed fit has other settings or data.
        """
        before = self.loaded.config.get("fit", {}) if self.loaded is not None else self.config.get("fit", {})
        if resumed or self.progress.batch:
            different = differing_settings(before, fit_config, FIT_SETTINGS)
            if different and not resumed:
                warnings.warn(
                    f"epoch {self.progress.epoch + 1}, which was interrupted, is begun again: {'; '.join(different)}",
                    stacklevel=4,
                )
                self.progress.restart_epoch()
            elif different:
                raise ValueError(
                    f"a fit that is resumed must have the same settings and data, and {'; '.join(different)}"
                )
        if not resumed:
            self.progress.first_epoch, self.progress.first_step = self.progress.epoch, self.progress.step
            if self.initial is None:
                self.set_initial(self.encoder.state())
        return self.progress

    def set_initial(self, weights: dict[str, Any]) -> None:
        """Keep the weights before the training in a temporary file, for :meth:`blend`."""
        folder = tempfile.mkdtemp(prefix="finetuner-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self.initial = Path(folder) / "weights.safetensors"
        write_tensors(self.encoder.framework, self.initial, weights)

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


def same_tensors(first: dict[str, Any], second: dict[str, Any]) -> bool:
    """Whether two states have the same tensors, bit for bit but for NaN."""
    return first.keys() == second.keys() and all(bool((first[name] == second[name]).all()) for name in first)
