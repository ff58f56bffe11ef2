"""Documents to packed sequences of token ids."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Ids = npt.NDArray[np.int32]
# The end of a document is kept as a short sequence from this many tokens on.
LEAST_TOKENS = 16
# Texts are tokenised this many characters at a time, which bounds memory; longer lines are split at spaces.
_BATCH_CHARACTERS, _LINE_CHARACTERS = 1_000_000, 20_000


@dataclass
class Tally:
    """What packing has seen so far; tokens do not count the two special ones of each sequence."""

    documents: int = 0
    tokens: int = 0
    ends_left_out: int = 0
    tokens_left_out: int = 0


def special_ids(tokenizer: Tokenizer) -> tuple[int, int]:
    """The ids of the tokens that open and close a sequence, such as [CLS] and [SEP], or <s> and </s>.

    Raises ValueError where the tokenizer adds none.
    """
    ids = tokenizer.encode("").ids
    if len(ids) < 2:
        raise ValueError("the tokenizer does not put special tokens around a text")
    return ids[0], ids[-1]


def pack(
    texts: Iterable[tuple[int, str]], tokenizer: Tokenizer, max_length: int, tally: Tally, lower: bool = False
) -> Iterator[Ids]:
    """Sequences of at most max_length ids, in order: the tokens of one document, cut, between special tokens.

    ``texts`` come with the number of their document. The end of a document is left out where it has fewer than 16
    tokens. ``tally`` counts along.
    """
    opening, closing = special_ids(tokenizer)
    width, none = max_length - 2, np.empty(0, np.int32)
    current, unpacked = -1, none
    for number, ids in chain(_tokens(texts, tokenizer, lower), [(-1, none)]):
        if number != current:
            if len(unpacked) >= LEAST_TOKENS:
                tally.tokens += len(unpacked)
                yield _framed(unpacked, opening, closing)
            elif len(unpacked):
                tally.ends_left_out += 1
                tally.tokens_left_out += len(unpacked)
            tally.documents += number >= 0
            current, unpacked = number, none
        unpacked = np.concatenate([unpacked, ids])
        used = len(unpacked) // width * width
        for start in range(0, used, width):
            yield _framed(unpacked[start : start + width], opening, closing)
        tally.tokens += used
        unpacked = unpacked[used:]


def _framed(ids: Ids, opening: int, closing: int) -> Ids:
    sequence = np.empty(len(ids) + 2, np.int32)
    sequence[0], sequence[1:-1], sequence[-1] = opening, ids, closing
    return sequence


def _tokens(texts: Iterable[tuple[int, str]], tokenizer: Tokenizer, lower: bool) -> Iterator[tuple[int, Ids]]:
    for batch in _batches(texts, lower):
        encodings = tokenizer.encode_batch_fast([text for _, text in batch], add_special_tokens=False)
        for (number, _), encoding in zip(batch, encodings, strict=True):
            yield number, np.array(encoding.ids, np.int32)


def _batches(texts: Iterable[tuple[int, str]], lower: bool) -> Iterator[list[tuple[int, str]]]:
    batch: list[tuple[int, str]] = []
    characters = 0
    for number, text in texts:
        for piece in _pieces(text.lower() if lower else text):
            batch.append((number, piece))
            characters += len(piece)
            if characters >= _BATCH_CHARACTERS:
                yield batch
                batch, characters = [], 0
    if batch:
        yield batch


def _pieces(text: str) -> Iterator[str]:
    start = 0
    while len(text) - start > _LINE_CHARACTERS:
        space = text.rfind(" ", start + 1, start + _LINE_CHARACTERS)
        end = start + _LINE_CHARACTERS if space < 0 else space
        yield text[start:end]
        start = end
    yield text[start:]
