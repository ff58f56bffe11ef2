"""All stages in order, each recognising what is already done."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ortnas.nas.console import Console
from ortnas.nas.run.naming import configuration_of
from ortnas.nas.run.run import Run
from ortnas.nas.stages import commands
from ortnas.nas.stages.search import SearchError

STAGES: dict[str, Callable[[Run], dict[str, Any]]] = {
    "data": commands.data,
    "train": commands.train,
    "bench": commands.bench,
    "fit": commands.fit_predictor,
    "search": commands.search,
    "refine": commands.refine,
    "export": commands.export,
}


def run_stage(run: Run, name: str) -> dict[str, Any]:
    """One stage, its time counted. Raises what it raises."""
    if run.folder.rank:
        return STAGES[name](run)  # the first process counts for all
    with run.clock.stage(name):
        return STAGES[name](run)


def run_all(run: Run) -> dict[str, Any]:
    """From checkpoint to packages. Where some budgets found no winner, the others are packaged before it is reported.

    Raises SearchError at the end in that case.
    """
    if run.folder.rank == 0:
        run.target.check()
    results: dict[str, Any] = {}
    problem: SearchError | None = None
    for name in STAGES:
        try:
            results[name] = run_stage(run, name)
        except SearchError as error:
            if not error.successful:
                raise
            problem = error
    if run.folder.rank == 0:
        # Gigabytes that trainings to come would make again.
        shutil.rmtree(run.folder.signals, ignore_errors=True)
    if problem is not None:
        raise problem
    return results


def run(name: str | Path, changes: Mapping[str, Any] = {}) -> dict[str, Any]:
    """``ortnas run``: the results of all stages, by name.

    ``name`` is a ``run.yaml`` or a run folder, ``changes`` are dotted keys in place of the configured ones. Run again,
    it goes on where it was. Raises what the stages raise, and SearchError as ``run_all``.
    """
    opened = Run(configuration_of(Path(name), changes), Console())
    try:
        return run_all(opened)
    finally:
        opened.close()
