"""finetuner for Keras."""

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
from .poolers import GeM
from .tuner import KerasTuner

__all__ = [
    "GeM",
    "KerasLoss",
    "KerasTuner",
    "MultiSimilarityLoss",
    "NTXentLoss",
    "SiameseEasyHardMiner",
    "SiameseLoss",
    "SupConLoss",
    "TripletEasyHardMiner",
    "TripletLoss",
    "TripletMarginLoss",
]

Tuner = KerasTuner
