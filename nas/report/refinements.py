"""Winners that were trained alone, as rows of a table."""

from __future__ import annotations

from collections.abc import Sequence

from ortnas.nas.report.front_charts import label_of
from ortnas.nas.report.record import RunRecord, Search
from ortnas.search.refinement import Refinement

REFINEMENT_COLUMNS = ("budget", "trained in each rung", "minutes", "score before", "score alone", "shipped")


def refinement_rows(record: RunRecord) -> Sequence[tuple[str, ...]]:
    """One for every search whose finalists were trained alone; scores are of the search part."""
    return [_row(record, search, search.refinement) for search in record.searches if search.refinement is not None]


def _row(record: RunRecord, search: Search, refinement: Refinement) -> tuple[str, ...]:
    rungs = [f"{len(rung.steps)} × {max(rung.steps.values(), default=0):,} steps" for rung in refinement.rungs]
    shipped = f"trained for {refinement.steps:,} steps" if refinement.weights else f"as it was: {refinement.reason}"
    return (
        label_of(search, record),
        ", ".join(rungs),
        f"{refinement.seconds / 60:.1f}",
        f"{refinement.before:.4f}",
        "" if refinement.after is None else f"{refinement.after:.4f}",
        shipped,
    )
