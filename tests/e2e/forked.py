"""Commands that kill themselves, each in a process forked from one that has the imports and nothing else."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

# The first sets what the others read when they are imported. None starts a thread: xgboost does, through pyarrow.
_PRELOADED = ["ortnas.nas.cli", "torch", "transformers", "onnxruntime", "ortnas.nas.stages.train"]


def run_until_killed(configuration: Path, module: str, path: str, calls: int, when: str = "after") -> None:
    """``ortnas run``, killed when a function is called for the n-th time: ``after`` its work, or ``before`` it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    log = configuration.parent / "killed.log"
    process = context.Process(target=_run, args=(configuration, log, module, path, calls, when))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL, log.read_text()


def _run(configuration: Path, log: Path, module: str, path: str, calls: int, when: str) -> None:
    with log.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    owner = importlib.import_module(module)
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    own, left = getattr(owner, name), calls

    def dying(*arguments: Any, **named: Any) -> Any:
        nonlocal left
        left -= 1
        if when == "before" and not left:
            os.kill(os.getpid(), signal.SIGKILL)
        result = own(*arguments, **named)
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, dying)
    from ortnas.nas.cli import app

    app(["run", str(configuration)])
