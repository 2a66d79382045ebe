"""The tuner: trains, embeds, evaluates, saves and loads a model of any framework."""

import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from .... import checks
from ..data.batches import Batch, Batches, ItemFunction
from ..data.conversion import as_dataset
from ..data.sampler_choice import choose_sampler
from ..data.samplers import Sampler
from ..registry import create, describe
from .callbacks import Callback, ProgressBar
from .checkpoint import load, save
from .loop import train
from .loss_setup import LossSetup
from .run import Run
from .state import State
from .validation import Validation

__all__ = ["Tuner"]


class Tuner(LossSetup):
    """Trains an embedding model.

    Args:
        embed_model: The framework's model, from a batch of inputs to embeddings ``[N, D]``. Inputs that are a mapping
            are passed as keyword arguments if the model has such arguments. For pairs it may be a tuple of two models,
            one per side, or a model with two inputs that returns both embeddings.
        loss: A name, such as ``"TripletLoss"``, a class or an instance. It may be one of the framework's own losses,
            for a model that classifies, regresses or scores.
        optimizer: The name of an optimizer of the framework, a class, or an instance that has the model's weights.
        learning_rate: Of the optimizer, above 0. An instance keeps its own.
        callbacks: A list of :class:`~finetuner.tuner.base.training.callbacks.Callback`. The default is a progress bar.
        device: Where to train, by the framework's name. ``"auto"`` uses an accelerator if there is one.
        seed: Seed of batches, views and the framework's random numbers, which are seeded again in each epoch.
        loss_options: Arguments of a loss given by name or class.
        miner: For the loss: a name, a class or an instance.
        miner_options: Arguments of a miner given by name or class.
        optimizer_options: Arguments of an optimizer given by name or class. All optimizers accept ``learning_rate``.
        loss_optimizer: The optimizer of the loss's own weights, such as ArcFace's centres: a name, a class, or an
            instance that has them. The default has the class and settings of the model's optimizer.
        loss_optimizer_options: Arguments of it. Without ``loss_optimizer`` they extend ``optimizer_options``.
        pooler: Replaces the model's last pooling layer: a name, such as ``"GeM"``, a class or an instance. PyTorch and
            Paddle models are changed in place. Keras models are rebuilt from the same layers; the result is the run's
            ``model``.
        pooler_options: Arguments of a pooler given by name or class.

    Raises:
        ValueError: For an unknown name, an option out of its range, or a pooler for a model without a pooling layer.
        TypeError: For an unknown option, or a model of another framework.
    """

    def __init__(
        self,
        embed_model: Any,
        loss: Any = "TripletLoss",
        optimizer: Any = "Adam",
        learning_rate: float = 1e-3,
        callbacks: Sequence[Callback] | None = None,
        device: str = "auto",
        seed: int = 0,
        *,
        loss_options: Mapping[str, Any] | None = None,
        miner: Any = None,
        miner_options: Mapping[str, Any] | None = None,
        optimizer_options: Mapping[str, Any] | None = None,
        loss_optimizer: Any = None,
        loss_optimizer_options: Mapping[str, Any] | None = None,
        pooler: Any = None,
        pooler_options: Mapping[str, Any] | None = None,
    ):
        self.model = embed_model
        if isinstance(embed_model, tuple | list):
            if len(embed_model) != 2:
                raise TypeError(f"embed_model must be a model or a pair of models, got {len(embed_model)}")
            embed_model = self.combine_towers(*map(self.check_model, embed_model))
        self.embed_model = self.check_model(embed_model)
        self.learning_rate = checks.above("learning_rate", learning_rate, 0)
        self.seed = checks.integer("seed", seed, 0)
        self.callbacks = [ProgressBar()] if callbacks is None else list(callbacks)
        self.device = self.resolve_device(device)
        if miner is not None:
            miner = create("miner", miner, self.miner_registry(), miner_options)
            loss_options = {**(loss_options or {}), "miner": miner}
        elif miner_options:
            raise ValueError(f"miner_options must be used with a miner, got {dict(miner_options)} and no miner")
        self.loss = self.wrap_native_loss(create("loss", loss, self.loss_registry(), loss_options))
        inner_loss = getattr(self.loss, "loss", self.loss)  # one of the framework's own is wrapped
        if getattr(inner_loss, "reduction", None) == "none":
            raise ValueError("loss must give one number for a batch, got one with reduction='none'")
        if pooler is not None:
            pooler = create("pooler", pooler, self.pooler_registry(), pooler_options)
            if isinstance(self.model, tuple | list):
                raise ValueError("pooler must be used with one model; replace the pooling of each of a pair by itself")
            self.model = self.embed_model = self.replace_pooling(pooler)
        elif pooler_options:
            raise ValueError(f"pooler_options must be used with a pooler, got {dict(pooler_options)} and no pooler")
        self.distance = getattr(self.loss, "distance", "cosine")
        self.optimizer = self.make_optimizer(optimizer, dict(optimizer_options or {}))
        self.loss_optimizer = None  # created with the loss's weights
        self.loss_optimizer_spec = self.resolve_loss_optimizer(
            optimizer, optimizer_options, loss_optimizer, loss_optimizer_options
        )
        self.classes = []
        self.preprocess_fn = self.collate_fn = None
        self.micro_batch_size: int | None = None
        self.epoch = 0
        self.history = []
        self.metrics = {}
        self.warned_no_tuples = False
        self.config = {
            "backend": self.backend,
            "versions": {"python": platform.python_version(), **self.versions()},
            "threads": self.num_threads(),  # only the same number gives the same bits
            "device": str(self.device),
            "seed": self.seed,
            "model": f"{type(embed_model).__module__}:{type(embed_model).__qualname__}",
            "loss": describe(self.loss),
            "optimizer": describe(optimizer),
            "optimizer_options": describe(dict(optimizer_options or {})),
            "loss_optimizer": describe(loss_optimizer),
            "loss_optimizer_options": describe(dict(loss_optimizer_options or {})),
            "learning_rate": learning_rate,
            "pooler": describe(pooler),
            "callbacks": [type(callback).__name__ for callback in self.callbacks],
        }

    def fit(
        self,
        train_data: Any,
        eval_data: Any = None,
        preprocess_fn: ItemFunction | None = None,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        *,
        epochs: int = 10,
        batch_size: int = 256,
        micro_batch_size: int | None = None,
        num_items_per_class: int | None = None,
        sampler: str | Sampler = "auto",
        num_workers: int = 0,
        metrics: Iterable[str] | None = None,
    ) -> Run:
        """Train the model. A second call continues the training.

        Args:
            train_data: A dataset, ``(x, y)``, or the framework's own dataset of such pairs.
            eval_data: The same kinds of data, for the validation loss and the metrics before training and after each
                epoch. Classes that are not in the training data are the best test.
            preprocess_fn: A function from an item to a row of the model's input.
            collate_fn: A function from a list of (preprocessed) items to the model's input, such as a tokenizer.
            epochs: The number of epochs to train, at least 1.
            batch_size: The maximal number of items in a batch. A pair or a triplet is one item.
            micro_batch_size: The rows of the model's input that are in memory at once, at least 1; None for the whole
                batch. A pair is two rows, or one if the model has two inputs; a triplet is three; an item with views is
                one row per view. The loss still compares the whole batch, and the step is that of the whole batch, at
                the cost of a second forward pass: see :mod:`~finetuner.tuner.base.training.micro_batches`. Batch norm
                computes its statistics, and updates the running ones once, per micro-batch. Dropout draws the same
                numbers in both passes.
            num_items_per_class: How many items of a class a batch contains, see
                :class:`~finetuner.tuner.base.data.samplers.ClassSampler`.
            sampler: ``"class"`` puts items that belong together into one batch, ``"random"`` draws items
                independently, ``"auto"`` uses what the loss needs, see
                :func:`~finetuner.tuner.base.data.sampler_choice.choose_sampler`. Or an instance.
            num_workers: The number of processes (Keras: threads) that prepare batches; 0 for the main process.
            metrics: Names of metrics, see :func:`~finetuner.evaluation.retrieval_metrics`.

        Returns:
            The run, with the model in evaluation mode, history and metrics. Ctrl-C ends the training and returns what
            was trained so far.

        Raises:
            ValueError: If the data does not fit the loss, or an argument is out of its range; during training, if a
                loss or an input is not finite.
            TypeError: If the data is of an unknown kind, or the model does not return ``[N, D]``.
        """
        epochs = checks.integer("epochs", epochs, 1)
        num_workers = checks.integer("num_workers", num_workers, 0)
        if micro_batch_size is not None:
            micro_batch_size = checks.integer("micro_batch_size", micro_batch_size, 1)
        self.micro_batch_size = micro_batch_size
        self.preprocess_fn, self.collate_fn = preprocess_fn, collate_fn
        dataset = self.dataset_for_loss(as_dataset(self.convert_dataset(train_data), "train_data"))
        sampler = choose_sampler(sampler, self.loss, dataset, batch_size, num_items_per_class, self.seed)
        if self.optimizer is None:
            raise ValueError("the model must have weights to train, and has none or all of them are frozen")
        self.setup_loss(dataset)
        validation = None
        if eval_data is not None:
            eval_dataset = as_dataset(self.convert_dataset(eval_data), "eval_data")
            validation = Validation(self, self.dataset_for_loss(eval_dataset, training=False), batch_size, metrics)
            self.config["eval_data"] = repr(validation.dataset)
        self.config |= {
            "train_data": repr(dataset),
            "loss": describe(self.loss),
            "fit": {
                "epochs": epochs,
                "batch_size": getattr(sampler, "batch_size", None),
                "micro_batch_size": micro_batch_size,
                "num_items_per_class": getattr(sampler, "num_items_per_class", None),
                "sampler": type(sampler).__name__,
                "num_workers": num_workers,
                "preprocess_fn": describe(preprocess_fn),
                "collate_fn": describe(collate_fn),
                "metrics": list(validation.metrics) if validation else [],
            },
        }

        def loader(epoch: int) -> Iterable[Batch]:
            seed, pair_inputs = (self.seed, epoch), self.uses_pair_inputs(dataset)
            plan = sampler.batches()
            batches = Batches(dataset, plan, preprocess_fn, collate_fn, seed, self.target_type, pair_inputs)
            return self.load_batches(batches, num_workers)

        state = State(self, self.epoch + epochs, history=self.history)
        self.begin_training()
        try:
            train(state, self.callbacks, sampler, loader, validation)
        finally:
            self.end_training()
        if validation is not None:
            self.metrics = metrics_before_and_after(state, validation)
        return Run(self.model, self.history, self.metrics, self.config, state.interrupted, state.best_epoch, self)

    def save(self, path: str | Path) -> Path:
        """Write the run into the new folder ``path``: enough to embed with, or to resume the training.

        ``weights.safetensors`` contains the model's weights, ``training.safetensors`` and ``training.json`` the state
        of optimizer and loss, and ``config.json``, ``history.json`` and ``metrics.json`` the rest.

        Raises:
            FileExistsError: If ``path`` exists and is not empty. Nothing is written then.
        """
        return save(self, path)

    def load(self, path: str | Path, weights_only: bool = False) -> Self:
        """Load a run that :meth:`save` wrote. A resumed training gives the same weights as an uninterrupted one.

        Args:
            path: The folder.
            weights_only: Whether to load the model's weights only, without history, optimizer and loss.

        Raises:
            FileNotFoundError: If ``path`` is not the folder of a saved run.
            ValueError: If the run is of another framework or optimizer, or its weights do not fit.
        """
        load(self, path, weights_only)
        return self


def metrics_before_and_after(state: State, validation: Validation) -> dict[str, dict[str, float]]:
    """The metrics before and after the training; fewer if Ctrl-C left no time for them."""
    names = validation.names
    rows = [{name: row[name] for name in names} for row in state.history if row.keys() >= set(names)]
    if not rows:
        return {}
    if state.best_epoch is None and not state.interrupted:
        return {"before": rows[0], "after": rows[-1]}
    try:
        return {"before": rows[0], "after": validation()}  # the history has no row of these weights
    except KeyboardInterrupt:
        return {"before": rows[0]}
