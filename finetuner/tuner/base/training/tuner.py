"""The tuner: trains, embeds, evaluates, saves and loads a model of any framework."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from .... import checks
from ....argument_names import explain_unknown_arguments
from ..data.batches import Batch, Batches, ItemFunction
from ..data.conversion import as_dataset
from ..data.frames import read_tables
from ..data.sampler_choice import choose_sampler
from ..registry import describe
from .callbacks import Callback, ProgressBar
from .checkpoint import find_run, load_callbacks
from .defaults import defaults_of
from .engine import Engine
from .facade import TunerFacade
from .framework import Framework
from .frozen_prefix import FrozenPrefix, check_cache_frozen
from .loop import Loop
from .loss_setup import LossSetup
from .model_source import is_source
from .opening import add_lora, as_encoder, check_trainable, open_source
from .optimization import Optimization
from .preparation import (
    callbacks_of_fit,
    create_loss,
    fingerprint,
    metrics_before_and_after,
    nested_loss,
    replay_folder,
    resolve_loss_optimizer,
    steps_of_fit,
)
from .run import Run
from .state import State
from .training_state import Training
from .triggers import Every
from .validation import create_validation

__all__ = ["Tuner"]


class Tuner(TunerFacade):
    """Trains an embedding model.

    Args:
        embed_model: The framework's model, from a batch of inputs to embeddings ``[N, D]``. Inputs that are a mapping
            are passed as keyword arguments if the model has such arguments. For pairs it may be a tuple of two models,
            one per side, or a model with two inputs that returns both embeddings.
        loss: A name, such as ``"TripletLoss"``, a class or an instance. It may be one of the framework's own losses,
            for a model that classifies, regresses or scores; or of another library, called with embeddings and classes.
            A mapping from losses to weights is their weighted sum: ``{"NTXentLoss": 1.0, "DistillationLoss": 0.5}``.
        optimizer: The name of an optimizer of the framework, a class, or an instance that has the model's weights.
            An optimizer given by name has the same defaults in all frameworks, those of PyTorch, and epsilon has the
            same place in the formula, except in Paddle's RMSProp and Adamax. Keras' Nadam is another algorithm than
            PyTorch's NAdam, and trains differently.
        learning_rate: Of the optimizer, above 0. An instance keeps its own. A mapping gives the rate of the weights
            whose names match a pattern, such as ``{"head": 1e-3, "": 1e-5}``: a pattern is a regular expression, and
            the first match counts. The weights of the loss are called ``loss.weight``.
        callbacks: A list of :class:`~finetuner.tuner.base.training.callbacks.Callback`. The default is a progress bar.
        device: Where to train, by the framework's name. ``"auto"`` uses an accelerator if there is one.
        seed: Seed of batches, views and the framework's random numbers, which are seeded again in each step.
        loss_options: Arguments of a loss given by name or class. For several losses: a mapping from their names to
            their arguments.
        dims: Sizes of the embeddings, such as ``(384, 128, 32)``, at most D. The loss is computed on as many first
            components for each size, and summed, so that these are good embeddings by themselves (Matryoshka), see
            :class:`~finetuner.tuner.base.losses.matryoshka.MatryoshkaLoss`. Include D, the size of the whole.
        dim_weights: The weight of each size in the sum, above 0. The default is 1 for each.
        miner: For the loss: a name, a class or an instance.
        miner_options: Arguments of a miner given by name or class.
        optimizer_options: Arguments of an optimizer by name or class, as documented there; ``learning_rate`` too.
        loss_optimizer: The optimizer of the loss's own weights, such as ArcFace's centres: a name, a class, or an
            instance that has them. The default has the class and settings of the model's optimizer.
        loss_optimizer_options: Arguments of it. Without ``loss_optimizer`` they extend ``optimizer_options``.
        schedule: How the learning rate changes: ``"constant"``, ``"linear"``, ``"cosine"``, ``"cosine_with_restarts"``,
            ``"polynomial"``, ``"warmup_stable_decay"``, or a function from a step to a factor, see
            :class:`~finetuner.tuner.base.training.schedules.Schedule`. Or the framework's own scheduler of an optimizer
            instance: its ``step`` is called after each step.
        schedule_options: Arguments of a schedule given by name, such as ``{"cycles": 3}``.
        warmup: The number of steps in which the learning rate rises, or as a float below 1 their share of all steps.
        weight_decay: Decoupled weight decay of an optimizer given by name or class, as in AdamW. Biases, norms and
            other vectors do not decay. The default is 0.01 for AdamW, and none for others.
        clip_norm: The largest norm of the gradient of all weights. A longer gradient is shortened to it. Infinity
            for no limit.
        layer_decay: Multiplies the learning rate once per layer from the output to the input, such as 0.9.
        freeze: Patterns of the weights that are not trained, or a mapping from patterns to the number of epochs after
            which they are. In PyTorch and Paddle, layers whose weights are all frozen are in evaluation mode.
        ema_decay: The decay of an exponential moving average of the weights, such as 0.999. The average is evaluated,
            and it is what the trained model has.
        precision: ``"fp32"``, ``"bf16"``, ``"fp16"`` or ``"auto"`` (bfloat16 on an accelerator that has it): the
            precision of the model in a training step. Weights, loss and evaluation have float32.
        compile: Whether to compile the model, for PyTorch and Paddle. Keras compiles by itself.
        pooler: Replaces the model's global pooling: a name, such as ``"GeM"``, a class or an instance. PyTorch and
            Paddle models are changed in place. Keras models are rebuilt from the same layers; the result is the run's
            ``model``.
        pooler_options: Arguments of a pooler given by name or class.
        lora: The rank of LoRA for a PyTorch model, such as 8; or the arguments of ``peft.LoraConfig`` as a mapping; or
            a ``LoraConfig``. Small matrices are added to layers of the model and are trained, with new heads and
            poolers, and its own weights are not. An integer r stands for ``{"r": r, "lora_alpha": 2 * r}``. The default
            layers are those that peft names for the architecture, else all linear layers. A saved run has what is
            trained, and names the base.
        processes: ``"auto"``: the processes that a launcher such as torchrun has started train one model together, see
            :mod:`~finetuner.tuner.base.processes`. False: this process trains by itself.

    Attributes:
        encoder: The model with all that it needs to embed items.
        engine: The training step of the framework.
        training: What is trained, and all that a saved run keeps of it.

    Raises:
        ValueError: For an unknown name, an option out of its range, a pattern that matches no weight, a precision that
            the framework lacks, or a pooler for a model without a pooling layer.
        TypeError: For an unknown option, or a model of another framework.
    """

    framework_class: ClassVar[type[Framework]]
    engine_class: ClassVar[type[Engine]]
    prefix_line = ""  # what a fit with cache_frozen has computed, in words

    @explain_unknown_arguments
    def __init__(
        self,
        embed_model: Any,
        loss: Any = None,
        optimizer: Any = None,
        learning_rate: float | Mapping[str, float | None] | None = None,
        callbacks: Sequence[Callback] | None = None,
        device: str = "auto",
        seed: int = 0,
        *,
        loss_options: Mapping[str, Any] | None = None,
        dims: Sequence[int] | None = None,
        dim_weights: Sequence[float] | None = None,
        miner: Any = None,
        miner_options: Mapping[str, Any] | None = None,
        optimizer_options: Mapping[str, Any] | None = None,
        loss_optimizer: Any = None,
        loss_optimizer_options: Mapping[str, Any] | None = None,
        schedule: Any = None,
        schedule_options: Mapping[str, Any] | None = None,
        warmup: float | None = None,
        weight_decay: float | None = None,
        clip_norm: float | None = None,
        layer_decay: float | None = None,
        freeze: Any = None,
        ema_decay: float | None = None,
        precision: str = "fp32",
        compile: bool = False,
        pooler: Any = None,
        pooler_options: Mapping[str, Any] | None = None,
        lora: Any = None,
        processes: str | bool = "auto",
    ):
        framework = self.framework_class(device)
        if is_source(embed_model):
            embed_model = open_source(embed_model, framework=framework, pooler=pooler, pooler_options=pooler_options)
            pooler = pooler_options = None
        check_trainable(embed_model)
        self.defaults = defaults_of(embed_model, lora is not None)
        chosen = self.defaults.fill(
            loss=loss, loss_options=loss_options, optimizer=optimizer, learning_rate=learning_rate, schedule=schedule,
            warmup=warmup, clip_norm=clip_norm,
        )  # fmt: skip
        self.chosen, loss, loss_options, optimizer = chosen, chosen["loss"], chosen["loss_options"], chosen["optimizer"]
        self.seed = checks.integer("seed", seed, 0)
        self.callbacks = [ProgressBar()] if callbacks is None else list(callbacks)
        optimization = Optimization(
            chosen["learning_rate"],
            chosen["schedule"],
            schedule_options,
            chosen["warmup"],
            weight_decay,
            layer_decay,
            chosen["clip_norm"],
            freeze,
            ema_decay,
        )
        self.loss = create_loss(framework, loss, loss_options, miner, miner_options)
        self.loss = nested_loss(framework, self.loss, dims, dim_weights)
        distance = getattr(self.loss, "distance", None)
        self.encoder = as_encoder(
            embed_model, framework, distance if isinstance(distance, str) else "cosine", pooler, pooler_options
        )
        weights = add_lora(self.encoder, embed_model, lora, self.seed, optimizer)
        self.defaults = self.defaults.with_title(weights.text if weights else None)
        setup = LossSetup(self.loss, self.encoder)
        self.engine = self.engine_class(
            framework, self.encoder.embed_model, self.loss, optimization, precision, checks.boolean("compile", compile)
        )
        self.engine.join_processes(processes)
        self.engine.make_optimizer("optimizer", optimizer, dict(optimizer_options or {}))
        spec = resolve_loss_optimizer(self.engine, optimizer, optimizer_options, loss_optimizer, loss_optimizer_options)
        config = {
            **self.encoder.config(),
            "seed": self.seed,
            "loss": describe(self.loss),
            "optimizer": describe(optimizer),
            "optimizer_options": describe(dict(optimizer_options or {})),
            "loss_optimizer": describe(loss_optimizer),
            "loss_optimizer_options": describe(dict(loss_optimizer_options or {})),
            **optimization.describe(),
            "precision": self.engine.precision,
            "lora": weights and dict(weights.asked),
            "callbacks": [type(callback).__name__ for callback in self.callbacks],
            "processes": self.engine.processes.count,
        }
        self.training = Training(self.encoder, self.engine, setup, self.seed, spec, config)

    @property
    def defaults_line(self) -> str:
        """What was chosen for this kind of model, in words; empty for a model of the user."""
        return self.defaults.line(self.chosen)

    @explain_unknown_arguments
    def fit(
        self,
        train_data: Any,
        eval_data: Any = None,
        preprocess_fn: ItemFunction | None = None,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        *,
        input_column: str | Sequence[str] | None = None,
        label_column: str | None = None,
        score_column: str | None = None,
        epochs: int | None = None,
        max_steps: int | None = None,
        batch_size: int | None = None,
        micro_batch_size: int | None = None,
        gradient_accumulation_steps: int = 1,
        length_groups: int | None = None,
        cache_frozen: bool | str | Path = False,
        num_items_per_class: int | None = None,
        keep_all: bool = False,
        sampler: Any = "auto",
        num_workers: int = 0,
        metrics: Iterable[str] | None = None,
        evaluate_every: Any = "1 epoch",
        log_every: Any = 50,
        checkpoint_folder: str | Path | None = None,
        checkpoint_every: Any = None,
        resume: str | Path | None = None,
        blend: float | None = None,
    ) -> Run:
        """Train the model. A second call continues the training.

        Args:
            train_data: A dataset, ``(x, y)``, or the framework's own dataset of such pairs.
            eval_data: The same kinds of data, for the validation loss and the metrics before training and after each
                epoch. Classes that are not in the training data are the best test. A pair of datasets is a pair of
                queries and gallery. A mapping has several evaluation sets, whose metrics are called ``name/hit@1``.
            preprocess_fn: A function from an item to a row of the model's input.
            collate_fn: A function from a list of (preprocessed) items to the model's input, such as a tokenizer.
            input_column: The column with the items of a ``datasets.Dataset`` or a frame, see :func:`finetuner.fit`.
            label_column: The column with the classes. The default is ``label``.
            score_column: The column with the similarity of each pair.
            epochs: The number of epochs to train, at least 1.
            max_steps: The number of steps after which the training ends, at least 1; None for no limit. A step is an
                update of the weights.
            batch_size: The maximal number of items in a batch. A pair or a triplet is one item.
            micro_batch_size: The rows of the model's input that are in memory at once, at least 1; None for the whole
                batch. A pair is two rows, or one if the model has two inputs; a triplet is three; an item with views is
                one row per view. The loss still compares the whole batch, and the step is that of the whole batch, at
                the cost of a second forward pass: see :mod:`~finetuner.tuner.base.training.micro_batches`. Batch norm
                computes its statistics, and updates the running ones once, per micro-batch. Dropout draws the same
                numbers in both passes.
            gradient_accumulation_steps: The number of batches whose mean gradient is one step. The loss compares items
                within a batch, so a larger ``batch_size`` with ``micro_batch_size`` is usually better.
            length_groups: The number of groups of similar length that a batch is split into, so that less of it is
                padding. The loss still compares the whole batch. Without effect on items of one length.
            cache_frozen: Whether to run the layers at the input that are never trained once, and to begin each step
                after them, with the same losses and weights, see
                :class:`~finetuner.tuner.base.training.frozen_prefix.FrozenPrefix`. A folder has the outputs in a file.
            num_items_per_class: How many items of a class a batch contains, see
                :class:`~finetuner.tuner.base.data.samplers.ClassSampler`.
            keep_all: Whether each item occurs at least once in an epoch. Otherwise large classes are cut, and a warning
                says if more than 5 % of the items are left out.
            sampler: ``"class"`` puts items that belong together into one batch, ``"random"`` draws items
                independently, ``"auto"`` uses what the loss needs, see
                :func:`~finetuner.tuner.base.data.sampler_choice.choose_sampler`. Or an instance, or any iterable over
                the batches of an epoch, each a list of indices.
            num_workers: The number of processes (Keras: threads) that prepare batches; 0 for the main process.
            metrics: Names of metrics, see :func:`~finetuner.evaluation.retrieval_metrics`.
            evaluate_every: When to evaluate: an :class:`~finetuner.Every`, a number of steps, or a text such as
                ``"2 epochs"``. The end of the training is always evaluated.
            log_every: When to add a row to the log, in the same forms. The end of an epoch always has one.
            checkpoint_folder: A folder for checkpoints, see :class:`~finetuner.Checkpoint`.
            checkpoint_every: When to save one, in the same forms. The default is each epoch.
            resume: The folder of a run that was interrupted, or of its checkpoints. The training goes on from there as
                if it had not been interrupted, to the end that ``epochs`` and ``max_steps`` say.
            blend: Moves the trained model towards what it was before, see
                :meth:`~finetuner.tuner.base.training.run.Run.blend`; None to leave it as it is.

        Returns:
            The run, with the model in evaluation mode, history and metrics. Ctrl-C, SIGTERM and SIGHUP end the training
            after the current step and return what was trained so far.

        Raises:
            ValueError: If the data does not fit the loss, or an argument is out of its range; during training, if a
                loss, a gradient or an input is not finite.
            TypeError: If the data is of an unknown kind, or the model does not return ``[N, D]``.
        """
        train_data, eval_data = read_tables(train_data, eval_data, input_column, label_column, score_column)
        groups = self.engine.length_groups if length_groups is None else length_groups
        chosen = self.defaults.fill(epochs=epochs, batch_size=batch_size, length_groups=groups)
        epochs, batch_size = checks.integer("epochs", chosen["epochs"], 1), chosen["batch_size"]
        self.chosen = self.chosen | chosen
        max_steps = None if max_steps is None else checks.integer("max_steps", max_steps, 1)
        num_workers = checks.integer("num_workers", num_workers, 0)
        accumulate = checks.integer("gradient_accumulation_steps", gradient_accumulation_steps, 1)
        length_groups = checks.integer("length_groups", chosen["length_groups"], 1)
        cache_frozen = check_cache_frozen(cache_frozen)
        evaluate_every, log_every = Every.of(evaluate_every, "evaluate_every"), Every.of(log_every, "log_every")
        size = None if micro_batch_size is None else checks.integer("micro_batch_size", micro_batch_size, 1)
        if blend is not None and not 0 <= checks.number("blend", blend) <= 1:
            raise ValueError(f"blend must be from 0 to 1, got {blend}")
        self.engine.micro_batch_size, self.prefix_line, prefix = size, "", None
        self.encoder.use_functions(preprocess_fn, collate_fn)
        encoder, framework, processes = self.encoder, self.encoder.framework, self.engine.processes
        training, setup = self.training, self.training.setup
        dataset = as_dataset(framework.convert_dataset(train_data), "train_data")
        self.encoder.check_items(dataset)
        dataset = setup.dataset_for_loss(dataset)
        sampler = choose_sampler(sampler, self.loss, dataset, batch_size, num_items_per_class, self.seed, keep_all)
        callbacks = callbacks_of_fit(self.callbacks, checkpoint_folder, checkpoint_every)
        training.setup_loss(dataset)
        if resume is not None:
            self.load(find_run(resume))
        training.continue_weights()
        sampler.set_epoch(training.progress.epoch)
        fit_config = {
            "epochs": epochs,
            "max_steps": max_steps,
            "batch_size": getattr(sampler, "batch_size", None),
            "micro_batch_size": micro_batch_size,
            "gradient_accumulation_steps": accumulate,
            "length_groups": length_groups,
            "cache_frozen": cache_frozen if isinstance(cache_frozen, bool) else str(cache_frozen),
            "num_items_per_class": getattr(sampler, "num_items_per_class", None),
            "keep_all": keep_all,
            "sampler": type(sampler).__name__,
            "batches": len(sampler),
            "labels": fingerprint(dataset),
            "num_workers": num_workers,
            "preprocess_fn": describe(self.encoder.preprocess_fn),
            "collate_fn": describe(self.encoder.collate_fn),
            "evaluate_every": str(evaluate_every),
        }
        progress = training.begin_fit(fit_config, resume is not None)
        training.saves_initial = blend is not None
        if blend is not None:
            training.check_blend()
        self.encoder.forget_origin()
        validation, description = None, None
        if eval_data is not None:
            validation, description = create_validation(eval_data, setup, self.engine, self.seed, batch_size, metrics)
        fit_config["metrics"] = list(validation.metrics) if validation else []
        training.config |= {"train_data": repr(dataset), "loss": describe(self.loss), "fit": fit_config}
        training.config |= {} if eval_data is None else {"eval_data": description}

        functions, pairs = (encoder.preprocess_fn, encoder.collate_fn), encoder.uses_pair_inputs(dataset)
        batches = Batches(dataset, [], *functions, None, setup.target_type, pairs, length_groups, processes=processes)

        def loader(epoch: int, start: int) -> Iterable[Batch]:
            batches.begin_epoch(sampler.batches(), (self.seed, epoch), start)
            return framework.load_batches(batches, 0 if prefix else num_workers)

        last_step = None if max_steps is None else progress.first_step + max_steps
        state = State(self, progress.first_epoch + epochs, last_step, history=training.history, log=training.log)
        state.continued = training.loaded is not None or progress.batch > 0
        factor: Any = self.engine.optimization.plan(steps_of_fit(len(sampler), accumulate, epochs, max_steps))
        factor = factor if self.engine.optimization.sets_rates else None
        self.engine.begin_training()
        try:
            if cache_frozen:
                prefix = FrozenPrefix(training, dataset, cache_frozen, num_workers)
                batches, self.prefix_line = prefix.begin(length_groups), prefix.line
            loop = training.loop = Loop(
                *(state, progress, callbacks, sampler, loader, validation, factor, training.begin_average()),
                *(accumulate, evaluate_every, log_every, replay_folder(callbacks), training.warned_no_tuples),
            )
            if training.loaded is not None:
                load_callbacks(callbacks, training.loaded)
                training.loaded = None
            signal = loop.run()
        finally:
            batches.loader = None  # ends the workers
            training.end_fit(state, callbacks)
            if prefix is not None:
                prefix.end()
            self.engine.end_training()
        if blend is not None and not state.interrupted:
            training.blend(blend)
        if validation is not None:
            changed = state.best_step is not None or blend is not None
            training.metrics = metrics_before_and_after(state, validation, changed)
        model, history, metrics, config = self.model, training.history, training.metrics, training.config
        best, interrupted = state.best_epoch, state.interrupted
        return Run(model, history, metrics, config, interrupted, best, training.log, signal, self)
