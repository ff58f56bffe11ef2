"""Models side by side: timed in turn with the full model, scored on the report part, packaged."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from ortnas.bench.estimates import AnchorLatency, Timing
from ortnas.bench.visits import time_models
from ortnas.export.build import Exporter, ExportError, Precision
from ortnas.export.inference import model_outputs
from ortnas.export.intervals import Interval
from ortnas.export.metrics import all_scores, find_thresholds, judged_metrics, needs_thresholds
from ortnas.export.package.package import packaged_model
from ortnas.export.part import Thresholds
from ortnas.nas.architecture.heads import HEADS
from ortnas.nas.architecture.subnet import Subnet
from ortnas.nas.console import Console
from ortnas.nas.judgements import pairs_of
from ortnas.nas.run.configuration import Configuration
from ortnas.nas.run.models import Models
from ortnas.nas.run.target import RunTarget
from ortnas.nas.run.texts import Texts
from ortnas.nas.stages.learned import warn_of_chance
from ortnas.nas.stages.narrow_texts import kept_by_source
from ortnas.search.comparison import ComparisonRow, Kind, rivals_of
from ortnas.search.intervals import SampledScores, sample_scores
from ortnas.search.recalls import recall_table, without_recalls
from ortnas.search.static_embeddings import below_static
from ortnas.search.verdict import LEAD_COLUMNS, leads, verdict

PRECISIONS: tuple[Precision, ...] = ("fp32", "int8")


@dataclass(frozen=True)
class Entry:
    """A subnet with the weights that it is built from. ``kind`` and ``budget`` are those of its row."""

    name: str
    exporter: Exporter
    subnet: Subnet
    precision: Precision
    predicted_ms: float | None = None
    kind: Kind = "other"
    budget: str | None = None

    @property
    def shares_space(self) -> bool:
        """Whether its embeddings are in the teacher's space, so that the two can be compared one by one."""
        return self.kind != "ready_made"


@dataclass(frozen=True)
class Compared:
    """What was measured and scored of an entry, and the very bytes that it was measured and scored on."""

    entry: Entry
    row: ComparisonRow
    model: bytes


def full_models(configuration: Configuration, console: Console, run_models: Models) -> list[Entry]:
    """The full teacher at both precisions; the one of the run's precision is the anchor of all timings.

    The other one is left out, and said to be, where it is too large for an ONNX file.
    """
    full = run_models.teacher.dimensions.full_subnet
    entries = []
    for precision in PRECISIONS:
        try:
            run_models.teacher_exporter.check_size(full, precision)
        except ExportError as error:
            if precision == configuration.precision:
                raise
            console.say(f"the full model in {precision.upper()} is left out: {error}")
            continue
        name = f"full model, {precision.upper()}"
        entries.append(Entry(name, run_models.teacher_exporter, full, precision, kind="full"))
    return entries


def compare(
    configuration: Configuration,
    console: Console,
    texts: Texts,
    run_target: RunTarget,
    run_models: Models,
    entries: Sequence[Entry],
    reference: AnchorLatency | None = None,
) -> list[Compared]:
    """The full models and then the entries, as files of packages hold them, measured interleaved with the anchor.

    ``reference`` is the anchor's latency that speed-ups and drift refer to; by default its latency here.
    """
    entries = [*full_models(configuration, console, run_models), *entries]
    models = {
        entry.name: packaged_model(entry.exporter.build(entry.subnet, entry.precision), configuration.head)
        for entry in entries
    }
    console.say(f"timing {len(models)} models in turn")
    timings = time_finally(console, run_target, run_models, models, reference)
    thresholds = model_thresholds(configuration, run_models, models)
    full = f"full model, {configuration.precision.upper()}"
    foreign = frozenset(entry.name for entry in entries if not entry.shares_space)
    scores, sampled = report_scores(configuration, texts, run_models, models, thresholds, foreign)
    compared = []
    for entry in entries:
        timing, model = timings[entry.name], models[entry.name]
        row = ComparisonRow(
            name=entry.name,
            subnet=entry.subnet,
            precision=entry.precision,
            measured_ms=timing.latency_ms,
            spread_ms=timing.spread_ms,
            p95_ms=timing.percentile_ms(95),
            speed_up=timing.reference.latency_ms / timing.latency_ms,
            predicted_ms=entry.predicted_ms,
            size_bytes=len(model),
            model_digest=hashlib.sha256(model).hexdigest(),
            scores=scores[entry.name],
            intervals={
                metric: by_model.intervals(entry.name, full)
                for metric, by_model in sampled.items()
                if entry.name in by_model.whole
            },
            null_threshold=thresholds[entry.name].null_threshold,
            label_thresholds=thresholds[entry.name].label_thresholds,
            visits=timing.visits,
            kind=entry.kind,
            budget=entry.budget,
        )
        compared.append(Compared(entry, row, model))
    rows, of_metric = [item.row for item in compared], sampled[texts.metric]
    return [replace(item, row=replace(item.row, gains=_gains(item.row, rows, of_metric))) for item in compared]


def _gains(row: ComparisonRow, rows: Sequence[ComparisonRow], sampled: SampledScores) -> dict[str, Interval]:
    """How far a winner's score lies above those of its rivals that have one."""
    if row.kind != "winner":
        return {}
    rivals = [rival.name for rival in rivals_of(row, rows) if rival.name in sampled.whole]
    return {name: sampled.difference(row.name, name) for name in rivals}


def model_thresholds(
    configuration: Configuration, run_models: Models, models: Mapping[str, bytes]
) -> dict[str, Thresholds]:
    """By model: when it gives no answer, or a label of several, found on the search part, so that no report text has a
    say in it."""
    head, part = configuration.head, run_models.part("search")
    if not needs_thresholds(head, part):
        return dict.fromkeys(models, Thresholds())
    return {
        name: find_thresholds(head, model_outputs(model, part.encoded, head), part) for name, model in models.items()
    }


def report_scores(
    configuration: Configuration,
    texts: Texts,
    run_models: Models,
    models: Mapping[str, bytes],
    thresholds: Mapping[str, Thresholds],
    foreign: Collection[str] = (),
) -> tuple[dict[str, dict[str, float]], dict[str, SampledScores]]:
    """By model: every metric of the head on every report part (those of other dev sets carry the part's name); and by
    metric, for the run's and those of judged pairs, the models' scores on samples of the texts.

    ``thresholds`` are those of ``model_thresholds``. Models that are ``foreign`` make embeddings in a space of their
    own: they have no score of metrics that compare single embeddings with the teacher's.
    """
    head = configuration.head
    scores: dict[str, dict[str, float]] = {name: {} for name in models}
    sampled: dict[str, SampledScores] = {}
    for part_name in run_models.data.report_parts:
        part = run_models.part(part_name)
        suffix = part_name.removeprefix("report") if part.judgements is None else ""
        outputs = {name: model_outputs(model, part.encoded, head) for name, model in models.items()}
        for name, rows in outputs.items():
            own = replace(part, **thresholds[name]._asdict())
            computed = all_scores(head, rows, own, shares_space=name not in foreign)
            scores[name] |= {f"{metric}{suffix}": value for metric, value in computed.items()}
        certain = judged_metrics(part.judgements) if part.judgements else [] if suffix else [texts.text_metric]
        for metric in certain:
            comparable = {name: rows for name, rows in outputs.items() if metric in scores[name]}
            sampled[metric] = sample_scores(metric, comparable, part, configuration.seed, thresholds)
    return scores, sampled


def show(
    configuration: Configuration,
    console: Console,
    texts: Texts,
    run_target: RunTarget,
    run_models: Models,
    rows: Sequence[ComparisonRow],
) -> None:
    names = without_recalls(rows[0].scores)
    if not HEADS[configuration.head].compares_all_metrics:
        names = [name for name in names if name.startswith(texts.metric)]
    judgements = run_models.data.judgements.get(pairs_of("report"))
    judged = "" if judgements is None else f" and {judgements}"
    host = "this machine" if run_target.host.name == "local" else run_target.host.name
    requests = ", ".join(workload.describe() for workload in run_models.target.workloads)
    console.table(
        f"Latency on {host} ({run_models.target.setup.describe()}, batch {requests}); "
        f"scores on {run_models.data.counts['report']} report texts{judged}",
        (
            "model",
            "measured ms",
            "speed-up",
            "predicted ms",
            "size MB",
            *(name.replace("_", " ") for name in names),
            "to the full model (95 %)",
        ),
        [
            (
                row.name,
                f"{row.measured_ms:.2f} ± {row.spread_ms:.2f}",
                f"{row.speed_up:.2f}x",
                "" if row.predicted_ms is None else f"{row.predicted_ms:.2f}",
                f"{row.size_bytes / 1e6:.1f}",
                *(f"{row.scores[name]:.4f}" if name in row.scores else "" for name in names),
                row.intervals[texts.metric].difference.signed if texts.metric in row.intervals else "",
            )
            for row in rows
        ],
    )
    columns, lines = recall_table(rows)
    if lines:
        console.table("Recall of each label on the report part", columns, lines)
    if run_models.data.mixture is not None and run_models.data.mixture.report_parts:
        full = run_models.teacher.dimensions.full_subnet
        subnets = [row for row in rows if row.subnet != full and row.kind != "ready_made"]
        for sentence in kept_by_source(subnets, run_models.data.mixture):
            console.say(sentence)
    show_rivals(console, texts, rows)
    for row in rows:
        if row.kind == "full" and row.precision == configuration.precision and texts.metric in row.intervals:
            score = row.intervals[texts.metric].score
            warn_of_chance(console, configuration.head, texts.metric, score, texts.part("report"), "report")
    if HEADS[configuration.head].makes_embeddings and (sentence := below_static(rows)):
        console.say(sentence)


def show_rivals(console: Console, texts: Texts, rows: Sequence[ComparisonRow]) -> None:
    """How far every winner lies above its rivals, and whether it was worth its search; nothing without rivals."""
    lines = [lead.cells for lead in leads(rows)]
    if lines:
        metric = texts.metric.replace("_", " ")
        console.table(
            f"Winners and their rivals by {metric} on the report part",
            LEAD_COLUMNS,
            lines,
        )
    if sentence := verdict(rows):
        console.say(f"\n{sentence}")


# What is shipped is timed longer than what a predictor is fitted to.
_VISITS, _CAP_S = 3, 2.0


def time_finally(
    console: Console,
    run_target: RunTarget,
    run_models: Models,
    models: Mapping[str, bytes],
    reference: AnchorLatency | None = None,
) -> dict[str, Timing]:
    """As ``bench.visits.time_models``, beside the run's anchor. Raises HostError where a model fails."""
    request = replace(run_models.request, protocol=replace(run_target.protocol, cap_s=_CAP_S))
    with console.progress("timing") as report:
        return time_models(models, request, run_target.host, _VISITS, reference, report)
