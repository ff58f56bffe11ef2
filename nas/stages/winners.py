"""What the searches of a run ended with: winners, as in the supernet or trained alone since."""

from __future__ import annotations

from dataclasses import dataclass

from ortnas.export.build import Exporter
from ortnas.export.package.record import PackageError
from ortnas.export.weights import read_supernet
from ortnas.nas.architecture.subnet import Subnet
from ortnas.nas.console import Console
from ortnas.nas.run.configuration import Configuration
from ortnas.nas.run.folder import RunFolder
from ortnas.nas.run.models import Models
from ortnas.nas.run.target import RunTarget
from ortnas.nas.run.texts import Texts
from ortnas.nas.stages.scoring import make_scorer
from ortnas.search.budget import Budget
from ortnas.search.refinement import Refinement, read_refinement
from ortnas.search.result import SearchResult, SearchResultError, read_result


@dataclass(frozen=True)
class Winner:
    """The subnet that a search's budget is served by, and the weights that it is built from.

    ``score`` is that of the search metric on the search part, with these weights. ``refinement`` is None where no
    finalist was trained alone.
    """

    result: SearchResult
    subnet: Subnet
    exporter: Exporter
    predicted_ms: float
    score: float
    refinement: Refinement | None

    @property
    def measured_ms(self) -> float:
        """What its subnet was measured at as a finalist; of the percentile that the budget is about."""
        return next(item.measured_ms for item in self.result.finalists if item.subnet == self.subnet)

    @property
    def trained_steps(self) -> int:
        """How long a finalist was trained alone to the end, even if what came of it is not shipped."""
        rungs = self.refinement.rungs if self.refinement else ()
        return sum(max(rung.steps.values(), default=0) for rung in rungs)


def winner_of(run_folder: RunFolder, run_models: Models, result: SearchResult) -> Winner:
    """The winner of a search that has one."""
    winner = result.winner
    assert winner is not None
    refinement = read_refinement(run_folder.search(result.budget.name))
    if refinement is None or refinement.search_inputs != result.inputs:
        return Winner(result, winner.subnet, run_models.exporter, winner.candidate.latency_ms, winner.score, None)
    finalist = next(item for item in result.finalists if item.subnet == refinement.subnet)
    if refinement.weights is None or refinement.after is None:
        exporter, score = run_models.exporter, finalist.score
    else:
        trained = read_supernet(run_folder.path / refinement.weights)
        exporter, score = run_models.exporter_of(trained), refinement.after
    return Winner(result, refinement.subnet, exporter, finalist.candidate.latency_ms, score, refinement)


def finished_searches(
    configuration: Configuration,
    console: Console,
    run_folder: RunFolder,
    texts: Texts,
    run_target: RunTarget,
    run_models: Models,
) -> list[SearchResult]:
    """Those with a winner, in the order of the budgets. Raises PackageError where there is none."""
    context = make_scorer(configuration, console, run_folder, texts, run_target, run_models).context
    results = [finished_search(run_folder, budget, context) for budget in configuration.search.budgets]
    with_winner = [result for result in results if result is not None]
    if not with_winner:
        raise PackageError(f"{run_folder.path}: no search has a winner yet; run `ortnas search`")
    return with_winner


def finished_search(run_folder: RunFolder, budget: Budget, context: str) -> SearchResult | None:
    """What a search with a winner ended with; None where there is none.

    ``context`` is that of the run's scorer. Raises PackageError where the search scored something else.
    """
    try:
        result = read_result(run_folder.search(budget.name))
    except SearchResultError:
        return None
    if result is None:
        return None
    if result.scored_with != context:
        raise PackageError(
            f"the search for {budget.name} was made with another supernet, part or recipe; run `ortnas search` again"
        )
    return result if result.winner is not None else None
