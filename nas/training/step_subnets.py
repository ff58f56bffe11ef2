"""Which subnets a training step computes: a pure function of seed and step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from ortnas.nas.architecture.space import LAYER_DIMENSIONS, Genomes, SearchSpace
from ortnas.nas.architecture.subnet import Subnet

STRATEGIES = ("sandwich", "uniform", "progressive")
Costs = Callable[[Genomes], npt.NDArray[Any]]
_POOL = 20_000
# A draw picks one of so many subnets of nearly the same cost.
_NEIGHBOURS = 64
# Share of the steps at which the progressive strategy opens each dimension (Cai et al. 2020, "Once-for-All").
_OPENED = {"depth": 0.0, "num_heads": 0.25, "head_size": 0.25, "ffn_size": 0.25, "hidden_size": 0.5}


def multiply_adds(space: SearchSpace) -> Costs:
    """The cost by which small and large subnets are balanced where no latencies are known."""
    return lambda genomes: space.expand(genomes).multiply_adds


class Sampler:
    """Subnets for each step.

    ``sandwich``: the largest, the smallest and some random ones (Yu et al. 2020, "BigNAS"). ``uniform``: random ones
    only, one where ``random_subnets`` is 1 (Yin et al. 2021, "AutoTinyBERT"). ``progressive``: the sandwich in a space
    that opens depth first, then heads and FFN, then the hidden size. Random ones are drawn so that every cost between
    the smallest and the largest is equally likely; ``costs`` None draws them as the space samples genomes.
    """

    def __init__(
        self, space: SearchSpace, strategy: str, random_subnets: int, steps: int, seed: int, costs: Costs | None
    ) -> None:
        if strategy not in STRATEGIES:
            raise ValueError(f"no sampling strategy is called {strategy!r}; there are {', '.join(STRATEGIES)}")
        self.space, self.strategy, self.random_subnets = space, strategy, random_subnets
        self.steps, self.seed, self.costs = steps, seed, costs
        self._pools: dict[frozenset[str], tuple[Genomes, npt.NDArray[Any]]] = {}

    def __getitem__(self, step: int) -> list[Subnet]:
        """The step's subnets, the largest first where the strategy has it."""
        closed = self.closed(step)
        rng = np.random.default_rng([self.seed, step, 1])
        count = max(1, self.random_subnets) if self.strategy == "uniform" else self.random_subnets
        drawn = [self.space.decode(genome) for genome in self._draw(count, closed, rng)]
        if self.strategy == "uniform":
            return drawn
        smallest = self._close(np.zeros((1, self.space.genes), np.int16), closed)[0]
        return list(dict.fromkeys([self.space.largest, self.space.decode(smallest), *drawn]))

    def closed(self, step: int) -> frozenset[str]:
        """The dimensions that are still at their largest value."""
        if self.strategy != "progressive":
            return frozenset()
        return frozenset(name for name, share in _OPENED.items() if step < share * self.steps)

    def _close(self, genomes: Genomes, closed: frozenset[str]) -> Genomes:
        genomes = genomes.copy()
        largest = self.space.bounds - 1
        columns = {"hidden_size": slice(0, 1), "depth": slice(1, 2)}
        columns |= {name: self.space.columns[name] for name in LAYER_DIMENSIONS}
        for name in closed:
            genomes[:, columns[name]] = largest[columns[name]]
        return self.space.repair(genomes)

    def _draw(self, count: int, closed: frozenset[str], rng: np.random.Generator) -> Genomes:
        if self.costs is None:
            return self._close(self.space.sample(count, rng), closed)
        if closed not in self._pools:
            drawn = self.space.sample(_POOL, np.random.default_rng([self.seed, len(closed), 2]))
            pool = np.unique(self._close(drawn, closed), axis=0)
            costs = np.asarray(self.costs(pool))
            order = np.argsort(costs, kind="stable")
            self._pools[closed] = pool[order], costs[order]
        pool, costs = self._pools[closed]
        wanted = rng.uniform(costs[0], costs[-1], count)
        shift = rng.integers(-(_NEIGHBOURS // 2), _NEIGHBOURS // 2 + 1, count)
        chosen: Genomes = pool[np.clip(np.searchsorted(costs, wanted) + shift, 0, len(pool) - 1)]
        return chosen
