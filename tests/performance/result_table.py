"""What a search is worth: ``python tests/performance/result_table.py RUN [--json]``.

RUN is a finished run folder of a task with labels. Beside its INT8 winners stand subnets of the same supernet that
nobody had to search, nearest below what each winner was measured at (``search.rivals``):

* *shrunk evenly*: every dimension, the depth too, at the same share of its range;
* *fewer layers*: full widths;

and, where the run was also searched with ``--precision fp32``, *fp32-searched*: of the Pareto front of its fp32 search
the best score whose INT8 latency is predicted within the budget by the predictor's bound, quantized like the others.
All are timed in turn with the full model and scored on the report part, which chose none of them.

The last line of ``--json`` holds ``rows``, and by budget ``gain_shrunk``, ``gain_fewer_layers`` and ``gain_fp32`` (the
winner's score less theirs) with the ends of their 95 % intervals (``..._low``, ``..._high``; paired bootstrap over the
texts); under ``mean`` their means over the budgets, where the score is a mean over texts.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ortnas.export.inference import model_outputs
from ortnas.export.intervals import Interval
from ortnas.nas.architecture.space import Genomes
from ortnas.nas.console import Console
from ortnas.nas.run.configuration import read_configuration
from ortnas.nas.run.run import Run
from ortnas.nas.stages.comparison import Entry, compare, show
from ortnas.nas.stages.fit import checked_predictor, usable_timings
from ortnas.predictors.fitting import Predictor
from ortnas.search.front import pareto_rows
from ortnas.search.intervals import SAMPLES, score_intervals
from ortnas.search.racing import text_values
from ortnas.search.result import read_result
from ortnas.search.rivals import evenly_shrunk, fewer_layers

RIVALS = {"shrunk evenly": "shrunk", "fewer layers": "fewer_layers", "fp32-searched": "fp32"}


def searched_in_fp32(run: Run) -> Genomes | None:
    """The Pareto front of all that a search of this run scored in fp32, from the best score down."""
    scored: dict[tuple[int, ...], Mapping[str, Any]] = {}
    for path in sorted(run.folder.path.glob("search/fp32-*/search.json")):
        for candidate in json.loads(path.read_text())["candidates"]:
            if not candidate.get("estimated"):
                scored[tuple(candidate["genome"])] = candidate
    if not scored:
        return None
    genomes = np.array(list(scored), np.int16)
    scores, latency_ms = (
        np.array([candidate[key] for candidate in scored.values()]) for key in ("score", "latency_ms")
    )
    rows = pareto_rows(scores, latency_ms)
    return genomes[rows[np.argsort(-scores[rows], kind="stable")]]


def first_within(predictor: Predictor, genomes: Genomes, budget_ms: float) -> tuple[Genomes, float] | None:
    """The first row whose bound keeps the budget, and its predicted latency in ms."""
    latency_ms, upper_ms = predictor.predict(genomes)
    rows = np.flatnonzero(upper_ms <= budget_ms)
    return (genomes[rows[0]], float(latency_ms[rows[0]])) if len(rows) else None


def entries_of(run: Run) -> Iterator[tuple[str, Entry]]:
    """Budget and entry, winners first under each budget."""
    space, predictor = run.models.supernet.space, checked_predictor(run.configuration, run.folder, run.models)
    _, _, reference = usable_timings(run.folder, run.models)
    searched = searched_in_fp32(run)
    for budget in run.configuration.search.budgets:
        result = read_result(run.folder.search(budget.name))
        if result is None or result.winner is None:
            continue
        winner, name = result.winner, budget.name
        predicted_ms = winner.candidate.latency_ms
        yield name, Entry(f"winner {name}", run.models.exporter, winner.subnet, "int8", predicted_ms)
        unsearched = {
            "shrunk evenly": evenly_shrunk(predictor, winner.measured_ms),
            "fewer layers": fewer_layers(predictor, winner.measured_ms),
        }
        for title, rival in unsearched.items():
            if rival is not None:
                entry = Entry(f"{title}, {name}", run.models.exporter, rival.subnet, "int8", rival.predicted_ms)
                yield name, entry
        limit_ms = budget.limit_ms(reference.latency_ms, run.configuration.target.concurrency)
        fitting = None if searched is None else first_within(predictor, searched, limit_ms)
        if fitting is not None:
            subnet, latency_ms = space.decode(fitting[0]), fitting[1]
            yield name, Entry(f"fp32-searched, {name}", run.models.exporter, subnet, "int8", latency_ms)


def gains(run: Run, entries: list[tuple[str, Entry]]) -> dict[str, dict[str, float]]:
    """How far each winner's score lies above the others of its budget, and the ``mean`` over the budgets."""
    part, head = run.models.part("report"), run.configuration.head
    outputs = {
        entry.name: model_outputs(entry.exporter.build(entry.subnet, "int8"), part.encoded, head)
        for _, entry in entries
    }
    by_budget: dict[str, dict[str, float]] = {}
    for budget in dict.fromkeys(budget for budget, _ in entries):
        group = {entry.name: outputs[entry.name] for of_budget, entry in entries if of_budget == budget}
        # Differences to the winner: the other way round.
        intervals = score_intervals(run.texts.metric, group, part, f"winner {budget}", run.configuration.seed)
        by_budget[budget] = {}
        for rival, key in RIVALS.items():
            if f"{rival}, {budget}" in intervals:
                change = intervals[f"{rival}, {budget}"].difference
                by_budget[budget] |= named(key, -change.value, -change.high, -change.low)
    everything = np.arange(len(part.encoded))
    values = {name: text_values(run.texts.metric, rows, part, everything) for name, rows in outputs.items()}
    by_budget["mean"] = {}
    for rival, key in RIVALS.items():
        pairs = [
            (values[f"winner {budget}"], values[f"{rival}, {budget}"])
            for budget in by_budget
            if f"{rival}, {budget}" in values
        ]
        by_text = [winner - other for winner, other in pairs if winner is not None and other is not None]
        if by_text:
            mean = np.mean(by_text, axis=0)
            drawn = np.random.default_rng(run.configuration.seed).integers(0, len(mean), (SAMPLES, len(mean)))
            low, high = np.percentile(mean[drawn].mean(1), [2.5, 97.5])
            by_budget["mean"] |= named(key, float(mean.mean()), float(low), float(high))
    return by_budget


def named(key: str, value: float, low: float, high: float) -> dict[str, float]:
    return {f"gain_{key}": value, f"gain_{key}_low": low, f"gain_{key}_high": high}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    overrides = {"folder": str(arguments.run), "precision": "int8"}
    run = Run(read_configuration(arguments.run / "resolved.yaml", overrides), Console(to_stderr=arguments.json))
    try:
        entries = list(entries_of(run))
        _, _, reference = usable_timings(run.folder, run.models)
        compared = compare(
            run.configuration,
            run.console,
            run.texts,
            run.target,
            run.models,
            [entry for _, entry in entries],
            reference,
        )
        rows = [item.row for item in compared]
        show(run.configuration, run.console, run.texts, run.target, run.models, rows)
        by_budget = gains(run, entries)
    finally:
        run.close()
    lines = []
    for budget, figures in by_budget.items():
        for rival, key in RIVALS.items():
            if f"gain_{key}" in figures:
                ends = {end: figures[f"gain_{key}_{end}"] for end in ("low", "high")}
                lines.append((budget, rival, Interval(figures[f"gain_{key}"], **ends).signed))
    run.console.table(f"The winner's {run.texts.metric} above", ("budget", "of", "difference (95 %)"), lines)
    if arguments.json:
        print(json.dumps({"rows": [replace(row, visits=()).to_json() for row in rows], **by_budget}))


if __name__ == "__main__":
    main()
