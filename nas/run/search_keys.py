"""The keys of ``search`` in run.yaml."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_serializer, field_validator

from ortnas.nas.run.configuration_values import Section
from ortnas.nas.run.limits import MOST_STEPS, MOST_THREADS
from ortnas.nas.wording import shown
from ortnas.search.budget import Budget


class OtherTarget(Section):
    """A second target that winners have to suit: the folder of its predictor, and its budget in ms."""

    predictor: str
    budget_ms: float = Field(gt=0, le=1e9)


class Search(Section):
    """Budgets are ms (``6.5``) or speed-ups over the full model at the same precision (``2x``).

    ``goal``: one search per budget, or one over the whole ``front`` of score against latency, of which every budget
    takes its winner. ``method`` proposes: ``evolution``, or ``random``, ``fast`` and ``evolved`` as in earlier systems.
    ``screen`` scores INT8 candidates cut from the quantized full network and the best of them again as they would be
    shipped. ``rule`` names the winner: the ``best`` score, the ``fastest`` within ``tolerance`` of it, or the ``knee``.
    ``score_by``: candidates are ranked by a likelihood where the head has one, which tells near candidates apart, or by
    the task's ``metric``. ``percentile``: what of the latency the budget holds. ``workers``: how
    many candidates are scored at a time, as many as there are processors by default. ``fitness_steps``: train each
    candidate alone for so long before it is scored (slow; earlier systems did). ``engine``: where candidates are
    scored; ``cluster`` is the address of a Ray cluster, and without it one of this machine alone is started.
    ``targets``: others that have to be met as well, by prediction. ``max_size_mb``: what a model file may take.
    """

    budgets: tuple[Budget, ...] = (Budget.parse("2x"),)
    candidates: int = Field(100, ge=1, le=10**6)
    population: int = Field(16, ge=2, le=10**5)
    finalists: int = Field(4, ge=1, le=1000)
    metric: str | None = None
    score_by: Literal["likelihood", "metric"] | None = None
    goal: Literal["budget", "front"] = "budget"
    method: Literal["evolution", "random", "fast", "evolved"] = "evolution"
    surrogate: bool = True
    screen: bool = True
    race: bool = True
    rule: Literal["best", "fastest", "knee"] = "best"
    tolerance: float = Field(0.0, ge=0, le=1e6)
    max_size_mb: float | None = Field(None, gt=0, le=1e6)
    percentile: Literal[50, 95] = 50
    workers: int | None = Field(None, ge=1, le=MOST_THREADS)
    fitness_steps: int = Field(0, ge=0, le=MOST_STEPS)
    engine: Literal["local", "ray"] = "local"
    cluster: str | None = None
    targets: Annotated[tuple[OtherTarget, ...], Field(max_length=100)] = ()

    @field_validator("budgets", mode="before")
    @classmethod
    def _parsed(cls, value: Any) -> tuple[Budget, ...]:
        budgets = tuple(map(_budget, value if isinstance(value, list | tuple) else [value]))
        if not budgets:
            raise ValueError("at least one budget is needed")
        if len(set(budgets)) < len(budgets):
            raise ValueError("the same budget twice; name each once")
        return budgets

    @field_serializer("budgets")
    def _written(self, budgets: tuple[Budget, ...]) -> list[str]:
        return [budget.name for budget in budgets]


def _budget(value: Any) -> Budget:
    try:
        return value if isinstance(value, Budget) else Budget.parse(value)
    except ValueError as error:
        raise ValueError(f"{shown(str(value))} is no budget; {error}") from None
