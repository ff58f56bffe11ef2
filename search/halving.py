"""Successive halving: all are trained briefly, the better half of them further, the last one to the end.

Jamieson & Talwalkar 2016, "Non-stochastic Best Arm Identification and Hyperparameter Optimization".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

# Share of the last one's steps that it takes before it is alone.
_EXPLORED = 0.2


def rung_sizes(candidates: int) -> list[int]:
    """How many are trained in each rung: half as many as in the one before, one in the last."""
    sizes = [candidates]
    while sizes[-1] > 1:
        sizes.append((sizes[-1] + 1) // 2)
    return sizes


def rung_shares(candidates: int) -> list[float]:
    """Each rung's share of all the steps that the last one takes; they add up to 1."""
    before = len(rung_sizes(candidates)) - 1
    if not before:
        return [1.0]
    return [_EXPLORED / before] * before + [1 - _EXPLORED]


def relative_cost(candidates: int) -> float:
    """Steps of all candidates together, by those that the last one takes."""
    return sum(size * share for size, share in zip(rung_sizes(candidates), rung_shares(candidates), strict=True))


def exploring_share(candidates: int) -> float:
    """Of the steps of all candidates together, what is taken before one is alone."""
    return 1 - rung_shares(candidates)[-1] / relative_cost(candidates)


def time_for_each(left_s: float, to_explore: Sequence[int], to_finish: Sequence[int]) -> float:
    """Seconds that each of several halvings, all their rungs together, may take of those that are left.

    Their numbers of candidates: of those that have yet to explore, and of all that have yet to finish.
    """
    shares = [exploring_share(candidates) for candidates in to_explore]
    shares += [1 - exploring_share(candidates) for candidates in to_finish]
    return left_s / sum(shares)


def survivors(scores: Mapping[str, float], order: Sequence[str], count: int) -> list[str]:
    """The ``count`` best, best first; among equals those that come first in ``order``."""
    return sorted(scores, key=lambda key: (-scores[key], order.index(key)))[:count]
