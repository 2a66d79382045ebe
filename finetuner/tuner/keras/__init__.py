"""finetuner for Keras."""

from .losses import NTXentLoss, SiameseLoss, TripletLoss, TripletMarginLoss
from .miner import SiameseEasyHardMiner, TripletEasyHardMiner
from .poolers import GeM
from .tuner import KerasTuner

__all__ = [
    "GeM",
    "KerasTuner",
    "NTXentLoss",
    "SiameseEasyHardMiner",
    "SiameseLoss",
    "TripletEasyHardMiner",
    "TripletLoss",
    "TripletMarginLoss",
]

Tuner = KerasTuner
