"""finetuner for PaddlePaddle."""

from . import loading  # noqa: F401  (first, since it is what imports Paddle)
from .losses import (
    MultiSimilarityLoss,
    NTXentLoss,
    SiameseLoss,
    SupConLoss,
    TripletLoss,
    TripletMarginLoss,
)
from .miner import SiameseEasyHardMiner, TripletEasyHardMiner
from .poolers import AveragePooling, CLSPooling, GeM, MaxPooling
from .tuner import PaddleTuner

__all__ = [
    "AveragePooling",
    "CLSPooling",
    "GeM",
    "MaxPooling",
    "MultiSimilarityLoss",
    "NTXentLoss",
    "PaddleTuner",
    "SiameseEasyHardMiner",
    "SiameseLoss",
    "SupConLoss",
    "TripletEasyHardMiner",
    "TripletLoss",
    "TripletMarginLoss",
]

Tuner = PaddleTuner
