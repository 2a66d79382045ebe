"""finetuner for PyTorch."""

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
from .tuner import PytorchTuner

__all__ = [
    "AveragePooling",
    "CLSPooling",
    "GeM",
    "MaxPooling",
    "MultiSimilarityLoss",
    "NTXentLoss",
    "PytorchTuner",
    "SiameseEasyHardMiner",
    "SiameseLoss",
    "SupConLoss",
    "TripletEasyHardMiner",
    "TripletLoss",
    "TripletMarginLoss",
]

Tuner = PytorchTuner
