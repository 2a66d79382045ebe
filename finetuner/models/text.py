"""Texts as items: from a list of strings to the tokens that a model takes."""

import copy
import multiprocessing
import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .. import checks
from ..arrays import as_list, num_items

__all__ = ["Tokenize", "TokenizeStatic", "check_texts", "prompts_by_side"]

SAMPLE = 1000  # texts that are tokenized to tell how many are cut


class Tokenize:
    """Tokenizes a list of texts: a ``collate_fn``.

    Args:
        tokenizer: A tokenizer of ``transformers``.
        max_length: The largest number of tokens. Longer texts are cut.
        prompt: Text before each text.
        lowercase: Whether texts are converted to lower case.
        include_prompt: Whether the tokens of the prompt count in the pooling.

    Returns:
        A mapping of int64 arrays ``[N, T]``, padded to the longest text of the batch.

    Raises:
        TypeError: If an item is not a text.
    """

    def __init__(
        self, tokenizer: Any, max_length: int, prompt: str = "", lowercase: bool = False, include_prompt: bool = True
    ):
        self.tokenizer, self.max_length, self.prompt = tokenizer, max_length, prompt
        self.lowercase, self.include_prompt = lowercase, include_prompt

    def arguments(self) -> dict[str, Any]:
        """What describes this in the settings of a run."""
        return {"max_length": self.max_length, "prompt": self.prompt}

    def __call__(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        """Tokenize a batch."""
        forbid_threads_of_workers()
        tokens = self.tokenizer(
            self.prepared(texts), padding=True, truncation=True, max_length=self.max_length, return_tensors="np"
        )
        arrays = {name: np.asarray(values, np.int64) for name, values in tokens.items()}
        if self.prompt and not self.include_prompt:
            arrays["pooling_mask"] = self.without_prompt(arrays["attention_mask"])
        return arrays

    def prepared(self, texts: Sequence[str]) -> list[str]:
        """The texts with their prompt."""
        for text in texts:
            if not isinstance(text, str):
                raise TypeError(f"items must be texts, got {type(text).__name__}: {in_one_line(text)}")
        joined = [self.prompt + text for text in texts]
        return [text.lower() for text in joined] if self.lowercase else joined

    def without_prompt(self, mask: np.ndarray) -> np.ndarray:
        """The mask ``[N, T]`` without the tokens of the prompt, and without those that stand before it."""
        ids = self.tokenizer(self.prepared([""]))["input_ids"][0]
        length = len(ids) - (ids[-1] in self.tokenizer.all_special_ids)  # without the token at the end of a text
        first = mask.argmax(axis=1)
        return mask * (np.arange(mask.shape[1]) >= (first + length)[:, None])

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """The number of tokens of each text, if it were not cut."""
        return list(map(len, self.tokenizer(self.prepared(texts), truncation=False, verbose=False)["input_ids"]))

    def check(self, items: Any) -> None:
        """Raise an error unless all items are texts. Warn of empty texts, and of texts that are cut."""
        texts = check_texts(items)
        candidates = [text for text in texts if len(text.encode()) + len(self.prompt.encode()) + 2 > self.max_length]
        # A text has at most as many tokens as bytes, so most short ones need no tokenizer.
        sample = sorted(candidates, key=len, reverse=True)[:SAMPLE]
        if sample:
            lengths = self.lengths(sample)
            cut = sum(length > self.max_length for length in lengths)
            if cut:
                least = "at least " if cut == len(sample) < len(candidates) else ""
                warnings.warn(
                    f"{least}{cut:,} of {len(texts):,} texts are longer than {self.max_length} tokens and are cut; the "
                    f"longest has {max(lengths):,} tokens (max_length)",
                    stacklevel=2,
                )


class TokenizeStatic(Tokenize):
    """Tokenizes a list of texts for static embeddings: a ``collate_fn``. No special tokens are added.

    Args:
        tokenizer: A ``tokenizers.Tokenizer``, which cuts texts at ``max_length``.
        max_length: The largest number of tokens; None for no limit.
        prompt: Text before each text.
        unknown: The id of a token that is left out; None to keep all.
        max_characters: Longer texts are cut before they are tokenized.
        dtype: Of the ids and of the mask.
        few_lengths: Whether T is rounded up to a power of two, for a compiler that compiles each shape by itself.

    Returns:
        ``input_ids`` and ``attention_mask``, ``[N, T]``. T is at least 1.

    Raises:
        TypeError: If an item is not a text.
    """

    def __init__(
        self,
        tokenizer: Any,
        max_length: int | None,
        prompt: str = "",
        *,
        unknown: int | None = None,
        max_characters: int | None = None,
        dtype: str = "int64",
        few_lengths: bool = False,
    ):
        super().__init__(tokenizer, max_length or 0, prompt)
        self.unknown, self.max_characters, self.dtype, self.few_lengths = unknown, max_characters, dtype, few_lengths

    def __call__(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        """Tokenize a batch."""
        forbid_threads_of_workers()
        cut = [text[: self.max_characters] for text in self.prepared(texts)]
        found = [one.ids for one in self.tokenizer.encode_batch_fast(cut, add_special_tokens=False)]
        if self.unknown is not None:
            found = [[token for token in ids if token != self.unknown] for ids in found]
        lengths = np.array([len(ids) for ids in found], np.int64)
        longest = max(1, *lengths)
        if self.few_lengths:
            longest = max(8, 1 << int(longest - 1).bit_length())
        mask = np.arange(longest) < lengths[:, None]
        input_ids = np.zeros(mask.shape, self.dtype)
        input_ids[mask] = [token for ids in found for token in ids]
        return {"input_ids": input_ids, "attention_mask": mask.astype(self.dtype)}

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """The number of tokens of each text, if it were not cut."""
        tokenizer = copy.deepcopy(self.tokenizer)
        tokenizer.no_truncation()
        return [len(one.ids) for one in tokenizer.encode_batch_fast(self.prepared(texts), add_special_tokens=False)]

    def check(self, items: Any) -> None:
        """Raise an error unless all items are texts. Warn of empty texts, and of texts that are cut."""
        if self.max_length:
            super().check(items)
        else:
            check_texts(items)


def forbid_threads_of_workers() -> None:
    """In a worker process, tokenize in one thread: threads after a fork can hang."""
    if multiprocessing.parent_process() is not None:
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def check_texts(items: Any) -> list[str]:
    """The items as a list of texts.

    Raises:
        TypeError: If an item is not a text. The message names the first one.
    """
    if isinstance(items, Mapping):
        raise TypeError(f"items must be texts, got a mapping with {checks.preview(list(items))}")
    if isinstance(items, np.ndarray) and items.dtype.kind in "biufc":
        raise TypeError(f"items must be texts, got an array of {items.dtype} {list(items.shape)}")
    texts = as_list(items, num_items(items))
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"items must be texts, got {type(text).__name__} at item {number}: {in_one_line(text)}")
    empty = sum(not text.strip() for text in texts)
    if empty:
        warnings.warn(f"{empty:,} of {len(texts):,} texts are empty", stacklevel=3)
    return texts


def in_one_line(item: Any) -> str:
    """The beginning of the representation of an item, for a message."""
    return " ".join(repr(item).split())[:80]


def prompts_by_side(prompts: Any, known: Mapping[str, str], default: str | None) -> tuple[str, str]:
    """The prompts of queries and of passages.

    Args:
        prompts: A text for all items, a pair of texts, one per side, or None for the model's own.
        known: The model's prompts by name.
        default: The name of the prompt that the model has for all texts.

    Raises:
        TypeError: If it is neither.
    """
    if prompts is None:
        own = known.get(default, "") if default else ""
        return own, own
    if isinstance(prompts, str):
        return prompts, prompts
    if isinstance(prompts, tuple | list) and len(prompts) == 2 and all(isinstance(one, str) for one in prompts):
        return prompts[0], prompts[1]
    raise TypeError(f"prompts must be a text, or a pair of texts for queries and passages, got {prompts!r:.100}")
