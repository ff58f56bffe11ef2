"""What training the finalists of a search alone ended with, as ``refinement.json`` keeps it beside ``search.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ortnas.nas.architecture.subnet import SpaceError, Subnet
from ortnas.nas.failures import OrtnasError
from ortnas.nas.files import write_json
from ortnas.search.budget import Budget

REFINEMENT_FILE = "refinement.json"


class RefinementError(OrtnasError):
    """A ``refinement.json`` that cannot be read; the message names it."""


@dataclass(frozen=True)
class Rung:
    """One rung of successive halving: how long each subnet was trained in it, and what it scored afterwards.

    ``steps``, ``seconds`` and ``scores`` are by subnet key; a subnet whose training failed has no score.
    """

    steps: Mapping[str, int]
    seconds: Mapping[str, float]
    scores: Mapping[str, float]


@dataclass(frozen=True)
class Refinement:
    """``metric`` on the search part, of models as they would be shipped: ``before`` is that of the search's winner as
    it went in, ``after`` that of the survivor. ``subnet`` is what is shipped, with the weights of ``weights`` (a folder
    of the run's), or as in the supernet where that is None; ``reason`` then says why. ``inputs`` names all that this
    depends on, ``search_inputs`` what the search did."""

    inputs: str
    search_inputs: str
    budget: Budget
    metric: str
    subnet: Subnet
    weights: str | None
    before: float
    after: float | None
    reason: str
    rungs: tuple[Rung, ...]

    @property
    def steps(self) -> int:
        """That the shipped subnet was trained alone for."""
        return 0 if self.weights is None else sum(rung.steps.get(self.subnet.key, 0) for rung in self.rungs)

    @property
    def seconds(self) -> float:
        """Of all trainings."""
        return sum(sum(rung.seconds.values()) for rung in self.rungs)

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"budget": self.budget.name, "subnet": self.subnet.to_json()}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Refinement:
        """Raises what odd documents raise."""
        weights, after = document["weights"], document["after"]
        return cls(
            str(document["inputs"]),
            str(document["search_inputs"]),
            Budget.parse(document["budget"]),
            str(document["metric"]),
            Subnet.from_json(document["subnet"]),
            None if weights is None else str(weights),
            float(document["before"]),
            None if after is None else float(after),
            str(document["reason"]),
            tuple(
                Rung(
                    {str(key): int(steps) for key, steps in rung["steps"].items()},
                    {str(key): float(seconds) for key, seconds in rung["seconds"].items()},
                    {str(key): float(score) for key, score in rung["scores"].items()},
                )
                for rung in document["rungs"]
            ),
        )

    def write(self, folder: Path) -> None:
        write_json(folder / REFINEMENT_FILE, self.to_json())


def read_refinement(folder: Path) -> Refinement | None:
    """What is in that search's folder; None where its finalists were not trained. Raises RefinementError."""
    file = folder / REFINEMENT_FILE
    try:
        return Refinement.from_json(json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (AttributeError, KeyError, OSError, SpaceError, TypeError, ValueError) as error:
        raise RefinementError(f"{file} cannot be read: {type(error).__name__}: {error}") from error
