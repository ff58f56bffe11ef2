"""A host, or a run's host and model -> what it does to timings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.hosts import Host, open_host
from bench.timing import Setup, Workload
from export.weights import SupernetError
from nas.configuration import read_configuration
from nas.console import Console
from nas.doctor import doctor
from nas.files import write_json
from nas.run import Run

_PAUSE_S = 1.0


def _pause_s(host: Host) -> float:
    """Between visits; a simulated host knows no time."""
    return 0.0 if host.name == "simulated" else _PAUSE_S


def examine(configuration: Path | None, host: str | None, threads: int | None, console: Console) -> dict[str, Any]:
    """Of the run's host, session, workloads and full model, or of a host with a random MiniLM. Raises HostError."""
    if configuration is None:
        reached = open_host(host or "local")
        try:
            return doctor(reached, Setup(threads=threads or 1), (Workload(),), console, pause_s=_pause_s(reached))
        finally:
            reached.close()
    overrides = {"target.host": host, "target.threads": threads}
    chosen = {key: value for key, value in overrides.items() if value is not None}
    run = Run(read_configuration(configuration, chosen), console)
    try:
        try:
            model = run.anchor
        except SupernetError:
            model = None  # not trained yet
        result = doctor(run.host, run.target.setup, run.target.workloads, console, model, pause_s=_pause_s(run.host))
        write_json(run.folder / "doctor.json", result)
        return result
    finally:
        run.close()
