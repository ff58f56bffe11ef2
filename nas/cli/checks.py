"""Commands that look at things: verify, report, inspect and doctor."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ortnas.nas.cli.execution import command_line, guarded, quoted, say_next
from ortnas.nas.cli.options import HostOption, JsonOption
from ortnas.nas.run.limits import MOST_THREADS, MOST_TOKENS, check_request

if TYPE_CHECKING:
    from ortnas.export.package.throughput import LoadRow
    from ortnas.nas.console import Console


def verify(
    package: Annotated[Path, typer.Argument(help="A package folder.")],
    load: Annotated[bool, typer.Option("--load", help="Drive it with concurrent requests, too.")] = False,
    concurrency: Annotated[
        list[int] | None, typer.Option(min=1, max=MOST_THREADS, help="With --load: requests at a time; several times.")
    ] = None,
    sessions: Annotated[
        int, typer.Option(min=1, max=MOST_THREADS, help="With --load: sessions that share the requests.")
    ] = 1,
    seconds: Annotated[
        float, typer.Option(min=0.1, max=86_400, help="With --load: how long each concurrency is driven.")
    ] = 5.0,
    runtime: Annotated[
        Literal["onnxruntime", "openvino"] | None,
        typer.Option(help="Check it with another runtime than it was timed with."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check a package on this machine: files, speed, score; with --load, throughput and latency under load.

    Exit status: 0 where it keeps what it promises, 1 where it breaks it, 3 where this machine cannot tell now.
    """

    def action() -> None:
        from ortnas.export.package.throughput import drive
        from ortnas.export.package.verify import EXIT_STATUS, describe_outcome, to_json, verdict_of
        from ortnas.export.package.verify import verify as verify_package
        from ortnas.nas.console import Console

        console = Console(to_stderr=as_json)
        checks = verify_package(package, runtime)
        verdict = verdict_of(checks)
        rows = [(check.name, check.state, check.detail) for check in checks]
        console.table(str(package), ("check", "result", "detail"), rows)
        console.say(f"\n{describe_outcome(checks)}")
        to_drive = load and verdict != "breaks"
        load_rows = drive(package, concurrency or (1, 2, 4, 8), seconds, sessions) if to_drive else []
        if load_rows:
            _show_load(load_rows, sessions, console)
        if as_json:
            typer.echo(json.dumps(to_json(checks, [row.to_json() for row in load_rows] if load else None)))
        elif verdict == "keeps" and not load:
            say_next(console.say, f"ortnas verify {quoted(package)} --load tells what the latency becomes under load")
        if verdict != "keeps":
            raise typer.Exit(EXIT_STATUS[verdict])

    guarded(action)


def _show_load(rows: Sequence[LoadRow], sessions: int, console: Console) -> None:
    from ortnas.bench.conditions import usable_processors
    from ortnas.bench.load import overload

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
            for row in rows
        ],
    )
    processors = usable_processors()
    problems = (overload(row.concurrency, row.threads, processors) for row in rows)
    if problem := next(filter(None, problems), None):
        console.say(f"note: {problem}")


def report(
    run: Annotated[Path, typer.Argument(help="A run, finished or not: its folder or its run.yaml.")],
    out: Annotated[Path | None, typer.Option(help="Where to write; report.html in the run folder by default.")] = None,
    png: Annotated[bool, typer.Option("--png", help="The Pareto front alone, as a picture.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write everything that a run found as one HTML page that works offline."""

    def action() -> None:
        from ortnas.nas.console import Console
        from ortnas.nas.report import write_front_png, write_report
        from ortnas.nas.run.naming import folder_of

        run_folder = folder_of(run)
        path = out or run_folder / ("front.png" if png else "report.html")
        written = write_front_png(run_folder, path) if png else write_report(run_folder, path)
        console = Console(to_stderr=as_json)
        console.say(f"wrote {written}")
        if as_json:
            typer.echo(json.dumps({"report": str(written)}))
        else:
            say_next(console.say, f"open {written.resolve().as_uri()}")

    guarded(action)


def doctor(
    configuration: Annotated[
        Path | None, typer.Argument(help="A run, for its host, session and model: its run.yaml or its folder.")
    ] = None,
    host: HostOption = None,
    threads: Annotated[int | None, typer.Option(min=1, max=MOST_THREADS, help="Threads of the timed session.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Tell what a host does to timings, and measure their noise floor."""

    def action() -> None:
        from ortnas.nas.console import Console
        from ortnas.nas.stages.doctor import examine

        console = Console(to_stderr=as_json)
        result = examine(configuration, host, threads, console)
        failed = any(finding["state"] == "fail" for finding in result["findings"])
        if as_json:
            typer.echo(json.dumps(result))
        elif not failed:
            overrides = {"target.host": host, "target.threads": threads}
            following = (
                command_line("bench", configuration, overrides, None) if configuration else "ortnas init run.yaml"
            )
            say_next(console.say, following)
        if failed:
            raise typer.Exit(1)

    guarded(action)


def inspect(
    model: Annotated[Path, typer.Argument(help="An ONNX file, whoever made it, or a package folder.")],
    batch: Annotated[int, typer.Option(min=1, max=MOST_TOKENS, help="Sequences at a time.")] = 1,
    sequence: Annotated[int, typer.Option(min=1, max=MOST_TOKENS, help="Tokens a sequence.")] = 128,
    threads: Annotated[int, typer.Option(min=1, max=MOST_THREADS, help="Threads of the session.")] = 1,
    provider: Annotated[str, typer.Option(help="Execution provider, or cpu, cuda...")] = "CPUExecutionProvider",
    profiled: Annotated[bool, typer.Option("--profile", help="Time the operators too.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what ONNX Runtime really runs: operators, matrix products in integers and in floats, weights."""
    try:
        check_request(batch, sequence)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--batch, --sequence") from None

    def action() -> None:
        from ortnas.bench.session import PROVIDERS, Setup
        from ortnas.bench.timing import Workload
        from ortnas.nas.console import Console
        from ortnas.nas.stages.inspect import inspect_model

        workload, setup = Workload(batch, sequence), Setup(PROVIDERS.get(provider, provider), threads)
        result = inspect_model(model, workload, setup, profiled, Console(to_stderr=as_json))
        if as_json:
            typer.echo(json.dumps(result))

    guarded(action)
