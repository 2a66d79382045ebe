"""Turn any PyTorch, Keras 3 or PaddlePaddle model into a good embedding model, by metric learning.

Importing this module loads no framework. Each name is imported when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import embed, evaluate, fit, load
    from .models import load_model
    from .tuner.base import (
        BestModel,
        Callback,
        Checkpoint,
        ClassDataset,
        ClassSampler,
        Dataset,
        EarlyStopping,
        Encoder,
        Every,
        GroupSampler,
        InstanceDataset,
        InstanceSampler,
        PairDataset,
        ProgressBar,
        RandomSampler,
        RankingDataset,
        Run,
        Sampler,
        SessionDataset,
        SessionSampler,
        TargetDataset,
        TripletDataset,
    )

__version__ = "0.1.0"

__all__ = [
    "BestModel",
    "Callback",
    "Checkpoint",
    "ClassDataset",
    "ClassSampler",
    "Dataset",
    "EarlyStopping",
    "Encoder",
    "Every",
    "GroupSampler",
    "InstanceDataset",
    "InstanceSampler",
    "PairDataset",
    "ProgressBar",
    "RandomSampler",
    "RankingDataset",
    "Run",
    "Sampler",
    "SessionDataset",
    "SessionSampler",
    "TargetDataset",
    "TripletDataset",
    "__version__",
    "embed",
    "evaluate",
    "fit",
    "load",
    "load_model",
]

HOMES = {**dict.fromkeys(("embed", "evaluate", "fit", "load"), "finetuner.api"), "load_model": "finetuner.models"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(HOMES.get(name, "finetuner.tuner.base")), name)


def __dir__() -> list[str]:
    return sorted(__all__)
