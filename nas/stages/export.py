"""Winners -> packages, and the table that compares them with the full model."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from export.package import PackageError, read_record
from nas.files import digest, write_json
from nas.run import Run
from nas.stages.comparison import Entry, compare, package, show
from nas.stages.fit import usable_timings
from nas.stages.search import make_scorer
from search.scoring import part_digest


def export(run: Run) -> dict[str, Any]:
    """Packages the winner of every search of this run's precision and prints the comparison."""
    run.console.heading(
        "export: packages and the proof",
        "Winners are exported once more, timed in turn with the full model, and scored on texts that nothing was "
        "chosen on.",
    )
    winners = _winners(run)
    parts = [part_digest(run.part(name)) for name in run.trained_data.report_parts]
    inputs = digest([search["inputs"] for search in winners.values()], parts, run.target.hash)
    packages = [run.packages_folder / package_name(run, budget) for budget in winners]
    return conclude(run, run.configuration.precision, inputs, packages, lambda: _make(run, winners))


def conclude(
    run: Run, name: str, inputs: str, packages: list[Path], make: Callable[[], dict[str, Any]]
) -> dict[str, Any]:
    """Makes packages and the comparison of that name, or recognises that they are made of ``inputs``; shows them."""
    # Reports look for comparisons in the run, wherever the packages go.
    file = run.folder / "packages" / f"comparison-{name}.json"
    comparison = _recorded(file, inputs, packages)
    if comparison is None:
        comparison = make() | {"inputs": inputs}
        write_json(file, comparison)
        run.event("export", inputs=inputs, packages=[folder.name for folder in packages])
    show(run, comparison["rows"])
    announce(run, packages)
    return comparison | {"packages": [str(folder) for folder in packages]}


def package_name(run: Run, budget: str) -> str:
    label = budget if budget.endswith("x") else f"{budget}ms"
    return f"{run.configuration.precision}-{label}"


def announce(run: Run, packages: Sequence[Path]) -> None:
    """Says where the packages are and how to run them."""
    for folder in packages:
        run.console.say(f"\npackage: {folder}")
        run.console.say(f"  session = onnxruntime.InferenceSession({str(folder / 'model.onnx')!r})")
        run.console.say(f'  {sys.executable} {shlex.quote(str(folder / "predict.py"))} "a text of yours"')


def _winners(run: Run) -> dict[str, dict[str, Any]]:
    context = make_scorer(run).context
    searches = {budget: finished_search(run, budget, context) for budget in run.configuration.search.budgets}
    winners = {budget: search for budget, search in searches.items() if search is not None}
    if not winners:
        raise PackageError(f"{run.folder}: no search has a winner yet; run `ortnas search`")
    return winners


def finished_search(run: Run, budget: str, context: str) -> dict[str, Any] | None:
    """What a search with a winner wrote down; None where there is none.

    ``context`` is that of the run's scorer. Raises PackageError where the search scored something else.
    """
    try:
        search: dict[str, Any] = json.loads((run.search_folder(budget) / "search.json").read_text())
    except (OSError, ValueError):
        return None
    if search["scored_with"] != context:
        raise PackageError(
            f"the search for {budget} was made with another supernet, split or recipe; run `ortnas search` again"
        )
    return search if search["winner"] is not None else None


def _make(run: Run, winners: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Full model at both precisions and every winner, compared; winners packaged."""
    precision, space = run.configuration.precision, run.supernet.space
    entries = {
        budget: Entry(
            f"winner {budget}, {precision.upper()}",
            run.exporter,
            space.decode(np.asarray(search["winner"]["genome"])),
            precision,
            search["winner"]["predicted_ms"],
        )
        for budget, search in winners.items()
    }
    _, _, reference = usable_timings(run)
    rows = compare(run, list(entries.values()), reference)
    by_name = {row["name"]: row for row in rows}
    for budget, search in winners.items():
        entry = entries[budget]
        record = {
            "budget": budget,
            "budget_ms": search["budget_ms"],
            "search_score": search["winner"]["score"],
        }
        package(run, package_name(run, budget), entry, by_name[entry.name], record)
    return {"rows": rows, "reference_ms": reference.latency_ms, "metric": run.metric, "target": run.target.to_json()}


def _recorded(path: Path, inputs: str, packages: list[Path]) -> dict[str, Any] | None:
    """The comparison already made of these inputs, if its packages are there too."""
    try:
        document: dict[str, Any] = json.loads(path.read_text())
        if document["inputs"] != inputs:
            return None
        for folder in packages:
            read_record(folder)
    except (OSError, ValueError, KeyError):
        return None
    return document
