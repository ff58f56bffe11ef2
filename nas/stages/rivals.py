"""Subnets as fast as the winners that nobody had to search, as entries of a comparison."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ortnas.export.build import Exporter
from ortnas.nas.architecture.subnet import Subnet
from ortnas.nas.console import Console
from ortnas.nas.run.configuration import Configuration
from ortnas.nas.run.folder import RunFolder
from ortnas.nas.run.models import Models
from ortnas.nas.stages.comparison import Entry
from ortnas.nas.stages.fit import checked_predictor
from ortnas.predictors.fitting import Predictor, PredictorError
from ortnas.search.comparison import RIVALS
from ortnas.search.result import SearchResult
from ortnas.search.rivals import Rival, evenly_shrunk, fewer_layers, random_ones
from ortnas.search.scoring import FitnessScorer, Scorer

# So many random subnets are scored on the search part, and the best of them is a rival.
_RANDOM = 4


def rival_entries(
    configuration: Configuration,
    console: Console,
    run_folder: RunFolder,
    run_models: Models,
    scorer: Scorer | FitnessScorer,
    winners: Sequence[SearchResult],
    exporter_of: Callable[[Subnet], Exporter],
) -> list[Entry]:
    """The rivals of every winner, built from the weights that ``exporter_of`` gives; none without a predictor.

    ``scorer`` scores what may be shipped, on the search part.
    """
    try:
        predictor = checked_predictor(configuration, run_folder, run_models)
    except PredictorError as error:
        console.say(f"no rivals beside the winners: {error}")
        return []
    precision = configuration.precision
    return [
        Entry(
            f"{RIVALS[rival.kind]} {result.budget.name}, {precision.upper()}",
            exporter_of(rival.subnet),
            rival.subnet,
            precision,
            rival.predicted_ms,
            rival.kind,
            result.budget.name,
        )
        for result in winners
        for rival in rivals_under(predictor, scorer, result, configuration.seed)
    ]


def rivals_under(predictor: Predictor, scorer: Scorer | FitnessScorer, result: SearchResult, seed: int) -> list[Rival]:
    """Those of one winner, nearest below what it was measured at; the winner itself is no rival."""
    winner = result.winner
    assert winner is not None
    # Predictions are of medians.
    winner_ms = winner.measured_ms if result.percentile == 50 else winner.candidate.latency_ms
    rivals = [fewer_layers(predictor, winner_ms), evenly_shrunk(predictor, winner_ms)]
    drawn = random_ones(predictor, winner_ms, _RANDOM, seed)
    outcomes = scorer.outcomes([rival.subnet for rival in drawn], [None] * len(drawn))
    scored = [
        (outcome.score, rival) for outcome, rival in zip(outcomes, drawn, strict=True) if outcome.score is not None
    ]
    rivals.append(max(scored, key=lambda pair: pair[0])[1] if scored else None)
    return [rival for rival in rivals if rival is not None and rival.subnet != winner.subnet]
