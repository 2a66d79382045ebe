"""What held-out data says of a model after each epoch: the loss, and how well it finds, orders or scores."""

import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from .dataset import ClassDataset, Dataset, SessionDataset
from .sampler import ClassSampler, RandomSampler, SessionSampler
from .targets import RankingDataset
from .tuples import PairDataset, TripletDataset

if TYPE_CHECKING:
    from .tuner import Tuner

__all__ = ["Validation"]


class Validation:
    """Validation loss and metrics of held-out data, from one pass of the model over it.

    The loss is the mean over batches that are drawn once, so that epochs can be compared; there is none where the
    loss knows nothing of the data, as a loss of trained classes of others. The metrics are those of retrieval where
    items have classes, sessions or views, and of pairs without a score, whose second is looked for by the first; of
    pairs with a score Spearman's and Pearson's correlation of it with the similarity; of triplets the share that is
    in order; of answers to queries nDCG.

    Raises:
        ValueError: if nothing in the data belongs together, or metrics of retrieval are asked where there are none.
    """

    def __init__(self, tuner: "Tuner", dataset: Dataset, batch_size: int, metrics: Iterable[str] | None):
        from ... import evaluation

        self.tuner, self.dataset, self.batch_size = tuner, dataset, batch_size
        self.rows = np.repeat(np.arange(dataset.num_rows), dataset.views)
        self.retrieves = "relations" in dataset.gives and not isinstance(dataset, TripletDataset)
        if metrics is not None and not self.retrieves:
            raise ValueError(f"metrics must go with data in which something can be retrieved, got {dataset!r}")
        self.metrics = tuple(evaluation.DEFAULT_METRICS if metrics is None else metrics)
        if self.retrieves:
            evaluation.check_metrics(self.metrics)
        else:
            self.metrics = self.other_metrics()
        self.plan: list[np.ndarray] = []
        form = getattr(tuner.loss, "takes", "relations")
        if form in dataset.gives:
            try:
                self.plan = self.batches(form)
            except ValueError as error:
                raise ValueError(f"eval_data: {error}") from None

    @property
    def names(self) -> tuple[str, ...]:
        """What a call tells."""
        return ("val_loss", *self.metrics) if self.plan else self.metrics

    def batches(self, form: str) -> list[np.ndarray]:
        """Places in ``self.rows`` of the batches that the loss is a mean over."""
        dataset, size = self.dataset, self.batch_size
        if dataset.size > 1:
            return RandomSampler(len(dataset), size, shuffle=False, size=dataset.size).batches()
        if form == "relations":
            labels = dataset.labels[self.rows]
            sampler = SessionSampler if isinstance(dataset, SessionDataset) else ClassSampler
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # singletons are the index's distractors here
                return sampler(labels, size).batches()
        if form == "relevance" and isinstance(dataset, RankingDataset):
            from .sampling import GroupSampler

            return GroupSampler(dataset.groups, size).batches()
        rows = self.rows
        if form == "classes" and isinstance(dataset, ClassDataset):
            rows = np.flatnonzero(dataset.labels < self.tuner.num_classes)  # of classes that were trained on
        plan = RandomSampler(len(rows), size, shuffle=False).batches() if len(rows) else []
        return [rows[places] for places in plan]

    def __call__(self) -> dict[str, float]:
        """``val_loss`` and the metrics of the model as it is."""
        from ... import evaluation

        seed = (self.tuner.seed,) if self.dataset.views > 1 else None  # views are made by augmenting
        embeddings = self.tuner.embeddings_of(self.dataset, self.rows, seed=seed)
        form = getattr(self.tuner.loss, "takes", "relations")
        found: dict[str, float] = {}
        if self.plan:
            losses = [
                self.tuner.loss_of(embeddings[places], self.dataset.targets(self.rows[places], form))
                for places in self.plan
            ]
            found["val_loss"] = float(np.mean(losses))
        if not self.retrieves:
            return found | self.scores(embeddings)
        labels = self.dataset.labels[self.rows]
        sides = [embeddings, labels]
        if isinstance(self.dataset, PairDataset):
            sides = [embeddings[0::2], labels[0::2], embeddings[1::2], labels[1::2]]
        metrics = evaluation.retrieval_metrics(*sides, metrics=self.metrics, distance=self.tuner.distance)
        return found | metrics

    def other_metrics(self) -> tuple[str, ...]:
        """The metrics of data in which nothing is retrieved."""
        kinds = {PairDataset: ("spearman", "pearson"), TripletDataset: ("triplet_accuracy",), RankingDataset: ("nDCG",)}
        return kinds.get(type(self.dataset), ())

    def scores(self, embeddings: np.ndarray) -> dict[str, float]:
        """The metrics of :meth:`other_metrics`."""
        from ... import scores

        data, distance = self.dataset, self.tuner.distance
        if isinstance(data, PairDataset):
            similarity = -scores.row_distance(embeddings[0::2], embeddings[1::2], distance)
            wanted = data.labels[0::2]
            return {
                "spearman": scores.spearman(similarity, wanted),
                "pearson": scores.pearson(similarity, wanted),
            }
        if isinstance(data, TripletDataset):
            near, far = (scores.row_distance(embeddings[0::3], embeddings[side::3], distance) for side in (1, 2))
            return {"triplet_accuracy": float(np.mean(near < far))}
        if isinstance(data, RankingDataset):
            return {"nDCG": scores.grouped_ndcg(embeddings[:, 0], data.labels, data.groups)}
        return {}
