"""What static embeddings of words keep of an encoder's quality, at a fraction of a millisecond.

A network below that has no reason to exist.
"""

from __future__ import annotations

from collections.abc import Sequence

from ortnas.search.comparison import ComparisonRow

# Rank correlation with people's scores of similarity is what both are measured by.
METRIC = "spearman"
NAME = "potion-base-8M"
# Mean over the STS tasks of MTEB, of potion-base-8M and of all-MiniLM-L6-v2 (model2vec, results/README.md).
SHARE = 73.24 / 78.90


def static_floor(rows: Sequence[ComparisonRow]) -> float | None:
    """What static embeddings keep of a full embedding model's ``METRIC``; None where that was not measured."""
    scores = [row.scores[METRIC] for row in rows if row.kind == "full" and METRIC in row.scores]
    return SHARE * max(scores) if scores else None


def below_static(rows: Sequence[ComparisonRow]) -> str:
    """A sentence that names the winners, among models of embeddings, that static ones equal; empty without any."""
    floor = static_floor(rows)
    if floor is None:
        return ""
    names = [row.name for row in rows if row.kind == "winner" and row.scores.get(METRIC, floor) < floor]
    if not names:
        return ""
    return (
        f"{' and '.join(names)}: below {floor:.4f}, the {SHARE:.0%} of the full model that static embeddings such as "
        f"{NAME} keep at a fraction of a millisecond; take those."
    )
