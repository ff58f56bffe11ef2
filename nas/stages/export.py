"""Winners -> packages, and the table that compares them with the full model."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ortnas.bench.estimates import Reference
from ortnas.bench.store import StoreError
from ortnas.export.build import Exporter
from ortnas.export.package.hub import check_login, push
from ortnas.export.package.record import PackageError
from ortnas.export.weights import read_supernet
from ortnas.nas.architecture.subnet import SpaceError, Subnet
from ortnas.nas.files import digest
from ortnas.nas.run.run import Run
from ortnas.nas.stages.comparison import Entry, compare
from ortnas.nas.stages.courses import recorded
from ortnas.nas.stages.find_subnet import find_subnet
from ortnas.nas.stages.fit import checked_predictor, usable_timings
from ortnas.nas.stages.further_training import refined_folder
from ortnas.nas.stages.packaging import SearchFacts, conclude, package, package_name
from ortnas.nas.stages.scoring import make_scorer
from ortnas.predictors.fitting import PredictorError
from ortnas.search.scoring import part_digest


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
    return conclude(run, run.configuration.precision, inputs, packages, lambda: _compare_winners(run, winners))


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


def _compare_winners(run: Run, winners: dict[str, dict[str, Any]]) -> dict[str, Any]:
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
        facts = SearchFacts(budget, search["budget_ms"], search["winner"]["score"])
        package(run, package_name(run, budget), entry, by_name[entry.name], facts)
    return {"rows": rows, "reference_ms": reference.latency_ms, "metric": run.metric, "target": run.target.to_json()}


def deliver(run: Run, names: Sequence[str], out: Path | None = None, hub_name: str | None = None) -> dict[str, Any]:
    """Packages the subnets of these names (see ``find_subnet``), or the winners where none is given.

    Packages become folders of ``out``, or of the run's ``packages``; then they are uploaded as ``hub_name``. Where
    that cannot work, it is said before any work. Raises HubError, OSError and what ``export`` raises.
    """
    if hub_name is not None:
        run.console.say(f"to the hub as {check_login(hub_name)}")
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            run.packages_folder = out
    result = export_subnets(run, names) if names else export(run)
    if hub_name is not None:
        result["uploaded"] = push([Path(folder) for folder in result["packages"]], hub_name)
        for address in result["uploaded"]:
            run.console.say(f"uploaded: {address}")
    return result


@dataclass(frozen=True)
class _Choice:
    """A named subnet, the weights that it is built from, and the search that it won, if it was named by a budget."""

    subnet: Subnet
    exporter: Exporter
    is_refined: bool
    search: dict[str, Any] | None

    @property
    def title(self) -> str:
        return f"{self.subnet.key} {'trained further' if self.is_refined else 'in the supernet'}"

    def facts(self) -> SearchFacts:
        """What a package says of the budget and the search that it comes from; nothing where it comes from none."""
        if self.search is None:
            return SearchFacts()
        # With other weights its score was another.
        score = None if self.is_refined else self.search["winner"]["score"]
        return SearchFacts(self.search["budget"], self.search["budget_ms"], score)


def export_subnets(run: Run, names: Sequence[str]) -> dict[str, Any]:
    """Packages any subnets of the supernet as ``PRECISION-KEY``, measured and scored as finalists are.

    Those that were trained further come with those weights. Raises ConfigurationError and SpaceError where a name
    stands for no subnet of this supernet, PackageError and CoverageError.
    """
    run.console.heading(
        "export: chosen subnets as packages",
        "They are timed in turn with the full model, and scored on texts that nothing was chosen on.",
    )
    precision = run.configuration.precision
    context = make_scorer(run).context
    chosen = {choice.subnet.key: choice for choice in (_choose(run, name, context) for name in names)}
    inputs = digest(
        [[key, choice.exporter.supernet.digest, asdict(choice.facts())] for key, choice in chosen.items()],
        precision,
        run.recipe.to_json(),
        [part_digest(run.part(name)) for name in run.trained_data.report_parts],
        run.target.hash,
    )
    packages = {key: run.packages_folder / f"{precision}-{key}" for key in chosen}
    return conclude(run, f"{precision}-subnets", inputs, list(packages.values()), lambda: _compare_chosen(run, chosen))


def _choose(run: Run, name: str, context: str) -> _Choice:
    subnet = find_subnet(run, name)
    run.supernet.dimensions.check(subnet)
    folder = refined_folder(run, subnet, quantization_aware=False)
    is_refined = recorded(folder, "inputs") is not None
    exporter = Exporter(read_supernet(folder), run.recipe, run.calibration) if is_refined else run.exporter
    return _Choice(subnet, exporter, is_refined, finished_search(run, name, context))


def _compare_chosen(run: Run, chosen: dict[str, _Choice]) -> dict[str, Any]:
    precision = run.configuration.precision
    entries = {
        key: Entry(choice.title, choice.exporter, choice.subnet, precision, _predicted_ms(run, choice.subnet))
        for key, choice in chosen.items()
    }
    rows = compare(run, list(entries.values()), _reference(run))
    by_name = {row["name"]: row for row in rows}
    for key, entry in entries.items():
        package(run, f"{precision}-{key}", entry, by_name[entry.name], chosen[key].facts())
    return {"rows": rows, "metric": run.metric, "target": run.target.to_json()}


def _predicted_ms(run: Run, subnet: Subnet) -> float | None:
    """None without a predictor of this target, and for a subnet outside its space."""
    try:
        latency_ms, _ = checked_predictor(run).predict(run.supernet.space.encode(subnet)[None])
    except (PredictorError, SpaceError):
        return None
    return float(latency_ms[0])


def _reference(run: Run) -> Reference | None:
    """What the run's timings refer to; None where there are none yet."""
    if not run.store_file.is_file():
        return None
    try:
        return usable_timings(run)[2]
    except StoreError:
        return None
