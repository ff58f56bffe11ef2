"""Subnets as fast as the winners that nobody had to search, trained as long, as entries of a comparison."""

from __future__ import annotations

from collections.abc import Sequence

from ortnas.export.build import Exporter
from ortnas.export.weights import read_supernet
from ortnas.nas.architecture.subnet import Subnet
from ortnas.nas.console import Console
from ortnas.nas.failures import NotFiniteError
from ortnas.nas.files import digest
from ortnas.nas.run.configuration import Configuration
from ortnas.nas.run.folder import RunFolder
from ortnas.nas.run.models import Models
from ortnas.nas.run.texts import Texts
from ortnas.nas.stages.comparison import Entry
from ortnas.nas.stages.courses import recorded
from ortnas.nas.stages.fit import checked_predictor
from ortnas.nas.stages.further_training import alone_for, score_trained, train_alone, training_identity
from ortnas.nas.stages.winners import Winner
from ortnas.predictors.fitting import Predictor, PredictorError
from ortnas.search.comparison import RIVALS
from ortnas.search.rivals import Rival, evenly_shrunk, fewer_layers, random_ones
from ortnas.search.scoring import FitnessScorer, Scorer

# So many random subnets are scored on the search part as they are in the supernet, and the best of them is a rival.
_RANDOM = 4


def rival_entries(
    configuration: Configuration,
    console: Console,
    run_folder: RunFolder,
    texts: Texts,
    run_models: Models,
    scorer: Scorer | FitnessScorer,
    winners: Sequence[Winner],
) -> list[Entry]:
    """The rivals of every winner, each trained alone for as many steps as the winner; none without a predictor.

    ``scorer`` scores what may be shipped, on the search part. Finished trainings are recognised, killed ones go on.
    Raises TrainingError.
    """
    try:
        predictor = checked_predictor(configuration, run_folder, run_models)
    except PredictorError as error:
        console.say(f"no rivals beside the winners: {error}")
        return []
    precision = configuration.precision
    entries = []
    for winner in winners:
        budget = winner.result.budget.name
        for rival in rivals_under(predictor, scorer, winner, configuration.seed):
            name = f"{RIVALS[rival.kind]} {budget}, {precision.upper()}"
            exporter = run_models.exporter
            if winner.trained_steps:
                console.say(f"{name}: trained alone for {winner.trained_steps} steps, as the winner was")
                exporter = _trained(configuration, console, run_folder, texts, run_models, scorer, rival.subnet, winner)
            entries.append(Entry(name, exporter, rival.subnet, precision, rival.predicted_ms, rival.kind, budget))
    return entries


def rivals_under(predictor: Predictor, scorer: Scorer | FitnessScorer, winner: Winner, seed: int) -> list[Rival]:
    """Those of one winner, nearest below what it was measured at; the winner itself is no rival."""
    # Predictions are of medians.
    winner_ms = winner.measured_ms if winner.result.percentile == 50 else winner.predicted_ms
    drawn = random_ones(predictor, winner_ms, _RANDOM, seed)
    outcomes = scorer.outcomes([rival.subnet for rival in drawn], [None] * len(drawn))
    scored = [(item.score, rival) for item, rival in zip(outcomes, drawn, strict=True) if item.score is not None]
    best = max(scored, key=lambda pair: pair[0])[1] if scored else None
    rivals = (fewer_layers(predictor, winner_ms), evenly_shrunk(predictor, winner_ms), best)
    return [rival for rival in rivals if rival is not None and rival.subnet != winner.subnet]


def _trained(
    configuration: Configuration,
    console: Console,
    run_folder: RunFolder,
    texts: Texts,
    run_models: Models,
    scorer: Scorer | FitnessScorer,
    subnet: Subnet,
    winner: Winner,
) -> Exporter:
    """Of the subnet's weights after as many steps as the winner took, or, as for winners, of those in the supernet
    where they score clearly more."""
    alone = alone_for(configuration, winner.trained_steps, configuration.refinement.quantization_aware)
    inputs = digest(run_models.supernet.digest, subnet.key, training_identity(configuration, run_models, alone))
    folder = run_folder.path / "rivals" / inputs
    if recorded(folder, "inputs") != inputs:
        start = run_folder.supernet
        try:
            train_alone(configuration, console, run_folder, texts, run_models, subnet, start, folder, inputs, alone)
        except NotFiniteError as error:
            console.say(f"warning: {error}")
            return run_models.exporter
    trained = read_supernet(folder)
    before = next(iter(scorer.outcomes([subnet], [None]))).score
    after = score_trained(configuration, texts, run_models, trained, subnet)
    if before is not None and not after >= before - winner.result.resolution.search.half_width:
        return run_models.exporter
    return run_models.exporter_of(trained)
