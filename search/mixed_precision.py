"""Which weight products to leave in float: a measured greedy search, and what a score can tell apart."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ortnas.export.metrics import Metric
from ortnas.export.part import Outputs, Part

Products = tuple[str, ...]
Ending = Literal["goal", "limit", "budget", "nothing helps"]
_NOTHING = (0.0, 0.0)


@dataclass(frozen=True)
class Evaluation:
    """A model's score, the mean absolute difference of its outputs to those of fp32, and its latency."""

    score: float
    drift: float
    latency_ms: float


# Evaluates the models that leave these sets of products in float; those asked for together can be timed in turn.
Evaluate = Callable[[Sequence[Products]], Sequence[Evaluation]]


@dataclass(frozen=True)
class Goal:
    """The score to reach, with at most ``limit`` products in float and within the budget."""

    score: float
    limit: int
    budget_ms: float = math.inf


@dataclass(frozen=True)
class Resolution:
    """Scores that differ by no more than ``score`` are equal but for chance; latencies are told apart to
    ``latency_ms``."""

    score: float
    latency_ms: float


@dataclass(frozen=True)
class Step:
    """The products left in float so far, in the order of the graph, and which of them this step ``added``."""

    kept: Products
    added: str
    evaluation: Evaluation


@dataclass(frozen=True)
class PrecisionSearch:
    """``alone``: each product alone in float, best worth first. ``path`` begins with no product in float."""

    alone: dict[str, Evaluation]
    path: tuple[Step, ...]
    ending: Ending
    resolution: Resolution

    @property
    def chosen(self) -> Step:
        """The step that reached the goal; without one, the first step that the best of the path does not clearly
        beat, which may be the one with no product in float."""
        if self.ending == "goal":
            return self.path[-1]
        best = max(step.evaluation.score for step in self.path)
        return next(step for step in self.path if step.evaluation.score >= best - self.resolution.score)


def worth(before: Evaluation, after: Evaluation, resolution: Resolution) -> tuple[float, float]:
    """Score gained and drift removed, each per ms added, to be compared as a pair; above (0, 0) it is of use.

    A gain or loss of score within the resolution is none. What adds less time than can be told apart, or none, is taken
    to add that much.
    """
    gained, removed = after.score - before.score, before.drift - after.drift
    added_ms = max(after.latency_ms - before.latency_ms, resolution.latency_ms)
    return (gained if abs(gained) > resolution.score else 0.0) / added_ms, removed / added_ms


def search_precision(
    products: Sequence[str], evaluate: Evaluate, goal: Goal, resolution: Resolution, width: int = 4
) -> PrecisionSearch:
    """Leaves products in float one by one, those first that return most for their time.

    Each product is evaluated alone. The best is kept, the ``width`` best of the others are evaluated beside it, the
    best of them is kept, and so on: what a product returned when last looked at stands for what it returns now (the
    accelerated greedy algorithm, Minoux 1978), so the cost of a step does not grow with the number of products. More
    than ``width`` are looked at only where none of those helps. No set is evaluated twice.

    Worth is the score gained per ms added. A few hundred texts give coarse scores: most products tie, and the largest
    gain of dozens is luck as often as not. So gains within ``resolution.score`` count as ties, and among those the
    drift removed per ms decides, which is continuous and to which every output of every text contributes.
    """
    table = _Table(products, evaluate, resolution)
    path = [table.first_step()]
    alone = {product: table.last[product][1] for product in table.ranked()}
    ending: Ending = "goal"
    while path[-1].evaluation.score < goal.score:
        if len(path) > goal.limit:
            ending = "limit"
            break
        step = table.next_step(path[-1], goal.budget_ms, width)
        if step is None:
            ending = "budget" if any(map(table.helps, table.last)) else "nothing helps"
            break
        path.append(step)
    return PrecisionSearch(alone, tuple(path), ending, resolution)


class _Table:
    """Everything evaluated, and for each product not kept: the models without and with it when last looked at."""

    def __init__(self, products: Sequence[str], evaluate: Evaluate, resolution: Resolution) -> None:
        self.products, self.evaluate, self.resolution = products, evaluate, resolution
        self.evaluations: dict[Products, Evaluation] = {}
        self.last: dict[str, tuple[Evaluation, Evaluation]] = {}

    def first_step(self) -> Step:
        base, *alone = self._look([(), *((product,) for product in self.products)])
        self.last = {product: (base, evaluation) for product, evaluation in zip(self.products, alone, strict=True)}
        return Step((), "", base)

    def next_step(self, step: Step, budget_ms: float, width: int) -> Step | None:
        """The best product that helps and stays within the budget, added; None where there is none."""
        now = step.evaluation
        looked_at: set[str] = set()
        while few := [
            product
            for product in self.ranked()
            if product not in looked_at and self._may_be_next(product, now, budget_ms)
        ][:width]:
            sets = {product: tuple(sorted((*step.kept, product), key=self.products.index)) for product in few}
            for product, evaluation in zip(few, self._look(list(sets.values())), strict=True):
                self.last[product] = now, evaluation
            looked_at.update(few)
            for product in self.ranked():
                if product in few and self._may_be_next(product, now, budget_ms):
                    return Step(sets[product], product, self.last.pop(product)[1])
        return None

    def ranked(self) -> list[str]:
        return sorted(self.last, key=self._worth, reverse=True)

    def helps(self, product: str) -> bool:
        return self._worth(product) > _NOTHING

    def _may_be_next(self, product: str, now: Evaluation, budget_ms: float) -> bool:
        """By what it returned and added when last looked at."""
        before, after = self.last[product]
        return self.helps(product) and now.latency_ms + after.latency_ms - before.latency_ms <= budget_ms

    def _worth(self, product: str) -> tuple[float, float]:
        return worth(*self.last[product], self.resolution)

    def _look(self, sets: Sequence[Products]) -> list[Evaluation]:
        if missing := [kept for kept in sets if kept not in self.evaluations]:
            self.evaluations.update(zip(missing, self.evaluate(missing), strict=True))
        return [self.evaluations[kept] for kept in sets]


def score_resolution(metric: Metric, first: Outputs, second: Outputs, part: Part, mixtures: int = 32) -> float:
    """How far apart the scores of two models lie by chance alone: the standard deviation of their difference when
    their outputs are exchanged at random, row by row (approximate randomization; Noreen 1989).

    Models that answer nearly alike have a fine resolution, however few the texts.
    """
    rng = np.random.default_rng(0)
    squares = []
    for _ in range(mixtures):
        swapped = rng.random(len(first)) < 0.5
        pairs = [(y, x) if swap else (x, y) for x, y, swap in zip(first, second, swapped, strict=True)]
        squares.append((metric([x for x, _ in pairs], part) - metric([y for _, y in pairs], part)) ** 2)
    return math.sqrt(float(np.mean(squares)))


def mean_difference(first: Outputs, second: Outputs) -> float:
    """Mean absolute difference over all values of all rows."""
    differences = [np.abs(x - y).ravel() for x, y in zip(first, second, strict=True)]
    return float(np.concatenate(differences).mean(dtype=np.float64))
