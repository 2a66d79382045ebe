"""Time of the losses beside a distance matrix, and beside the least that the processor needs for them.

The limit of a case is ``F / P + E / X``: F are the least floating-point operations of its products, P is the rate
at which the same engine multiplies tiles, E are its exponentials, and X is the rate of exponentials. Both rates are
measured in the same process, in turn with the losses. With ``U = 2 N N D``, a batch compared with itself needs half of
its product twice and one product for the gradient (2 U); two batches that are anchors of each other need 4 U; selected
triplets need half of the product (U / 2).
"""

from collections.abc import Callable, Iterable
from typing import Any

from .harness import peak, times
from .report import Table, megabytes, ratio

__all__ = ["build", "tables", "warm_up"]

TILE = 512
REPEATS = 50  # of a tile
# Of each loss: its arguments, the least products in U, and the exponentials in N^2.
LOSSES: dict[str, tuple[str, dict[str, Any], float, float]] = {
    "SupCon": ("SupConLoss", {}, 2, 1),
    "NT-Xent": ("NTXentLoss", {}, 2, 1),
    "MultiSimilarity": ("MultiSimilarityLoss", {}, 2, 1),
    "Lifted": ("LiftedStructureLoss", {}, 2, 1),
    "Siamese": ("SiameseLoss", {}, 1.5, 0),
    "Triplet": ("TripletLoss", {"margin": 0.1}, 2, 0),
    "Triplet, hard": ("TripletLoss", {"margin": 0.1, "miner": ("hard", "hard")}, 0.5, 0),
    "Triplet, soft": ("TripletLoss", {"margin": None}, 2, 1),
    "CLIP": ("CLIPLoss", {}, 4, 2),
    "NT-Xent, two views": ("NTXentLoss", {}, 2, 1),
}
DENSE = "NT-Xent, two views, four lines of torch"
CENTRES: dict[str, tuple[str, dict[str, Any]]] = {
    "ArcFace": ("ArcFaceLoss", {}),
    "CosFace": ("CosFaceLoss", {}),
    "ArcFace, sample 0.1": ("ArcFaceLoss", {"sample": 0.1}),
}
PLAIN = "linear layer and cross-entropy"


def build(contender: str, n: int, d: int = 128, classes: int = 50_000) -> Callable[[], Any]:
    """A step on embeddings ``[n, d]``: forward and backward pass. There are 8 items per class."""
    import torch
    from torch.nn import functional as F

    from finetuner.tuner.pytorch import losses, miner

    generator = torch.Generator().manual_seed(0)
    x, z, upstream = (torch.randn(n, width, generator=generator) for width in (d, d, n if contender == "bare" else 1))
    x.requires_grad_()
    shuffled = torch.randperm(n, generator=generator)
    labels = torch.arange(n)[shuffled] // (2 if "views" in contender else 8)
    if contender == "bare":
        return lambda: (1 - F.normalize(x) @ F.normalize(x).T).backward(upstream)
    if contender in ("products", "exponentials"):
        left, right, out = torch.randn(TILE, d), torch.randn(TILE, d), torch.empty(TILE, TILE)

        def repeat() -> None:
            for _ in range(REPEATS):
                if contender == "products":
                    torch.mm(left, right.T, out=out)
                else:
                    out.fill_(-1.0).exp_()

        return repeat
    if contender in (PLAIN, *CENTRES):
        weight = torch.randn(classes, d, generator=generator).requires_grad_()
        y = torch.randint(0, classes, (n,), generator=generator)
        if contender == PLAIN:
            return lambda: F.cross_entropy(64 * F.linear(F.normalize(x), F.normalize(weight)), y).backward()
        name, options = CENTRES[contender]
        margin_loss = getattr(losses, name)(**options)
        return lambda: margin_loss(x, y, weight).backward()
    if contender == DENSE:
        partner = torch.empty(n, dtype=torch.int64)
        order = torch.argsort(labels)
        partner[order[0::2]], partner[order[1::2]] = order[1::2], order[0::2]
        diagonal = torch.eye(n, dtype=torch.bool)

        def dense() -> None:
            unit = F.normalize(x)
            logits = (unit @ unit.T / 0.1).masked_fill(diagonal, -torch.inf)
            F.cross_entropy(logits, partner).backward()

        return dense
    name, options, *_ = LOSSES[contender]
    if "miner" in options:
        options = {**options, "miner": miner.TripletEasyHardMiner(*options["miner"])}
    loss = getattr(losses, name)(**options)
    target = z if name == "CLIPLoss" else labels
    return lambda: loss(x, target).backward()


def warm_up(contender: str, **case: Any) -> None:
    """Run a step with 16 rows."""
    build(contender, **{**case, "n": 16})()


def tables(quick: bool) -> Iterable[Table]:
    """One row per loss and size; the growth with N; and losses with class centres."""
    sizes, wide = ([512], []) if quick else ([256, 512, 4096, 8192], [256])
    columns = ["loss", "N", "d", "time", "/ bare", "/ four lines", "/ limit"]
    note = "8 items per class, forward and backward pass. / limit: R = T / (F / P + E / X)."
    table = Table("Losses beside the limit", columns, note=note)
    for d in (128, *wide):
        for n in sizes if d == 128 else [4096]:
            measured = times("limits", ["bare", "products", "exponentials", DENSE, *LOSSES], 10.0, n=n, d=d)
            product = measured["products"].median / REPEATS / (2 * TILE * TILE * d)
            exponential = measured["exponentials"].median / REPEATS / TILE**2
            table.rows.append(["distance matrix (bare)", n, d, measured["bare"], 1, "", ""])
            table.rows.append([DENSE, n, d, measured[DENSE], ratio(measured[DENSE], measured["bare"]), 1, ""])
            for name, (*_, products, exponentials) in LOSSES.items():
                found = measured[name]
                limit = products * 2 * n * n * d * product + exponentials * n * n * exponential
                row = [name, n, d, found, ratio(found, measured["bare"])]
                four = ratio(found, measured[DENSE]) if "views" in name else ""
                table.rows.append([*row, four, f"{found.median / limit:.3g}"])
    yield table
    growing = Table("NT-Xent, two views, with N", ["N", "time", "time / N^2", "peak memory"])
    for n in [512, 1024] if quick else [4096, 16384, 65536]:
        found = times("limits", ["NT-Xent, two views"], n=n)["NT-Xent, two views"]
        memory = megabytes(peak("limits", "NT-Xent, two views", n=n))
        growing.rows.append([n, found, f"{found.median / n**2 * 1e9:.3g} ns", memory])
    yield growing
    centres = Table("Class centres, N = 64, d = 64", ["classes", PLAIN, *(f"{name} / it" for name in CENTRES)])
    for classes in [500] if quick else [5_000, 50_000]:
        measured = times("limits", [PLAIN, *CENTRES], n=64, d=64, classes=classes)
        ratios = [ratio(measured[name], measured[PLAIN]) for name in CENTRES]
        centres.rows.append([classes, measured[PLAIN], *ratios])
    yield centres
