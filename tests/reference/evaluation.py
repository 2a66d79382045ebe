"""Nearest neighbours and retrieval metrics: one query at a time, from the definitions.

A ranking is a list of items, nearest first, and what is relevant a set of them.
"""

import math

import numpy as np

from .relations import distance_between

TIE = 1e-10  # distances that differ by less are equal: it is rounding


def distances_to(query, index, distance):
    return [distance_between(np.float64(query), np.float64(item), distance) for item in index]


def ranking(distances, candidates):
    """The candidates by distance, and among equals by number."""
    ordered, left = [], sorted(candidates, key=lambda item: distances[item])
    while left:
        nearest = distances[left[0]]
        tied = [item for item in left if distances[item] - nearest <= TIE]
        ordered += sorted(tied)
        left = left[len(tied) :]
    return ordered


def neighbours(queries, index, distance):
    """For each query its distances to all of the index, and their whole ranking."""
    within = index is None
    index = queries if within else index
    for i, query in enumerate(queries):
        distances = distances_to(query, index, distance)
        yield distances, ranking(distances, [j for j in range(len(index)) if not (within and j == i)])


def questions(query_labels, index_labels):
    """Each query that is asked: its number, the candidates for it, and those that are relevant."""
    within = index_labels is None
    others = query_labels if within else index_labels
    for i, label in enumerate(query_labels):
        if np.ndim(query_labels) == 1:
            candidates = [j for j in range(len(others)) if not (within and j == i)]
            relevant = {j for j in candidates if others[j] == label}
        elif label[1] != 0:
            continue
        else:
            candidates = [j for j in range(len(others)) if not (within and others[j][1] == 0)]
            relevant = {j for j in candidates if others[j][0] == label[0] and others[j][1] == 1}
        yield i, candidates, relevant


def precision_at(ranked, relevant, k):
    return len(relevant.intersection(ranked[:k])) / k


def average_precision(ranked, relevant, k):
    found = [precision_at(ranked, relevant, i + 1) for i, item in enumerate(ranked[:k]) if item in relevant]
    return sum(found) / min(len(relevant), k)


def reciprocal_rank(ranked, relevant, k):
    ranks = [i + 1 for i, item in enumerate(ranked[:k]) if item in relevant]
    return 1 / ranks[0] if ranks else 0.0


def ndcg(ranked, relevant, k):
    gain = sum(1 / math.log2(i + 2) for i, item in enumerate(ranked[:k]) if item in relevant)
    return gain / sum(1 / math.log2(i + 2) for i in range(min(len(relevant), k)))


def metric(name, ranked, relevant):
    if name in ("mAP", "MRR"):
        name += f"@{len(ranked)}"
    if name == "R-precision":
        name = "precision@R"
    name, _, k = name.partition("@")
    k = len(relevant) if k == "R" else int(k)
    if name == "hit":
        return float(bool(relevant.intersection(ranked[:k])))
    if name == "recall":
        return len(relevant.intersection(ranked[:k])) / len(relevant)
    formulas = {"precision": precision_at, "mAP": average_precision, "MRR": reciprocal_rank, "nDCG": ndcg}
    return formulas[name](ranked, relevant, k)


def retrieval(queries, query_labels, index, index_labels, names, distance):
    """Means over the queries to which something is relevant."""
    others = queries if index is None else index
    sums, asked = dict.fromkeys(names, 0.0), 0
    for i, candidates, relevant in questions(query_labels, index_labels):
        if relevant:
            ranked = ranking(distances_to(queries[i], others, distance), candidates)
            asked += 1
            for name in names:
                sums[name] += metric(name, ranked, relevant)
    return {name: total / asked for name, total in sums.items()}
