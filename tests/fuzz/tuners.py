"""Random configurations of a tuner: it trains with finite numbers, or refuses in one line."""

import numpy as np

import finetuner

from .outcome import RAN, REFUSED, Failure, pick, refusals, require

RELATIONAL = (
    *("TripletLoss", "TripletLoss", "SiameseLoss", "NTXentLoss", "SupConLoss", "MultiSimilarityLoss"),
    *("LiftedStructureLoss", "SurrogatePrecision"),
)
CENTRES = ("ArcFaceLoss", "CosFaceLoss", "SphereFaceLoss", "ArcFaceLossWithMLP")
FITTING = {
    "classes": (*RELATIONAL, *CENTRES),
    "tuple": (*RELATIONAL, "ArcFaceLoss"),
    "text classes": (*RELATIONAL, *CENTRES),
    "sets": RELATIONAL,
    "instances": RELATIONAL,
    "sessions": RELATIONAL,
    "pairs": (*RELATIONAL, "CLIPLoss", "CLIPLoss", "CLIPLoss"),
    "scored pairs": ("ContrastiveLoss", "CosineSimilarityLoss"),
    "triplets": RELATIONAL,
    "teacher": ("DistillationLoss",),
    "relevance": ("RankNetLoss", "ListNetLoss", "LambdaRankLoss"),
    "classes of logits": ("FocalLoss",),
}
OPTIMIZERS = ("Adam", "SGD", "AdamW", "RMSprop", "Adagrad")
SCHEDULES = ("constant", "linear", "cosine", "cosine_with_restarts", "polynomial", "warmup_stable_decay")


def dataset(rng, kind, x, width):
    """A dataset of a kind over the items ``x``."""
    n = len(x)
    y = rng.integers(0, max(1, n // 3), n)
    back, turned = x[::-1].copy(), np.roll(x, 1, axis=0)
    return {
        "classes": lambda: finetuner.ClassDataset(x, y),
        "tuple": lambda: (x, y),
        "text classes": lambda: finetuner.ClassDataset(x, [f"class {i}" for i in y]),
        "sets": lambda: finetuner.ClassDataset(x, rng.random((n, 4)) < 0.4),
        "instances": lambda: finetuner.InstanceDataset(x, lambda a, rng: a + 1, views=int(pick(rng, 2, 3))),
        "sessions": lambda: finetuner.SessionDataset(x, np.arange(n) // 4, np.array([0, 1, -1, 1])[np.arange(n) % 4]),
        "pairs": lambda: finetuner.PairDataset(x, back),
        "scored pairs": lambda: finetuner.PairDataset(x, back, rng.integers(0, 2, n).astype(np.float32)),
        "triplets": lambda: finetuner.TripletDataset(x, back, turned),
        "teacher": lambda: finetuner.TargetDataset(x, rng.normal(size=(n, 5)).astype(np.float32)),
        "relevance": lambda: finetuner.RankingDataset(x, rng.integers(0, 3, n), rng.integers(0, max(1, n // 4), n)),
        "classes of logits": lambda: finetuner.ClassDataset(x, np.arange(n) % width),
    }[kind]()


def options_of(rng, loss):
    """Options of a loss, from their documented ranges."""
    options = {}
    if loss in ("TripletLoss", "SiameseLoss", "LiftedStructureLoss") and rng.random() < 0.6:
        options |= {"distance": pick(rng, "cosine", "euclidean", "sqeuclidean"), "margin": pick(rng, 0.0, 0.3, 1.0)}
    if loss in ("TripletLoss", "SiameseLoss", "ContrastiveLoss", "SurrogatePrecision", *CENTRES) and rng.random() < 0.3:
        options["reduction"] = pick(rng, "mean", "sum", "none")
    if loss in CENTRES and rng.random() < 0.3:
        options["scale"] = 16.0
    if loss in CENTRES and rng.random() < 0.3:
        options["sample"] = pick(rng, 0.1, 0.5)
    if loss == "CLIPLoss" and rng.random() < 0.4:
        options["learnable"] = True
    return options


def tuner(rng, backend, folder):
    """One short training."""
    kind, count, width = pick(rng, *FITTING), int(pick(rng, 3, 8, 12, 24, 24, 40)), int(pick(rng, 1, 2, 4))
    width = 1 if kind == "relevance" else width
    every = sorted({name for names in FITTING.values() for name in names})
    loss = pick(rng, *FITTING[kind]) if rng.random() < 0.9 else pick(rng, *every)
    with_conv = rng.random() < 0.15 and width == 4
    shape = (count, 1, 8, 8) if with_conv else (count, 16)
    x = backend.layout(rng.normal(size=shape)).astype(pick(rng, "float32", "float32", "float64", "float16", "int64"))
    make = {"loss": loss, "loss_options": options_of(rng, loss), "optimizer": pick(rng, *OPTIMIZERS)}
    if loss in ("TripletLoss", "SiameseLoss") and rng.random() < 0.4:
        make["miner"] = "TripletEasyHardMiner" if loss == "TripletLoss" else "SiameseEasyHardMiner"
        strategies = ("hard", "easy", "semihard", "all")
        make["miner_options"] = {"pos_strategy": pick(rng, *strategies), "neg_strategy": pick(rng, *strategies)}
    if rng.random() < 0.5:
        make |= {"schedule": pick(rng, *SCHEDULES), "warmup": pick(rng, 0, 1, 0.1, 3)}
    for name, value in {"clip_norm": 1.0, "ema_decay": 0.9, "weight_decay": 0.01, "precision": "fp32"}.items():
        if rng.random() < 0.2:
            make[name] = value
    fit = {
        "epochs": int(pick(rng, 1, 1, 2)),
        "batch_size": int(pick(rng, 2, 4, 7, 8, 12, 12, 256)),
        "sampler": pick(rng, "auto", "auto", "class", "random"),
    }
    for name, values in {
        "micro_batch_size": (1, 2, 5, 100),
        "gradient_accumulation_steps": (1, 2, 5),
        "num_items_per_class": (1, 2, 3),
        "keep_all": (True,),
        "length_groups": (1, 3),
        "max_steps": (1, 3),
        "blend": (0.0, 0.5, 1.0),
        "evaluate_every": (1, "2 epochs"),
    }.items():
        if rng.random() < 0.2:
            fit[name] = pick(rng, *values)
    if x.dtype.kind == "i" or x.dtype == np.float16:
        fit["preprocess_fn"] = to_float32
    seed = int(rng.integers(100))
    described = {**make, **fit, "seed": seed}
    what = f"{kind} {list(x.shape)} {x.dtype} to {8 if with_conv else width}, {described}"
    try:
        with refusals() as refused:
            data = dataset(rng, kind, x, 8 if with_conv else width)
            model = backend.conv() if with_conv else backend.mlp(16, 8, width)
            if kind == "pairs" and not with_conv and rng.random() < 0.4:
                model = backend.two_inputs(model, backend.mlp(16, 8, width, seed=1))
            made = backend.Tuner(model, callbacks=[], seed=seed, **make)
            trained = made.fit(data, data if rng.random() < 0.3 else None, **fit)
        if refused:
            return REFUSED
        for row in trained.history:
            wrong = [name for name, value in row.items() if value is None or not np.isfinite(value)]
            require(not wrong, f"history has {wrong}")
        finite = all(np.isfinite(np.asarray(value)).all() for value in made.model_state().values())
        require(finite, "weights are not finite")
        if rng.random() < 0.1:
            import shutil

            shutil.rmtree(folder / "trained", ignore_errors=True)
            trained.save(folder / "trained")
    except Failure as failure:
        raise Failure(f"{what}: {failure}") from failure
    return RAN


def to_float32(item):
    return np.asarray(item, np.float32)


KINDS = {"tuner": tuner}
