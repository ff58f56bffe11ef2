"""What a search deals in: subnets with their predicted latency and their score."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ortnas.nas.architecture.space import Genomes, SearchSpace
from ortnas.nas.architecture.subnet import Subnet


@dataclass(frozen=True)
class Candidate:
    """A scored subnet with its predicted latency and bound on the first target; ``genome`` is its row in the space.

    ``estimated``: scoring ended early, since it could no longer be among the best; the score is what was expected.
    """

    subnet: Subnet
    genome: tuple[int, ...]
    latency_ms: float
    upper_ms: float
    score: float
    estimated: bool = False

    @classmethod
    def of(
        cls,
        space: SearchSpace,
        genome: Genomes | tuple[int, ...],
        latency_ms: float,
        upper_ms: float,
        score: float,
        estimated: bool = False,
    ) -> Candidate:
        """The subnet is the space's of that genome (genes,)."""
        row = np.asarray(genome, np.int16)
        return cls(space.decode(row), tuple(row.tolist()), float(latency_ms), float(upper_ms), float(score), estimated)

    def to_json(self) -> dict[str, Any]:
        return {
            "subnet": self.subnet.to_json(),
            "genome": list(self.genome),
            "latency_ms": self.latency_ms,
            "upper_ms": self.upper_ms,
            "score": self.score,
            "estimated": self.estimated,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Candidate:
        return cls(
            Subnet.from_json(document["subnet"]),
            tuple(document["genome"]),
            float(document["latency_ms"]),
            float(document["upper_ms"]),
            float(document["score"]),
            bool(document.get("estimated")),
        )
