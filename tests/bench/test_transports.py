"""Every way to a host that comes with bench passes the suite that is shipped for hosts of others."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from ortnas.bench.bundle import Results, read_results, write_bundle
from ortnas.bench.host import Failure, Host, HostError, StoredHost
from ortnas.bench.request import Request
from ortnas.bench.simulated import SimulatedHost
from ortnas.bench.ssh import SshHost
from ortnas.bench.testing.hosts import HostSuite, RefusingHostSuite
from ortnas.bench.timing import Samples, TimingProtocol, Workload
from ortnas.bench.worker_host import LocalHost
from tests.bench.sshd import HOST, running_server


@pytest.fixture(scope="module")
def local() -> Iterator[Host]:
    with LocalHost(timeout_s=60) as opened:
        yield opened


@pytest.fixture(scope="module")
def over_ssh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with (
        running_server(tmp_path_factory.mktemp("sshd")) as server,
        SshHost(HOST, sys.executable, server.ssh, timeout_s=60) as opened,
    ):
        yield opened


class BundleHost:
    """Takes a bundle to a host and brings its results back, all on this machine."""

    name = "bundle"

    def __init__(self, folder: Path, model: bytes) -> None:
        self._folder, self._model, self._number = folder, model, 0

    def hello(self) -> dict[str, Any]:
        request = Request(self._model, workloads=(Workload(1, 8, 120),), protocol=TimingProtocol.fixed(6))
        results = self._carry({"model": self._model}, request)
        return {part: getattr(results, part) for part in ("fingerprint", "versions", "conditions")}

    def measure(
        self,
        models: Mapping[str, bytes],
        request: Request,
        visit: int = 0,  # noqa: ARG002
    ) -> dict[str, Samples | Failure]:
        results = self._carry(models, request)
        assert results.complete
        return dict(results.visits)

    def forget(self) -> None: ...

    def close(self) -> None: ...

    def _carry(self, models: Mapping[str, bytes], request: Request) -> Results:
        self._number += 1
        folder = self._folder / str(self._number)
        plan = write_bundle(folder / "bundle.zip", models, request, visits=1)
        command = [sys.executable, "bundle.zip"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            raise HostError(done.stderr.strip())
        return read_results(folder / "results.jsonl", plan)


class Encoders:
    """Real networks in place of the suite's small ones."""

    @pytest.fixture
    def models(self, models: list[bytes]) -> list[bytes]:
        return models


class TestLocal(Encoders, HostSuite):
    @pytest.fixture
    def host(self, local: Host) -> Host:
        return local


class TestLocalWithSmallModels(HostSuite):
    @pytest.fixture
    def host(self, local: Host) -> Host:
        return local


class TestSsh(Encoders, HostSuite):
    @pytest.fixture
    def host(self, over_ssh: Host) -> Host:
        return over_ssh


@pytest.mark.slow
class TestBundle(Encoders, HostSuite):
    @pytest.fixture
    def host(self, tmp_path: Path, models: list[bytes]) -> Host:
        return BundleHost(tmp_path, models[0])


class TestSimulated(Encoders, HostSuite):
    @pytest.fixture
    def host(self) -> Host:
        return SimulatedHost(seed=0)


class TestSimulatedWithSmallModels(HostSuite):
    @pytest.fixture
    def host(self) -> Host:
        return SimulatedHost(seed=0)


class TestStored(RefusingHostSuite):
    @pytest.fixture
    def host(self) -> Host:
        return StoredHost("phone", SimulatedHost().hello()["fingerprint"])


class TestImported(RefusingHostSuite):
    """Of a latency file nothing but its name and digest is known."""

    fingerprint_keys = frozenset({"imported", "sha256"})

    @pytest.fixture
    def host(self) -> Host:
        return StoredHost("phone.lat", {"imported": "phone.lat", "sha256": "0" * 64})
