"""Whether predicted budgets hold: finalists of searches under many budgets, measured on the target."""

from __future__ import annotations

import numpy as np

from ortnas.nas.run.run import Run
from ortnas.nas.stages.comparison import time_finally
from ortnas.nas.stages.fit import checked_predictor, usable_timings
from ortnas.search.candidate import Candidate
from ortnas.search.constraints import Constraint
from ortnas.search.evolution import Evolution, InfeasibleBudgetError, Settings
from ortnas.search.finalists import LatencyLimit, judge
from ortnas.search.loop import run_search
from ortnas.search.racing import Race
from ortnas.search.scoring import Scorer

CANDIDATES, FINALISTS, SPEEDS = 48, 4, (1.2, 5.0)


def measure_hits(run: Run, searches: int) -> dict[str, float]:
    """``budget_hit_rate``: share of finalists, all predicted under their budget, that are measured under it.

    Budgets lie evenly between the speeds; scores already known from one search are used by the next. Everything is
    timed after the last search.
    """
    predictor = checked_predictor(run.configuration, run.folder, run.models)
    _, _, reference = usable_timings(run.folder, run.models)
    space, precision = run.models.supernet.space, run.configuration.precision
    scores = run.folder.path / "search" / "hits-scores.jsonl"
    scorer = Scorer(
        run.models.exporter, run.models.part("search"), precision, run.texts.metric, scores, "sliced", Race()
    )
    finalists: list[tuple[float, float, Candidate]] = []
    for number, speed in enumerate(np.linspace(*SPEEDS, searches).tolist()):
        budget_ms = reference.latency_ms / speed
        try:
            evolution = Evolution(space, [Constraint(predictor, budget_ms)], Settings(), seed=number)
        except InfeasibleBudgetError as error:
            run.console.say(f"{speed:.2f}x: {error}")
            continue
        log = run.folder.path / "search" / "hits" / f"{speed:.3f}x.jsonl"
        with run.console.progress(f"search {speed:.2f}x") as report:
            run_search(evolution, scorer, CANDIDATES, log, f"{scorer.context} {predictor.inputs}", report)
        finalists += [(speed, budget_ms, candidate) for candidate in evolution.ranking[:FINALISTS]]
    models = {
        str(place): run.models.exporter.build(candidate.subnet, precision)
        for place, (_, _, candidate) in enumerate(finalists)
    }
    timings = time_finally(run.console, run.target, run.models, models, reference)
    rows, hits, used, errors = [], [], [], []
    for place, (speed, budget_ms, candidate) in enumerate(finalists):
        [finalist] = judge([candidate], {candidate.subnet.key: [timings[str(place)]]}, [LatencyLimit(budget_ms)])
        hits.append(finalist.is_hit)
        used.append(finalist.measured_ms / budget_ms)
        errors.append(abs(candidate.latency_ms / finalist.measured_ms - 1))
        rows.append(
            (
                f"{speed:.2f}x",
                f"{budget_ms:.2f}",
                f"{candidate.latency_ms:.2f}",
                f"{candidate.upper_ms:.2f}",
                f"{finalist.measured_ms:.2f}",
                f"{candidate.score:.4f}",
                "" if finalist.is_hit else "over budget",
            )
        )
    columns = ("budget", "ms", "predicted ms", "bound ms", "measured ms", "score", "")
    run.console.table(f"{len(hits)} finalists of {searches} searches, measured", columns, rows)
    return {
        "budget_hit_rate": float(np.mean(hits)),
        "finalists": float(len(hits)),
        "budget_used": float(np.median(used)),
        "finalist_error": float(np.mean(errors)),
    }
