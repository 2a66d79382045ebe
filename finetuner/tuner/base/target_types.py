"""What a loss needs to know about each item. Losses name one of these types, and datasets list those they provide."""

__all__ = ["TARGET_TYPES"]

# Type -> the end of "TripletLoss needs ...".
TARGET_TYPES = {
    "relations": "items that belong together (ClassDataset, InstanceDataset, SessionDataset, TripletDataset, or "
    "PairDataset without scores)",
    "classes": "the class of each item (ClassDataset)",
    "pairs": "pairs that belong together (PairDataset without scores)",
    "scores": "a score for each pair (PairDataset with scores)",
    "vectors": "a vector for each item (TargetDataset)",
    "relevance": "the relevance of each item to a query (RankingDataset)",
    "values": "a number, a vector or a class for each item (TargetDataset, ClassDataset or RankingDataset)",
}
