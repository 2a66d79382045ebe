"""Sums of metrics over parts of the queries, which add up to the metrics of all."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..checks import preview
from ..parts import Part, check_part

__all__ = ["MetricSums"]


@dataclass(frozen=True)
class MetricSums:
    """Sums of retrieval metrics over parts of the queries. Those of all parts are added with ``+`` or ``sum``.

    :func:`retrieval_sums` computes them. They can be written as JSON, and so sent from one machine to another.

    Attributes:
        sums: The sum of each metric over the queries of these parts.
        count: The number of queries of these parts that have a relevant item.
        parts: The numbers of these parts, from 1.
        num_parts: The number of all parts.
        settings: What is the same in all parts: the distance, and numbers of queries and items.

    Example:
        >>> embeddings = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.8, 0.2]])
        >>> labels = ["cat", "cat", "dog", "dog"]
        >>> parts = [retrieval_sums(embeddings, labels, metrics=["hit@1"], part=(number, 2)) for number in (1, 2)]
        >>> [part.sums for part in parts], sum(parts).metrics()
        ([{'hit@1': 2.0}, {'hit@1': 1.0}], {'hit@1': 0.75})
    """

    sums: Mapping[str, float]
    count: int
    parts: tuple[int, ...]
    num_parts: int
    settings: Mapping[str, Any]

    def __add__(self, other: "MetricSums") -> "MetricSums":
        """The sums of the parts of both.

        Raises:
            ValueError: If they are of different data, metrics or numbers of parts, or a part is in both.
        """
        if not isinstance(other, MetricSums):
            return NotImplemented
        for name, own, others in (
            ("metrics", list(self.sums), list(other.sums)),
            ("numbers of parts", self.num_parts, other.num_parts),
            *((name, own, other.settings.get(name)) for name, own in self.settings.items()),
        ):
            if own != others:
                raise ValueError(f"the parts must be of one evaluation, got {name} {own} and {others}")
        twice = sorted(set(self.parts) & set(other.parts))
        if twice:
            raise ValueError(f"each part must be added once, got part {preview(twice)} of {self.num_parts} twice")
        sums = {name: value + other.sums[name] for name, value in self.sums.items()}
        parts = tuple(sorted(self.parts + other.parts))
        return MetricSums(sums, self.count + other.count, parts, self.num_parts, self.settings)

    def __radd__(self, other: Any) -> "MetricSums":
        """Lets ``sum`` begin with 0."""
        return self if isinstance(other, int) and other == 0 else NotImplemented

    def metrics(self) -> dict[str, float]:
        """The means over all queries.

        Raises:
            ValueError: If parts are missing.
        """
        missing = sorted(set(range(1, self.num_parts + 1)) - set(self.parts))
        if missing:
            raise ValueError(f"all {self.num_parts} parts must be added up, and part {preview(missing)} is missing")
        return {name: value / self.count for name, value in self.sums.items()}

    def save(self, path: str | Path) -> None:
        """Write the sums as JSON. Numbers keep all bits."""
        Path(path).write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> "MetricSums":
        """Read what :meth:`save` wrote.

        Raises:
            ValueError: If the file has something else.
        """
        try:
            found = json.loads(Path(path).read_text(encoding="utf-8"))
            sums = {str(name): float(value) for name, value in found["sums"].items()}
            parts = tuple(check_part((number, found["num_parts"]))[0] for number in found["parts"])
            return cls(sums, int(found["count"]), parts, int(found["num_parts"]), dict(found["settings"]))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"{path} must have the sums of a part, and cannot be read: {error}") from None


def sums_of_part(values: Mapping[str, Any], part: Part, settings: Mapping[str, Any]) -> MetricSums:
    """The sums of the values ``[Q]`` of each metric for the queries of a part."""
    count = len(next(iter(values.values())))
    return MetricSums({name: float(value.sum()) for name, value in values.items()}, count, part[:1], part[1], settings)
