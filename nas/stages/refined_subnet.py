"""One subnet of the supernet -> trained alone, compared with what it was, and packaged."""

from __future__ import annotations

from typing import Any

from ortnas.export.weights import SupernetFolder, read_supernet
from ortnas.nas.architecture.subnet import Subnet
from ortnas.nas.console import Console
from ortnas.nas.files import digest, write_json
from ortnas.nas.run.configuration import Configuration
from ortnas.nas.run.folder import RunFolder
from ortnas.nas.run.models import Models
from ortnas.nas.run.target import RunTarget
from ortnas.nas.run.texts import Texts
from ortnas.nas.stages.comparison import Entry, compare, show
from ortnas.nas.stages.courses import recorded
from ortnas.nas.stages.find_subnet import find_subnet
from ortnas.nas.stages.further_training import configured_alone, refined_folder, train_alone, training_identity
from ortnas.nas.stages.packaging import SearchFacts, announce, package
from ortnas.search.budget import Budget
from ortnas.search.comparison import Comparison


def refine_subnet(
    configuration: Configuration,
    console: Console,
    run_folder: RunFolder,
    texts: Texts,
    run_target: RunTarget,
    run_models: Models,
    name: str,
) -> dict[str, Any]:
    """Trains one subnet alone with the supernet's losses and teacher, and packages it."""
    settings = configured_alone(configuration)
    subnet = find_subnet(configuration, run_folder, run_models, name)
    run_models.supernet.dimensions.check(subnet)
    console.heading(
        f"refine: subnet {subnet.key} alone",
        f"{subnet.describe()}. Alone it learns what it could not while it shared its weights"
        + (", with the quantizer's rounding in the loop." if settings.quantization_aware else "."),
    )
    folder = refined_folder(run_folder, subnet, settings.quantization_aware)
    inputs = digest(run_models.supernet.digest, subnet.key, *training_identity(configuration, run_models, settings))
    if recorded(folder, "inputs") != inputs:
        train_alone(
            configuration, console, run_folder, texts, run_models, subnet, run_folder.supernet, folder, inputs, settings
        )
    if run_folder.rank:
        return {}  # the first process packages for all
    return _package(
        configuration, console, run_folder, texts, run_target, run_models, name, subnet, read_supernet(folder)
    )


def _package(
    configuration: Configuration,
    console: Console,
    run_folder: RunFolder,
    texts: Texts,
    run_target: RunTarget,
    run_models: Models,
    name: str,
    subnet: Subnet,
    refined: SupernetFolder,
) -> dict[str, Any]:
    """The subnet before and after, side by side; the later one as a package."""
    precision = configuration.precision
    exporter = run_models.exporter_of(refined)
    before = Entry(f"{subnet.key} in the supernet", run_models.exporter, subnet, precision)
    after = Entry(f"{subnet.key} trained further", exporter, subnet, precision)
    compared = compare(configuration, console, texts, run_target, run_models, [before, after])
    rows = tuple(item.row for item in compared)
    show(configuration, console, texts, run_target, run_models, rows)
    package_name = f"{precision}-{refined.path.name}"
    full_ms = next(row.measured_ms for row in rows if row.name == f"full model, {precision.upper()}")
    package(
        configuration,
        run_folder,
        texts,
        run_models,
        package_name,
        compared[-1],
        _search_facts(configuration, run_folder, name, full_ms),
    )
    folder = run_folder.packages / package_name
    write_json(run_folder.packages / f"comparison-{package_name}.json", Comparison(rows, texts.metric).to_json())
    announce(console, [folder], run_models.target.setup.runtime)
    return {"rows": [row.to_json() for row in rows], "packages": [str(folder)], "subnet_key": subnet.key}


def _search_facts(configuration: Configuration, run_folder: RunFolder, name: str, full_ms: float) -> SearchFacts:
    """The budget that the subnet was named by, if it was; its score in the search was that of other weights."""
    try:
        budget = Budget.parse(name)
    except ValueError:
        return SearchFacts()
    is_searched = run_folder.search(budget.name).is_dir()
    limit_ms = budget.limit_ms(full_ms, configuration.target.concurrency)
    return SearchFacts(budget.name, limit_ms) if is_searched else SearchFacts()
