"""Texts to model inputs, with the tokenizer of a supernet folder: one way for training, scoring and packages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Feeds = dict[str, npt.NDArray[np.int64]]
TOKENIZER_FILE = "tokenizer.json"


class TokenizerError(ValueError):
    """A tokenizer that is missing or does not belong to the model."""


@dataclass(frozen=True)
class Example:
    """One text, or a pair of texts, with a label id where the task has labels."""

    text: str
    pair: str | None = None
    label: int | None = None


@dataclass(frozen=True)
class EncodedExamples:
    """Token ids of many examples, each of its own length."""

    ids: list[list[int]]
    type_ids: list[list[int]]

    def __len__(self) -> int:
        return len(self.ids)

    def feeds(self, rows: Sequence[int]) -> Feeds:
        """The chosen examples as int64 arrays [batch, sequence], padded to the longest of them."""
        length = max(len(self.ids[row]) for row in rows)
        feeds = {
            name: np.zeros((len(rows), length), np.int64) for name in ("input_ids", "attention_mask", "token_type_ids")
        }
        for position, row in enumerate(rows):
            used = len(self.ids[row])
            feeds["input_ids"][position, :used] = self.ids[row]
            feeds["attention_mask"][position, :used] = 1
            feeds["token_type_ids"][position, :used] = self.type_ids[row]
        return feeds

    def batches(self, size: int) -> Iterator[tuple[list[int], Feeds]]:
        """All examples in batches of similar length, with the rows that each batch holds."""
        order = sorted(range(len(self)), key=lambda row: len(self.ids[row]))
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            yield rows, self.feeds(rows)


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a folder, without the truncation and padding that its file may carry.

    Raises TokenizerError where there is none.
    """
    from tokenizers import Tokenizer

    path = folder / TOKENIZER_FILE
    if not path.is_file():
        raise TokenizerError(f"{folder} holds no {TOKENIZER_FILE}")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the tokenizers package raises plain Exception
        raise TokenizerError(f"{path} cannot be read: {error}") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def encode(tokenizer: Tokenizer, examples: Sequence[Example], max_length: int) -> EncodedExamples:
    """Token ids, cut to max_length with the special tokens kept."""
    tokenizer.enable_truncation(max_length)
    inputs = [example.text if example.pair is None else (example.text, example.pair) for example in examples]
    encodings = tokenizer.encode_batch(inputs)
    return EncodedExamples([encoding.ids for encoding in encodings], [encoding.type_ids for encoding in encodings])
