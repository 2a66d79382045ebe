"""STS: fine-tune a sentence encoder so that its cosine similarities follow human similarity scores.

People gave pairs of sentences a score from 0 (unrelated) to 5 (equivalent). MiniLM is trained on the pairs of 2014 and
evaluated on the headlines of 2013, by the rank correlation of its cosine similarities with the scores:

    python examples/sts.py --data sts/
    python examples/sts.py --data sts/ --train 2014.deft 2014.images --test 2014.headlines    # to select options

The data are the SemEval test sets of STS 2013 and 2014. Install ``pip install "finetuner[pytorch,examples]"``.
"""

import argparse
import csv
from pathlib import Path

from banking77 import minilm

import finetuner


def read(folder, names):
    """The scored pairs in the files ``<name>*.tsv``, whose columns are score, sentence and sentence."""
    first, second, scores = [], [], []
    for path in sorted({path for name in names for path in folder.glob(f"{name}*.tsv")}):
        with open(path, encoding="utf-8", newline="") as file:
            # Quotation marks belong to the sentences, and some are not closed.
            for score, sentence1, sentence2 in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
                if score.strip():  # some pairs have no score
                    scores.append(float(score))
                    first.append(sentence1.strip())
                    second.append(sentence2.strip())
    if not scores:
        raise SystemExit(f"{folder} must have scored pairs in files that begin with {', '.join(names)}, got none")
    return finetuner.PairDataset(first, second, scores)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        help="folder with .tsv files without a header, whose columns are score, sentence and sentence",
    )
    parser.add_argument("--train", nargs="+", default=["2014."], help="prefixes of the files to train on")
    parser.add_argument("--test", nargs="+", default=["2013.headlines"], help="prefixes of the files to evaluate on")
    parser.add_argument("--model", help="folder or name of another model; the default is MiniLM")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=32, help="in pairs")
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)

    train, test = read(options.data, options.train), read(options.data, options.test)
    run = finetuner.fit(
        options.model or minilm(),
        train,
        test,
        loss="CosineSimilarityLoss",
        loss_options={"low": 0, "high": 5},
        model_options={"max_length": 64},
        learning_rate=options.learning_rate,
        seed=options.seed,
        epochs=options.epochs,
        batch_size=options.batch_size,
    )
    print(f"{'':8}  Spearman")
    for when, scores in run.metrics.items():
        print(f"{when:8}  {scores['spearman']:8.3f}")
    seconds = sum(row.get("seconds", 0) for row in run.history)
    print(f"{options.epochs} epochs of {len(train):,} pairs: {seconds:.0f} s")


if __name__ == "__main__":
    main()
