"""Examples at the end of the help. Lines have at most 78 characters, so a terminal of 80 columns does not wrap them."""

__all__ = ["EMBED_EXAMPLES", "EVALUATE_EXAMPLES", "FIT_EXAMPLES"]

FIT_EXAMPLES = r"""Examples:

$ finetuner fit --data train.npz --model model.py:make --output run

$ finetuner fit --data train.csv --input-column text --label-column topic \
    --model model.py:make --collate model.py:tokenize \
    --loss SupConLoss --loss-option temperature=0.05 --output run

$ finetuner fit --data images --eval-data new_classes --image-size 64 \
    --model model.py:make --keep-best --output run
"""

EVALUATE_EXAMPLES = r"""Examples:

$ finetuner evaluate --run run --data test.csv

$ finetuner evaluate --run run --data queries.csv --index-data catalog.csv

$ finetuner evaluate --model model.py:make --data test.npz --metric hit@1
"""

EMBED_EXAMPLES = r"""Examples:

$ finetuner embed --run run --data new.csv --output embeddings.npz

$ finetuner embed --model model.py:make --data test.npz --label-column y \
    --output embeddings.npz
"""
