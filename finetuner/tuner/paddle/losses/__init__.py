"""The losses of :mod:`finetuner.tuner.base.losses`, for PaddlePaddle."""

from .batch import (
    LiftedStructureLoss,
    MultiSimilarityLoss,
    NTXentLoss,
    SiameseLoss,
    SupConLoss,
    SurrogatePrecision,
    TripletLoss,
    TripletMarginLoss,
)
from .heads import FocalLoss, LambdaRankLoss, ListNetLoss, RankNetLoss
from .interface import Loss
from .margins import ArcFaceLoss, ArcFaceLossWithMLP, CosFaceLoss, SphereFaceLoss
from .rows import CLIPLoss, ClipLoss, ContrastiveLoss, CosineSimilarityLoss, DistillationLoss

__all__ = [
    "ArcFaceLoss",
    "ArcFaceLossWithMLP",
    "CLIPLoss",
    "ClipLoss",
    "ContrastiveLoss",
    "CosFaceLoss",
    "CosineSimilarityLoss",
    "DistillationLoss",
    "FocalLoss",
    "LambdaRankLoss",
    "LiftedStructureLoss",
    "ListNetLoss",
    "Loss",
    "MultiSimilarityLoss",
    "NTXentLoss",
    "RankNetLoss",
    "SiameseLoss",
    "SphereFaceLoss",
    "SupConLoss",
    "SurrogatePrecision",
    "TripletLoss",
    "TripletMarginLoss",
]
