"""Whether predicted budgets hold: finalists of searches under many budgets, measured on the target."""

from __future__ import annotations

import numpy as np

from nas.run import Run
from nas.stages.fit import usable_timings
from nas.stages.measuring import time_finally
from predictors.latency import find_predictor
from search.constraints import Constraint
from search.evolution import Candidate, Evolution, InfeasibleBudgetError, Settings
from search.finalists import Budget, judge
from search.loop import run_search
from search.racing import Race
from search.scoring import Scorer

CANDIDATES, FINALISTS, SPEEDS = 48, 4, (1.2, 5.0)


def measure_hits(run: Run, searches: int) -> dict[str, float]:
    """``budget_hit_rate``: share of finalists, all predicted under their budget, that are measured under it.

    Budgets lie evenly between the speeds; scores already known from one search are used by the next.
    """
    predictor = find_predictor(run.predictors_folder, run.configuration.precision, run.target)
    _, _, reference = usable_timings(run)
    space, precision = run.supernet.space, run.configuration.precision
    scores = run.folder / "search" / "hits-scores.jsonl"
    scorer = Scorer(run.exporter, run.part("search"), precision, run.metric, scores, "sliced", Race())
    rows, hits, used = [], [], []
    for number, speed in enumerate(np.linspace(*SPEEDS, searches)):
        budget_ms = reference.latency_ms / float(speed)
        try:
            evolution = Evolution(space, [Constraint(predictor, budget_ms)], Settings(), seed=number)
        except InfeasibleBudgetError as error:
            run.console.say(f"{speed:.2f}x: {error}")
            continue
        log = run.folder / "search" / "hits" / f"{speed:.3f}x.jsonl"
        with run.console.progress(f"search {speed:.2f}x") as report:
            run_search(evolution, scorer, CANDIDATES, log, f"{scorer.context} {predictor.inputs}", report)
        candidates: list[Candidate] = evolution.ranking[:FINALISTS]
        models = {
            str(place): run.exporter.build(space.decode(np.array(candidate.genome)), precision)
            for place, candidate in enumerate(candidates)
        }
        timings = time_finally(run, models, reference)
        measured = {candidate.genome: [timings[str(place)]] for place, candidate in enumerate(candidates)}
        for finalist in judge(candidates, measured, [Budget(budget_ms)]):
            hits.append(finalist.is_hit)
            used.append(finalist.measured_ms / budget_ms)
            rows.append(
                (
                    f"{speed:.2f}x",
                    f"{budget_ms:.2f}",
                    f"{finalist.candidate.latency_ms:.2f}",
                    f"{finalist.candidate.upper_ms:.2f}",
                    f"{finalist.measured_ms:.2f}",
                    f"{finalist.candidate.score:.4f}",
                    "" if finalist.is_hit else "over budget",
                )
            )
    columns = ("budget", "ms", "predicted ms", "bound ms", "measured ms", "score", "")
    run.console.table(f"{len(hits)} finalists of {searches} searches, measured", columns, rows)
    return {
        "budget_hit_rate": float(np.mean(hits)),
        "finalists": float(len(hits)),
        "budget_used": float(np.median(used)),
    }
