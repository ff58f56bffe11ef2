"""Scoring and timing on a Ray cluster: candidates fan out over its processors, timings go to nodes of the target.

A node that carries a target's label, as a custom resource of 1, times one group of models at a time. What a lost node
was doing is done again elsewhere. Every node needs this package. Ray is an extra: ``pip install 'ortnas[ray]'``.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from ortnas.bench.host import Failure, HostError
from ortnas.bench.request import Request
from ortnas.bench.session import ONNXRUNTIME
from ortnas.bench.timing import Samples
from ortnas.bench.worker_host import LocalHost
from ortnas.nas.architecture.subnet import Subnet
from ortnas.nas.arrays import Vector
from ortnas.nas.failures import OrtnasError
from ortnas.search.scoring import Dispatch, Evaluation, Jobs, Outcome

# How often a task whose node was lost is started again.
_RETRIES = 3


class ClusterError(OrtnasError):
    """A cluster that cannot be used; the message says what to do."""


@contextmanager
def connected(address: str | None = None) -> Iterator[None]:
    """Holds a connection to the cluster at an address (``auto``, ``HOST:PORT``, ``ray://...``), or to one of this
    machine alone. Raises ClusterError."""
    try:
        import ray
    except ImportError:
        raise ClusterError("Ray is not installed; `pip install 'ortnas[ray]'` installs it") from None
    try:
        if address is not None:
            _knock(address)
        ray.init(address=address, log_to_driver=False, include_dashboard=False if address is None else None)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        where = "started on this machine" if address is None else f"reached at {address}"
        raise ClusterError(f"no Ray cluster could be {where}: {_reason(error)}") from error
    try:
        yield
    finally:
        ray.shutdown()


def _reason(error: Exception) -> str:
    """Ray says "failed to connect" of a cluster that asks for a token, and why only in the error behind."""
    if "authenticat" in f"{error!r} {error.__cause__!r}".lower():
        return (
            "a token guards it (InvalidAuthToken); copy ~/.ray/auth_token of its head to this machine, and "
            "`export RAY_AUTH_MODE=token`"
        )
    return str(error)


def _knock(address: str) -> None:
    """Raises OSError where nobody listens: Ray itself would wait for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdigit():
        socket.create_connection((host, int(port)), timeout=5).close()


def on_cluster() -> Dispatch:
    """Evaluates candidates as Ray tasks of one processor each; the same outcomes as on this machine alone.

    A candidate whose node is lost again and again fails by itself.
    """
    import ray

    sent: dict[int, tuple[Evaluation, Any]] = {}

    def dispatch(evaluation: Evaluation, jobs: Jobs) -> Iterator[Outcome]:
        if id(evaluation) not in sent:
            # The supernet travels once; holding on to it keeps its id from being another's.
            sent[id(evaluation)] = evaluation, ray.put(evaluation)
        task = ray.remote(num_cpus=1, max_retries=_RETRIES)(_evaluate)
        for result in [task.remote(sent[id(evaluation)][1], *job) for job in jobs]:
            try:
                yield ray.get(result)
            except (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError) as error:
                yield Outcome(None, reason=f"its node was lost {_RETRIES + 1} times: {error}".splitlines()[0])

    return dispatch


def _evaluate(evaluation: Evaluation, subnet: Subnet, rival: Vector | None) -> Outcome:
    return evaluation(subnet, rival)


class ClusterHost:
    """Times models on nodes that carry a label; see ``bench.host.Host``.

    Nodes of one label have to be alike. Raises HostError where no node carries it, or none answers in time.
    """

    def __init__(self, label: str, timeout_s: float = 600, runtime: str = ONNXRUNTIME) -> None:
        self.name, self.label, self.timeout_s = f"ray:{label}", label, timeout_s
        self._runtime = runtime

    def hello(self) -> dict[str, Any]:
        facts: dict[str, Any] = self._run(_hello, self._runtime)
        return facts

    def measure(
        self,
        models: Mapping[str, bytes],
        request: Request,
        visit: int = 0,
    ) -> dict[str, Samples | Failure]:
        # Workers there live for one visit: a source would travel with each.
        request = replace(request, source=None)
        outcomes: dict[str, Samples | Failure] = self._run(_measure, dict(models), request, visit)
        return outcomes

    def forget(self) -> None:
        """Nothing is held between visits."""

    def close(self) -> None:
        """The connection is the caller's."""

    def _run(self, function: Any, *arguments: Any) -> Any:
        import ray

        if not ray.cluster_resources().get(self.label):
            resources = json.dumps({self.label: 1})
            raise HostError(
                f"no node of the cluster carries the label {self.label!r}; start one with "
                f"`ray start --address=HEAD --resources='{resources}'`"
            )
        task = ray.remote(num_cpus=0, resources={self.label: 1}, max_retries=_RETRIES)(function)
        result = task.remote(*arguments)
        try:
            return ray.get(result, timeout=self.timeout_s)
        except ray.exceptions.GetTimeoutError:
            ray.cancel(result, force=True)
            raise HostError(f"no node labelled {self.label!r} answered within {self.timeout_s:.0f} s") from None
        except ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None) or error
            raise HostError(f"{self.name}: {cause}".splitlines()[0]) from error


def _hello(runtime: str) -> dict[str, Any]:
    with LocalHost(runtime=runtime) as host:
        return host.hello()


def _measure(models: dict[str, bytes], request: Request, visit: int) -> dict[str, Samples | Failure]:
    with LocalHost() as host:
        return host.measure(models, request, visit)
