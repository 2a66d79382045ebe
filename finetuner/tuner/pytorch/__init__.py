"""finetuner for PyTorch."""

from .losses import NTXentLoss, SiameseLoss, TripletLoss, TripletMarginLoss
from .miner import SiameseEasyHardMiner, TripletEasyHardMiner
from .poolers import GeM
from .tuner import PytorchTuner

__all__ = [
    "GeM",
    "NTXentLoss",
    "PytorchTuner",
    "SiameseEasyHardMiner",
    "SiameseLoss",
    "TripletEasyHardMiner",
    "TripletLoss",
    "TripletMarginLoss",
]

Tuner = PytorchTuner
