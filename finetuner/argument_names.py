"""Names that other libraries give to arguments of ours, for the message about an unknown argument."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from . import checks

__all__ = ["explain_unknown_arguments"]

F = TypeVar("F", bound=Callable[..., Any])

# The name elsewhere -> what to write here.
OTHER_NAMES = {
    "scheduler": "schedule='linear'",
    "lr_scheduler": "schedule='linear'",
    "lr_scheduler_type": "schedule='linear'",
    "warmup_steps": "warmup=100 (steps) or warmup=0.1 (a share)",
    "warmup_ratio": "warmup=0.1",
    "num_warmup_steps": "warmup=100",
    "max_grad_norm": "clip_norm=1.0",
    "gradient_clip_val": "clip_norm=1.0",
    "clipnorm": "clip_norm=1.0",
    "global_clipnorm": "clip_norm=1.0",
    "lr": "learning_rate",
    "num_train_epochs": "epochs",
    "num_epochs": "epochs",
    "max_epochs": "epochs",
    "per_device_train_batch_size": "batch_size",
    "train_batch_size": "batch_size",
    "mini_batch_size": "micro_batch_size",
    "eval_steps": "evaluate_every=500",
    "evaluation_steps": "evaluate_every=500",
    "eval_strategy": "evaluate_every='1 epoch'",
    "save_steps": "checkpoint_every=500",
    "save_strategy": "checkpoint_every='1 epoch'",
    "save_total_limit": "callbacks=[Checkpoint(folder, keep=2)]",
    "output_dir": "run.save(folder), and checkpoint_folder for checkpoints",
    "logging_steps": "log_every=50",
    "report_to": "callbacks=[TensorBoard(folder)]",
    "evaluator": "eval_data",
    "eval_dataset": "eval_data",
    "valid_data": "eval_data",
    "validation_data": "eval_data",
    "train_dataset": "train_data",
    "train_objectives": "train_data and loss",
    "fp16": "precision='fp16'",
    "bf16": "precision='bf16'",
    "use_amp": "precision='bf16'",
    "mixed_precision": "precision='bf16'",
    "torch_compile": "compile=True",
    "accumulate_grad_batches": "gradient_accumulation_steps=4",
    "resume_from_checkpoint": "resume=folder",
    "ckpt_path": "resume=folder",
    "dataloader_num_workers": "num_workers",
    "workers": "num_workers",
    "group_by_length": "length_groups=4",
    "max_length": "a collate_fn that truncates: collate_fn=lambda texts: tokenizer(texts, max_length=64, ...)",
    "max_seq_length": "a collate_fn that truncates: collate_fn=lambda texts: tokenizer(texts, max_length=64, ...)",
    "tokenizer": "collate_fn=lambda texts: tokenizer(texts, padding=True, ...)",
    "collator": "collate_fn",
    "data_collator": "collate_fn",
    "loss_fn": "loss",
    "criterion": "loss",
    "use_ema": "ema_decay=0.999",
    "patience": "callbacks=[EarlyStopping(patience=3)]",
    "verbose": "callbacks=[] for no output",
    "random_state": "seed",
}


def explain_unknown_arguments(function: F) -> F:
    """Decorate a function: an unknown argument is answered with the name that it has here.

    Example:
        >>> @explain_unknown_arguments
        ... def fit(model, clip_norm=None): ...
        >>> fit("model", max_grad_norm=1.0)
        Traceback (most recent call last):
            ...
        TypeError: fit has no argument 'max_grad_norm'; write clip_norm=1.0
    """
    names = [name for name in inspect.signature(function).parameters if name != "self"]

    @functools.wraps(function)
    def wrapped(*args: Any, **options: Any) -> Any:
        for name in options.keys() - set(names):
            known = OTHER_NAMES.get(name)
            hint = f"write {known}" if known else checks.closest_match(name, names)
            raise TypeError(f"{function.__qualname__.removesuffix('.__init__')} has no argument {name!r}; {hint}")
        return function(*args, **options)

    return wrapped  # type: ignore[return-value]
