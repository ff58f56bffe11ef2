"""One subnet of the supernet -> trained further, compared with what it was, and packaged; or extracted as it is."""

from __future__ import annotations

from typing import Any

from ortnas.export.build import Exporter
from ortnas.export.weights import SupernetFolder, read_supernet
from ortnas.nas.architecture.subnet import Subnet
from ortnas.nas.files import digest, write_json
from ortnas.nas.run.run import Run
from ortnas.nas.stages.comparison import Entry, compare, show
from ortnas.nas.stages.courses import recorded
from ortnas.nas.stages.find_subnet import find_subnet
from ortnas.nas.stages.fit import budget_in_ms
from ortnas.nas.stages.further_training import _train, refined_folder, training_identity
from ortnas.nas.stages.packaging import SearchFacts, announce, package


def refine(run: Run, name: str) -> dict[str, Any]:
    """Trains one subnet further with the supernet's losses and teacher, and packages it."""
    settings = run.configuration.refinement
    subnet = find_subnet(run, name)
    run.supernet.dimensions.check(subnet)
    run.console.heading(
        f"train: subnet {subnet.key} further",
        f"{subnet.describe()}. Alone it learns what it could not while it shared its weights"
        + (", with the quantizer's rounding in the loop." if settings.quantization_aware else "."),
    )
    folder = refined_folder(run, subnet, settings.quantization_aware)
    inputs = digest(run.supernet.digest, subnet.key, *training_identity(run, settings))
    if recorded(folder, "inputs") != inputs:
        _train(run, subnet, folder, inputs, settings)
    if run.rank:
        return {}  # the first process packages for all
    return _package(run, name, subnet, read_supernet(folder))


def _package(run: Run, name: str, subnet: Subnet, refined: SupernetFolder) -> dict[str, Any]:
    """The subnet before and after, side by side; the later one as a package."""
    precision = run.configuration.precision
    exporter = Exporter(refined, run.recipe, run.calibration)
    before = Entry(f"{subnet.key} in the supernet", run.exporter, subnet, precision)
    after = Entry(f"{subnet.key} trained further", exporter, subnet, precision)
    rows = compare(run, [before, after])
    show(run, rows)
    package_name = f"{precision}-{refined.path.name}"
    is_budget = run.search_folder(name).is_dir()
    full_ms = next(row["measured_ms"] for row in rows if row["name"] == f"full model, {precision.upper()}")
    budget_ms = budget_in_ms(name, full_ms) if is_budget else None
    package(run, package_name, after, rows[-1], SearchFacts(name if is_budget else None, budget_ms))
    folder = run.packages_folder / package_name
    write_json(run.packages_folder / f"comparison-{package_name}.json", {"rows": rows, "metric": run.metric})
    announce(run, [folder])
    return {"rows": rows, "packages": [str(folder)], "subnet_key": subnet.key}
