"""A user's own datasets, in a file of their own: they know nothing of the library's classes but ``Dataset``."""

import numpy as np

from finetuner import Dataset


class FolderPerClass(Dataset):
    """Items of named classes. It only sets the labels and the names."""

    target_types = ("relations", "classes")

    def __init__(self, folders):
        super().__init__(np.concatenate(list(folders.values())))
        self.classes = np.array(list(folders))
        self.labels = np.repeat(np.arange(len(folders), dtype=np.int32), [len(x) for x in folders.values()])

    def __repr__(self):
        return f"FolderPerClass({len(self.classes)} folders)"


class ClickLog(Dataset):
    """Queries with what was clicked and what was not, as sessions and roles."""

    def __init__(self, x, queries, clicked):
        super().__init__(x)
        self.classes, codes = np.unique(queries, return_inverse=True)
        self.labels = np.stack([codes, clicked], axis=1).astype(np.int32)

    def __repr__(self):
        return f"ClickLog({len(self)} items)"


class Ages(Dataset):
    """Items with a number each, a sampler and an evaluator of their own."""

    target_types = ("values",)

    def __init__(self, x, ages):
        super().__init__(x)
        self.labels, self.classes = np.asarray(ages, np.float32)[:, None], np.zeros(0, np.int32)

    def __repr__(self):
        return f"Ages({len(self)} items)"

    def evaluator(self, metrics=None):
        return MeanAbsoluteError(self.labels)


class MeanAbsoluteError:
    names = ("mean_absolute_error",)

    def __init__(self, labels):
        self.labels = labels

    def __call__(self, embeddings, distance):
        return {"mean_absolute_error": float(np.abs(embeddings - self.labels).mean())}
