"""What all frameworks share: interfaces, formulas, hyper-parameters, checks, docs and the training loop."""

from .callbacks import BestModel, Callback, Checkpoint, EarlyStopping, ProgressBar
from .dataset import ClassDataset, Dataset, InstanceDataset, SessionDataset, as_dataset
from .losses import (
    Loss,
    MultiSimilarityLoss,
    NTXentLoss,
    SiameseLoss,
    SupConLoss,
    TripletLoss,
    TripletMarginLoss,
)
from .miner import Miner, SiameseEasyHardMiner, TripletEasyHardMiner
from .poolers import AveragePooling, CLSPooling, GeM, MaxPooling, Pooler
from .run import Run
from .sampler import ClassSampler, InstanceSampler, RandomSampler, Sampler, SessionSampler
from .tuner import Tuner

__all__ = [
    "AveragePooling",
    "BestModel",
    "CLSPooling",
    "Callback",
    "Checkpoint",
    "ClassDataset",
    "ClassSampler",
    "Dataset",
    "EarlyStopping",
    "GeM",
    "InstanceDataset",
    "InstanceSampler",
    "Loss",
    "MaxPooling",
    "Miner",
    "MultiSimilarityLoss",
    "NTXentLoss",
    "Pooler",
    "ProgressBar",
    "RandomSampler",
    "Run",
    "Sampler",
    "SessionDataset",
    "SessionSampler",
    "SiameseEasyHardMiner",
    "SiameseLoss",
    "SupConLoss",
    "TripletEasyHardMiner",
    "TripletLoss",
    "TripletMarginLoss",
    "Tuner",
    "as_dataset",
]
