"""Scores of candidates, as the search asks for them."""

from __future__ import annotations

from ortnas.nas.run.run import Run
from ortnas.search.racing import Race
from ortnas.search.scoring import FitnessScorer, Scorer, Spread, in_threads


def make_scorer(run: Run, screening: bool = False) -> Scorer | FitnessScorer:
    """Scores subnets of this run's supernet on its search split; ``context`` names what the scores are of.

    ``screening`` scores models cut from the quantized full network, and ends those that fall behind early. With
    ``search.fitness_steps`` every candidate is trained first.
    """
    settings = run.configuration.search
    shipped = (run.exporter, run.part("search"), run.configuration.precision, run.search_metric, run.scores_file)
    if settings.fitness_steps:
        from ortnas.nas.stages.further_training import fitness_settings, score_after_training, training_identity

        identity = [Scorer(*shipped).context, *training_identity(run, fitness_settings(run))]
        return FitnessScorer(lambda subnet: score_after_training(run, subnet), identity, run.scores_file)
    return Scorer(
        *shipped,
        "sliced" if screening and settings.screen else "own",
        Race() if screening and settings.race else None,
        _spread(run) if screening else None,
    )


def _spread(run: Run) -> Spread:
    """Where candidates are scored: on this machine, or as tasks of a Ray cluster."""
    settings = run.configuration.search
    if settings.engine == "local":
        return in_threads(settings.workers)
    from ortnas.search.cluster import on_cluster

    run.join_cluster()
    return on_cluster()
