"""Random batches through all losses, miners and poolers, against the references."""

import numpy as np

from ..reference import LOSSES, MINERS, POOLERS, batches, relations
from ..reference.miner import COMBINATIONS, select
from . import draws
from .comparing import check
from .outcome import COMPARED, RAN, REFUSED, Failure, pick, refusals, require


def batch_of(rng, backend, most=40):
    """A random batch, and the type of its embeddings."""
    dtype = pick(rng, *draws.DTYPES)
    if dtype == "float64" and not backend.has_float64:
        dtype = "float32"
    rows, columns = draws.shape_of(rng, backend, most)
    x, _ = draws.embeddings(rng, rows, columns, dtype)
    kind, width = pick(rng, *draws.LABELS), int(rng.integers(1, 6))
    batch = batches.Batch(x, draws.labels(rng, rows, kind, width))
    if rng.random() < 0.35:
        others = 4 if backend.key in draws.SHAPES else int(rng.integers(0, max(1, rows) + 1))
        references, _ = draws.embeddings(rng, others, columns, dtype)
        their_labels = draws.labels(rng, others, kind, width)
        offset = None
        if rng.random() < 0.5:  # the batch is among its references
            offset = int(rng.integers(0, others + 1))
            references = np.concatenate([references[:offset], x, references[offset:]])
            their_labels = np.concatenate([their_labels[:offset], batch.labels, their_labels[offset:]])
        batch = batch._replace(references=references, reference_labels=their_labels, self_offset=offset)
    return batch, dtype


def batch_loss(rng, backend, folder):
    """A loss over all items of a batch."""
    name = pick(rng, *(name for name, loss in LOSSES.items() if "pairs" in loss.batches))
    params = {}
    if name in ("TripletLoss", "SiameseLoss", "LiftedStructureLoss"):
        params = {"distance": pick(rng, "cosine", "euclidean", "sqeuclidean"), "margin": pick(rng, 0.0, 0.3, 1.0, 5.0)}
    if name == "TripletLoss" and rng.random() < 0.3:
        params["margin"] = None
    if name in ("TripletLoss", "SiameseLoss"):
        params["reduction"] = pick(rng, "mean", "mean", "nonzero_mean", "sum", "none")
        if rng.random() < 0.4:
            params["miner"] = dict(pick(rng, *COMBINATIONS))
    if name in ("NTXentLoss", "SupConLoss"):
        params = {"temperature": pick(rng, 0.1, 1.0, 0.01, 1e-4, 1e-26, 1e6)}
    if name == "MultiSimilarityLoss":
        params = {"alpha": pick(rng, 0.1, 2.0, 50.0), "beta": pick(rng, 1.0, 50.0, 500.0), "base": pick(rng, 0.0, 0.5)}
    if name == "SurrogatePrecision":
        params = {"k": pick(rng, 1, 3, 50), "temperature1": pick(rng, 0.1, 1.0), "temperature2": pick(rng, 0.01, 0.1)}
        params["reduction"] = pick(rng, "mean", "sum", "none")
        params["include_self"] = pick(rng, False, True)
    batch, dtype = batch_of(rng, backend)
    return named(name, params, batch, dtype, check, backend, name, params, batch, dtype, rng)


def named(name, params, batch, dtype, function, *arguments):
    """The outcome of ``function``, whose failures say what the case was."""
    try:
        return function(*arguments)
    except Failure as failure:
        shape = " against ".join(str(list(x.shape)) for x in batch[:3:2] if isinstance(x, np.ndarray))
        labels = getattr(batch, "labels", None)
        of = "" if labels is None else f", labels {labels.dtype} {list(labels.shape)}"
        raise Failure(f"{name}({params}) of {dtype} {shape}{of}: {failure}") from failure


ROW_LOSSES = [name for name, loss in LOSSES.items() if "pairs" not in loss.batches and name.count("Weight") == 0]


def row_loss(rng, backend, folder):
    """A loss of pairs, triplets, scores, logits, a teacher or class centres."""
    name = pick(rng, *(n for n in ROW_LOSSES if n not in ("ArcFaceLossWithMLP", "FocalLoss:weighted")))
    rows, columns = draws.shape_of(rng, backend, 20)
    x, y, z = (draws.embeddings(rng, rows, columns)[0] for _ in range(3))
    if rows and rng.random() < 0.3:
        y[0] = x[0]
    params = {"reduction": pick(rng, "mean", "sum", "none")}
    if name == "ContrastiveLoss":
        params |= {"margin": pick(rng, 0.0, 1.0, 3.0), "distance": pick(rng, "cosine", "euclidean", "sqeuclidean")}
        batch = batches.Rows(x, y, rng.choice([0, 1, 0.25], size=rows))
        params["similar_label"] = pick(rng, 0, 1)
    elif name == "CosineSimilarityLoss":
        params |= {"low": pick(rng, 0.0, -1.0), "high": pick(rng, 1.0, 5.0)}
        batch = batches.Rows(x, y, rng.random(rows).astype(np.float32).astype(float))
    elif name == "CLIPLoss":
        params, batch = {"temperature": pick(rng, 0.07, 1.0, 0.01, 1e-26)}, batches.TwoTower(x, y)
    elif name == "DistillationLoss":
        params, batch = {"temperature": pick(rng, 0.1, 1.0, 0.01, 1e-26)}, batches.Taught(x, y)
    elif name == "TripletLoss:rows":
        params |= {"margin": pick(rng, 0.0, 0.3, None), "distance": pick(rng, "cosine", "euclidean", "sqeuclidean")}
        batch = batches.Triplets(x, y, z)
    elif name in ("RankNetLoss", "ListNetLoss", "LambdaRankLoss"):
        params = {
            "RankNetLoss": {"sigma": pick(rng, 0.5, 1.0, 100.0)},
            "ListNetLoss": {"temperature": pick(rng, 0.01, 1.0, 5.0)},
            "LambdaRankLoss": {"sigma": pick(rng, 1.0, 2.0), "k": pick(rng, None, 1, 3)},
        }[name]
        if name == "LambdaRankLoss":
            params["gain"] = pick(rng, "exponential", "linear")
        scores = np.clip(draws.embeddings(rng, rows, 1)[0][:, 0], -1e15, 1e15)
        relevance = rng.integers(0, pick(rng, 2, 4, 300), size=rows)
        batch = batches.Scores(scores, relevance, pick(rng, None, rng.integers(0, 3, size=rows)))
    elif name == "FocalLoss":
        params["gamma"] = pick(rng, 0.0, 0.5, 2.0, 5.0)
        batch = batches.Logits(np.clip(x, -1e15, 1e15), rng.integers(0, columns, size=rows))
    else:
        classes = int(rng.integers(1, 5))
        weight, _ = draws.embeddings(rng, classes, columns)
        params |= {"in_features": columns, "num_classes": classes, "scale": pick(rng, 1.0, 16.0, 64.0)}
        batch = batches.Centres(x, rng.integers(0, classes, size=rows), weight)
    return named(name, params, batch, "float32", check, backend, name, params, batch, "float32", rng)


def miner(rng, backend, folder):
    """A miner, against what the reference selects by the distances of the backend."""
    name, params = pick(rng, *MINERS), dict(pick(rng, *COMBINATIONS))
    batch, _ = batch_of(rng, backend, 20)
    references = batch.x if batch.references is None else batch.references
    if max(np.abs(batch.x).max(initial=0), np.abs(references).max(initial=0)) > 1e15:
        batch, references = batch._replace(x=np.sign(batch.x)), np.sign(references)
    with refusals() as refused:
        labels, reference_labels = map(backend.tensor, (batch.labels, batch.reference_labels))
        x, y = backend.tensor(batch.x, "float32"), backend.tensor(references, "float32")
        distances = backend.functional.pairwise_distance(x, y, "euclidean")
        made = getattr(backend.miner, name)(**params)
        tuples = made.mine(labels, distances, reference_labels, batch.self_offset)
    if refused:
        return REFUSED
    found = sorted(zip(*(backend.numpy(indices).tolist() for indices in tuples), strict=True))
    d = backend.numpy(distances).astype(np.float64)
    what = f"{name}({params}), labels {batch.labels.dtype} {list(batch.labels.shape)}, offset {batch.self_offset}"
    require(np.isfinite(d).all(), f"{what}: distances are not finite")
    offset = 0 if batch.references is None else batch.self_offset
    expected = set()
    for i, row in enumerate(relations.relation_matrix(batch)):
        positives, negatives = ([j for j, relation in enumerate(row) if relation == sign] for sign in (1, -1))
        positives, negatives = select(d[i], positives, negatives, **params)
        if name.startswith("Triplet"):
            expected |= {(i, p, n) for p in positives for n in negatives}
        for j in (positives + negatives) * (not name.startswith("Triplet")):
            column = None if offset is None or not 0 <= j - offset < len(batch.x) else j - offset
            ends = (i, j) if column is None else (min(i, column), offset + max(i, column))
            expected.add((*ends, int(j in positives)))
    require(found == sorted(expected), f"{what}: {found[:4]} must be {sorted(expected)[:4]}")
    return COMPARED


def pooler(rng, backend, folder):
    """A pooler, with and without a mask."""
    name = pick(rng, *POOLERS)
    items, channels, steps = (2, 3, 4) if backend.key in draws.SHAPES else rng.integers([0, 1, 0], [4, 4, 6]).tolist()
    flat, _ = draws.embeddings(rng, items * steps, channels)
    mask = None
    if name == "CLSPooling" or rng.random() < 0.6:
        x, mask = flat.reshape(items, steps, channels), pick(rng, None, rng.random((items, steps)) < 0.6)
    else:
        x = flat.reshape(items, steps, 1, channels).transpose(0, 3, 1, 2)
    params = {}
    if name == "GeM":
        params = {"p": pick(rng, 0.5, 1.0, 3.0, 20.0, 100.0), "eps": pick(rng, 1e-6, 0.1, 1e-30)}
    what = f"{name}({params}) of {list(x.shape)}, mask {None if mask is None else mask.tolist()}"
    with refusals() as refused:
        pool = getattr(backend.poolers, name)(**params)
        value, (gradient,) = backend.value_and_grads(lambda x, m: pool(x, mask=m), [backend.layout(x)], [mask])
    if refused:
        return REFUSED
    require(np.isfinite(value).all(), f"{what}: value is not finite")
    require(np.isfinite(gradient).all(), f"{what}: gradient is not finite")
    if x.size == 0:
        return RAN
    expected = POOLERS[name].function(x, mask, **params)
    tolerance = 2e-5 * np.abs(expected) + 3e-6 * (np.abs(x).max() if name == "AveragePooling" else 0) + 1e-12
    require(
        (np.abs(value - expected) <= tolerance).all(), f"{what}: {value.ravel()[:3]} must be {expected.ravel()[:3]}"
    )
    return COMPARED


KINDS = {"batch loss": batch_loss, "row loss": row_loss, "miner": miner, "pooler": pooler}
