"""The sections of the page: which figures, charts, drawings and tables each shows."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

import yaml
from markupsafe import Markup

from ortnas.nas.architecture.layout import network_of
from ortnas.nas.architecture.subnet import Subnet
from ortnas.nas.report.charts import Chart, share, words
from ortnas.nas.report.drawing import draw_subnet
from ortnas.nas.report.front_charts import front_chart, label_of
from ortnas.nas.report.predictor_charts import predictor_charts
from ortnas.nas.report.progress import best_chart, progress_chart
from ortnas.nas.report.record import RunRecord
from ortnas.nas.report.refinements import REFINEMENT_COLUMNS, refinement_rows
from ortnas.nas.report.results import interval_of, makes_embeddings, metric_of_results, result_rows, results_chart
from ortnas.nas.report.timing_charts import dataset_chart, noise_charts, training_charts
from ortnas.search.comparison import ComparisonRow
from ortnas.search.recalls import recall_table, without_recalls
from ortnas.search.static_embeddings import below_static
from ortnas.search.verdict import LEAD_COLUMNS, leads, verdict

_SOFTWARE = ("ortnas", "onnxruntime", "onnx", "numpy", "xgboost", "torch", "transformers", "tokenizers")
_HOST_FACTS = {
    "cpu": "processor",
    "machine": "architecture",
    "system": "system",
    "isa": "instruction sets",
    "cores": "cores",
    "cpu_quota": "processors granted",
    "governor": "governor",
    "turbo_off": "turbo off",
    "onnxruntime": "ONNX Runtime",
    "onnxruntime_build": "its build",
}

# What is counted of a corpus beside its parts.
_CORPUS_COUNTS = ("documents", "sequences", "tokens")


class Table(NamedTuple):
    """``note`` is a sentence under the title; columns of figures are right-aligned."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    note: str = ""


class Tile(NamedTuple):
    label: str
    value: str
    detail: str


class Card(NamedTuple):
    """One architecture: its name, its facts and its drawing."""

    title: str
    facts: list[str]
    drawing: Markup


class Section(NamedTuple):
    """``lead`` says what is to be seen, or what is missing; an empty section shows the lead only."""

    key: str
    title: str
    lead: str
    tiles: Sequence[Tile] = ()
    charts: Sequence[Chart] = ()
    cards: Sequence[Card] = ()
    tables: Sequence[Table] = ()
    codes: Sequence[tuple[str, str]] = ()


def all_sections(record: RunRecord) -> list[Section]:
    return [
        _result(record),
        _architectures(record),
        _search(record),
        _predictor(record),
        _timings(record),
        _training(record),
        _environment(record),
    ]


def _result(record: RunRecord) -> Section:
    rows = result_rows(record)
    if not rows:
        return Section("result", "Result", "No winner is packaged yet.")
    metric = metric_of_results(record)
    count = record.data.get("counts", {}).get("report")
    names = without_recalls(dict.fromkeys(name for row in rows for name in row.scores))
    tiles = []
    for row in rows:
        is_anchor = row.name == f"full model, {record.precision.upper()}"
        if not is_anchor and row.kind != "winner":
            continue
        score = row.scores.get(metric)
        detail = "" if score is None else f"{words(metric)} {score:.4f}"
        if not is_anchor:
            detail = f"{row.speed_up:.2f}× the speed · {detail}"
        tiles.append(Tile(row.name, f"{row.measured_ms:.2f} ms", detail))
    table = Table(
        "All models",
        ("model", "measured ms", "speed-up", "predicted ms", "size MB", *map(words, names)),
        [
            (
                row.name,
                f"{row.measured_ms:.2f} ± {row.spread_ms:.2f}",
                f"{row.speed_up:.2f}×",
                _milliseconds(row.predicted_ms),
                f"{row.size_bytes / 1e6:.1f}",
                *(_score(row, name, count) for name in names),
            )
            for row in rows
        ],
        "± of a latency is half the interquartile range of its samples; of a score, half its 95 % interval"
        + (f" on {count:,} texts." if count else "."),
    )
    chart = results_chart(record)
    lead = "What the run hands over, beside the full model that it was cut from."
    static = below_static(rows) if makes_embeddings(record) else ""
    if sentences := " ".join(filter(None, (verdict(rows), static))):
        lead = f"{sentences} {lead}"
    tables = [table, *_recalls(rows), *_rivals(rows, metric)]
    return Section("result", "Result", lead, tiles, [chart] if chart else [], (), tables)


def _recalls(rows: Sequence[ComparisonRow]) -> list[Table]:
    columns, lines = recall_table(rows)
    note = "Of the report texts that have a label, the share that is given it."
    return [Table("Recall of each label", columns, lines, note)] if lines else []


def _rivals(rows: Sequence[ComparisonRow], metric: str) -> list[Table]:
    """How far winners lie above networks that nobody searched; nothing where none was compared."""
    lines = [lead.cells for lead in leads(rows)]
    note = (
        f"{words(metric)} on the report part; in brackets the 95 % interval of the difference, paired over the texts."
    )
    return [Table("Winners and their rivals", LEAD_COLUMNS, lines, note)] if lines else []


def _milliseconds(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _score(row: ComparisonRow, name: str, count: int | None) -> str:
    if name not in row.scores:
        return ""
    value, interval = row.scores[name], interval_of(row, name, count)
    return f"{value:.4f}" if interval is None else f"{value:.4f} ± {(interval[1] - interval[0]) / 2:.4f}"


def _architectures(record: RunRecord) -> Section:
    key, title = "architectures", "Architectures"
    if record.dimensions is None:
        return Section(key, title, "They are drawn once there is a supernet.")
    full, is_gated = record.dimensions.full_subnet, network_of(record.dimensions).is_gated
    shown: dict[str, tuple[Subnet, list[str]]] = {"Full model": (full, [])}
    for search in record.searches:
        if search.winner is not None:
            winner = search.winner
            facts = [
                f"measured {winner.measured_ms:.2f} ms, predicted {winner.candidate.latency_ms:.2f} ms",
                f"{words(search.metric)} {winner.score:.4f} on the search part",
            ]
            shown[f"Winner under {label_of(search, record)}"] = (winner.subnet, facts)
    cards = [
        Card(
            name,
            [
                f"hidden {subnet.hidden_size} · {len(subnet.layers)} layers · "
                f"{subnet.count_multiply_adds(is_gated) / full.count_multiply_adds(is_gated):.0%} of the multiply-adds",
                *facts,
            ],
            Markup(draw_subnet(subnet, record.dimensions, name)),
        )
        for name, (subnet, facts) in shown.items()
    ]
    lead = (
        "A row per layer, the first on top. A block is as wide as the hidden size; its cells are attention heads, its "
        "bar is the FFN; outlines stand for the full model. On the right: heads × head size · FFN size."
    )
    return Section(key, title, lead, cards=cards)


def _search(record: RunRecord) -> Section:
    charts = [chart for chart in (front_chart(record), progress_chart(record), best_chart(record)) if chart]
    if not charts:
        return Section("search", "Search", "Nothing is scored yet.")
    table = Table(
        "Searches",
        ("budget", "budget ms", "scored", "winner measured ms", "winner's score", "finalists within the budget"),
        [
            (
                label_of(search, record),
                _milliseconds(search.budget_ms),
                str(len(search.candidates)),
                f"{search.winner.measured_ms:.2f} ± {search.winner.spread_ms:.2f}" if search.winner else "",
                f"{search.winner.score:.4f}" if search.winner else "",
                f"{sum(finalist.meets_budget for finalist in search.finalists)} of {len(search.finalists)}"
                if search.finalists
                else "",
            )
            for search in record.searches
        ],
    )
    tables = [table]
    failed = [(label_of(search, record), key, reason) for search in record.searches for key, reason in search.failures]
    if failed:
        tables.append(Table("Candidates that could not be scored", ("budget", "subnet", "reason"), failed))
    if trained := refinement_rows(record):
        note = "Scores are those that the search ranked by, of INT8 models on the search part."
        tables.append(Table("Finalists trained alone", REFINEMENT_COLUMNS, trained, note))
    lead = "The search proposed subnets within each budget and scored them."
    if resolution := next((search.result.resolution for search in record.searches if search.result), None):
        sentence = resolution.sentence
        lead += f" {sentence[0].upper()}{sentence[1:]}."
    return Section("search", "Search", lead, charts=charts, tables=tables)


def _predictor(record: RunRecord) -> Section:
    key, title = "predictor", "Latency predictor"
    if not record.predictors:
        return Section(key, title, "There is none yet that can be read.")
    predictor = min(record.predictors, key=lambda item: item.precision != record.precision)
    quality = predictor.quality
    tiles = [
        Tile("mean error", share(quality.mean_error), f"95 % of errors are below {share(quality.error_p95)}"),
        Tile("noise floor", share(quality.noise_floor), "what repeating a timing changes"),
        Tile(
            "rank correlation",
            f"{quality.kendall:.3f}",
            "Kendall's tau"
            + ("" if quality.window_kendall is None else f"; {quality.window_kendall:.2f} among subnets within ±10 %"),
        ),
        Tile("under the bound", f"{quality.coverage:.0%}", f"{predictor.level:.0%} is promised"),
    ]
    charts = [chart for item in record.predictors for chart in predictor_charts(record, item)]
    lead = f"The figures are on timings held out of the fit, {quality.measurements} in all."
    if quality.warning:
        lead += f" Warning: {quality.warning}."
    return Section(key, title, lead, tiles, charts)


def _timings(record: RunRecord) -> Section:
    key, title = "timings", "Timings"
    dataset = record.dataset
    if dataset is None:
        return Section(key, title, "Nothing is timed yet.")
    summary = dataset.summary
    timed = [timing.latency_ms for timing in dataset.timings.values()]
    tiles = [
        Tile("subnets", str(summary.subnets), ", ".join(f"{count} {state}" for state, count in summary.visits.items())),
        Tile("noise floor", share(summary.noise_floor), "what repeating a timing changes"),
    ]
    if timed:
        tiles.insert(1, Tile("latency", f"{min(timed):.1f}–{max(timed):.1f} ms", "median, corrected for drift"))
    chart = dataset_chart(record)
    tables = [
        Table(
            "Data sets",
            (
                "host",
                "processor",
                "session",
                "workloads",
                "precision",
                "subnets",
                "noise floor",
                "target",
                "last timed",
            ),
            [
                (
                    item.summary.host,
                    str(item.summary.target.fingerprint.get("cpu") or "unknown"),
                    item.summary.target.setup.describe(),
                    ", ".join(workload.describe() for workload in item.summary.target.workloads),
                    item.summary.precision,
                    str(item.summary.subnets),
                    share(item.summary.noise_floor),
                    item.summary.target.hash,
                    _time(item.summary.last_at),
                )
                for item in record.datasets
            ],
        )
    ]
    failed = [(row.subnet_key, row.state, row.reason) for row in dataset.measurements if row.state != "ok"]
    if failed:
        tables.append(Table("Visits that failed or are unsure", ("subnet", "state", "reason"), failed))
    lead = "Every subnet takes turns with the full model, so that what slows the host slows both."
    return Section(key, title, lead, tiles, [*([chart] if chart else []), *noise_charts(record)], (), tables)


def _training(record: RunRecord) -> Section:
    counts = {str(name): count for name, count in record.data.get("counts", {}).items() if isinstance(count, int)}
    tiles = [Tile(name, f"{count:,}", "" if name in _CORPUS_COUNTS else "texts") for name, count in counts.items()]
    tables = []
    if record.labels:
        tables.append(Table("Labels", ("label",), [(label,) for label in record.labels]))
    notes = [(str(note),) for note in record.data.get("notes", [])]
    if notes:
        tables.append(Table("Notes on the data", ("what was left out",), notes))
    charts = training_charts(record)
    lead = "The data's disjoint parts, and how the supernet learnt." if counts else "The data is not prepared yet."
    return Section("training", "Data and training", lead, tiles, charts, (), tables)


def _environment(record: RunRecord) -> Section:
    tables = []
    dataset = record.dataset
    if dataset is not None:
        target = dataset.summary.target
        facts = [
            (label, _fact(target.fingerprint.get(key)))
            for key, label in _HOST_FACTS.items()
            if key in target.fingerprint
        ]
        facts += [("session", json.dumps(target.setup.to_json()))]
        facts += [("workload", workload.describe()) for workload in target.workloads]
        tables.append(Table(f"Target: {dataset.summary.host}", ("fact", "value"), facts))
    provenance = [(words(str(key)), _fact(value)) for key, value in record.provenance.items()]
    if provenance:
        tables.append(Table("Supernet", ("fact", "value"), provenance))
    tables.append(Table("Software where this report was written", ("package", "version"), _software()))
    stages = [(_time(event.get("time")), str(event.get("stage", "")), _event(event)) for event in record.events]
    if stages:
        tables.append(Table("What was done", ("when", "stage", "figures"), stages))
    codes = [("Commands", _commands(record)), ("Configuration", yaml.safe_dump(record.configuration, sort_keys=False))]
    lead = "The same configuration, data and seed give the same subnets; timings vary as the noise figures say."
    return Section("environment", "Environment and reproduction", lead, tables=tables, codes=codes)


def _fact(value: Any) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return json.dumps(value) if isinstance(value, dict) else str(value)


def _software() -> list[tuple[str, str]]:
    versions = []
    for name in _SOFTWARE:
        try:
            versions.append((name, version(name)))
        except PackageNotFoundError:
            continue
    return versions


def _event(event: Mapping[str, Any]) -> str:
    shown = {key: value for key, value in event.items() if key not in ("time", "stage", "winner")}
    return ", ".join(f"{words(str(key))} {_figure(value)}" for key, value in shown.items())


def _figure(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else _fact(value)


def _commands(record: RunRecord) -> str:
    lines = [f"ortnas run {shlex.quote(str(record.folder))}"]
    lines += [f"ortnas verify {shlex.quote(str(record.folder / 'packages' / name))}" for name in record.packages]
    return "\n".join(lines)


def _time(seconds: Any) -> str:
    try:
        return f"{datetime.fromtimestamp(float(seconds), timezone.utc):%Y-%m-%d %H:%M} UTC"
    except (TypeError, ValueError, OverflowError, OSError):
        return "unknown"
