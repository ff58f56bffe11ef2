"""Hosts that time models, each through a worker process."""

from __future__ import annotations

from collections.abc import Sequence

from .host import Host
from .session import ONNXRUNTIME
from .worker_host import LocalHost


def open_host(
    name: str,
    python: str = "python3",
    ssh: Sequence[str] = ("ssh",),
    seed: int = 0,
    runtime: str = ONNXRUNTIME,
) -> Host:
    """``local``, ``simulated`` (from ``seed``), or a name that ``ssh`` connects to. Its fingerprint is that of
    ``runtime`` there."""
    if name == "local":
        return LocalHost(runtime=runtime)
    if name == "simulated":
        from .simulated import SimulatedHost

        return SimulatedHost(seed=seed, runtime=runtime)
    from .ssh import SshHost

    return SshHost(name, python, ssh, runtime=runtime)
