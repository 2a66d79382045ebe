"""The tuner: what trains, embeds, saves and loads a model, whatever its framework."""

import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from . import checks
from .callbacks import Callback, ProgressBar
from .dataset import as_dataset
from .framework import Framework
from .loader import Batch, Batches
from .preparing import Preparing
from .registry import create, describe
from .run import Run
from .sampler import Sampler
from .sampling import chosen_sampler
from .saving import load, save
from .training import State, train
from .validation import Validation

__all__ = ["Tuner"]

Items = Callable[[Any], Any]


class Tuner(Preparing, Framework):
    """Trains an embedding model.

    Args:
        embed_model: the framework's model, from a batch of inputs to ``[N, D]``. Inputs that are a
            mapping are passed as keyword arguments where the model takes them so. For pairs it may be two models,
            one a side, or a model with two inputs that returns both embeddings.
        loss: a name, such as ``"TripletLoss"``, a class or an instance; of the framework's own losses, too, for a
            head that classifies, regresses or scores.
        optimizer: the name of an optimizer of the framework, a class, or an instance that already
            holds the model's weights.
        learning_rate: of the optimizer, above 0; an instance keeps its own.
        callbacks: a list of :class:`~finetuner.tuner.base.callbacks.Callback`; a progress bar by default.
        device: where to train, by the framework's name; ``"auto"`` takes an accelerator if there is one.
        seed: of batches, views and the framework's own random numbers (dropout), which each epoch seeds
            anew.
        loss_options: arguments of a loss given by name or class.
        miner: for the loss: a name, a class or an instance.
        miner_options: arguments of a miner given by name or class.
        optimizer_options: arguments of an optimizer given by name or class; ``learning_rate`` is understood by all.
        loss_optimizer: what trains a loss's own weights, such as ArcFace's centres: a name, a class, or an instance
            that already holds them; by default one of the model's kind and settings.
        loss_optimizer_options: arguments of it, which by default go on top of ``optimizer_options``.
        pooler: what is to replace the model's last pooling layer, of those that it holds in their order: a
            name, such as ``"GeM"``, a class or an instance. PyTorch's and Paddle's models are changed in
            place; Keras' functional ones are built anew of the same layers, as the run's ``model``.
        pooler_options: arguments of a pooler given by name or class.

    Raises:
        ValueError: for an unknown name, an option out of its range, or a pooler for a model without pooling.
        TypeError: for an unknown option, or a model of another framework.
    """

    def __init__(
        self,
        embed_model: Any,
        loss: Any = "TripletMarginLoss",
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
            embed_model = self.as_towers(*map(self.check_model, embed_model))
        self.embed_model = self.check_model(embed_model)
        self.learning_rate = checks.above("learning_rate", learning_rate, 0)
        self.seed = checks.whole("seed", seed, 0)
        self.callbacks = [ProgressBar()] if callbacks is None else list(callbacks)
        self.device = self.find_device(device)
        if miner is not None:
            miner = create("miner", miner, self.known_miners(), miner_options)
            loss_options = {**(loss_options or {}), "miner": miner}
        elif miner_options:
            raise ValueError(f"miner_options must go with a miner, got {dict(miner_options)} and no miner")
        self.loss = self.as_loss(create("loss", loss, self.known_losses(), loss_options))
        if (
            getattr(getattr(self.loss, "loss", self.loss), "reduction", None) == "none"
        ):  # the framework's own are inside
            raise ValueError("loss must give one number for a batch, got one with reduction='none'")
        if pooler is not None:
            pooler = create("pooler", pooler, self.known_poolers(), pooler_options)
            if isinstance(self.model, tuple | list):
                raise ValueError("pooler must go with one model; replace the pooling of each of a pair by itself")
            self.model = self.embed_model = self.replace_pooling(pooler)
        elif pooler_options:
            raise ValueError(f"pooler_options must go with a pooler, got {dict(pooler_options)} and no pooler")
        self.distance = getattr(self.loss, "distance", "cosine")  # that retrieval is judged by
        self.optimizer = self.find_optimizer(optimizer, dict(optimizer_options or {}))
        self.loss_optimizer: Any = None  # found when the loss has its weights
        self.loss_optimizer_asked = self.asked_of_loss(
            optimizer, optimizer_options, loss_optimizer, loss_optimizer_options
        )
        self.classes: list[Any] = []  # the names of a loss's classes, in the order of its centres
        self.preprocess_fn: Items | None = None
        self.collate_fn: Items | None = None
        self.micro_batch_size: int | None = None  # of rows, where a batch is more than the memory holds
        self.epoch = 0  # how many are done
        self.history: list[dict[str, Any]] = []
        self.metrics: dict[str, dict[str, float]] = {}
        self.warned_of_no_tuples = False
        self.config: dict[str, Any] = {
            "backend": self.backend,
            "versions": {"python": platform.python_version(), **self.versions()},
            "threads": self.threads(),  # the same bits come of the same number alone
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
        preprocess_fn: Items | None = None,
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
        """Train the model; called again, go on where it stopped.

        Args:
            train_data: a dataset of ours, ``(x, y)``, or the framework's own dataset of such pairs.
            eval_data: the same, for validation loss and retrieval metrics before and after each epoch;
                best of classes that are not trained on.
            preprocess_fn: turns an item into what the model takes a row of.
            collate_fn: turns a list of (preprocessed) items into the model's input, as a tokenizer does.
            epochs: how many to train, at least 1.
            batch_size: items a batch at the most; a pair or a triplet is one.
            micro_batch_size: rows of the model's input that are in memory at once, at least 1; None for the whole
                batch. A pair is two rows, or one where the model has two inputs, a triplet three, an item with views
                one a view. The loss sees the whole batch all the same, and the step is that of the whole batch, but
                takes two passes forward: see :mod:`~finetuner.tuner.base.caching`. Only layers that look at a batch
                as a whole see a micro-batch: batch norm takes its statistics, and updates the running ones once each.
                Dropout draws the same numbers in both passes, as does all that draws from the framework's generators.
            num_items_per_class: how many items of a class a batch holds, see
                :class:`~finetuner.tuner.base.sampler.ClassSampler`.
            sampler: ``"class"`` brings together what belongs together, ``"random"`` draws item by item, ``"auto"`` is
                what the loss needs: see :func:`~finetuner.tuner.base.sampling.chosen_sampler`; or an instance.
            num_workers: how many processes (of Keras: threads) prepare batches; 0 for this one.
            metrics: names of retrieval metrics, see :mod:`finetuner.evaluation`.

        Returns:
            The run: model (left in evaluation mode), history, metrics, and how to save it. Ctrl-C gives
            what there is by then.

        Raises:
            ValueError: if the data cannot be trained on, or an argument is out of its range; in the
                middle of a training if a loss or an input is not finite.
            TypeError: if the data is of no known kind, or the model returns no ``[N, D]``.
        """
        epochs = checks.whole("epochs", epochs, 1)
        num_workers = checks.whole("num_workers", num_workers, 0)
        if micro_batch_size is not None:
            micro_batch_size = checks.whole("micro_batch_size", micro_batch_size, 1)
        self.micro_batch_size = micro_batch_size
        self.preprocess_fn, self.collate_fn = preprocess_fn, collate_fn
        dataset = self.told_of(as_dataset(self.own_data(train_data), "train_data"))
        sampler = chosen_sampler(sampler, self.loss, dataset, batch_size, num_items_per_class, self.seed)
        if self.optimizer is None:
            raise ValueError("the model must have weights to train, and has none or all of them are frozen")
        self.prepare_loss(dataset)
        validate = None
        if eval_data is not None:
            judged = self.told_of(as_dataset(self.own_data(eval_data), "eval_data"), training=False)
            validate = Validation(self, judged, batch_size, metrics)
            self.config["eval_data"] = repr(validate.dataset)
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
                "metrics": list(validate.metrics) if validate else [],
            },
        }

        def loader(epoch: int) -> Iterable[Batch]:
            seed, two_sides = (self.seed, epoch), self.two_sides(dataset)
            batches = Batches(dataset, sampler.batches(), preprocess_fn, collate_fn, seed, self.form, two_sides)
            return self.load_batches(batches, num_workers)

        state = State(self, self.epoch + epochs, history=self.history)
        self.begin_training()
        try:
            train(state, self.callbacks, sampler, loader, validate)
        finally:
            self.end_training()
        if validate is not None:
            self.metrics = self.before_and_after(state, validate)
        return Run(self.model, self.history, self.metrics, self.config, state.interrupted, state.best_epoch, self)

    def before_and_after(self, state: State, validate: Validation) -> dict[str, dict[str, float]]:
        """The metrics of the model as it came, and as it is; fewer if Ctrl-C left no time for them."""
        names = validate.names
        rows = [{name: row[name] for name in names} for row in state.history if row.keys() >= set(names)]
        if not rows:
            return {}
        if state.best_epoch is None and not state.interrupted:
            return {"before": rows[0], "after": rows[-1]}
        try:
            return {"before": rows[0], "after": validate()}  # of weights that no row of the history is of
        except KeyboardInterrupt:
            return {"before": rows[0]}

    def save(self, path: str | Path) -> Path:
        """Write all that is needed to embed or to go on training into the new folder ``path``.

        ``weights.safetensors`` holds the model, ``training.safetensors`` and ``training.json`` the state of
        optimizer and loss, ``config.json``, ``history.json`` and ``metrics.json`` the rest.

        Raises:
            FileExistsError: if ``path`` exists and holds something; nothing is written then.
        """
        return save(self, path)

    def load(self, path: str | Path, weights_only: bool = False) -> "Tuner":
        """Take over what :meth:`save` wrote, to embed or to go on training as if never stopped.

        Args:
            path: the folder.
            weights_only: take the model's weights alone, not history, optimizer and loss.

        Raises:
            FileNotFoundError: if ``path`` is no folder of a saved run.
            ValueError: if the run is of another framework or optimizer, or its weights do not fit.
        """
        load(self, path, weights_only)
        return self
