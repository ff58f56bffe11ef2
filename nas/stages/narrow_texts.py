"""What subnets kept on the texts of each source: a network that is trained on narrow texts forgets others."""

from __future__ import annotations

from collections.abc import Sequence

from ortnas.nas.data import Mixture
from ortnas.search.comparison import ComparisonRow

METRIC = "mean_cosine"
# A source is told to be narrow where another one's texts lost so many times as much.
_NARROW = 1.5


def kept_by_source(rows: Sequence[ComparisonRow], mixture: Mixture) -> list[str]:
    """A sentence for each subnet about its nearness to the full model on the report part of each source, and one where
    the first source, the user's own, turns out to be narrow."""
    suffixes = [part.removeprefix("report") for part in mixture.report_parts]
    sentences = []
    is_narrow = False
    for row in rows:
        kept = [row.scores[f"{METRIC}{suffix}"] for suffix in suffixes]
        figures = ", ".join(f"{cosine:.3f} on {name}" for cosine, name in zip(kept, mixture.names, strict=True))
        sentences.append(f"{row.name}: mean cosine with the full model {figures}")
        is_narrow |= 1 - min(kept) > _NARROW * (1 - kept[0])
    if is_narrow:
        sentences.append(
            f"The texts of {mixture.names[0]} are narrow: texts unlike them lost more. Where the model will meet such "
            f"texts, give the other sources more weight in data.source"
        )
    return sentences
