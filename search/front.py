"""Pareto fronts: who is on them, how much they cover, where they bend, and who is better than whom under constraints.

Deb et al. 2002, "NSGA-II": constraint domination, Pareto ranks and crowding.
"""

from __future__ import annotations

from collections.abc import Sequence

import moocore
import numpy as np

from ortnas.nas.arrays import Matrix, Rows, Vector


def pareto_rows(scores: Vector, costs: Matrix) -> Rows:
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


def crowding(objectives: Matrix) -> Vector:
    """Distance (n,) to the neighbours along each objective (n, k) of one front; infinite at the ends."""
    distance = np.zeros(len(objectives))
    for values in objectives.T:
        order = np.argsort(values, kind="stable")
        span = values[order[-1]] - values[order[0]]
        if span == 0:
            continue
        gaps = (values[order[2:]] - values[order[:-2]]) / span
        distance[order[1:-1]] += gaps
        distance[order[[0, -1]]] = np.inf
    return distance


def best_first(objectives: Matrix, excess: Vector) -> Rows:
    """Rows in order: those within all budgets (``excess`` <= 0, (n,)) by Pareto rank of the objectives (n, k), all to
    be small, then by crowding, large first; behind them the others by how little they exceed a budget."""
    within = np.flatnonzero(excess <= 0)
    order: list[Rows] = []
    if len(within):
        ranks = moocore.pareto_rank(objectives[within])
        for rank in range(ranks.max() + 1):
            front = within[ranks == rank]
            order.append(front[np.argsort(-crowding(objectives[front]), kind="stable")])
    beyond = np.flatnonzero(excess > 0)
    order.append(beyond[np.argsort(excess[beyond], kind="stable")])
    return np.concatenate(order)
