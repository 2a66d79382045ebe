"""finetuner for PaddlePaddle."""

from . import loading  # noqa: F401  (first, since it is what imports Paddle)
from .losses import NTXentLoss, SiameseLoss, TripletLoss, TripletMarginLoss
from .miner import SiameseEasyHardMiner, TripletEasyHardMiner
from .poolers import GeM
from .tuner import PaddleTuner

__all__ = [
    "GeM",
    "NTXentLoss",
    "PaddleTuner",
    "SiameseEasyHardMiner",
    "SiameseLoss",
    "TripletEasyHardMiner",
    "TripletLoss",
    "TripletMarginLoss",
]

Tuner = PaddleTuner
