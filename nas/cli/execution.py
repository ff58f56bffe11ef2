"""Doing a command's work: failures that a user can mend become one sentence, what is done says what comes next."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from nas.run import Run

Work = Callable[["Run"], dict[str, Any]]


def _expected_failures() -> tuple[type[Exception], ...]:
    """What a user can mend: bad input, a full disk, a host that fails."""
    from bench.bundle import ResultsError
    from bench.hosts import HostError
    from bench.latency_files import LatencyFileError
    from bench.store import StoreError
    from export.audit import CoverageError
    from export.build import ExportError
    from export.calibration import CalibrationError
    from export.hub import HubError
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
        HubError,
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


def guarded(action: Callable[[], None]) -> None:
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


def execute(
    stage: str,
    configuration: Path,
    overrides: Mapping[str, Any],
    assignments: list[str] | None,
    as_json: bool,
    work: Work | None = None,
    following: str = "",
) -> None:
    """Reads the configuration, opens the run and does one stage, all of them (``run``), or the given work.

    ``following`` is what to do next where ``work`` is no stage.
    """

    def action() -> None:
        from nas.configuration import read_configuration
        from nas.console import Console
        from nas.pipeline import STAGES, run_all
        from nas.run import Run

        run = Run(read_configuration(configuration, _chosen(overrides, assignments)), Console(to_stderr=as_json))
        try:
            result = work(run) if work else run_all(run) if stage == "run" else STAGES[stage](run)
        finally:
            run.close()
        if run.rank:
            return
        if as_json:
            typer.echo(json.dumps(result))
        else:
            say_next(run.console.say, following or _after(stage, configuration, result))

    guarded(action)


def _chosen(overrides: Mapping[str, Any], assignments: list[str] | None) -> dict[str, Any]:
    """Keys in place of the configured ones: options that were given, then every ``--set``."""
    import yaml

    chosen = {key: value for key, value in overrides.items() if value is not None}
    for assignment in assignments or []:
        key, separator, value = assignment.partition("=")
        if not separator:
            raise typer.BadParameter(f"{assignment!r} is not KEY=VALUE", param_hint="--set")
        try:
            chosen[key.strip()] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise typer.BadParameter(f"{value!r} is no YAML value", param_hint="--set") from None
    return chosen


def _after(stage: str, configuration: Path, result: Mapping[str, Any]) -> str:
    following = {"data": "train", "train": "bench", "bench": "fit", "fit": "search", "search": "export"}.get(stage)
    if following:
        return f"ortnas {following} {quoted(configuration)}"
    packages = result.get("export", result).get("packages", ())
    return f"ortnas verify {quoted(packages[0])} on the machine where it will serve" if packages else ""


def quoted(path: str | Path) -> str:
    """As a shell takes it."""
    import shlex

    return shlex.quote(str(path))


def say_next(say: Callable[[str], None], following: str) -> None:
    """The last line of a command."""
    if following:
        say(f"\nnext: {following}")
