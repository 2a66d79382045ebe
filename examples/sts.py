"""STS: teach a sentence encoder to find two sentences as alike as people do.

Readers gave pairs of headlines and captions a score from 0, nothing in common, to 5, the same. MiniLM is
trained until its cosines follow those of 2014, and is asked for the order of the headlines of 2013:

    python examples/sts.py
    python examples/sts.py --train 2014.deft 2014.images --test 2014.headlines    # to choose by

It needs ``pip install "finetuner[pytorch,examples]"``.
"""

import argparse
import csv
from functools import partial
from pathlib import Path

from banking77 import DATA, collate, model

import finetuner


def read(folder, names):
    """Scored pairs of the files ``<name>*.tsv``: score, sentence, sentence."""
    first, second, scores = [], [], []
    for path in sorted({path for name in names for path in folder.glob(f"{name}*.tsv")}):
        with open(path, encoding="utf-8", newline="") as file:
            # A quotation mark is a part of its sentence here: some are never closed.
            for score, one, other in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
                if score.strip():  # a pair that nobody has scored says nothing
                    scores.append(float(score))
                    first.append(one.strip())
                    second.append(other.strip())
    if not scores:
        raise SystemExit(f"no scored pair in {folder} for {', '.join(names)}")
    return finetuner.PairDataset(first, second, scores)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, default=DATA / "sts", help="folder of .tsv files")
    parser.add_argument("--train", nargs="+", default=["2014."], help="how names of files begin")
    parser.add_argument("--test", nargs="+", default=["2013.headlines"], help="how names of files begin")
    parser.add_argument("--model", type=Path, help="a sentence-transformers folder; by default MiniLM")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=32, help="pairs")
    parser.add_argument("--learning-rate", type=float, default=5e-5)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)

    train, test = read(options.data, options.train), read(options.data, options.test)
    run = finetuner.fit(
        model(options.model),
        train,
        test,
        loss="CosineSimilarityLoss",
        loss_options={"low": 0, "high": 5},
        learning_rate=options.learning_rate,
        seed=options.seed,
        epochs=options.epochs,
        batch_size=options.batch_size,
        collate_fn=partial(collate, folder=options.model),
    )
    print(f"{'':8}  Spearman")
    for when, scores in run.metrics.items():
        print(f"{when:8}  {scores['spearman']:8.3f}")
    seconds = sum(row.get("seconds", 0) for row in run.history)
    print(f"{options.epochs} epoch of {len(train):,} pairs: {seconds:.0f} s")


if __name__ == "__main__":
    main()
