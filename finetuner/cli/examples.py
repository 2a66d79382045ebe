"""Examples at the end of the help. Lines have at most 78 characters, so a terminal of 80 columns does not wrap them."""

__all__ = ["EMBED_EXAMPLES", "EVALUATE_EXAMPLES", "FIT_EXAMPLES"]

FIT_EXAMPLES = r"""Examples:

$ finetuner fit --data train.npz --model model.py:make --output run

$ finetuner fit --data train.csv --input-column text --label-column topic \
    --model model.py:make --collate model.py:tokenize \
    --loss SupConLoss --loss-option temperature=0.05 --output run

$ finetuner fit --data images --eval-data new_classes --image-size 64 \
    --model model.py:make --keep-best --output run

$ finetuner fit --config options.toml --learning-rate 1e-4 --output run

$ finetuner fit --data train.csv --model model.py:make --epochs 3 \
    --optimizer AdamW --schedule cosine --warmup 0.1 --clip-norm 1 \
    --checkpoint-every '500 steps' --keep-checkpoints 2 --output run

$ finetuner fit --resume run-checkpoints --trust
"""

EVALUATE_EXAMPLES = r"""Examples:

$ finetuner evaluate --run run --trust --data test.csv

$ finetuner evaluate --run run --model model.py:make --data queries.csv \
    --index-data catalog.csv --json

$ finetuner evaluate --model model.py:make --data test.npz --metric hit@1

$ finetuner evaluate --embeddings 'part-*.npz' --run run
"""

EMBED_EXAMPLES = r"""Examples:

$ finetuner embed --run run --trust --data new.csv --output embeddings.npz

$ finetuner embed --model model.py:make --data test.npz --label-column y \
    --output embeddings.npz

$ finetuner embed --run run --trust --data new.csv --output new.parquet

$ finetuner embed --run run --data new.csv --part 3/8 --output part-3.npy
"""
