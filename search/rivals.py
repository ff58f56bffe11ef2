"""Networks as fast as a winner that nobody had to search: what it has to beat to be worth its search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import numpy as np

from ortnas.nas.architecture.shrinking import shrunk_evenly
from ortnas.nas.architecture.space import Genomes, SearchSpace
from ortnas.nas.architecture.subnet import Subnet
from ortnas.search.constraints import Constraint, LatencyBound, Proposals, SizeLimit, predict

RivalKind = Literal["fewer_layers", "shrunk", "random"]
# Random subnets are as fast as the winner where they are slower than this share of its latency, and no slower than it.
_NEAR = 0.97
_SAMPLED = 20_000


class SpacePredictor(LatencyBound, Protocol):
    """A predictor that knows of which space its genomes are."""

    @property
    def space(self) -> SearchSpace: ...

    def for_space(self, space: SearchSpace) -> SpacePredictor:
        """The same law for another space of the same supernet."""


@dataclass(frozen=True)
class Rival:
    """``predicted_ms`` is its predicted median, at most that of the winner that it is a rival of."""

    kind: RivalKind
    subnet: Subnet
    predicted_ms: float


def evenly_shrunk(predictor: SpacePredictor, winner_ms: float) -> Rival | None:
    """Every dimension shrunk about alike; None where all such subnets are slower."""
    return _nearest_below("shrunk", predictor, shrunk_evenly(predictor.space), winner_ms)


def evenly_shrunk_within(
    space: SearchSpace, constraints: Sequence[Constraint], size_limit: SizeLimit | None = None
) -> Proposals | None:
    """The evenly shrunk subnet whose bound is nearest below the first budget, and within the others; None of none."""
    proposals, excess = predict(constraints, shrunk_evenly(space), size_limit)
    within = np.flatnonzero(excess.max(1) <= 0)
    return proposals.take(within[[np.argmax(proposals.upper_ms[within])]]) if len(within) else None


def fewer_layers(
    predictor: SpacePredictor, winner_ms: float, depth_order: Literal["first", "spread"] | None = None
) -> Rival | None:
    """The space's full widths at the depth that comes nearest, from one layer on; None where that is slower.

    ``depth_order`` is the space's by default. Depths that are not in the space are predicted all the same: the latency
    that counts is measured.
    """
    space = full_widths(predictor.space, depth_order)
    genomes = np.zeros((space.num_layers, space.genes), np.int16)
    genomes[:, 1] = np.arange(space.num_layers)
    return _nearest_below("fewer_layers", predictor.for_space(space), genomes, winner_ms)


def full_widths(space: SearchSpace, depth_order: Literal["first", "spread"] | None = None) -> SearchSpace:
    """The space of the same networks at every depth, with the largest choice of every other dimension."""
    return replace(
        space,
        hidden_size=space.hidden_size[-1:],
        depth=tuple(range(1, space.num_layers + 1)),
        num_heads=space.num_heads[-1:],
        head_size=space.head_size[-1:],
        ffn_size=space.ffn_size[-1:],
        depth_order=depth_order or space.depth_order,
    )


def random_ones(predictor: SpacePredictor, winner_ms: float, count: int, seed: int) -> list[Rival]:
    """At most so many random subnets of the space, of a latency from 97 % of the winner's up to it, or the nearest
    below where there are too few."""
    rng = np.random.default_rng([seed, 6])
    genomes = np.unique(predictor.space.sample(_SAMPLED, rng), axis=0)
    latency_ms, _ = predictor.predict(genomes)
    below = np.flatnonzero(latency_ms <= winner_ms)
    near = below[latency_ms[below] > _NEAR * winner_ms]
    if len(near) >= count:
        chosen = rng.choice(near, count, replace=False)
    else:
        chosen = below[np.argsort(-latency_ms[below], kind="stable")][:count]
    return [Rival("random", predictor.space.decode(genomes[row]), float(latency_ms[row])) for row in chosen]


def _nearest_below(kind: RivalKind, predictor: SpacePredictor, genomes: Genomes, winner_ms: float) -> Rival | None:
    latency_ms, _ = predictor.predict(genomes)
    below = np.flatnonzero(latency_ms <= winner_ms)
    if not len(below):
        return None
    row = below[np.argmax(latency_ms[below])]
    return Rival(kind, predictor.space.decode(genomes[row]), float(latency_ms[row]))
