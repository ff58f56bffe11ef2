"""The command line. Heavy imports wait until a command needs them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from nas.run import Run

# As in bench, which other imports of onnxruntime may come before.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
app = typer.Typer(
    help="Find the most accurate BERT-family encoder that runs INT8 under a latency budget on your machine.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

ConfigurationArgument = Annotated[Path, typer.Argument(help="The run's configuration; `ortnas init` writes one.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key, e.g. --set training.steps=500.")
]
SUBNET_HELP = "A budget with a winner (2x), a subnet's key, or a JSON file with a subnet."
SubnetOption = Annotated[str | None, typer.Option(help=SUBNET_HELP)]
CheckpointOption = Annotated[str | None, typer.Option(help="Local folder or hub name in place of the configured one.")]
DataOption = Annotated[str | None, typer.Option(help="Data source in place of the configured one.")]
FolderOption = Annotated[str | None, typer.Option(help="Run folder in place of the configured one.")]
BudgetOption = Annotated[list[str] | None, typer.Option(help="Latency budget: ms as 6.5, or a speed-up as 2x.")]
PrecisionOption = Annotated[str | None, typer.Option(help="int8 or fp32.")]
HostOption = Annotated[
    str | None, typer.Option(help="local, simulated, stored:NAME, or what ssh connects to, such as user@pi.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout, the rest on stderr.")]


@app.callback(invoke_without_command=True)
def main(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        from importlib.metadata import version as installed

        typer.echo(f"ortnas {installed('ortnas')}")
        raise typer.Exit


def _expected_failures() -> tuple[type[Exception], ...]:
    """What a user can mend: bad input, a full disk, a host that fails. Each becomes one sentence."""
    from bench.bundle import ResultsError
    from bench.hosts import HostError
    from bench.latency_files import LatencyFileError
    from bench.store import StoreError
    from export.audit import CoverageError
    from export.build import ExportError
    from export.calibration import CalibrationError
    from export.inspection import InspectionError
    from export.load_test import LoadError
    from export.package import PackageError
    from export.weights import SupernetError
    from nas.configuration import ConfigurationError
    from nas.data.failures import DataError
    from nas.failures import CheckpointError, TrainingError
    from nas.report import ReportError
    from nas.space import SpaceError
    from nas.stages.search import SearchError
    from nas.text import TokenizerError
    from predictors.latency import PredictorError
    from search.cluster import ClusterError
    from search.evolution import InfeasibleBudgetError
    from search.scoring import ScoringError

    return (
        CalibrationError,
        CheckpointError,
        ClusterError,
        ConfigurationError,
        CoverageError,
        DataError,
        ExportError,
        HostError,
        InfeasibleBudgetError,
        InspectionError,
        LatencyFileError,
        LoadError,
        OSError,
        ReportError,
        PackageError,
        PredictorError,
        ResultsError,
        ScoringError,
        SearchError,
        SpaceError,
        StoreError,
        SupernetError,
        TokenizerError,
        TrainingError,
    )


def _guarded(action: Callable[[], None]) -> None:
    """Turns expected failures into one sentence and exit status 1; anything else is a bug and shows itself."""
    try:
        action()
    except KeyboardInterrupt:
        typer.echo("interrupted; the same command goes on from here", err=True)
        raise typer.Exit(130) from None
    except _expected_failures() as error:
        typer.echo(f"error: {_sentence(error)}", err=True)
        raise typer.Exit(1) from None


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror[0].lower()}{error.strerror[1:]}"
    return str(error)


def _execute(
    stage: str,
    configuration: Path,
    overrides: dict[str, Any],
    assignments: list[str] | None,
    as_json: bool,
    work: Callable[[Run], dict[str, Any]] | None = None,
) -> None:
    """Reads the configuration, opens the run and does one stage, all of them (``run``), or the given work."""

    def action() -> None:
        import yaml

        from nas.configuration import read_configuration
        from nas.console import Console
        from nas.pipeline import STAGES, run_all
        from nas.run import Run

        chosen = {key: value for key, value in overrides.items() if value is not None}
        for assignment in assignments or []:
            key, separator, value = assignment.partition("=")
            if not separator:
                raise typer.BadParameter(f"{assignment!r} is not KEY=VALUE", param_hint="--set")
            chosen[key.strip()] = yaml.safe_load(value)
        run = Run(read_configuration(configuration, chosen), Console(to_stderr=as_json))
        try:
            result = work(run) if work else run_all(run) if stage == "run" else STAGES[stage](run)
        finally:
            run.close()
        if run.rank:
            return
        if as_json:
            typer.echo(json.dumps(result))
        else:
            _next(run, stage, configuration)

    _guarded(action)


def _next(run: Run, stage: str, configuration: Path) -> None:
    following = {"data": "train", "train": "bench", "bench": "fit", "fit": "search", "search": "export"}.get(stage)
    if following:
        run.console.say(f"\nnext: ortnas {following} {configuration}")
    elif stage not in ("extract", "sensitivity", "datasets"):
        run.console.say(f"\nnext: ortnas verify {run.packages_folder}/NAME on the machine where it will serve")


@app.command()
def init(
    path: Annotated[Path, typer.Argument(help="Where to write the configuration.")] = Path("run.yaml"),
    checkpoint: Annotated[str, typer.Option(help="BERT checkpoint: local folder or hub name.")] = "",
    data: Annotated[
        str, typer.Option(help="Text file with a sentence a line, or a folder with train.tsv and dev.tsv.")
    ] = "",
    head: Annotated[
        str | None, typer.Option(help="embedding, classification, regression, token-classification, span or masked-lm.")
    ] = None,
    task: Annotated[str | None, typer.Option(help="A GLUE task or squad: files, columns, head and metric.")] = None,
    budget: BudgetOption = None,
    force: Annotated[bool, typer.Option(help="Overwrite an existing file.")] = False,
) -> None:
    """Write a commented run.yaml."""

    def action() -> None:
        from nas.starter import write_starter

        write_starter(path, checkpoint, data, head, tuple(budget or ("2x",)), force, task)
        typer.echo(f"wrote {path}\nnext: ortnas run {path}")

    _guarded(action)


@app.command()
def data(
    configuration: ConfigurationArgument,
    source: Annotated[
        str | None, typer.Option("--source", "--data", help="Data source in place of the configured one.")
    ] = None,
    folder: FolderOption = None,
    assignments: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Prepare the data: read, split, encode, and show what is there."""
    _execute("data", configuration, {"data.source": source, "folder": folder}, assignments, as_json)


@app.command()
def train(
    configuration: ConfigurationArgument,
    checkpoint: CheckpointOption = None,
    data: DataOption = None,
    folder: FolderOption = None,
    steps: Annotated[int | None, typer.Option(help="Training steps.")] = None,
    subnet: SubnetOption = None,
    quantization_aware: Annotated[
        bool | None, typer.Option("--quantization-aware", help="With --subnet: round as the quantizer will.")
    ] = None,
    assignments: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a supernet from the checkpoint and train it; with --subnet, train one of its subnets further."""
    overrides: dict[str, Any] = {"checkpoint": checkpoint, "data.source": data, "folder": folder}
    if subnet is None:
        if quantization_aware:
            raise typer.BadParameter("it goes with --subnet", param_hint="--quantization-aware")
        _execute("train", configuration, overrides | {"training.steps": steps}, assignments, as_json)
        return
    overrides |= {"refinement.steps": steps, "refinement.quantization_aware": quantization_aware}

    def refine(run: Run) -> dict[str, Any]:
        from nas.stages.refine import refine as refine_subnet

        return refine_subnet(run, subnet)

    _execute("refine", configuration, overrides, assignments, as_json, refine)


@app.command()
def extract(
    configuration: ConfigurationArgument,
    subnet: Annotated[str, typer.Option(help=SUBNET_HELP)],
    out: Annotated[Path, typer.Option(help="Folder to write; must be new or empty.")],
    folder: FolderOption = None,
    assignments: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a subnet as a plain transformers checkpoint, where its shape allows."""

    def write(run: Run) -> dict[str, Any]:
        from nas.stages.refine import extract_subnet

        return extract_subnet(run, subnet, out)

    _execute("extract", configuration, {"folder": folder}, assignments, as_json, write)


@app.command()
def sensitivity(
    configuration: ConfigurationArgument,
    subnet: Annotated[str | None, typer.Option(help=f"{SUBNET_HELP} The full model if not given.")] = None,
    tolerance: Annotated[float, typer.Option(min=0, help="How far below fp32's score to stop.")] = 0.0,
    limit: Annotated[int, typer.Option(min=1, help="How many products to leave in float at most.")] = 6,
    budget: Annotated[str | None, typer.Option(help="Latency not to exceed: ms as 6.5, or a speed-up as 2x.")] = None,
    folder: FolderOption = None,
    assignments: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure which weight products lose score in INT8, and which to leave in float."""

    def measure(run: Run) -> dict[str, Any]:
        from nas.stages.sensitivity import sensitivity as search_products

        return search_products(run, subnet, tolerance, limit, budget)

    _execute("sensitivity", configuration, {"folder": folder}, assignments, as_json, measure)


@app.command()
def bench(
    configuration: ConfigurationArgument,
    folder: FolderOption = None,
    subnets: Annotated[int | None, typer.Option(help="How many subnets to time.")] = None,
    precision: PrecisionOption = None,
    host: HostOption = None,
    threads: Annotated[int | None, typer.Option(help="Threads of the timed sessions.")] = None,
    until_error: Annotated[
        str | None, typer.Option(help="Time more until the predictor errs by no more on held-out timings, e.g. 3%.")
    ] = None,
    minutes: Annotated[float | None, typer.Option(help="Time what the predictor needs most, for so long.")] = None,
    new_target: Annotated[
        bool | None, typer.Option("--new-target", help="Start a second data set where the host has changed.")
    ] = None,
    bundle: Annotated[
        Path | None, typer.Option(help="Write models and worker to one file for a host that cannot be reached.")
    ] = None,
    imported: Annotated[
        Path | None,
        typer.Option("--import", help="Add a bundle's results.jsonl, or an AutoTinyBERT-style latency file."),
    ] = None,
    exported: Annotated[
        Path | None, typer.Option("--export", help="Write the stored timings as .parquet or .csv.")
    ] = None,
    listed: Annotated[bool, typer.Option("--list", help="Show what the store holds.")] = False,
    assignments: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Time sampled subnets on this machine or another, or see to the timings that there are."""
    overrides = {
        "folder": folder,
        "bench.subnets": subnets,
        "precision": precision,
        "target.host": host,
        "target.threads": threads,
        "bench.until_error": until_error,
        "bench.minutes": minutes,
        "bench.new_target": new_target,
    }
    if sum(map(bool, (bundle, imported, exported, listed))) > 1:
        raise typer.BadParameter("one at a time", param_hint="--bundle, --import, --export, --list")

    def other_work(run: Run) -> dict[str, Any]:
        from nas.stages import bundles, datasets

        if bundle:
            return bundles.bundle(run, bundle)
        if exported:
            written = datasets.export_dataset(run.store_file, exported)
            run.console.say(f"{written['rows']} visits to {exported}")
            return written
        if listed:
            return datasets.list_datasets(run.store_file, run.console)
        assert imported is not None
        if bundles.is_results(imported):
            return bundles.import_results(run, imported)
        settings = run.configuration
        read = datasets.import_latencies(
            run.store_file,
            imported,
            settings.precision,
            settings.target.threads,
            settings.target.batch,
            settings.target.sequence,
        )
        run.console.say(f"{read['imported']} latencies of {imported.name} as target {read['target']}")
        return read

    if bundle or imported or exported or listed:
        _execute("datasets", configuration, overrides, assignments, as_json, other_work)
    else:
        _execute("bench", configuration, overrides, assignments, as_json)


@app.command()
def doctor(
    configuration: Annotated[
        Path | None, typer.Argument(help="A run's configuration, for its host, session and model.")
    ] = None,
    host: HostOption = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of the timed session.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Tell what a host does to timings, and measure their noise floor."""

    def action() -> None:
        from nas.console import Console
        from nas.stages.doctor import examine

        result = examine(configuration, host, threads, Console(to_stderr=as_json))
        if as_json:
            typer.echo(json.dumps(result))
        if any(finding["state"] == "fail" for finding in result["findings"]):
            raise typer.Exit(1)

    _guarded(action)


@app.command()
def fit(
    configuration: ConfigurationArgument,
    folder: FolderOption = None,
    precision: PrecisionOption = None,
    host: HostOption = None,
    source: Annotated[
        Path | None,
        typer.Option("--from", help="Folder of another host's or workload's predictor; ten timings are then enough."),
    ] = None,
    assignments: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fit the latency predictor to the timings."""
    overrides = {"folder": folder, "precision": precision, "target.host": host}

    def start_from(run: Run) -> dict[str, Any]:
        from nas.stages.fit import fit_predictor

        return fit_predictor(run, source)

    _execute("fit", configuration, overrides, assignments, as_json, start_from)


@app.command()
def search(
    configuration: ConfigurationArgument,
    folder: FolderOption = None,
    budget: BudgetOption = None,
    precision: PrecisionOption = None,
    host: HostOption = None,
    method: Annotated[
        str | None, typer.Option(help="Where subnets come from: evolution, random, fast or evolved.")
    ] = None,
    goal: Annotated[str | None, typer.Option(help="budget: a search for each; front: one search for all.")] = None,
    candidates: Annotated[
        int | None, typer.Option(min=1, help="List so many subnets within the first budget instead, unscored.")
    ] = None,
    engine: Annotated[
        str | None, typer.Option(help="Where candidates are scored: local, or ray (extra `ray`).")
    ] = None,
    cluster: Annotated[str | None, typer.Option(help="Address of a running Ray cluster, such as auto.")] = None,
    assignments: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Search the best subnet under each budget."""
    overrides = {
        "folder": folder,
        "search.budgets": budget,
        "precision": precision,
        "target.host": host,
        "search.method": method,
        "search.goal": goal,
        "search.engine": engine,
        "search.cluster": cluster,
    }
    if candidates is None:
        _execute("search", configuration, overrides, assignments, as_json)
        return

    def listed(run: Run) -> dict[str, Any]:
        from nas.stages.search import list_within_budget

        return list_within_budget(run, candidates)

    _execute("datasets", configuration, overrides, assignments, as_json, listed)


@app.command()
def export(
    configuration: ConfigurationArgument,
    folder: FolderOption = None,
    budget: BudgetOption = None,
    precision: PrecisionOption = None,
    host: HostOption = None,
    assignments: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Package the winners and compare them with the full model."""
    overrides = {"folder": folder, "search.budgets": budget, "precision": precision, "target.host": host}
    _execute("export", configuration, overrides, assignments, as_json)


@app.command()
def run(
    configuration: ConfigurationArgument,
    checkpoint: CheckpointOption = None,
    data: DataOption = None,
    folder: FolderOption = None,
    budget: BudgetOption = None,
    precision: PrecisionOption = None,
    assignments: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """All stages, from checkpoint to packages. Run it again to go on after an interruption."""
    overrides = {
        "checkpoint": checkpoint,
        "data.source": data,
        "folder": folder,
        "search.budgets": budget,
        "precision": precision,
    }
    _execute("run", configuration, overrides, assignments, as_json)


@app.command()
def verify(
    package: Annotated[Path, typer.Argument(help="A package folder.")],
    load: Annotated[bool, typer.Option("--load", help="Drive it with concurrent requests, too.")] = False,
    concurrency: Annotated[
        list[int] | None, typer.Option(min=1, help="With --load: requests at a time; several times.")
    ] = None,
    sessions: Annotated[int, typer.Option(min=1, help="With --load: sessions that share the requests.")] = 1,
    seconds: Annotated[float, typer.Option(min=0.1, help="With --load: how long each concurrency is driven.")] = 5.0,
    as_json: JsonOption = False,
) -> None:
    """Check a package on this machine: files, speed, score; with --load, throughput and latency under load."""

    def action() -> None:
        from export.load_test import drive
        from export.verify import verify as verify_package
        from nas.console import Console

        checks = verify_package(package)
        failed = any(check.state == "fail" for check in checks)
        console = Console(to_stderr=as_json)
        rows = [(check.name, check.state, check.detail) for check in checks]
        console.table(str(package), ("check", "result", "detail"), rows)
        driven = drive(package, concurrency or (1, 2, 4, 8), seconds, sessions) if load and not failed else []
        if driven:
            console.table(
                f"Under load, {sessions} session(s)",
                ("at a time", "requests a second", "p50 ms", "p95 ms", "p99 ms"),
                [
                    (
                        str(row.concurrency),
                        f"{row.throughput:.1f}",
                        f"{row.p50_ms:.2f}",
                        f"{row.p95_ms:.2f}",
                        f"{row.p99_ms:.2f}",
                    )
                    for row in driven
                ],
            )
        if as_json:
            documents = [vars(check) for check in checks]
            typer.echo(
                json.dumps({"checks": documents, "load": [row.to_json() for row in driven]} if load else documents)
            )
        if failed:
            raise typer.Exit(1)

    _guarded(action)


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="A run folder, finished or not, or its run.yaml.")],
    out: Annotated[Path | None, typer.Option(help="Where to write; report.html in the run folder by default.")] = None,
    png: Annotated[bool, typer.Option("--png", help="The Pareto front alone, as a picture.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write everything that a run found as one HTML page that works offline."""

    def action() -> None:
        from nas.console import Console
        from nas.report import write_front_png, write_report

        run_folder = folder.parent if folder.is_file() else folder
        path = out or run_folder / ("front.png" if png else "report.html")
        written = write_front_png(run_folder, path) if png else write_report(run_folder, path)
        Console(to_stderr=as_json).say(f"wrote {written}")
        if as_json:
            typer.echo(json.dumps({"report": str(written)}))

    _guarded(action)


@app.command()
def inspect(
    model: Annotated[Path, typer.Argument(help="An ONNX file, whoever made it, or a package folder.")],
    batch: Annotated[int, typer.Option(min=1, help="Sequences at a time.")] = 1,
    sequence: Annotated[int, typer.Option(min=1, help="Tokens a sequence.")] = 128,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the session.")] = 1,
    provider: Annotated[str, typer.Option(help="Execution provider, or cpu, cuda...")] = "CPUExecutionProvider",
    profiled: Annotated[bool, typer.Option("--profile", help="Time the operators too.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what ONNX Runtime really runs: operators, matrix products in integers and in floats, weights."""

    def action() -> None:
        from bench.timing import PROVIDERS, Setup, Workload
        from nas.console import Console
        from nas.inspect_model import inspect_model

        workload, setup = Workload(batch, sequence), Setup(PROVIDERS.get(provider, provider), threads)
        result = inspect_model(model, workload, setup, profiled, Console(to_stderr=as_json))
        if as_json:
            typer.echo(json.dumps(result))

    _guarded(action)


if __name__ == "__main__":
    sys.exit(app())
