"""How many steps the trainings of a run take: as configured, as usual, or as its minutes allow."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ortnas.nas.files import write_json
from ortnas.nas.run.configuration import Configuration

PLAN_FILE = "plan.json"


@dataclass(frozen=True)
class Steps:
    """Of the teacher's fine-tuning, of the supernet, and of each winner alone; None for what the time left allows."""

    teacher: int
    supernet: int
    refinement: int | None


# Where neither steps nor minutes are configured. Minutes are better spent on winners than on the supernet:
# docs/training.md has the figures.
_USUAL = Steps(teacher=1500, supernet=0, refinement=3000)


@dataclass(frozen=True)
class Plan:
    """A run's minutes, shared out. ``seconds`` are estimates by stage, in the order of the stages; ``basis`` names all
    that they are estimates of, but for the minutes."""

    minutes: float
    basis: str
    steps: Steps
    seconds: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Plan:
        """Raises what odd documents raise."""
        steps = document["steps"]
        refinement = steps["refinement"]
        return cls(
            float(document["minutes"]),
            str(document["basis"]),
            Steps(int(steps["teacher"]), int(steps["supernet"]), None if refinement is None else int(refinement)),
            {str(stage): float(seconds) for stage, seconds in document["seconds"].items()},
        )

    def write(self, folder: Path) -> None:
        write_json(folder / PLAN_FILE, self.to_json())


def read_plan(folder: Path) -> Plan | None:
    """The plan of a run folder; None where there is none, or it cannot be read: then it is made again."""
    try:
        return Plan.from_json(json.loads((folder / PLAN_FILE).read_text()))
    except (AttributeError, KeyError, OSError, TypeError, ValueError):
        return None


def usual_steps(configuration: Configuration) -> Steps:
    """Steps where no minutes are configured."""
    training, refinement = configuration.training, configuration.refinement
    return Steps(
        _USUAL.teacher if training.teacher_steps is None else training.teacher_steps,
        _USUAL.supernet if training.steps is None else training.steps,
        _USUAL.refinement if refinement.steps is None else refinement.steps,
    )
