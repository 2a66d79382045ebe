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
from .poolers import GeM
from .tuner import PytorchTuner

__all__ = [
    "GeM",
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
