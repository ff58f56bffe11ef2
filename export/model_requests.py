"""Rows of inputs as the requests that a model takes: all at once, or in its fixed shape, or without padding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from ortnas.bench.session import Session, fixed_shapes
from ortnas.nas.arrays import Feeds
from ortnas.nas.failures import OrtnasError

MASK = "attention_mask"


class RequestError(OrtnasError, ValueError):
    """Inputs that a model cannot be asked; the message says why."""


def requests_of(session: Session, feeds: Feeds) -> Iterator[tuple[list[int], Feeds]]:
    """The numbers of rows, and the request whose first outputs answer them.

    ``feeds`` are int64 [rows, sequence], padded at their ends. A model of a fixed batch has what is lacking filled up
    with rows that are there. Raises RequestError for rows that do not fit a fixed length.
    """
    asked = [item.name for item in session.get_inputs()]
    shapes, count = fixed_shapes(session), len(feeds[MASK])
    if shapes is None and MASK in asked:
        yield list(range(count)), {name: feeds[name] for name in asked if name in feeds}
        return
    lengths = feeds[MASK].sum(1).tolist()
    for rows, length in _batches(lengths, shapes, MASK in asked):
        chosen = np.resize(rows, shapes[0]) if shapes else rows
        yield rows, {name: _of_length(feeds[name][chosen], length) for name in asked if name in feeds}


def _batches(lengths: Sequence[int], shapes: tuple[int, int] | None, has_mask: bool) -> Iterator[tuple[list[int], int]]:
    """Rows that go together, and the length that they are brought to."""
    if shapes is None:
        for length in sorted(set(lengths)):
            yield [row for row, own in enumerate(lengths) if own == length], length
        return
    batch, sequence = shapes
    for own in lengths:
        if own > sequence or (own < sequence and not has_mask):
            most = "at most" if has_mask else "exactly"
            raise RequestError(f"the model takes texts of {most} {sequence} tokens, and one has {own}")
    for start in range(0, len(lengths), batch):
        yield list(range(start, min(start + batch, len(lengths)))), sequence


def _of_length(ids: npt.NDArray[np.int64], length: int) -> npt.NDArray[np.int64]:
    """Rows that end, or are padded, at a length."""
    return np.pad(ids[:, :length], ((0, 0), (0, max(0, length - ids.shape[1]))))
