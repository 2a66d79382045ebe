"""finetuner for Keras."""

from .data import Sampled
from .interop import KerasLoss
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
from .tuner import KerasTuner

__all__ = [
    "AveragePooling",
    "CLSPooling",
    "GeM",
    "KerasLoss",
    "KerasTuner",
    "MaxPooling",
    "MultiSimilarityLoss",
    "NTXentLoss",
    "Sampled",
    "SiameseEasyHardMiner",
    "SiameseLoss",
    "SupConLoss",
    "TripletEasyHardMiner",
    "TripletLoss",
    "TripletMarginLoss",
]

Tuner = KerasTuner
