"""The failure of everything that reads data, the lists in its sentences, and the notes on rows that are left out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ortnas.nas.failures import DataError

# A file with more rows that do not fit its header than both of these was written in some other way.
_FEW_ROWS, _FEW = 3, 0.01
_LISTED, _CHARACTERS, _QUOTED_CHARACTERS = 6, 60, 40


def shown(value: Any) -> str:
    """A value as a message holds it: on one line, cut where it is long; of lists and objects the kind alone."""
    if isinstance(value, list | tuple | dict):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    if isinstance(value, str):
        return repr(cut(value, _QUOTED_CHARACTERS))
    return cut(repr(value))


def cut(text: str, characters: int = _CHARACTERS) -> str:
    """The text, with its end left out where it is long."""
    return text if len(text) <= characters else f"{text[:characters]}…"


def listed(items: Iterable[str]) -> str:
    """The first of the items, each of them cut, and how many there are beside them."""
    every = [cut(" ".join(item.split())) for item in items]
    more = f" and {len(every) - _LISTED:,} more" if len(every) > _LISTED else ""
    return ", ".join(every[:_LISTED]) + more


def note_left_out(name: str, rows: int, reasons: Sequence[str], notes: list[str], limited: bool = False) -> None:
    """Appends one sentence about the rows of ``name`` that were left out, one reason for each.

    Raises DataError where ``limited`` and they are more than 3 and more than 1 % of all rows.
    """
    if not reasons:
        return
    count = f"{len(reasons):,} row{'s' * (len(reasons) > 1)} of {rows:,}"
    if limited and len(reasons) > max(_FEW_ROWS, _FEW * rows):
        raise DataError(f"{name}: {count} cannot be read, the first because {reasons[0]}")
    notes.append(f"{name}: {count} left out{', the first because' if len(reasons) > 1 else ':'} {reasons[0]}")
