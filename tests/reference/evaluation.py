"""Nearest neighbours and metrics of rankings, one query at a time, from the definitions.

A ranking is a list of items, nearest first. The relevant items are a set. Where distances are equal, a metric is its mean
over all orders of the equal items: over each of them if they are few, else from probabilities.
"""

import itertools
import math

import numpy as np

from .relations import distance_between

TIE = 1e-10  # smaller differences of distances are rounding errors


def distances_to(query, index, distance):
    return [distance_between(np.float64(query), np.float64(item), distance) for item in index]


def tied_ranking(distances, candidates):
    """The candidates in lists of equal distance, nearest first."""
    groups, remaining = [], sorted(candidates, key=lambda item: distances[item])
    while remaining:
        nearest = distances[remaining[0]]
        groups.append(sorted(item for item in remaining if distances[item] - nearest <= TIE))
        remaining = remaining[len(groups[-1]) :]
    return groups


def ranking(distances, candidates):
    """The candidates sorted by distance, and equal distances by index."""
    return [item for group in tied_ranking(distances, candidates) for item in group]


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


def mean_over_orders(groups, function):
    """The mean of ``function(ranked)`` over all orders of the items within each group."""
    orders = itertools.product(*(itertools.permutations(group) for group in groups))
    values = [function([item for group in order for item in group]) for order in orders]
    return sum(values) / len(values)


def rank_probabilities(groups, relevant):
    """For each rank: its group, and the probability that its item is relevant."""
    for number, group in enumerate(groups):
        share = len(relevant.intersection(group)) / len(group)
        yield from [(number, share)] * len(group)


def miss_probability(groups, relevant, k):
    """The probability that none of the first k items is relevant: drawn one after the other."""
    probability = 1.0
    for group in groups:
        taken, others = min(k, len(group)), sum(item not in relevant for item in group)
        for drawn in range(taken):
            probability *= max(others - drawn, 0) / (len(group) - drawn)
        k -= taken
    return probability


def expected_metric(name, groups, relevant):
    """A metric in expectation, from the probabilities of single ranks and of pairs of ranks."""
    ranks = list(rank_probabilities(groups, relevant))
    if name in ("mAP", "MRR"):
        name += f"@{len(ranks)}"
    name, _, k = name.replace("R-precision", "precision@R").partition("@")
    k = len(relevant) if k == "R" else int(k)
    if name == "hit":
        return 1 - miss_probability(groups, relevant, k)
    if name == "MRR":
        misses = [miss_probability(groups, relevant, i) for i in range(min(k, len(ranks)) + 1)]
        return sum((before - after) / rank for rank, (before, after) in enumerate(itertools.pairwise(misses), 1))
    if name == "nDCG":
        gain = sum(share / math.log2(i + 2) for i, (_, share) in enumerate(ranks[:k]))
        return gain / sum(1 / math.log2(i + 2) for i in range(min(len(relevant), k)))
    if name == "mAP":
        total = 0.0
        for i, (number, share) in enumerate(ranks[:k]):
            size, count = len(groups[number]), len(relevant.intersection(groups[number]))
            both = count * (count - 1) / (size * (size - 1)) if size > 1 else 0
            pairs = sum(both if other == number else share * other_share for other, other_share in ranks[:i])
            total += (share + pairs) / (i + 1)
        return total / min(len(relevant), k)
    hits = sum(share for _, share in ranks[:k])
    return hits / (k if name == "precision" else len(relevant))


def metric_with_ties(name, groups, relevant):
    if math.prod(math.factorial(len(group)) for group in groups) <= 24:
        return mean_over_orders(groups, lambda ranked: metric(name, ranked, relevant))
    return expected_metric(name, groups, relevant)


def retrieval(queries, query_labels, index, index_labels, names, distance, exclude_duplicates=False):
    """Mean metrics over the queries that have a relevant item."""
    others = queries if index is None else index
    sums, count = dict.fromkeys(names, 0.0), 0
    for i, candidates, relevant in evaluated_queries(query_labels, index_labels):
        if exclude_duplicates:
            candidates = [j for j in candidates if not np.array_equal(others[j], queries[i])]
            relevant = relevant.intersection(candidates)
        if relevant:
            groups = tied_ranking(distances_to(queries[i], others, distance), candidates)
            count += 1
            for name in names:
                sums[name] += metric_with_ties(name, groups, relevant)
    return {name: total / count for name, total in sums.items()}


def grouped_ndcg(scores, relevance, groups, gain="exponential"):
    """nDCG of each query, in the mean over all orders of equal scores, and the mean over the queries."""
    values = []
    for query in sorted(set(groups)):
        items = [i for i, group in enumerate(groups) if group == query]
        gains = {i: 2.0 ** relevance[i] - 1 if gain == "exponential" else float(relevance[i]) for i in items}

        def dcg(ranked, gains=gains):
            return sum(gains[item] / math.log2(rank + 2) for rank, item in enumerate(ranked))

        ideal = dcg(sorted(items, key=lambda item: -gains[item]))
        if ideal > 0:
            tied = [
                [i for i in items if scores[i] == score] for score in sorted({scores[i] for i in items}, reverse=True)
            ]
            values.append(mean_over_orders(tied, dcg) / ideal)
    return sum(values) / len(values) if values else 0.0
