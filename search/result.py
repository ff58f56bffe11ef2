"""What a search under one budget ended with, as ``search.json`` keeps it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ortnas.nas.architecture.subnet import SpaceError
from ortnas.nas.failures import OrtnasError
from ortnas.nas.files import write_json
from ortnas.search.budget import Budget
from ortnas.search.candidate import Candidate
from ortnas.search.correction import Correction
from ortnas.search.finalists import Finalist, Rule, hit_rate
from ortnas.search.resolution import ScoreResolution

RESULT_FILE = "search.json"


class SearchResultError(OrtnasError):
    """A ``search.json`` that cannot be read; the message names it."""


@dataclass(frozen=True)
class SearchResult:
    """``inputs`` names all that it depends on, ``scored_with`` what its scores are of.

    ``budget_ms`` is about that ``percentile`` of the latency, or its mean (None); the full model took ``reference_ms``.
    ``candidates`` are in the order of scoring, ``finalists`` best first. ``winner`` is one of them; None where none
    meets the budget. ``correction``: what predictions of finalists are corrected by; None where nothing was found out.
    ``evenly_shrunk``: key of the finalist that nobody had to search; None where there is none, or the search's best are
    such.
    """

    inputs: str
    scored_with: str
    budget: Budget
    budget_ms: float
    percentile: int | None
    reference_ms: float
    metric: str
    resolution: ScoreResolution
    rule: Rule
    candidates: tuple[Candidate, ...]
    finalists: tuple[Finalist, ...]
    winner: Finalist | None
    correction: Correction | None = None
    evenly_shrunk: str | None = None

    @property
    def fastest_ms(self) -> float:
        """What the fastest finalist took."""
        return min(finalist.measured_ms for finalist in self.finalists)

    def to_json(self) -> dict[str, Any]:
        winner = None if self.winner is None else self.winner.to_json()
        if winner is not None:
            # Its scores on the report part stand beside those of the other finalists.
            winner.pop("report", None)
        return {
            "inputs": self.inputs,
            "scored_with": self.scored_with,
            "budget": self.budget.name,
            "budget_ms": self.budget_ms,
            "percentile": self.percentile,
            "reference_ms": self.reference_ms,
            "metric": self.metric,
            "resolution": self.resolution.to_json(),
            "rule": self.rule,
            "candidates": [candidate.to_json() for candidate in self.candidates],
            "finalists": [finalist.to_json() for finalist in self.finalists],
            "hit_rate": hit_rate(self.finalists),
            "winner": winner,
            "correction": None if self.correction is None else self.correction.to_json(),
            "evenly_shrunk": self.evenly_shrunk,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> SearchResult:
        """Raises ValueError where the winner is no finalist, and what odd documents raise."""
        finalists = tuple(map(Finalist.from_json, document["finalists"]))
        winner = document["winner"]
        if winner is not None:
            subnet = Finalist.from_json(winner).subnet
            winner = next((finalist for finalist in finalists if finalist.subnet == subnet), None)
            if winner is None:
                raise ValueError("its winner is none of its finalists")
        return cls(
            str(document["inputs"]),
            str(document["scored_with"]),
            Budget.parse(document["budget"]),
            float(document["budget_ms"]),
            None if document["percentile"] is None else int(document["percentile"]),
            float(document["reference_ms"]),
            str(document["metric"]),
            ScoreResolution.from_json(document["resolution"]),
            document["rule"],
            tuple(map(Candidate.from_json, document["candidates"])),
            finalists,
            winner,
            None if document.get("correction") is None else Correction.from_json(document["correction"]),
            None if document.get("evenly_shrunk") is None else str(document["evenly_shrunk"]),
        )

    def write(self, folder: Path) -> None:
        write_json(folder / RESULT_FILE, self.to_json())


def read_result(folder: Path) -> SearchResult | None:
    """What the search of that folder ended with; None where it has not ended. Raises SearchResultError."""
    file = folder / RESULT_FILE
    try:
        return SearchResult.from_json(json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (AttributeError, KeyError, OSError, SpaceError, TypeError, ValueError) as error:
        raise SearchResultError(f"{file} cannot be read: {type(error).__name__}: {error}") from error
