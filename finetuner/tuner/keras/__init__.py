"""finetuner for Keras."""

from .interop import KerasLoss
from .losses import NTXentLoss, SiameseLoss, TripletLoss, TripletMarginLoss
from .miner import SiameseEasyHardMiner, TripletEasyHardMiner
from .poolers import GeM
from .tuner import KerasTuner

__all__ = [
    "GeM",
    "KerasLoss",
    "KerasTuner",
    "NTXentLoss",
    "SiameseEasyHardMiner",
    "SiameseLoss",
    "TripletEasyHardMiner",
    "TripletLoss",
    "TripletMarginLoss",
]

Tuner = KerasTuner
