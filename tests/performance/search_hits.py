"""Whether predicted budgets hold: finalists of searches under many budgets, measured on the target."""

from __future__ import annotations

import numpy as np

from ortnas.nas.run.run import Run
from ortnas.nas.stages.comparison import time_finally
from ortnas.nas.stages.fit import checked_predictor, usable_timings
from ortnas.nas.stages.probes import probe
from ortnas.search.candidate import Candidate
from ortnas.search.constraints import Constraint
from ortnas.search.correction import CorrectedPredictor
from ortnas.search.evolution import Evolution, InfeasibleBudgetError, Settings
from ortnas.search.finalists import LatencyLimit, judge
from ortnas.search.loop import run_search
from ortnas.search.racing import Race
from ortnas.search.scoring import Scorer

FINALISTS, SPEEDS = 4, (1.2, 5.0)


def measure_hits(run: Run, searches: int, candidates: int = 48) -> dict[str, float]:
    """``budget_hit_rate``: share of finalists, all predicted under their budget, that are measured under it;
    ``coverage_95_searched``: that are measured under their own bound.

    Budgets lie evenly between the speeds; scores already known from one search are used by the next. Finalists are
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
        inputs = f"{scorer.context} {predictor.inputs}"
        with run.console.progress(f"search {speed:.2f}x") as report:
            run_search(evolution, scorer, candidates - candidates // 4, log, inputs, report)
        parts = (run.console, run.target, run.models, reference)
        correction = probe(*parts, evolution.ranking, predictor.level, log.with_suffix(""), inputs)
        if correction is not None:
            evolution.constrain([Constraint(CorrectedPredictor(predictor, correction), budget_ms)])
        with run.console.progress(f"search {speed:.2f}x, corrected") as report:
            run_search(evolution, scorer, candidates, log, inputs, report)
        finalists += [(speed, budget_ms, candidate) for candidate in evolution.ranking[:FINALISTS]]
    models = {
        str(place): run.models.exporter.build(candidate.subnet, precision)
        for place, (_, _, candidate) in enumerate(finalists)
    }
    timings = time_finally(run.console, run.target, run.models, models, reference)
    rows, hits, covered, used, errors = [], [], [], [], []
    for place, (speed, budget_ms, candidate) in enumerate(finalists):
        [finalist] = judge([candidate], {candidate.subnet.key: [timings[str(place)]]}, [LatencyLimit(budget_ms)])
        hits.append(finalist.is_hit)
        covered.append(finalist.measured_ms <= candidate.upper_ms)
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
        "coverage_95_searched": float(np.mean(covered)),
        "finalists": float(len(hits)),
        "budget_used": float(np.median(used)),
        "finalist_error": float(np.mean(errors)),
    }
