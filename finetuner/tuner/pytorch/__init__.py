"""finetuner for PyTorch."""

from .losses import (
    ArcFaceLoss,
    ArcFaceLossWithMLP,
    CLIPLoss,
    ClipLoss,
    ContrastiveLoss,
    CosFaceLoss,
    CosineSimilarityLoss,
    DistillationLoss,
    FocalLoss,
    LambdaRankLoss,
    LiftedStructureLoss,
    ListNetLoss,
    MultiSimilarityLoss,
    NTXentLoss,
    RankNetLoss,
    SiameseLoss,
    SphereFaceLoss,
    SupConLoss,
    SurrogatePrecision,
    TripletLoss,
    TripletMarginLoss,
)
from .miner import SiameseEasyHardMiner, TripletEasyHardMiner
from .poolers import AveragePooling, CLSPooling, GeM, MaxPooling
from .tuner import PytorchTuner

__all__ = [
    "ArcFaceLoss",
    "ArcFaceLossWithMLP",
    "AveragePooling",
    "CLIPLoss",
    "CLSPooling",
    "ClipLoss",
    "ContrastiveLoss",
    "CosFaceLoss",
    "CosineSimilarityLoss",
    "DistillationLoss",
    "FocalLoss",
    "GeM",
    "LambdaRankLoss",
    "LiftedStructureLoss",
    "ListNetLoss",
    "MaxPooling",
    "MultiSimilarityLoss",
    "NTXentLoss",
    "PytorchTuner",
    "RankNetLoss",
    "SiameseEasyHardMiner",
    "SiameseLoss",
    "SphereFaceLoss",
    "SupConLoss",
    "SurrogatePrecision",
    "TripletEasyHardMiner",
    "TripletLoss",
    "TripletMarginLoss",
]

Tuner = PytorchTuner
