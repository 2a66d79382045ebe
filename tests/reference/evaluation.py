"""Nearest neighbours and retrieval metrics, one query at a time, from the definitions.

A ranking is a list of items, nearest first. The relevant items are a set.
"""

import math

import numpy as np

from .relations import distance_between

TIE = 1e-10  # smaller differences of distances are rounding errors


def distances_to(query, index, distance):
    return [distance_between(np.float64(query), np.float64(item), distance) for item in index]


def ranking(distances, candidates):
    """The candidates sorted by distance, and equal distances by index."""
    ordered, remaining = [], sorted(candidates, key=lambda item: distances[item])
    while remaining:
        nearest = distances[remaining[0]]
        tied = [item for item in remaining if distances[item] - nearest <= TIE]
        ordered += sorted(tied)
        remaining = remaining[len(tied) :]
    return ordered


def neighbours(queries, index, distance):
    """For each query, its distances to the index, and the complete ranking of the index."""
    self_comparison = index is None
    index = queries if self_comparison else index
    for i, query in enumerate(queries):
        distances = distances_to(query, index, distance)
        yield distances, ranking(distances, [j for j in range(len(index)) if not (self_comparison and j == i)])


def evaluated_queries(query_labels, index_labels):
    """For each query that is evaluated: its index, its candidates, and the relevant candidates."""
    self_comparison = index_labels is None
    others = query_labels if self_comparison else index_labels
    for i, label in enumerate(query_labels):
        if np.ndim(query_labels) == 1:
            candidates = [j for j in range(len(others)) if not (self_comparison and j == i)]
            relevant = {j for j in candidates if others[j] == label}
        elif label[1] != 0:
            continue
        else:
            candidates = [j for j in range(len(others)) if not (self_comparison and others[j][1] == 0)]
            relevant = {j for j in candidates if others[j][0] == label[0] and others[j][1] == 1}
        yield i, candidates, relevant


def precision_at(ranked, relevant, k):
    return len(relevant.intersection(ranked[:k])) / k


def average_precision(ranked, relevant, k):
    precisions = [precision_at(ranked, relevant, i + 1) for i, item in enumerate(ranked[:k]) if item in relevant]
    return sum(precisions) / min(len(relevant), k)


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
    """Mean metrics over the queries that have a relevant item."""
    others = queries if index is None else index
    sums, count = dict.fromkeys(names, 0.0), 0
    for i, candidates, relevant in evaluated_queries(query_labels, index_labels):
        if relevant:
            ranked = ranking(distances_to(queries[i], others, distance), candidates)
            count += 1
            for name in names:
                sums[name] += metric(name, ranked, relevant)
    return {name: total / count for name, total in sums.items()}
