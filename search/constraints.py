"""What a subnet has to keep: its latency's predicted bound within every target's budget, and a size of its file."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from ortnas.nas.architecture.space import Genomes
from ortnas.nas.arrays import Matrix, Rows, Vector


class LatencyBound(Protocol):
    """What a search needs of a predictor."""

    def predict(self, genomes: Genomes) -> tuple[Vector, Vector]:
        """``latency_ms`` and ``upper_ms`` (n,) of genomes (n, genes)."""


@dataclass(frozen=True)
class Constraint:
    """A budget on one target; without ``budget_ms`` the latency only counts as an objective."""

    predictor: LatencyBound
    budget_ms: float = math.inf
    target: str = ""


@dataclass(frozen=True)
class SizeLimit:
    """What a model's file may take; ``size_bytes`` gives that of genomes (n, genes), (n,)."""

    size_bytes: Callable[[Genomes], Vector]
    limit_bytes: float


class Proposals(NamedTuple):
    """Genomes (n, genes) with the predicted latency and its bound on the first target, (n,) each."""

    genomes: Genomes
    latency_ms: Vector
    upper_ms: Vector

    def take(self, rows: Rows) -> Proposals:
        return Proposals(self.genomes[rows], self.latency_ms[rows], self.upper_ms[rows])

    def join(self, other: Proposals) -> Proposals:
        return Proposals(
            np.concatenate([self.genomes, other.genomes]),
            np.concatenate([self.latency_ms, other.latency_ms]),
            np.concatenate([self.upper_ms, other.upper_ms]),
        )


def predict(
    constraints: Sequence[Constraint], genomes: Genomes, size_limit: SizeLimit | None = None
) -> tuple[Proposals, Matrix]:
    """Genomes with their predictions, and by what share of each budget the bound exceeds it, (n, constraints); with a
    limit of size a last column is about that."""
    predictions = [constraint.predictor.predict(genomes) for constraint in constraints]
    pairs = zip(constraints, predictions, strict=True)
    excess = [_excess(upper_ms, constraint.budget_ms) for constraint, (_, upper_ms) in pairs]
    if size_limit is not None:
        excess.append(_excess(size_limit.size_bytes(genomes), size_limit.limit_bytes))
    return Proposals(genomes, *predictions[0]), np.stack(excess, axis=1)


def _excess(values: Vector, limit: float) -> Vector:
    return np.full(len(values), -1.0) if math.isinf(limit) else (values - limit) / limit
