"""How many of the texts that have a label are given it, label by label and model by model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ortnas.export.metrics import RECALL_OF
from ortnas.search.comparison import ComparisonRow


def without_recalls(names: Iterable[str]) -> list[str]:
    """The scores of a model that are no single label's."""
    return [name for name in names if not name.startswith(RECALL_OF)]


def recall_table(rows: Sequence[ComparisonRow]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Columns and lines, one for each label; no lines where labels have no recalls of their own."""
    names = dict.fromkeys(name for row in rows for name in row.scores if name.startswith(RECALL_OF))
    lines = [(name.removeprefix(RECALL_OF), *(_cell(row, name) for row in rows)) for name in names]
    return ("label", *(row.name for row in rows)), lines


def _cell(row: ComparisonRow, name: str) -> str:
    return f"{row.scores[name]:.4f}" if name in row.scores else ""
