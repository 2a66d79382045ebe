"""What all frameworks share: interfaces, formulas, hyper-parameters, checks, docs and the training loop."""

from .callbacks import BestModel, Callback, Checkpoint, EarlyStopping, ProgressBar
from .dataset import ClassDataset, Dataset, InstanceDataset, SessionDataset, as_dataset
from .losses import (
    ArcFaceLoss,
    ArcFaceLossWithMLP,
    CLIPLoss,
    ClipLoss,
    ContrastiveLoss,
    CosFaceLoss,
    CosineSimilarityLoss,
    DistillationLoss,
    FocalLoss,
    LambdaRankLoss,
    ListNetLoss,
    Loss,
    MultiSimilarityLoss,
    NTXentLoss,
    RankNetLoss,
    SiameseLoss,
    SphereFaceLoss,
    SupConLoss,
    SurrogatePrecision,
    TripletLoss,
    TripletMarginLoss,
)
from .miner import Miner, SiameseEasyHardMiner, TripletEasyHardMiner
from .poolers import AveragePooling, CLSPooling, GeM, MaxPooling, Pooler
from .run import Run
from .sampler import ClassSampler, InstanceSampler, RandomSampler, Sampler, SessionSampler
from .sampling import GroupSampler
from .targets import RankingDataset, TargetDataset
from .tuner import Tuner
from .tuples import PairDataset, TripletDataset

__all__ = [
    "ArcFaceLoss",
    "ArcFaceLossWithMLP",
    "AveragePooling",
    "BestModel",
    "CLIPLoss",
    "CLSPooling",
    "Callback",
    "Checkpoint",
    "ClassDataset",
    "ClassSampler",
    "ClipLoss",
    "ContrastiveLoss",
    "CosFaceLoss",
    "CosineSimilarityLoss",
    "Dataset",
    "DistillationLoss",
    "EarlyStopping",
    "FocalLoss",
    "GeM",
    "GroupSampler",
    "InstanceDataset",
    "InstanceSampler",
    "LambdaRankLoss",
    "ListNetLoss",
    "Loss",
    "MaxPooling",
    "Miner",
    "MultiSimilarityLoss",
    "NTXentLoss",
    "PairDataset",
    "Pooler",
    "ProgressBar",
    "RandomSampler",
    "RankNetLoss",
    "RankingDataset",
    "Run",
    "Sampler",
    "SessionDataset",
    "SessionSampler",
    "SiameseEasyHardMiner",
    "SiameseLoss",
    "SphereFaceLoss",
    "SupConLoss",
    "SurrogatePrecision",
    "TargetDataset",
    "TripletDataset",
    "TripletEasyHardMiner",
    "TripletLoss",
    "TripletMarginLoss",
    "Tuner",
    "as_dataset",
]
