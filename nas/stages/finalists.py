"""The best candidates of a search: measured on the target, and scored on texts that chose nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ortnas.bench.estimates import AnchorLatency
from ortnas.export.inference import model_outputs
from ortnas.nas.console import Console
from ortnas.nas.run.configuration import Configuration
from ortnas.nas.run.models import Models
from ortnas.nas.run.target import RunTarget
from ortnas.nas.run.texts import Texts
from ortnas.nas.stages.comparison import model_thresholds, time_finally
from ortnas.search.candidate import Candidate
from ortnas.search.finalists import Finalist, LatencyLimit, best_first, choose_winner, judge
from ortnas.search.intervals import score_intervals
from ortnas.search.result import SearchResult

# Groups of finalists that are measured before a budget counts as missed.
_GROUPS = 5
_FULL = "full model"


def measure_finalists(
    configuration: Configuration,
    console: Console,
    run_target: RunTarget,
    run_models: Models,
    reference: AnchorLatency,
    limit: LatencyLimit,
    ranking: Sequence[Candidate],
    beside: Sequence[Candidate] = (),
) -> list[Finalist]:
    """Measures the best candidates on the target, group by group until one is within the limit, and those ``beside``
    them with the first group; best score first."""
    size = configuration.search.finalists
    measured_beside = {candidate.subnet for candidate in beside}
    ranking = [candidate for candidate in ranking if candidate.subnet not in measured_beside]
    finalists: list[Finalist] = []
    for start in range(0, min(len(ranking), _GROUPS * size), size):
        group = [*ranking[start : start + size], *([] if start else beside)]
        console.say(f"re-measuring {len(group)} finalists in turn with the full model")
        models = {
            candidate.subnet.key: run_models.exporter.build(candidate.subnet, configuration.precision)
            for candidate in group
        }
        timings = time_finally(console, run_target, run_models, models, reference)
        finalists += judge(group, {key: [timing] for key, timing in timings.items()}, [limit])
        others = [finalist for finalist in finalists if finalist.subnet not in measured_beside]
        if choose_winner(others) is not None:
            break
    return best_first(finalists)


def scored_on_report(
    configuration: Configuration, texts: Texts, run_models: Models, finalists: Sequence[Finalist]
) -> tuple[Finalist, ...]:
    """Finalists with their scores on the report part, which chose nothing, and how far they lie from the full model."""
    precision, head, part = configuration.precision, configuration.head, run_models.part("report", texts.metric)
    models = {_FULL: run_models.anchor}
    for finalist in finalists:
        models[finalist.subnet.key] = run_models.exporter.build(finalist.subnet, precision)
    outputs = {name: model_outputs(model, part.encoded, head) for name, model in models.items()}
    thresholds = model_thresholds(configuration, run_models, models)
    intervals = score_intervals(texts.metric, outputs, part, _FULL, configuration.seed, thresholds)
    return tuple(replace(finalist, report=intervals[finalist.subnet.key]) for finalist in finalists)


def show_result(console: Console, result: SearchResult) -> None:
    console.table(
        f"Budget {result.budget.name} = {result.budget_ms:.2f} ms: the best of {len(result.candidates)} scored; "
        f"report part with 95 % intervals",
        ("subnet", "score", "report", "to the full model", "predicted ms", "measured ms", ""),
        [
            (
                finalist.subnet.describe(),
                f"{finalist.score:.4f}",
                "" if finalist.report is None else str(finalist.report.score),
                "" if finalist.report is None else finalist.report.difference.signed,
                f"{finalist.candidate.latency_ms:.2f}",
                f"{finalist.measured_ms:.2f} ± {finalist.spread_ms:.2f}",
                _remark(result, finalist),
            )
            for finalist in result.finalists
        ],
    )


def _remark(result: SearchResult, finalist: Finalist) -> str:
    if finalist == result.winner:
        return "winner"
    if not finalist.meets_budget:
        return "over budget"
    return "evenly shrunk" if finalist.subnet.key == result.evenly_shrunk else ""
