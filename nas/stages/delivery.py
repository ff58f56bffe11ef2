"""Winners, or subnets by name -> packages where they are wanted, on the hub too."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.estimates import Reference
from bench.store import StoreError
from export.build import Exporter
from export.hub import check_login, push
from export.weights import read_supernet
from nas.files import digest
from nas.run import Run
from nas.space import SpaceError, Subnet
from nas.stages.comparison import Entry, compare, package
from nas.stages.export import conclude, export, finished_search
from nas.stages.fit import usable_timings
from nas.stages.refine import refined_folder
from nas.stages.search import checked_predictor, make_scorer
from nas.stages.subnet import find_subnet
from nas.stages.train import recorded
from predictors.latency import PredictorError
from search.scoring import part_digest


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

    def record(self) -> dict[str, Any]:
        """What a package says of the budget and the search that it comes from; nothing where it comes from none."""
        if self.search is None:
            return {"budget": None, "budget_ms": None}
        found = {"budget": self.search["budget"], "budget_ms": self.search["budget_ms"]}
        # Its score was that of the weights before.
        return found if self.is_refined else found | {"search_score": self.search["winner"]["score"]}


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
        [[key, choice.exporter.supernet.digest, choice.record()] for key, choice in chosen.items()],
        precision,
        run.recipe.to_json(),
        [part_digest(run.part(name)) for name in run.trained_data.report_parts],
        run.target.hash,
    )
    packages = {key: run.packages_folder / f"{precision}-{key}" for key in chosen}
    return conclude(run, f"{precision}-subnets", inputs, list(packages.values()), lambda: _make(run, chosen))


def _choose(run: Run, name: str, context: str) -> _Choice:
    subnet = find_subnet(run, name)
    run.supernet.dimensions.check(subnet)
    folder = refined_folder(run, subnet, quantization_aware=False)
    is_refined = recorded(folder, "inputs") is not None
    exporter = Exporter(read_supernet(folder), run.recipe, run.calibration) if is_refined else run.exporter
    return _Choice(subnet, exporter, is_refined, finished_search(run, name, context))


def _make(run: Run, chosen: dict[str, _Choice]) -> dict[str, Any]:
    precision = run.configuration.precision
    entries = {
        key: Entry(choice.title, choice.exporter, choice.subnet, precision, _predicted_ms(run, choice.subnet))
        for key, choice in chosen.items()
    }
    rows = compare(run, list(entries.values()), _reference(run))
    by_name = {row["name"]: row for row in rows}
    for key, entry in entries.items():
        package(run, f"{precision}-{key}", entry, by_name[entry.name], chosen[key].record())
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
