"""Doing a command's work: failures that a user can mend become one sentence, what is done says what comes next."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from ortnas.nas.run.run import Run

Work = Callable[["Run"], dict[str, Any]]
# What to do next, given a command's result.
Following = Callable[[Mapping[str, Any]], str]

_AFTER = {
    "data": "train",
    "train": "bench",
    "bench": "fit",
    "fit": "search",
    "candidates": "search",
    "search": "refine",
    "refine": "export",
}
# Keys that later stages have an option for; others are repeated as --set.
_OPTIONS = {"folder": "--folder", "precision": "--precision", "target.host": "--host", "search.budgets": "--budget"}
# Sections about one stage's work, and the keys in them that others need too.
_OF_ONE_STAGE, _SHARED = ("training", "refinement", "bench", "search"), ("search.budgets", "search.cluster")


def _expected_failures() -> tuple[type[Exception], ...]:
    """What a user can mend: bad input, a full disk, a host that fails."""
    from ortnas.bench.errors import BenchError
    from ortnas.nas.failures import OrtnasError

    return OrtnasError, BenchError, OSError


def guarded(action: Callable[[], None], interrupted: str = "interrupted; the same command goes on from here") -> None:
    """Turns expected failures into one sentence and exit status 1; anything else is a bug and shows itself.

    ``interrupted`` is what is said after Ctrl-C.
    """
    try:
        action()
    except KeyboardInterrupt:
        typer.echo(interrupted, err=True)
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
    following: Following | None = None,
    only_looks: bool = False,
) -> None:
    """Reads the configuration, opens the run and does one stage, all of them (``run``), or the given work.

    ``configuration``: a ``run.yaml`` or a run folder. ``following`` says what to do next where ``work`` is no stage.
    Work that ``only_looks`` changes nothing in the run folder.
    """

    def action() -> None:
        from ortnas.nas.console import Console
        from ortnas.nas.run.naming import configuration_of
        from ortnas.nas.run.run import Run
        from ortnas.nas.stages.pipeline import run_all, run_stage

        chosen = configuration_of(configuration, _chosen(overrides, assignments))
        run = Run(chosen, Console(to_stderr=as_json), only_looks)
        try:
            result = work(run) if work else run_all(run) if stage == "run" else run_stage(run, stage)
        finally:
            run.close()
        if run.folder.rank:
            return
        if as_json:
            typer.echo(json.dumps(result))
            return
        again = partial(command_line, configuration=configuration, overrides=overrides, assignments=assignments)
        is_stored = run.configuration.target.host.startswith("stored:")
        say_next(run.console.say, following(result) if following else _after(stage, result, is_stored, again))

    guarded(action)


def _chosen(overrides: Mapping[str, Any], assignments: list[str] | None) -> dict[str, Any]:
    """Keys in place of the configured ones: options that were given and every ``--set``, each key once."""
    from ortnas.nas.wording import shown
    from ortnas.nas.yaml_documents import YamlError, parse_yaml

    chosen = {key: value for key, value in overrides.items() if value is not None}
    for assignment in assignments or []:
        key, separator, value = assignment.partition("=")
        key = key.strip()
        if not separator:
            raise typer.BadParameter(f"{shown(assignment)} is not KEY=VALUE", param_hint="--set")
        if key in chosen:
            raise typer.BadParameter(f"{key} is given twice; its options and --set name it once", param_hint="--set")
        try:
            chosen[key] = parse_yaml(value)
        except YamlError as error:
            raise typer.BadParameter(f"{key}: {shown(value)} is no YAML value: {error}", param_hint="--set") from None
    return chosen


def _after(stage: str, result: Mapping[str, Any], is_stored: bool, again: Callable[[str], str]) -> str:
    """``again`` makes the command of a stage; ``is_stored``: the target is known from its timings alone."""
    if stage not in _AFTER:
        packages = result.get("export", result).get("packages", ())
        return f"ortnas verify {quoted(packages[0])} on the machine where it will serve" if packages else ""
    following = again(_AFTER[stage])
    if is_stored and _AFTER[stage] == "search":
        # No finalist can be measured there.
        return f"{following} --candidates 20" if stage == "fit" else ""
    return following


def command_line(stage: str, configuration: Path, overrides: Mapping[str, Any], assignments: list[str] | None) -> str:
    """A later stage's command, with those options of this one that are about the same run, data and target."""
    words = ["ortnas", stage, str(configuration)]
    for key, value in overrides.items():
        if value is None or (key.partition(".")[0] in _OF_ONE_STAGE and key not in _SHARED):
            continue
        for item in value if isinstance(value, list) else [value]:
            words += [_OPTIONS[key], str(item)] if key in _OPTIONS else ["--set", f"{key}={item}"]
    for assignment in assignments or ():
        words += ["--set", assignment]
    return " ".join(map(quoted, words))


def quoted(path: str | Path) -> str:
    """As a shell takes it."""
    import shlex

    return shlex.quote(str(path))


def say_next(say: Callable[[str], None], following: str) -> None:
    """The last line of a command."""
    if following:
        say(f"\nnext: {following}")
