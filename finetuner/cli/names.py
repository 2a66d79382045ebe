"""Names that options take, for the help and for completion in a shell.

They are written out, as importing what they name would make ``--help`` and completion slow.
``tests/test_cli_completion.py`` compares them with the library.
"""

from collections.abc import Callable, Iterable, Mapping

__all__ = [
    "ADAPTERS",
    "BACKENDS",
    "DISTANCES",
    "EXPORT_FORMATS",
    "DTYPES",
    "LOSSES",
    "METRICS",
    "MINERS",
    "OPTIMIZERS",
    "POOLERS",
    "PRECISIONS",
    "SAMPLERS",
    "SCHEDULES",
    "TRACKERS",
    "complete",
]

LOSSES = (
    *("ArcFaceLoss", "ArcFaceLossWithMLP", "CLIPLoss", "ContrastiveLoss", "CosFaceLoss", "CosineSimilarityLoss"),
    *("DistillationLoss", "FocalLoss", "LambdaRankLoss", "LiftedStructureLoss", "ListNetLoss", "MultiSimilarityLoss"),
    *("NTXentLoss", "RankNetLoss", "SiameseLoss", "SphereFaceLoss", "SupConLoss", "SurrogatePrecision", "TripletLoss"),
)
MINERS = ("TripletEasyHardMiner", "SiameseEasyHardMiner")
ADAPTERS = ("linear", "mlp")
POOLERS = ("GeM", "AveragePooling", "MaxPooling", "CLSPooling")
OPTIMIZERS = {  # and the frameworks that have them
    "Adam": "PyTorch, Keras, PaddlePaddle",
    "AdamW": "PyTorch, Keras, PaddlePaddle",
    "SGD": "PyTorch, Keras, PaddlePaddle",
    "Adadelta": "PyTorch, Keras, PaddlePaddle",
    "Adafactor": "PyTorch, Keras",
    "Adagrad": "PyTorch, Keras, PaddlePaddle",
    "Adamax": "PyTorch, Keras, PaddlePaddle",
    "ASGD": "PyTorch, PaddlePaddle",
    "Ftrl": "Keras",
    "Lamb": "Keras, PaddlePaddle",
    "Lion": "Keras",
    "Momentum": "PaddlePaddle",
    "Muon": "PyTorch, Keras",
    "NAdam": "PyTorch, PaddlePaddle",
    "Nadam": "Keras",
    "RAdam": "PyTorch, PaddlePaddle",
    "RMSprop": "PyTorch, Keras",
    "RMSProp": "PaddlePaddle",
    "Rprop": "PyTorch, PaddlePaddle",
    "ScheduleFreeAdamW": "Keras",
}
SCHEDULES = ("constant", "linear", "cosine", "cosine_with_restarts", "polynomial", "warmup_stable_decay")
TRACKERS = ("csv", "tensorboard", "mlflow", "wandb")
METRICS = ("hit@1", "hit@10", "mAP@R", "R-precision", "precision@10", "recall@10", "mAP", "mAP@10", "MRR@10", "nDCG@10")
DISTANCES = ("cosine", "euclidean", "sqeuclidean")
DTYPES = ("float32", "int8", "uint8", "binary", "ubinary")
PRECISIONS = ("fp32", "bf16", "fp16", "auto")
SAMPLERS = ("auto", "class", "random")
EXPORT_FORMATS = ("onnx", "sentence-transformers", "torch-export", "saved-model", "litert", "paddle-inference")
BACKENDS = ("pytorch", "keras", "paddle")


def complete(names: Iterable[str]) -> Callable[[str], list[tuple[str, str]]]:
    """A function that completes the beginning of a name, for ``autocompletion`` of Typer.

    Args:
        names: The names; a mapping has a description of each.

    Example:
        >>> complete(LOSSES)("Trip")
        [('TripletLoss', '')]
    """
    described = names if isinstance(names, Mapping) else dict.fromkeys(names, "")

    def completed(incomplete: str) -> list[tuple[str, str]]:
        return [(name, text) for name, text in described.items() if name.startswith(incomplete)]

    return completed
