"""Who is better than whom: constraint domination, Pareto ranks and crowding (Deb et al. 2002, "NSGA-II")."""

from __future__ import annotations

import moocore
import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]
Vector = npt.NDArray[np.float64]


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


def best_first(objectives: Matrix, excess: Vector) -> npt.NDArray[np.int64]:
    """Rows in order: those within all budgets (``excess`` <= 0, (n,)) by Pareto rank of the objectives (n, k), all to
    be small, then by crowding, large first; behind them the others by how little they exceed a budget."""
    within = np.flatnonzero(excess <= 0)
    order: list[npt.NDArray[np.int64]] = []
    if len(within):
        ranks = moocore.pareto_rank(objectives[within])
        for rank in range(ranks.max() + 1):
            front = within[ranks == rank]
            order.append(front[np.argsort(-crowding(objectives[front]), kind="stable")])
    beyond = np.flatnonzero(excess > 0)
    order.append(beyond[np.argsort(excess[beyond], kind="stable")])
    return np.concatenate(order)
