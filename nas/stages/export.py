"""Winners -> packages, and the table that compares them with the full model."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ortnas.bench.estimates import AnchorLatency
from ortnas.bench.store import StoreError
from ortnas.export.build import Exporter
from ortnas.export.package.upload import check_login, push
from ortnas.export.weights import read_supernet
from ortnas.nas.architecture.subnet import SpaceError, Subnet
from ortnas.nas.console import Console
from ortnas.nas.files import digest
from ortnas.nas.run.configuration import Configuration
from ortnas.nas.run.folder import RunFolder
from ortnas.nas.run.models import Models
from ortnas.nas.run.target import RunTarget
from ortnas.nas.run.texts import Texts
from ortnas.nas.stages.comparison import Entry, compare
from ortnas.nas.stages.find_subnet import find_subnet
from ortnas.nas.stages.fit import checked_predictor, usable_timings
from ortnas.nas.stages.further_training import trained_weights
from ortnas.nas.stages.packaging import SearchFacts, conclude, package, package_name
from ortnas.nas.stages.ready_made import ready_made_entries
from ortnas.nas.stages.rivals import rival_entries
from ortnas.nas.stages.scoring import make_scorer
from ortnas.nas.stages.winners import Winner, finished_search, finished_searches, winner_of
from ortnas.predictors.fitting import PredictorError
from ortnas.search.budget import Budget
from ortnas.search.comparison import Comparison
from ortnas.search.result import SearchResult
from ortnas.search.scoring import part_digest


def export(
    configuration: Configuration,
    console: Console,
    run_folder: RunFolder,
    texts: Texts,
    run_target: RunTarget,
    run_models: Models,
) -> dict[str, Any]:
    """Packages the winner of every search of this run's precision and prints the comparison."""
    console.heading(
        "export: packages and the proof",
        "Winners are exported once more, timed in turn with the full model, and scored on texts that nothing was "
        "chosen on.",
    )
    results = finished_searches(configuration, console, run_folder, texts, run_target, run_models)
    winners = [winner_of(run_folder, run_models, result) for result in results]
    trained_steps = max(winner.trained_steps for winner in winners)
    ready_made = ready_made_entries(configuration, console, run_folder, texts, run_models, trained_steps)
    parts = [part_digest(run_models.part(name)) for name in run_models.data.report_parts]
    made_of = [[winner.result.inputs, winner.subnet.key, winner.exporter.supernet.digest] for winner in winners]
    compared = [[entry.name, entry.exporter.supernet.digest] for entry in ready_made]
    inputs = digest(made_of, parts, run_models.target.hash, configuration.rivals, compared)
    packages = [run_folder.packages / package_name(configuration, winner.result.budget) for winner in winners]
    return conclude(
        configuration,
        console,
        run_folder,
        texts,
        run_target,
        run_models,
        configuration.precision,
        inputs,
        packages,
        lambda: _compare_winners(
            configuration, console, run_folder, texts, run_target, run_models, winners, ready_made
        ),
    )


def _compare_winners(
    configuration: Configuration,
    console: Console,
    run_folder: RunFolder,
    texts: Texts,
    run_target: RunTarget,
    run_models: Models,
    winners: Sequence[Winner],
    ready_made: Sequence[Entry],
) -> Comparison:
    """Full model at both precisions, every winner and its rivals, compared; winners packaged."""
    precision = configuration.precision
    entries = [
        Entry(
            f"winner {winner.result.budget.name}, {precision.upper()}",
            winner.exporter,
            winner.subnet,
            precision,
            winner.predicted_ms,
            "winner",
            winner.result.budget.name,
        )
        for winner in winners
    ]
    if configuration.rivals:
        scorer = make_scorer(configuration, console, run_folder, texts, run_target, run_models)
        entries += rival_entries(configuration, console, run_folder, texts, run_models, scorer, winners)
    entries += ready_made
    _, _, reference = usable_timings(run_folder, run_models)
    compared = compare(configuration, console, texts, run_target, run_models, entries, reference)
    packaged = [item for item in compared if item.row.kind == "winner"]
    for winner, made in zip(winners, packaged, strict=True):
        result = winner.result
        facts = SearchFacts(result.budget.name, result.budget_ms, winner.score)
        package(
            configuration,
            run_folder,
            texts,
            run_models,
            package_name(configuration, result.budget),
            made,
            facts,
        )
    rows = tuple(item.row for item in compared)
    return Comparison(rows, texts.metric, reference_ms=reference.latency_ms, target=run_models.target.to_json())


def deliver(
    configuration: Configuration,
    console: Console,
    run_folder: RunFolder,
    texts: Texts,
    run_target: RunTarget,
    run_models: Models,
    names: Sequence[str],
    out: Path | None = None,
    hub_name: str | None = None,
) -> dict[str, Any]:
    """Packages the subnets of these names (see ``find_subnet``), or the winners where none is given.

    Packages become folders of ``out``, or of the run's ``packages``; then they are uploaded as ``hub_name``. Where
    that cannot work, it is said before any work. Raises HubError, OSError and what ``export`` raises.
    """
    if hub_name is not None:
        console.say(f"to the hub as {check_login(hub_name)}")
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            run_folder = run_folder.delivering_to(out)
    result = (
        export_subnets(configuration, console, run_folder, texts, run_target, run_models, names)
        if names
        else export(configuration, console, run_folder, texts, run_target, run_models)
    )
    if hub_name is not None:
        result["uploaded"] = push([Path(folder) for folder in result["packages"]], hub_name)
        for address in result["uploaded"]:
            console.say(f"uploaded: {address}")
    return result


@dataclass(frozen=True)
class _Choice:
    """A named subnet, the weights that it is built from, and the search that it won, if it was named by a budget."""

    subnet: Subnet
    exporter: Exporter
    is_refined: bool
    search: SearchResult | None

    @property
    def title(self) -> str:
        return f"{self.subnet.key} {'trained further' if self.is_refined else 'in the supernet'}"

    def facts(self) -> SearchFacts:
        """What a package says of the budget and the search that it comes from; nothing where it comes from none."""
        if self.search is None:
            return SearchFacts()
        # With other weights its score was another.
        winner = self.search.winner
        score = None if self.is_refined or winner is None else winner.score
        return SearchFacts(self.search.budget.name, self.search.budget_ms, score)


def export_subnets(
    configuration: Configuration,
    console: Console,
    run_folder: RunFolder,
    texts: Texts,
    run_target: RunTarget,
    run_models: Models,
    names: Sequence[str],
) -> dict[str, Any]:
    """Packages any subnets of the supernet as ``PRECISION-KEY``, measured and scored as finalists are.

    Those that were trained further come with those weights. Raises ConfigurationError and SpaceError where a name
    stands for no subnet of this supernet, PackageError and CoverageError.
    """
    console.heading(
        "export: chosen subnets as packages",
        "They are timed in turn with the full model, and scored on texts that nothing was chosen on.",
    )
    precision = configuration.precision
    context = make_scorer(configuration, console, run_folder, texts, run_target, run_models).context
    chosen = {
        choice.subnet.key: choice
        for choice in (_choose(configuration, run_folder, run_models, name, context) for name in names)
    }
    inputs = digest(
        [[key, choice.exporter.supernet.digest, asdict(choice.facts())] for key, choice in chosen.items()],
        precision,
        run_models.recipe.to_json(),
        [part_digest(run_models.part(name)) for name in run_models.data.report_parts],
        run_models.target.hash,
    )
    packages = {key: run_folder.packages / f"{precision}-{key}" for key in chosen}
    return conclude(
        configuration,
        console,
        run_folder,
        texts,
        run_target,
        run_models,
        f"{precision}-subnets",
        inputs,
        list(packages.values()),
        lambda: _compare_chosen(configuration, console, run_folder, texts, run_target, run_models, chosen),
    )


def _choose(
    configuration: Configuration, run_folder: RunFolder, run_models: Models, name: str, context: str
) -> _Choice:
    subnet = find_subnet(configuration, run_folder, run_models, name)
    run_models.supernet.dimensions.check(subnet)
    folder = trained_weights(run_folder, subnet)
    exporter = run_models.exporter
    if folder is not None:
        exporter = run_models.exporter_of(read_supernet(folder))
    return _Choice(subnet, exporter, folder is not None, _search_of(run_folder, name, context))


def _search_of(run_folder: RunFolder, name: str, context: str) -> SearchResult | None:
    """As ``finished_search`` for the budget that a name stands for; None where it is a key or a file."""
    try:
        budget = Budget.parse(name)
    except ValueError:
        return None
    return finished_search(run_folder, budget, context)


def _compare_chosen(
    configuration: Configuration,
    console: Console,
    run_folder: RunFolder,
    texts: Texts,
    run_target: RunTarget,
    run_models: Models,
    chosen: dict[str, _Choice],
) -> Comparison:
    precision = configuration.precision
    entries = {
        key: Entry(
            choice.title,
            choice.exporter,
            choice.subnet,
            precision,
            _predicted_ms(configuration, run_folder, run_models, choice.subnet),
        )
        for key, choice in chosen.items()
    }
    compared = compare(
        configuration,
        console,
        texts,
        run_target,
        run_models,
        list(entries.values()),
        _reference(run_folder, run_models),
    )
    for key, made in zip(entries, compared[-len(entries) :], strict=True):
        package(
            configuration,
            run_folder,
            texts,
            run_models,
            f"{precision}-{key}",
            made,
            chosen[key].facts(),
        )
    rows = tuple(item.row for item in compared)
    return Comparison(rows, texts.metric, target=run_models.target.to_json())


def _predicted_ms(
    configuration: Configuration, run_folder: RunFolder, run_models: Models, subnet: Subnet
) -> float | None:
    """None without a predictor of this target, and for a subnet outside its space."""
    try:
        latency_ms, _ = checked_predictor(configuration, run_folder, run_models).predict(
            run_models.supernet.space.encode(subnet)[None]
        )
    except (PredictorError, SpaceError):
        return None
    return float(latency_ms[0])


def _reference(run_folder: RunFolder, run_models: Models) -> AnchorLatency | None:
    """What the run's timings refer to; None where there are none yet."""
    if not run_folder.store_file.is_file():
        return None
    try:
        return usable_timings(run_folder, run_models)[2]
    except StoreError:
        return None
