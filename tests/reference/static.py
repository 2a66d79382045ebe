"""Static embeddings, one text at a time."""

import numpy as np

from .batches import points

TABLE = points(7, 3, seed=4)
IDS = np.array([[3, 1, 4, 1], [5, 0, 0, 0], [2, 6, 5, 0], [6, 6, 6, 6]])
MASK = np.array([[1, 1, 1, 1], [0, 0, 0, 0], [1, 1, 0, 0], [0, 1, 0, 1]])
ANYWHERE = np.where(MASK, IDS, [[-7, 7, 10**6, 3]])  # ids of padding that are not in the table

INPUTS = {
    "padded": (IDS, MASK),
    "no mask": (IDS, None),
    "ids of padding": (ANYWHERE, MASK),
    "boolean mask": (IDS, MASK.astype(bool)),
    "no tokens": (IDS, np.zeros_like(MASK)),
    "one token": (IDS[:, :1], MASK[:, :1]),
}


def static_embedding(table, ids, mask, normalize=False):
    """The mean of the rows of each text."""
    embeddings = np.zeros((len(ids), table.shape[1]), table.dtype)
    for i, text in enumerate(ids):
        rows = [table[token] for s, token in enumerate(text) if mask is None or mask[i, s]]
        if rows:
            embeddings[i] = sum(rows) / len(rows)
            length = np.sqrt((embeddings[i] ** 2).sum())
            if normalize and length > 0:
                embeddings[i] /= length
    return embeddings
