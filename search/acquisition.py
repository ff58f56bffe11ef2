"""Which proposals to score next, given what a surrogate expects of them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]
Vector = npt.NDArray[np.float64]


def most_promising(
    expected: Vector, spread: Vector, costs: Matrix, reached: Vector, reached_costs: Matrix, n: int, bonus: float
) -> npt.NDArray[np.int64]:
    """n rows of proposals with expected scores (m,), their spread (m,) and costs (m, k), one after the other.

    Each is the one with the largest margin over the best score (``reached``, of subnets with ``reached_costs``) that is
    had at no more of any cost, where ``bonus`` times its spread counts in its favour. Those chosen before count as
    reached with what is expected of them, so that a choice is spread along the front. Without costs (k = 0) only the
    best score counts.
    """
    best = np.full(len(expected), reached.min() if len(reached) else 0.0)
    for score, cost in zip(reached, reached_costs, strict=True):
        best = np.where((costs >= cost).all(1), np.maximum(best, score), best)
    hopes = expected + bonus * spread
    chosen: list[int] = []
    for _ in range(min(n, len(expected))):
        margins = hopes - best
        margins[chosen] = -np.inf
        row = int(margins.argmax())
        chosen.append(row)
        best = np.where((costs >= costs[row]).all(1), np.maximum(best, expected[row]), best)
    return np.array(chosen, np.int64)
