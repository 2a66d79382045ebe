"""Random labels through all samplers: each item once or a documented cut, the promised length, the same plan twice."""

import collections

import numpy as np

from finetuner import ClassSampler, GroupSampler, InstanceSampler, RandomSampler, SessionSampler
from finetuner.tuner.base.data.relations import has_tuples

from .outcome import COMPARED, REFUSED, pick, refusals, require


def classes_of(rng, count):
    kind = pick(rng, "uniform", "zipf", "few", "one large", "gaps")
    return {
        "uniform": lambda: rng.integers(0, rng.integers(1, 30), count),
        "zipf": lambda: np.minimum(rng.zipf(1.5, count), 40),
        "few": lambda: rng.integers(0, 3, count),
        "one large": lambda: np.where(rng.random(count) < 0.9, 0, rng.integers(0, 10, count)),
        "gaps": lambda: rng.choice([-7, 10**12, 2**60, 3], count),
    }[kind]()


def plan(create, what, size):
    """The batches of two epochs, checked for what all samplers promise. None if the arguments are refused."""
    with refusals() as refused:
        sampler, again = create(), create()
    if refused:
        return None
    plans = []
    for epoch in (0, 3):
        sampler.set_epoch(epoch)
        again.set_epoch(epoch)
        batches = [np.asarray(batch) for batch in sampler]
        require(len(batches) == len(sampler), f"{what}: {len(batches)} batches, and len is {len(sampler)}")
        same = [np.array_equal(a, b) for a, b in zip(batches, again, strict=True)]
        require(all(same), f"{what}: another plan for the same seed and epoch")
        require(all(0 < len(batch) <= size for batch in batches), f"{what}: a batch is empty or too large")
        plans.append(batches)
    return plans


def flat(batches):
    return np.concatenate(batches) if batches else np.zeros(0, int)


def class_sampler(rng, count, size, seed, keep_all):
    y, k = classes_of(rng, count), pick(rng, None, int(rng.integers(1, 8)))
    what = f"ClassSampler({y.tolist()}, {size}, {k}, seed={seed}, keep_all={keep_all})"
    plans = plan(lambda: ClassSampler(y, size, k, seed, keep_all), what, size)
    if plans is None:
        return REFUSED
    sampler, counts = ClassSampler(y, size, k, seed, keep_all), collections.Counter(y.tolist())
    usable = {i for i in range(count) if counts[y[i]] > 1}
    groups = {c: -(-n // sampler.num_items_per_class) for c, n in counts.items() if n > 1}
    for batches in plans:
        seen = set(flat(batches).tolist())
        for batch in batches:
            have = collections.Counter(y[batch].tolist())
            require(has_tuples(y[batch], "triplets"), f"{what}: a batch has no triplet")
            if not keep_all:
                shape = len(have) == sampler.num_classes and set(have.values()) == {sampler.num_items_per_class}
                require(shape, f"{what}: a batch is not P x K")
            for c in have:
                own = batch[y[batch] == c].tolist()
                if counts[c] > 1 and len(own) <= counts[c]:
                    require(len(set(own)) == len(own), f"{what}: an item is twice in a batch")
        if keep_all:
            require(seen == set(range(count)), f"{what}: {count - len(seen)} items are missing")
            continue
        require(seen <= usable, f"{what}: an item without a positive")
        length, width = len(batches), sampler.num_classes
        whole = sum(groups.values()) == length * width and max(groups.values()) <= length
        require(seen == usable or not whole, f"{what}: an item is missing")
        more = sum(min(g, length + 1) for g in groups.values()) >= width * (length + 1)
        require(not more, f"{what}: one more batch was possible")
    return COMPARED


def session_sampler(rng, count, size, seed, keep_all):
    roles = rng.choice([0, 1, -1, 2, -2], count, p=[0.3, 0.3, 0.3, 0.05, 0.05])
    labels = np.stack([rng.integers(0, max(1, count // 5), count), roles], axis=1)
    what = f"SessionSampler({labels.tolist()}, {size}, seed={seed}, keep_all={keep_all})"
    plans = plan(lambda: SessionSampler(labels, size, seed, keep_all), what, size)
    if plans is None:
        return REFUSED
    for batches in plans:
        items = flat(batches)
        if keep_all:
            require(set(items.tolist()) == set(range(count)), f"{what}: items are missing")
            continue
        require(len(set(items.tolist())) == len(items), f"{what}: an item is there twice")
        for session in set(labels[:, 0].tolist()):
            at = np.flatnonzero(labels[:, 0] == session)
            whole = {0, 1, -1} <= set(labels[at, 1].tolist())
            there = np.isin(at, items).sum()
            require(there == (min(len(at), size) if whole else 0), f"{what}: session {session} has {there} items")
            homes = sum(bool(np.isin(at, batch).any()) for batch in batches)
            require(homes == whole, f"{what}: session {session} is in {homes} batches")
    return COMPARED


def group_sampler(rng, count, size, seed, keep_all):
    groups = rng.integers(0, max(1, count // 4), count)
    what = f"GroupSampler({groups.tolist()}, {size}, seed={seed}, keep_all={keep_all})"
    plans = plan(lambda: GroupSampler(groups, size, seed, keep_all), what, size)
    if plans is None:
        return REFUSED
    for batches in plans:
        items = flat(batches)
        if keep_all:
            require(set(items.tolist()) == set(range(count)), f"{what}: items are missing")
            continue
        require(len(set(items.tolist())) == len(items), f"{what}: an item is there twice")
        for group in set(groups.tolist()):
            at = np.flatnonzero(groups == group)
            there = np.isin(at, items).sum()
            require(there == min(len(at), size), f"{what}: group {group} has {there} of {len(at)} items")
    return COMPARED


def instance_sampler(rng, count, size, seed, keep_all):
    views = int(rng.integers(1, 5))
    what = f"InstanceSampler({count}, {size}, {views}, seed={seed}, keep_all={keep_all})"
    plans = plan(lambda: InstanceSampler(count, size, views, seed, keep_all), what, size)
    if plans is None:
        return REFUSED
    for batches in plans:
        found = collections.Counter(flat(batches).tolist())
        missing = count - len(found)
        cut = missing == 1 and count % (size // views) == 1 and not keep_all  # documented: one cannot be compared
        require(missing == 0 or cut, f"{what}: {missing} items are missing")
        require(keep_all or set(found.values()) == {views}, f"{what}: an item has another number of views")
    return COMPARED


def random_sampler(rng, count, size, seed, keep_all):
    shuffle, drop_last, rows = bool(rng.integers(2)), bool(rng.integers(2)), int(rng.integers(1, 4))
    what = f"RandomSampler({count}, {size}, {shuffle}, {drop_last}, {seed}, {rows})"
    plans = plan(lambda: RandomSampler(count, size, shuffle, drop_last, seed, rows), what, size * rows)
    if plans is None:
        return REFUSED
    expected = (count // size * size if drop_last else count) * rows
    for batches in plans:
        items = flat(batches)
        require(len(items) == len(set(items.tolist())) == expected, f"{what}: {len(items)} rows, not {expected}")
    return COMPARED


SAMPLERS = (class_sampler, class_sampler, session_sampler, group_sampler, instance_sampler, random_sampler)


def sampler(rng, backend, folder):
    """A plan of one sampler."""
    function = pick(rng, *SAMPLERS)
    count, size, seed = int(rng.integers(1, 120)), int(rng.integers(1, 40)), int(rng.integers(1000))
    return function(rng, count, size, seed, bool(rng.random() < 0.4))


KINDS = {"sampler": sampler}
