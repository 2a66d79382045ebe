"""Samplers decide which items form a batch. They see labels only, so all frameworks get the same batches."""

import warnings

import numpy as np

from .... import checks
from ....labels import ANCHOR, MATCH, NO_MATCH
from .class_sampler import ClassSampler
from .packing import Groups
from .sampler import Batches, InstanceSampler, IterableSampler, RandomSampler, Sampler, warn_about_share

__all__ = [
    "ClassSampler",
    "GroupSampler",
    "InstanceSampler",
    "IterableSampler",
    "RandomSampler",
    "Sampler",
    "SessionSampler",
]


class SessionSampler(Sampler):
    """Batches of whole sessions in random order.

    A batch is filled with sessions until the next one would not fit. Every item occurs once in an epoch, except for
    sessions larger than ``batch_size``: such a session keeps its anchors and a random part of the rest, including a
    match and a non-match. If these cuts are more than 5 % of the items, a warning gives their number. Sessions without
    an anchor, a match or a non-match give no triplet. They are left out, with one warning.

    With ``keep_all``, every item occurs at least once in an epoch. A session that is larger than ``batch_size`` is
    split into parts with an anchor, a match and a non-match each, some of which are repeated. Sessions that lack one
    are kept.

    Args:
        labels: ``[N, 2]`` integers, the session and the role of each item.
        batch_size: The maximal number of items in a batch, at least 3.
        seed: Seed of the random generator.
        keep_all: Whether every item occurs at least once in an epoch.

    Raises:
        ValueError: If ``batch_size`` is below 3, or no session has an anchor, a match and a non-match.

    Example:
        >>> labels = np.array([[0, 0], [0, 1], [0, -1], [1, 0], [1, 1], [1, -1]])
        >>> [sorted(labels[batch, 1].tolist()) for batch in SessionSampler(labels, batch_size=3)]
        [[-1, 0, 1], [-1, 0, 1]]
    """

    can_keep_all = True

    def __init__(self, labels: np.ndarray, batch_size: int, seed: int = 0, keep_all: bool = False):
        super().__init__(seed, keep_all)
        labels = np.asarray(labels)
        checks.shape("labels", labels.shape, ["N", "2"])
        self.batch_size = checks.integer("batch_size", batch_size, 3)
        groups = Groups(labels[:, 0])
        roles = labels[:, 1]
        complete = np.all([groups.contains(roles == role) for role in (ANCHOR, MATCH, NO_MATCH)], axis=0)
        if not complete.any():
            raise ValueError(f"a session must have an anchor, a match and a non-match, and none of {len(complete)} has")
        self._roles, self._all_sessions, self._complete = roles, groups, complete
        self._sessions = groups.subset(complete)

    def plan(self, rng: np.random.Generator) -> Batches:
        """All batches of an epoch, drawn with ``rng``."""
        if self.keep_all:
            whole = self._all_sessions.split(rng, self.batch_size, self._split)
            return whole.pack(rng, self.batch_size, self._truncate)
        return self._sessions.pack(rng, self.batch_size, self._truncate)

    def warn_about_left_out(self, batches: Batches) -> None:
        """Warn about incomplete sessions, and about the cuts of long ones."""
        if self.keep_all:
            return
        if not self._complete.all():
            warnings.warn(
                f"{np.count_nonzero(~self._complete)} of {len(self._complete)} sessions lack an anchor, a match or a "
                "non-match and are left out of training",
                stacklevel=3,
            )
        reason = f"some sessions have more than batch_size={self.batch_size} items"
        remedy = "use keep_all=True, which splits them, or a larger batch_size"
        warn_about_share(batches, int(self._sessions.sizes.sum()), reason, remedy)

    def _split(self, session: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
        """The fewest parts of a long session that fit a batch, each with the roles that the session has."""
        session = rng.permutation(session)
        kinds = np.sign(self._roles[session])  # anchor, match, non-match
        by_role = [session[kinds == kind] for kind in np.unique(kinds)]
        count = -(-len(session) // self.batch_size)
        while sum(-(-len(items) // count) for items in by_role) > self.batch_size:
            count += 1
        parts = [np.array_split(items if len(items) >= count else np.resize(items, count), count) for items in by_role]
        return [np.concatenate(part) for part in zip(*parts, strict=True)]

    def _truncate(self, session: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """One item of each role, then the other anchors, then random items, until the batch is full."""
        session = rng.permutation(session)
        roles = self._roles[session]
        first = [int(np.flatnonzero(roles == role)[0]) for role in (ANCHOR, MATCH, NO_MATCH)]
        anchors_first = np.argsort(roles != ANCHOR, kind="stable")
        order = list(dict.fromkeys([*first, *anchors_first.tolist()]))
        return session[order[: self.batch_size]]


class GroupSampler(Sampler):
    """Batches of whole groups in random order, such as all answers to a query.

    Every item occurs once in an epoch, except for groups larger than ``batch_size``: a random part of such a group is
    drawn again in each epoch. If the rest is more than 5 % of the items, a warning gives its number. With ``keep_all``,
    such a group is split into parts at random.

    Args:
        groups: ``[N]`` integers, the group of each item.
        batch_size: The maximal number of items in a batch, at least 2.
        seed: Seed of the random generator.
        keep_all: Whether every item occurs at least once in an epoch.

    Raises:
        ValueError: If ``batch_size`` is below 2.

    Example:
        >>> groups = np.array([0, 0, 1, 1, 1])
        >>> sorted(groups[batch].tolist() for batch in GroupSampler(groups, batch_size=3))
        [[0, 0], [1, 1, 1]]
    """

    can_keep_all = True

    def __init__(self, groups: np.ndarray, batch_size: int, seed: int = 0, keep_all: bool = False):
        super().__init__(seed, keep_all)
        groups = np.asarray(groups)
        checks.shape("groups", groups.shape, ["N"])
        self.batch_size = checks.integer("batch_size", batch_size, 2)
        self._groups = Groups(groups)

    def plan(self, rng: np.random.Generator) -> Batches:
        """All batches of an epoch, drawn with ``rng``."""
        groups = self._groups.split(rng, self.batch_size, self._split) if self.keep_all else self._groups
        return groups.pack(rng, self.batch_size, lambda group, rng: rng.permutation(group)[: self.batch_size])

    def _split(self, group: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
        """Random parts of a large group, of two items or more."""
        group = rng.permutation(group)
        count = -(-len(group) // self.batch_size)
        group = group if len(group) >= 2 * count else np.append(group, group[0])
        return np.array_split(group, count)

    def warn_about_left_out(self, batches: Batches) -> None:
        """Warn about the cuts of large groups."""
        reason = f"some groups have more than batch_size={self.batch_size} items"
        remedy = "use keep_all=True, which splits them, or a larger batch_size"
        warn_about_share(batches, len(self._groups.items), reason, remedy)
