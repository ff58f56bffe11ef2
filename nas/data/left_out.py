"""Notes on the rows of data that are left out."""

from __future__ import annotations

from collections.abc import Sequence

from ortnas.nas.failures import DataError

# A file with more rows that do not fit its header than both of these was written in some other way.
_FEW_ROWS, _FEW = 3, 0.01


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
