"""When a candidate need not be scored to the end: some texts of the part show that it cannot reach its rival.

Both have answered the same texts, so what is judged is the mean of their differences, text by text (a race in the sense
of Maron & Moore 1994, on paired samples of a finite part).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from ortnas.export.label_sets import mean_log_likelihoods
from ortnas.export.metrics import log_likelihoods
from ortnas.export.part import Outputs, Part
from ortnas.export.vectors import unit_rows
from ortnas.nas.arrays import Rows, Vector

# With fewer texts the differences are too few to be told from chance.
_FEWEST_TEXTS = 50


def _hits(outputs: Outputs, part: Part, rows: Rows) -> Vector:
    return np.asarray(np.stack(outputs).argmax(1) == part.labels[rows], np.float64)


def _log_likelihoods(outputs: Outputs, part: Part, rows: Rows) -> Vector:
    return log_likelihoods(outputs, part.labels[rows])


def _label_log_likelihoods(outputs: Outputs, part: Part, rows: Rows) -> Vector:
    return mean_log_likelihoods(outputs, [part.label_sets[row] for row in rows])


def _cosines(outputs: Outputs, part: Part, rows: Rows) -> Vector:
    assert part.teacher is not None
    return np.asarray((unit_rows(np.stack(outputs)) * unit_rows(part.teacher[rows])).sum(1), np.float64)


# What each of the rows adds to metrics that are a mean over texts, (n,). Of float32's precision, as the cache keeps it.
TEXT_VALUES: dict[str, Callable[[Outputs, Part, Rows], Vector]] = {
    "accuracy": _hits,
    "log_likelihood": _log_likelihoods,
    "label_log_likelihood": _label_log_likelihoods,
    "mean_cosine": _cosines,
}


def text_values(metric: str, outputs: Outputs, part: Part, rows: Rows) -> Vector | None:
    """As of ``TEXT_VALUES``; None for other metrics."""
    return TEXT_VALUES[metric](outputs, part, rows) if metric in TEXT_VALUES else None


@dataclass(frozen=True)
class Race:
    """``shares`` of the part after which a candidate is judged. ``error`` is the probability, over all of them, that
    one is turned away whose score on the whole part would have reached its rival's."""

    shares: tuple[float, ...] = (0.25, 0.5, 0.75)
    error: float = 0.02

    def looks(self, texts: int) -> list[int]:
        """After how many of so many texts."""
        counts = {round(share * texts) for share in self.shares}
        return sorted(count for count in counts if _FEWEST_TEXTS <= count < texts)

    def is_hopeless(self, differences: Vector, texts: int, looks: int) -> bool:
        """Whether candidate minus rival, on the texts seen so far (n,), rules out that it gets level on all ``texts``.

        ``looks``: how often it is judged in all. A normal bound for the mean of a finite population (Cochran 1977,
        section 2.8), with one difference of the largest size added to either side: few differences, all of one sign,
        prove little.
        """
        n = len(differences)
        largest = float(np.abs(differences).max())
        mean = float(differences.mean())
        variance = (float(((differences - mean) ** 2).sum()) + 2 * largest**2) / (n + 1)
        error = math.sqrt(variance / n * (1 - n / texts))
        return mean + NormalDist().inv_cdf(1 - self.error / looks) * error < 0


def expected_score(rival: Vector, differences: Vector) -> float:
    """The score that a candidate was heading for: its rival's, from what each text adds to it, and the mean
    difference so far."""
    return float(rival.mean() + differences.mean())
