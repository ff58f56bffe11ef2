"""A space whose scores are known without any model, for tests of searches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ortnas.nas.architecture.space import Genomes, SearchSpace
from ortnas.nas.architecture.subnet import Subnet
from ortnas.search.candidate import Candidate
from ortnas.search.constraints import Constraint
from ortnas.search.evolution import Evolution, Settings
from ortnas.search.scoring import Outcome
from tests.networks import SizePredictor, make_space


def capacity(subnet: Subnet) -> float:
    """Grows with every size, but prefers wide FFNs early and has a ripple: not the same order as latency."""
    early = sum(layer.ffn_size / (1 + layer.source) + 3 * layer.num_heads for layer in subnet.layers)
    ripple = sum((7 * layer.num_heads + 3 * layer.ffn_size + subnet.hidden_size) % 11 for layer in subnet.layers)
    return early + subnet.hidden_size + ripple / 4


def deep_space() -> SearchSpace:
    return make_space(num_layers=8, depth=tuple(range(2, 9)))


def small_space() -> SearchSpace:
    """774 subnets."""
    return make_space(num_heads=(2, 4), head_size=(8,), ffn_size=(16, 48, 64))


DEFAULT = Settings()


class Landscape:
    """Scores by ``capacity``; genomes whose subnet keys are in ``broken`` fail."""

    def __init__(self, broken: Sequence[str] = ()) -> None:
        self.broken = frozenset(broken)
        self.scored: list[str] = []

    def outcomes(self, subnets: Sequence[Subnet], _: Sequence[Subnet | None]) -> Iterator[Outcome]:
        for subnet in subnets:
            self.scored.append(subnet.key)
            yield Outcome(None, reason="broken") if subnet.key in self.broken else Outcome(capacity(subnet))


def capacities(space: SearchSpace, genomes: Genomes) -> np.ndarray:
    return np.array([capacity(space.decode(genome)) for genome in genomes])


def evolve(
    space: SearchSpace, budget_ms: float, wanted: int, settings: Settings = DEFAULT, seed: int = 0, batch: int = 8
) -> Evolution:
    """A search of so many candidates, from which nothing is written."""
    evolution = Evolution(space, [Constraint(SizePredictor(space), budget_ms)], settings, seed)
    while evolution.asked < wanted:
        proposals = evolution.ask(min(batch, wanted - evolution.asked))
        if not len(proposals.genomes):
            break
        scores = capacities(space, proposals.genomes)
        rows = zip(proposals.genomes, proposals.latency_ms, proposals.upper_ms, scores, strict=True)
        evolution.tell([Candidate.of(space, genome, latency, upper, score) for genome, latency, upper, score in rows])
    return evolution
