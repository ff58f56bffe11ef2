"""The Pareto front of score against latency: who is on it, how much it covers, where it bends."""

from __future__ import annotations

from collections.abc import Sequence

import moocore
import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]


def pareto_rows(scores: Vector, costs: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Rows that nothing else beats, by rising first cost: scores (n,) are to be large, costs (n,) or (n, k) small.

    Of equals the first is kept.
    """
    points = np.column_stack([-scores, costs])
    rows = np.flatnonzero(moocore.is_nondominated(points, keep_weakly=False))
    return rows[np.argsort(points[rows, 1], kind="stable")]


def hypervolume(scores: Vector, latency_ms: Vector, reference: tuple[float, float]) -> float:
    """Area between the front and the ``reference`` (lowest score, longest latency in ms that count), in score × ms."""
    score, latency = reference
    inside = (scores > score) & (latency_ms < latency)
    if not inside.any():
        return 0.0
    points = np.column_stack([-scores[inside], latency_ms[inside]])
    return float(moocore.hypervolume(points, ref=[-score, latency]))


def knee(scores: Sequence[float] | Vector, latency_ms: Sequence[float] | Vector) -> int:
    """The row of a front that lies furthest above the line between its ends, both axes scaled to them (Das 1999).

    The ends are its fastest and its best; of one or two points the best.
    """
    points = np.column_stack([np.asarray(latency_ms, np.float64), np.asarray(scores, np.float64)])
    fastest, best = points[points[:, 0].argmin()], points[points[:, 1].argmax()]
    span = best - fastest
    if (span <= 0).any():
        return int(points[:, 1].argmax())
    scaled = (points - fastest) / span
    above = scaled[:, 1] - scaled[:, 0]
    return int(above.argmax()) if above.max() > 0 else int(points[:, 1].argmax())
