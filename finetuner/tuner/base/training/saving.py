"""From a training to the folder of a run, and back."""

from pathlib import Path
from typing import Any

import numpy as np

from .checkpoint import (
    SETTINGS,
    SavedRun,
    decode_class_names,
    differing_settings,
    encode_class_names,
    read_run,
    save_callbacks,
    write_run,
)
from .encoder_files import read_tensors
from .state import Progress
from .training_state import Training

__all__ = ["load_run", "save_run"]


def save_run(training: Training, path: str | Path) -> Path:
    """Write a run into the new folder ``path``. See ``Tuner.save``."""
    framework, engine = training.encoder.framework, training.engine
    entries, callback_tensors = training.last_callbacks
    weights, trained, average = (
        training.encoder.state(),
        training.trained[0] if training.trained else None,
        training.average,
    )
    if training.loop is not None:
        training.progress.take_over(training.loop.state)
        entries, callback_tensors = save_callbacks(training.loop.callbacks)
        if training.loop.average is not None:
            trained, average = weights, training.loop.average.state()
            weights = average
    tensors = {f"loss.{name}": value for name, value in framework.state(training.loss).items()} | callback_tensors
    initial = None
    if training.saves_initial and training.initial is not None:
        initial = read_tensors(framework, training.initial)
    for part, values in (("trained", trained), ("average", average), ("initial", initial)):
        tensors |= {f"{part}.{name}": value for name, value in (values or {}).items()}
    optimizers: dict[str, Any] = {}
    for kind in ("optimizer", "loss_optimizer"):
        optimizer = engine.optimizers.get(kind)
        slots, settings = ({}, {}) if optimizer is None else engine.optimizer_state(optimizer)
        tensors |= {f"{kind}.{name}": value for name, value in slots.items()}
        optimizers[kind] = None if optimizer is None else {"name": class_name(optimizer), **settings}
    plain = {
        "progress": training.progress.state_dict(),
        "classes": encode_class_names(training.setup.classes),
        "loss_built_shape": getattr(training.loss, "built_shape", None),
        "scale": None if engine.scale is None else engine.scale.state_dict(),
        "schedule": engine.schedule_state(),
        "callbacks": entries,
        **optimizers,
    }
    run = SavedRun(weights, tensors, plain, training.config, training.history, training.log, training.metrics)
    return write_run(path, framework, training.encoder.embed_model, training.encoder.source, run)


def load_run(training: Training, path: str | Path, weights_only: bool, keep_settings: bool) -> None:
    """Load a run that :func:`save_run` wrote. See ``Tuner.load``."""
    path, framework = Path(path), training.encoder.framework
    if weights_only:
        training.encoder.load(path)
        return
    run = read_run(path, framework)
    different = differing_settings(run.config, training.config, SETTINGS)
    check_optimizer_name(training, "optimizer", run.training, path)
    if different and not keep_settings:
        raise ValueError(
            f"the settings must be those of the run in {path}, and {'; '.join(different)}; "
            "load(..., keep_settings=True) continues with those of this tuner"
        )
    if training.encoder.source is not None:
        training.encoder.source.check_folder(path)
    before = snapshot(training)
    try:
        take_over(training, run, path, bool(different))
    except Exception as error:
        restore(training, before)
        if isinstance(error, ValueError):
            line = str(error).strip().partition("\n")[0]
            raise ValueError(line if str(path) in line else f"{path} cannot be resumed: {line}") from error
        raise ValueError(f"{path} must be a run of this model, loss and optimizer: {error!r}"[:300]) from error


def take_over(training: Training, run: SavedRun, path: Path, keep_settings: bool) -> None:
    """Set the state of a run."""
    saved, engine = run.training, training.engine
    training.encoder.load_state(run.weights)
    if saved["loss_built_shape"] is not None and hasattr(training.loss, "create_weights"):
        in_features, num_classes = saved["loss_built_shape"]
        if in_features * num_classes > sum(int(np.prod(one.shape)) for one in run.part("loss").values()):
            raise ValueError(f"{path} must have the weights of {num_classes} classes, and has fewer numbers")
        training.loss.create_weights(in_features, num_classes, training.seed)
    training.ensure_loss_optimizer()
    check_optimizer_name(training, "loss_optimizer", saved, path)
    training.encoder.framework.load_state(training.loss, run.part("loss"))
    rates = engine.base_learning_rates()
    for kind, optimizer in engine.optimizers.items():
        engine.load_optimizer_state(optimizer, run.part(kind), saved[kind])
    if keep_settings:
        engine.set_base_learning_rates(rates)
    if engine.scale is not None and saved["scale"] is not None:
        engine.scale.load_state_dict(saved["scale"])
    engine.load_schedule_state(saved["schedule"])
    training.progress = Progress.from_state(saved["progress"])
    training.history, training.log, training.metrics = run.history, run.log, run.metrics
    training.setup.classes[:] = decode_class_names(saved["classes"])
    trained, training.average = run.part("trained"), run.part("average") or None
    if training.average is not None:
        engine.average_from_state(training.average)  # raises if a weight is missing
    training.trained = (trained, run.weights) if trained else None
    if initial := run.part("initial"):
        training.set_initial(initial)
    training.loaded = run


def snapshot(training: Training) -> Any:
    """All that :meth:`take_over` changes."""
    framework = training.encoder.framework
    optimizers = {kind: training.engine.optimizer_state(one) for kind, one in training.engine.optimizers.items()}
    shape = getattr(training.loss, "built_shape", None)
    return training.encoder.state(), framework.state(training.loss), shape, optimizers, training.engine.schedule_state()


def restore(training: Training, before: Any) -> None:
    """Undo :meth:`take_over`."""
    weights, loss_state, shape, optimizers, schedule = before
    training.engine.load_schedule_state(schedule)
    training.encoder.load_state(weights)
    if getattr(training.loss, "built_shape", None) != shape:
        training.loss.remove_weights()
        if shape is not None:
            training.loss.create_weights(*shape, training.seed)
    training.encoder.framework.load_state(training.loss, loss_state)
    for kind in list(training.engine.optimizers):
        if kind in optimizers:
            training.engine.load_optimizer_state(training.engine.optimizers[kind], *optimizers[kind])
        else:
            del training.engine.optimizers[kind]


def check_optimizer_name(training: Training, kind: str, saved_state: dict[str, Any], path: Path) -> None:
    """Raise ``ValueError`` unless the tuner's optimizer of this kind has the class of the saved one."""
    saved, optimizer = (saved_state[kind] or {}).get("name"), training.engine.optimizers.get(kind)
    name = None if optimizer is None else class_name(optimizer)
    if saved != name:
        raise ValueError(f"the {kind} must be {saved} to resume from {path}, got {name}")


def class_name(optimizer: Any) -> str:
    """The name of the class of an optimizer, or of the optimizers of several groups of weights."""
    return getattr(optimizer, "class_name", type(optimizer).__name__)
