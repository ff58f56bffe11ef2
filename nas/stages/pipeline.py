"""All stages in order, each recognising what is already done."""

from __future__ import annotations

from typing import Any

from ortnas.nas.run.run import Run
from ortnas.nas.stages.bench import bench
from ortnas.nas.stages.data import data
from ortnas.nas.stages.export import export
from ortnas.nas.stages.fit import fit_predictor
from ortnas.nas.stages.search import SearchError, search
from ortnas.nas.stages.train import train

STAGES = {"data": data, "train": train, "bench": bench, "fit": fit_predictor, "search": search, "export": export}


def run_all(run: Run) -> dict[str, Any]:
    """From checkpoint to packages. Where some budgets found no winner, the others are packaged before it is reported.

    Raises SearchError at the end in that case.
    """
    results: dict[str, Any] = {}
    problem: SearchError | None = None
    for name, stage in STAGES.items():
        try:
            results[name] = stage(run)
        except SearchError as error:
            if not error.found:
                raise
            problem = error
    if problem is not None:
        raise problem
    return results
