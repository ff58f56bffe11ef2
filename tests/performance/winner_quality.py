"""Winners beside what a user could have had without a search: ``winner_quality.py RUN [--quick] [--json]``.

RUN is a run folder, or a ``run.yaml``. Its run goes on to the end first (``ortnas run``, with ``rivals``; hours); with
``--quick`` its comparison is taken as it is. Under every budget stand the winner and its rivals, trained alone for as
many steps: the evenly shrunk subnet and the one of fewer layers nearest below the latency that the winner was measured
at, the best of a few random ones, the best ready-made checkpoint (``compare: [...]`` in the configuration), and the
full model, all at the run's precision, timed in turn and scored on the report part.

The last line of ``--json`` is one object: by budget ``ours``, ``shrunk``, ``fewer_layers``, ``random``, ``ready_made``
and ``full``, each with ``score``, ``low``, ``high`` (95 % interval), ``measured_ms`` and, for rivals, ``gain``,
``gain_low``, ``gain_high`` (the winner's score less theirs, paired); ``minutes`` are what the stages before the export
took, which trains the rivals.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import yaml

from ortnas.nas.console import Console
from ortnas.nas.files import RESOLVED_FILE
from ortnas.nas.run.clock import Clock
from ortnas.nas.run.naming import folder_of
from ortnas.nas.stages.pipeline import run
from ortnas.search.comparison import RIVALS, Comparison, ComparisonRow, rivals_of
from ortnas.search.verdict import LEAD_COLUMNS, leads, verdict


def figures(row: ComparisonRow, metric: str, winner: ComparisonRow) -> dict[str, float]:
    values = {"score": row.scores[metric], "measured_ms": row.measured_ms}
    if metric in row.intervals:
        values |= {"low": row.intervals[metric].score.low, "high": row.intervals[metric].score.high}
    if row.name in winner.gains:
        gain = winner.gains[row.name]
        values |= {"gain": gain.value, "gain_low": gain.low, "gain_high": gain.high}
    return values


def under_budgets(comparison: Comparison) -> dict[str, dict[str, dict[str, float]]]:
    """By budget and kind of model; of several ready-made checkpoints the one that scores best."""
    metric, rows = comparison.metric, [row for row in comparison.rows if comparison.metric in row.scores]
    by_budget = {}
    for winner in rows:
        if winner.kind != "winner":
            continue
        models = {"ours": figures(winner, metric, winner)}
        for kind in RIVALS:
            rivals = [row for row in rivals_of(winner, rows) if row.kind == kind]
            if rivals:
                models[kind] = figures(max(rivals, key=lambda row: row.scores[metric]), metric, winner)
        full = next(row for row in rows if row.kind == "full" and row.precision == winner.precision)
        by_budget[str(winner.budget)] = models | {"full": figures(full, metric, winner)}
    return by_budget


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if not arguments.quick:
        run(arguments.run, {"rivals": True})
    folder = folder_of(arguments.run)
    configuration = yaml.safe_load((folder / RESOLVED_FILE).read_text(encoding="utf-8"))
    file = folder / "packages" / f"comparison-{configuration['precision']}.json"
    if not file.is_file():
        raise SystemExit(f"{file} is not there yet: `ortnas run` makes it")
    comparison = Comparison.from_json(json.loads(file.read_text(encoding="utf-8")))
    by_budget, console = under_budgets(comparison), Console(to_stderr=arguments.json)
    console.table(
        f"{comparison.metric} on the report part, at the latency that was measured",
        ("budget", "model", "ms", "score", "95 %"),
        [
            (
                budget,
                kind,
                f"{values['measured_ms']:.2f}",
                f"{values['score']:.4f}",
                f"{values['low']:.4f} to {values['high']:.4f}" if "low" in values else "",
            )
            for budget, models in by_budget.items()
            for kind, values in models.items()
        ],
    )
    console.table("Winners and their rivals", LEAD_COLUMNS, [lead.cells for lead in leads(comparison.rows)])
    console.say(verdict(comparison.rows) or "no rival was compared")
    if arguments.json:
        seconds = Clock(folder / "clock.json").seconds()
        minutes = sum(value for stage, value in seconds.items() if stage != "export") / 60
        print(json.dumps({**by_budget, "minutes": minutes}))


if __name__ == "__main__":
    main()
