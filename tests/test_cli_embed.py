"""The commands ``evaluate`` and ``embed``: duplicates, tables of embeddings, and standard input."""

import json

import numpy as np
import pytest

import finetuner
from finetuner import ClassDataset, PairDataset

from .commands import error, folder, model, run  # noqa: F401  (folder and model are fixtures)
from .toy import TEST, D

# Duplicates ------------------------------------------------------------------------------------------------

TWICE = ClassDataset(np.repeat(TEST.x, 2, axis=0), np.repeat(TEST.classes[TEST.labels], 2))  # each item twice
NAMES = ["hit@1", "mAP@R"]


def test_exclude_duplicates(backend):
    pytest.importorskip("faiss")
    embed_model = backend.mlp(D, 32, 8)
    options = {"metrics": NAMES, "batch_size": len(TWICE)}  # one batch: equal items have equal embeddings
    assert finetuner.evaluate(embed_model, TWICE, **options)["hit@1"] == 1
    excluded = finetuner.evaluate(embed_model, TWICE, exclude_duplicates=True, **options)
    expected = finetuner.evaluate(embed_model, TEST, **options)
    assert excluded["hit@1"] == pytest.approx(expected["hit@1"])
    assert excluded["hit@1"] < 1
    tuner = backend.Tuner(embed_model)
    assert tuner.evaluate(TWICE, exclude_duplicates=True, **options) == excluded
    in_index = finetuner.evaluate(embed_model, TEST, TEST, exclude_duplicates=True, **options)
    assert in_index == pytest.approx(expected)
    pairs = PairDataset(TEST.x, TEST.x, score=np.arange(len(TEST)))
    with pytest.raises(ValueError, match="exclude_duplicates must be used with data that is searched .*spearman"):
        finetuner.evaluate(embed_model, pairs, exclude_duplicates=True)


def test_evaluate_without_duplicates(model, folder):
    np.savez("twice.npz", x=TWICE.x, y=TWICE.classes[TWICE.labels])
    chosen = ("evaluate", "--model", f"{model}:make", "--metric", "hit@1", "--json")
    with_duplicates, without, expected = (
        json.loads(run(*chosen, *more).stdout)["hit@1"]
        for more in (
            ("--data", "twice.npz"),
            ("--data", "twice.npz", "--exclude-duplicates"),
            ("--data", "test.npz"),
        )
    )
    assert with_duplicates == 1
    assert without == pytest.approx(expected)
    assert without < 1
