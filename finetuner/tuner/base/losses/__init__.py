"""Every loss before it meets a tensor: its formula, its hyper-parameters, their checks and its docs.

A backend adds ``compute``, which turns a batch into a number. ``batch`` holds the losses that see who belongs to
whom, ``margins`` those that have a centre for each class, ``rows`` those of explicit pairs, and ``heads`` those of
scores and logits.
"""

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
