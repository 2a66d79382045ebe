"""Embedding and evaluating in parts: the parts of several processes are what one process computes."""

import itertools

import numpy as np
import pytest

import finetuner
from finetuner.tuner.base.data.embedding_plan import WINDOW, embedding_batches, part_rows

from .toy import TEST, D

LETTERS = "abcdefgh"


def padded(texts):
    """Texts as codes of letters, padded to the longest of the batch, as a tokenizer does."""
    width = max(map(len, texts))
    codes = np.zeros((len(texts), width, D), np.float32)
    for row, text in zip(codes, texts, strict=True):
        row[range(len(text)), [LETTERS.index(letter) for letter in text]] = 1
    return codes


def words(count, seed=0):
    rng = np.random.default_rng(seed)
    return ["".join(rng.choice(list(LETTERS), size)) for size in rng.integers(1, 60, count)]


def collate_with_a_trace(batches):
    """A function that pads texts and then sums them over their length, with the width of the batch as a trace.

    An embedding thus depends on the batch that it is in, so that another batch cannot go unseen.
    """

    def collate(texts):
        batches.append(list(texts))
        codes = padded(texts)
        return codes.sum(axis=1) + np.float32(codes.shape[1])

    return collate


@pytest.mark.parametrize("parts", [1, 2, 3, 8])
@pytest.mark.parametrize("batch_size", [7, 48, 100])
def test_parts_of_arrays_are_the_bits_of_one_process(backend, parts, batch_size):
    encoder = backend.Tuner(backend.mlp(D, 32, 8)).encoder
    whole = encoder.embed(TEST.x, batch_size=batch_size)
    pieces = [encoder.embed(TEST.x, batch_size=batch_size, part=(number, parts)) for number in range(1, parts + 1)]
    rows = [encoder.rows_of_part(TEST.x, (number, parts), batch_size) for number in range(1, parts + 1)]
    assert np.array_equal(np.concatenate(pieces), whole)
    for piece, chosen in zip(pieces, rows, strict=True):
        assert piece.shape == whole[chosen].shape  # [0, D] of an empty part
        assert piece.dtype == whole.dtype
        assert np.array_equal(piece, whole[chosen])
        assert chosen.start % batch_size == 0
        assert chosen.stop % batch_size == 0 or chosen.stop == len(whole)
    if parts * batch_size <= len(whole):
        assert all(len(piece) for piece in pieces)


@pytest.mark.parametrize("parts", [2, 5])
def test_parts_of_texts_are_the_bits_of_one_process(backend, parts):
    texts, batches = words(3 * WINDOW * 4 - 10), []
    encoder = backend.Tuner(backend.mlp(D, 32, 8)).encoder
    options = {"collate_fn": collate_with_a_trace(batches), "batch_size": 4}
    whole = encoder.embed(texts, **options)
    of_one_process = [tuple(batch) for batch in batches]
    batches.clear()
    pieces = [encoder.embed(texts, **options, part=(number, parts)) for number in range(1, parts + 1)]
    assert np.array_equal(np.concatenate(pieces), whole)
    assert [len(piece) for piece in pieces] == {2: [256, 502], 5: [0, 256, 0, 256, 246]}[parts]
    assert sorted(of_one_process) == sorted(tuple(batch) for batch in batches if len(batch) > 1)
    third = encoder.embed(texts, **options, part=(2, parts))  # a part that was lost
    assert np.array_equal(third, pieces[1])
    # The texts depend on their batch, or this test would not see wrong batches.
    assert not np.array_equal(encoder.embed(texts, collate_fn=options["collate_fn"], batch_size=5), whole)


def test_parts_of_a_tokenizer_are_the_bits_of_one_process(backend):
    tokenizers = pytest.importorskip("tokenizers")
    vocabulary = {"[PAD]": 0, **{letter: number for number, letter in enumerate(LETTERS, 1)}}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[PAD]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Split("", "isolated")
    tokenizer.enable_padding()

    def tokenize(texts):
        ids = np.array([encoding.ids for encoding in tokenizer.encode_batch(texts)])
        counts = np.stack([(ids == number).sum(axis=1) for number in range(D)], axis=1)
        return counts.astype(np.float32)  # the number of [PAD] depends on the batch

    model, texts = backend.mlp(D, 32, 8), words(2 * WINDOW * 3)
    options = {"collate_fn": tokenize, "batch_size": 3}
    whole = finetuner.embed(model, texts, **options)
    pieces = [finetuner.embed(model, texts, **options, part=(number, 2)) for number in (1, 2)]
    assert np.array_equal(np.concatenate(pieces), whole)
    assert [len(piece) for piece in pieces] == [WINDOW * 3, WINDOW * 3]


def test_parts_of_components_and_bits(backend):
    encoder = backend.Tuner(backend.mlp(D, 32, 8)).encoder
    for form in ({"dim": 3}, {"dtype": "ubinary"}, {"dtype": "int8", "calibration": TEST_EMBEDDINGS}):
        whole = encoder.embed(TEST.x, batch_size=16, **form)
        pieces = [encoder.embed(TEST.x, batch_size=16, part=(number, 4), **form) for number in range(1, 5)]
        assert len(pieces[0]) == 0
        assert {piece.dtype for piece in pieces} == {whole.dtype}
        assert np.array_equal(np.concatenate(pieces), whole)
    with pytest.raises(ValueError, match="calibration must be given for a part and dtype 'int8'"):
        encoder.embed(TEST.x, part=(1, 2), dtype="int8")
    assert len(encoder.embed(TEST.x, part=(1, 1), dtype="int8")) == len(TEST.x)


TEST_EMBEDDINGS = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)


@pytest.mark.parametrize(
    ("part", "error"),
    [((0, 8), ValueError), ((9, 8), ValueError), ((3, 0), ValueError), ((-1, 2), ValueError), ((1, -2), ValueError)]
    + [(part, TypeError) for part in (3, "3/8", (1, 2, 3), (1.0, 2), (True, 2), ("1", 2), (), [None, 1])],
)
def test_wrong_parts(backend, part, error):
    encoder = backend.Tuner(backend.mlp(D, 32, 8)).encoder
    with pytest.raises(
        error, match=r"part must be (two integers|from 1 to the number of parts), such as \(3, 8\).*got"
    ):
        encoder.embed(TEST.x, part=part)
    with pytest.raises(error, match="part must be"):
        encoder.rows_of_part(TEST.x, part)


def test_each_row_is_in_one_part():
    for count, batch_rows, is_sorted, parts in itertools.product(
        (1, 5, 64, 1000), (1, 3, 64), (False, True), (1, 3, 7)
    ):
        slices = [part_rows(count, batch_rows, is_sorted, (number, parts)) for number in range(1, parts + 1)]
        assert [*itertools.chain(*(range(count)[rows] for rows in slices))] == [*range(count)]


def test_batches_are_sorted_within_windows():
    lengths = np.random.default_rng(0).integers(1, 30, 3 * WINDOW * 2)
    batches = embedding_batches(lengths, slice(0, len(lengths)), 2)
    longest = [lengths[batch].max() for batch in batches]
    assert longest == sorted(longest, reverse=True)  # memory is short at once or never
    assert sorted(np.concatenate(batches)) == [*range(len(lengths))]
    for batch in batches:
        assert len(set(batch // (WINDOW * 2))) == 1
    one_window = embedding_batches(lengths[: WINDOW * 2], slice(0, WINDOW * 2), 2)
    expected = np.argsort(-lengths[: WINDOW * 2], kind="stable")
    assert np.array_equal(np.concatenate(one_window), expected)
