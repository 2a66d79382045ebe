"""Banking77 with static embeddings: a table of word vectors is trained in any framework, in seconds on a CPU.

The package wordllama carries a pre-trained table. It is trained on 10,000 questions with 77 intents. The evaluation
searches, for each test question, the nearest other test questions:

    KERAS_BACKEND=jax python examples/banking77_static.py --data banking77/ --framework keras
    python examples/banking77_static.py --data banking77/ --framework paddle

The data is available at https://github.com/PolyAI-LDN/task-specific-datasets. Install
``pip install "finetuner[keras,data,text]" jax wordllama``, or ``paddle`` or ``pytorch`` in place of ``keras`` and an
engine.
"""

import argparse
from pathlib import Path

import finetuner
from finetuner.data import load


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with train.csv and test.csv")
    parser.add_argument("--framework", choices=["pytorch", "keras", "paddle"], default="keras")
    parser.add_argument("--model", default="wordllama", help="wordllama, or a folder of model2vec or StaticEmbedding")
    parser.add_argument("--epochs", type=int, default=3)
    options = parser.parse_args(arguments)

    train, test = (
        load(options.data / name, input_column="text", label_column="category") for name in ("train.csv", "test.csv")
    )
    encoder = finetuner.load_model(options.model, framework=options.framework)
    run = finetuner.fit(encoder, train, test, epochs=options.epochs, metrics=["hit@1", "mAP@R"])
    for when, scores in run.metrics.items():
        print(f"{when:8}  hit@1 {scores['hit@1']:.3f}   mAP@R {scores['mAP@R']:.3f}")


if __name__ == "__main__":
    main()
