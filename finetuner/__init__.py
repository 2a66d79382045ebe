"""Turn any PyTorch, Keras 3 or PaddlePaddle model into a good embedding model, by metric learning.

Importing this loads no framework: what a name needs is imported when it is first asked for.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import embed, evaluate, fit
    from .tuner.base import (
        ClassDataset,
        InstanceDataset,
        PairDataset,
        RankingDataset,
        SessionDataset,
        TargetDataset,
        TripletDataset,
    )

__version__ = "0.1.0"

_HOME = {
    "fit": "finetuner.api",
    "embed": "finetuner.api",
    "evaluate": "finetuner.api",
    "ClassDataset": "finetuner.tuner.base",
    "InstanceDataset": "finetuner.tuner.base",
    "PairDataset": "finetuner.tuner.base",
    "RankingDataset": "finetuner.tuner.base",
    "SessionDataset": "finetuner.tuner.base",
    "TargetDataset": "finetuner.tuner.base",
    "TripletDataset": "finetuner.tuner.base",
}

__all__ = [
    "ClassDataset",
    "InstanceDataset",
    "PairDataset",
    "RankingDataset",
    "SessionDataset",
    "TargetDataset",
    "TripletDataset",
    "__version__",
    "embed",
    "evaluate",
    "fit",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
