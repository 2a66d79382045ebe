"""Evaluators: from embeddings of a data set to its metrics. Each data set knows its own evaluator."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterable

import numpy as np

from .correlation import pearson, row_distance, spearman
from .ranking import check_relevance, grouped_ndcg
from .retrieval import DEFAULT_METRICS, check_metrics, retrieval_metrics

__all__ = [
    "Evaluator",
    "PairRetrievalEvaluator",
    "PairScoreEvaluator",
    "RankingEvaluator",
    "RetrievalEvaluator",
    "TripletEvaluator",
    "without_duplicates",
]


class Evaluator(ABC):
    """Interface of all evaluators.

    Attributes:
        names: The names of the metrics, in the order in which a call returns them.
    """

    names: tuple[str, ...]

    @abstractmethod
    def __call__(self, embeddings: np.ndarray, distance: str) -> dict[str, float]:
        """The metrics of embeddings ``[N, D]``, compared by ``distance``."""


class RetrievalEvaluator(Evaluator):
    """Retrieval metrics of items among themselves.

    Args:
        labels: ``[N]`` classes, or ``[N, 2]`` sessions and roles.
        metrics: Names of metrics, see :func:`~finetuner.evaluation.retrieval_metrics`.
        exclude_duplicates: Whether items with exactly the embedding of a query are left out of its search.

    Raises:
        ValueError: For an unknown metric.

    Example:
        >>> evaluator = RetrievalEvaluator(np.array([0, 0, 1, 1]), metrics=["hit@1"])
        >>> evaluator(np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]]), distance="cosine")
        {'hit@1': 1.0}
    """

    def __init__(self, labels: np.ndarray, metrics: Iterable[str] | None = None, exclude_duplicates: bool = False):
        self.labels, self.exclude_duplicates = labels, exclude_duplicates
        self.names = tuple(DEFAULT_METRICS if metrics is None else metrics)
        check_metrics(self.names)

    def __call__(self, embeddings: np.ndarray, distance: str) -> dict[str, float]:
        """The metrics of embeddings ``[N, D]``, compared by ``distance``."""
        return retrieval_metrics(
            embeddings,
            self.labels,
            metrics=self.names,
            distance=distance,
            exclude_duplicates=self.exclude_duplicates,
        )


class PairRetrievalEvaluator(RetrievalEvaluator):
    """Retrieval metrics of pairs: the first item of each pair is a query, the second items are searched.

    Pairs with the same number have the same second item. It is searched once, so that copies of it change no metric.

    Args:
        labels: ``[2 N]`` numbers of the pairs, of rows in the order first, second, first, ...
        metrics: Names of metrics, see :func:`~finetuner.evaluation.retrieval_metrics`.
        exclude_duplicates: Whether items with exactly the embedding of a query are left out of its search.

    Raises:
        ValueError: For an unknown metric.

    Example:
        >>> evaluator = PairRetrievalEvaluator(np.array([0, 0, 1, 1]), metrics=["hit@1"])
        >>> evaluator(np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]]), distance="cosine")
        {'hit@1': 1.0}
    """

    def __call__(self, embeddings: np.ndarray, distance: str) -> dict[str, float]:
        """The metrics of embeddings ``[2 N, D]``, compared by ``distance``."""
        (queries, index), (query_labels, index_labels) = ((x[0::2], x[1::2]) for x in (embeddings, self.labels))
        different = np.sort(np.unique(index_labels, return_index=True)[1])
        index, index_labels = index[different], index_labels[different]
        return retrieval_metrics(
            queries,
            query_labels,
            index,
            index_labels,
            metrics=self.names,
            distance=distance,
            exclude_duplicates=self.exclude_duplicates,
        )


def without_duplicates(evaluator: Evaluator) -> RetrievalEvaluator:
    """The same evaluator, but that items with exactly the embedding of a query are left out of its search.

    Args:
        evaluator: An evaluator that searches.

    Raises:
        ValueError: If it does not search.

    Example:
        >>> evaluator = without_duplicates(RetrievalEvaluator(np.array([0, 0, 1, 0]), metrics=["hit@1"]))
        >>> evaluator(np.array([[1.0, 0.0], [1.0, 0.0], [0.9, 0.1], [0.0, 1.0]]), distance="cosine")
        {'hit@1': 0.0}
    """
    if not isinstance(evaluator, RetrievalEvaluator):
        raise ValueError(
            "exclude_duplicates must be used with data that is searched (classes, sessions or pairs without scores), "
            f"got data that is measured by {', '.join(evaluator.names)}"
        )
    evaluator = copy.copy(evaluator)
    evaluator.exclude_duplicates = True
    return evaluator


class PairScoreEvaluator(Evaluator):
    """Spearman's and Pearson's correlation of the similarity of each pair with its score.

    Args:
        scores: ``[N]``, the score of each pair.

    Example:
        >>> evaluator = PairScoreEvaluator(np.array([1.0, 0.0]))
        >>> evaluator(np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), distance="cosine")["spearman"]
        1.0
    """

    names = ("spearman", "pearson")

    def __init__(self, scores: np.ndarray):
        self.scores = scores

    def __call__(self, embeddings: np.ndarray, distance: str) -> dict[str, float]:
        """The metrics of embeddings ``[2 N, D]`` in the order first, second, first, ..."""
        similarity = -row_distance(embeddings[0::2], embeddings[1::2], distance)
        return {"spearman": spearman(similarity, self.scores), "pearson": pearson(similarity, self.scores)}


class TripletEvaluator(Evaluator):
    """The share of triplets whose positive is closer to the anchor than the negative. Equal distances count one half.

    Example:
        >>> TripletEvaluator()(np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]]), distance="cosine")
        {'triplet_accuracy': 1.0}
    """

    names = ("triplet_accuracy",)

    def __call__(self, embeddings: np.ndarray, distance: str) -> dict[str, float]:
        """The metric of embeddings ``[3 N, D]`` in the order anchor, positive, negative, anchor, ..."""
        positive, negative = (row_distance(embeddings[0::3], embeddings[side::3], distance) for side in (1, 2))
        return {"triplet_accuracy": float(np.mean((positive < negative) + 0.5 * (positive == negative)))}


class RankingEvaluator(Evaluator):
    """nDCG of the order in which scores rank the answers of each query.

    Args:
        relevance: ``[N]``, the relevance of each item.
        groups: ``[N]`` integers, the query of each item.
        gain: ``"exponential"`` or ``"linear"``, see :func:`~finetuner.evaluation.grouped_ndcg`.

    Raises:
        ValueError: If the gain is unknown, or a relevance is negative or has no finite gain.

    Example:
        >>> evaluator = RankingEvaluator(np.array([1.0, 0.0]), np.array([0, 0]))
        >>> evaluator(np.array([[0.9], [0.1]]), distance="cosine")
        {'nDCG': 1.0}
    """

    names = ("nDCG",)

    def __init__(self, relevance: np.ndarray, groups: np.ndarray, gain: str = "exponential"):
        self.relevance, self.groups, self.gain = check_relevance(relevance, gain), groups, gain

    def __call__(self, embeddings: np.ndarray, distance: str) -> dict[str, float]:
        """The metric of scores ``[N, 1]``. The distance is not used."""
        return {"nDCG": grouped_ndcg(embeddings[:, 0], self.relevance, self.groups, self.gain)}
