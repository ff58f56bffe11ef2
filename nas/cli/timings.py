"""Commands about latencies: bench takes them, fit predicts them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ortnas.nas.cli.execution import command_line, execute, guarded, quoted, say_next
from ortnas.nas.cli.options import (
    CONFIGURATION_HELP,
    ConfigurationArgument,
    FolderOption,
    HostOption,
    JsonOption,
    PrecisionOption,
    SetOption,
)
from ortnas.nas.run.limits import MOST_THREADS, MOST_TOKENS, SEEDS

if TYPE_CHECKING:
    from ortnas.nas.run.run import Run


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
        from ortnas.nas.stages import bundles, commands
        from ortnas.nas.stages import stored_timings as datasets

        if bundle:
            return commands.bundle(run, bundle)
        if exported:
            written = datasets.export_dataset(run.folder.store_file, exported)
            run.console.say(f"{written['rows']} visits to {exported}")
            return written
        if listed:
            return datasets.list_datasets(run.folder.store_file, run.console)
        assert imported is not None
        if bundles.is_results(imported):
            return commands.import_results(run, imported)
        settings = run.configuration
        read = datasets.import_latencies(
            run.folder.store_file,
            imported,
            settings.precision,
            settings.target.threads,
            settings.target.batch,
            settings.target.sequence,
        )
        run.console.say(f"{read['imported']} latencies of {imported.name} as target {read['target']}")
        return read

    if not (bundle or imported or exported or listed):
        execute("bench", configuration, overrides, assignments, as_json)
        return

    def following(result: Mapping[str, Any]) -> str:
        if bundle:
            again = command_line("bench", configuration, overrides, assignments)
            return f"{again} --import RESULTS, once the host has written them"
        if imported and "missing" not in result:
            options = {"--precision": precision, "--threads": threads}
            repeated = "".join(f" {name} {value}" for name, value in options.items() if value is not None)
            return f"ortnas fit --latencies {quoted(imported)}{repeated}"
        named = {"target.host": f"stored:{result['host']}"} if imported else {}
        return command_line("fit", configuration, overrides | named, assignments)

    only_looks = bool(exported or listed)
    execute("timings", configuration, overrides, assignments, as_json, other_work, following, only_looks)


def fit(
    configuration: Annotated[Path | None, typer.Argument(help=CONFIGURATION_HELP)] = None,
    folder: FolderOption = None,
    precision: PrecisionOption = None,
    host: HostOption = None,
    source: Annotated[
        Path | None,
        typer.Option("--from", help="Folder of another host's or workload's predictor; ten timings are then enough."),
    ] = None,
    latencies: Annotated[
        Path | None, typer.Option(help="Fit to an AutoTinyBERT-style latency file instead; no run is needed.")
    ] = None,
    rows: Annotated[
        int | None, typer.Option(min=1, help="With --latencies: fit to so many random rows, test on the others.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="With --latencies: folder for the predictor.")] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, max=MOST_THREADS, help="With --latencies: threads that were timed.")
    ] = None,
    batch: Annotated[
        int | None, typer.Option(min=1, max=MOST_TOKENS, help="With --latencies: sequences at a time.")
    ] = None,
    sequence: Annotated[
        int | None, typer.Option(min=1, max=MOST_TOKENS, help="With --latencies: tokens a sequence.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, max=SEEDS - 1, help="With --latencies: draws the rows.")] = None,
    assignments: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fit the latency predictor to a run's timings, or to a latency file of others."""
    of_a_run = {"--folder": folder, "--host": host, "--from": source, "--set": assignments}
    of_a_file = {
        "--rows": rows,
        "--out": out,
        "--threads": threads,
        "--batch": batch,
        "--sequence": sequence,
        "--seed": seed,
    }
    if (configuration is None) == (latencies is None):
        raise typer.BadParameter(
            "give one of the two: a run's timings or a latency file", param_hint="CONFIGURATION, --latencies"
        )
    stray = [name for name, value in (of_a_file if latencies is None else of_a_run).items() if value is not None]
    if stray:
        belongs = "--latencies" if latencies is None else "a run's configuration"
        raise typer.BadParameter(f"goes with {belongs}", param_hint=", ".join(stray))
    if latencies is not None:
        _fit_file(latencies, out, rows, precision, (threads, batch, sequence, seed), as_json)
        return
    assert configuration is not None

    def start_from(run: Run) -> dict[str, Any]:
        from ortnas.nas.stages.commands import fit_predictor

        return fit_predictor(run, source)

    overrides = {"folder": folder, "precision": precision, "target.host": host}
    execute("fit", configuration, overrides, assignments, as_json, start_from)


def _fit_file(
    file: Path,
    out: Path | None,
    rows: int | None,
    precision: str | None,
    setting: tuple[int | None, int | None, int | None, int | None],
    as_json: bool,
) -> None:
    """``setting``: threads, batch, sequence, seed."""

    def action() -> None:
        from ortnas.bench.session import Setup
        from ortnas.bench.timing import Workload
        from ortnas.nas.console import Console
        from ortnas.nas.stages.fit import fit_latency_file

        threads, batch, sequence, seed = setting
        setup, workload = Setup(threads=threads or 1), Workload(batch or 1, sequence or 128)
        console = Console(to_stderr=as_json)
        result = fit_latency_file(file, out, rows, precision or "int8", setup, workload, seed or 0, console)
        if as_json:
            typer.echo(json.dumps(result))
        elif out is not None:
            say_next(console.say, f"predictors.latency.load_predictor(Path({str(out)!r})) in Python")
        else:
            say_next(console.say, "the same with --out FOLDER keeps the predictor")

    guarded(action)
