"""Scores of candidates, as the search asks for them."""

from __future__ import annotations

from ortnas.nas.console import Console
from ortnas.nas.run.configuration import Configuration
from ortnas.nas.run.folder import RunFolder
from ortnas.nas.run.models import Models
from ortnas.nas.run.target import RunTarget
from ortnas.nas.run.texts import Texts
from ortnas.search.racing import Race
from ortnas.search.scoring import Dispatch, FitnessScorer, Scorer, in_threads


def make_scorer(
    configuration: Configuration,
    console: Console,
    run_folder: RunFolder,
    texts: Texts,
    run_target: RunTarget,
    run_models: Models,
    screening: bool = False,
) -> Scorer | FitnessScorer:
    """Scores subnets of this run's supernet on its search part; ``context`` names what the scores are of.

    ``screening`` scores models cut from the quantized full network, and ends those that fall behind early. With
    ``search.fitness_steps`` every candidate is trained first.
    """
    settings = configuration.search
    shipped = (
        run_models.exporter,
        run_models.part("search", texts.search_metric),
        configuration.precision,
        texts.search_metric,
        run_folder.scores_file,
    )
    if settings.fitness_steps:
        from ortnas.nas.stages.further_training import fitness_settings, score_after_training, training_identity

        identity = [
            Scorer(*shipped).context,
            *training_identity(configuration, run_models, fitness_settings(configuration)),
        ]
        return FitnessScorer(
            lambda subnet: score_after_training(configuration, console, run_folder, texts, run_models, subnet),
            identity,
            run_folder.scores_file,
        )
    return Scorer(
        *shipped,
        "sliced" if screening and settings.screen else "own",
        Race() if screening and settings.race else None,
        _dispatch(configuration, run_target) if screening else None,
    )


def _dispatch(configuration: Configuration, run_target: RunTarget) -> Dispatch:
    """Where candidates are scored: on this machine, or as tasks of a Ray cluster."""
    settings = configuration.search
    if settings.engine == "local":
        return in_threads(settings.workers)
    from ortnas.search.cluster import on_cluster

    run_target.join_cluster()
    return on_cluster()
