"""Probe subnets: their scores on held-out texts while the supernet trains, as a table that grows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from ortnas.export.metrics import METRICS, Part
from ortnas.nas.architecture.space import SearchSpace
from ortnas.nas.architecture.subnet import Subnet
from ortnas.nas.text import take
from ortnas.nas.training.step_subnets import multiply_adds
from ortnas.nas.training.steps import network_outputs
from ortnas.nas.training.supernet import Supernet

_POOL = 5_000


def held_out_probe(
    supernet: Supernet, part: Part, metric: str, count: int, subnets: Mapping[str, Subnet]
) -> Callable[[], dict[str, float]]:
    """A function that scores the named subnets on the first ``count`` inputs of a part."""
    teacher = None if part.teacher is None else part.teacher[:count]
    part = replace(part, encoded=take(part.encoded, count), examples=part.examples[:count], teacher=teacher)

    def scores() -> dict[str, float]:
        return {
            name: METRICS[metric](network_outputs(supernet, part.encoded, subnet), part)
            for name, subnet in subnets.items()
        }

    return scores


def choose_probes(space: SearchSpace, seed: int) -> dict[str, Subnet]:
    """The largest, the smallest, and the subnets of half and a quarter of the multiply-adds that are shaped most like
    the largest: each dimension shrunk about as much as the others."""
    rng = np.random.default_rng([seed, 4])
    pool = np.unique(space.sample(_POOL, rng), axis=0)
    population = space.expand(pool)
    costs = multiply_adds(space)(pool)
    full = space.largest.multiply_adds
    shares = np.stack(
        [
            population.hidden_size / space.hidden_size[-1],
            population.depth / space.depth[-1],
            (population.num_heads * population.head_size).sum(1) / np.maximum(population.depth, 1),
            population.ffn_size.sum(1) / np.maximum(population.depth, 1),
        ],
        axis=1,
    )
    shares /= shares.max(0)
    spread = shares.max(1) / shares.min(1)
    probes = {"largest": space.largest}
    for name, share in (("half", 0.5), ("quarter", 0.25)):
        near = np.flatnonzero(np.abs(costs / full / share - 1) < 0.05)
        if len(near):
            probes[name] = space.decode(pool[near[np.argmin(spread[near])]])
    probes["smallest"] = space.smallest
    return probes
