"""What every way to a host must do alike."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from ortnas.bench.bundle import Results, read_results, write_bundle
from ortnas.bench.fingerprint import fingerprint
from ortnas.bench.host import Failure, Host, HostError
from ortnas.bench.request import Request
from ortnas.bench.simulated import SimulatedHost
from ortnas.bench.ssh import SshHost
from ortnas.bench.timing import Samples, TimingProtocol, Workload
from ortnas.bench.worker_host import LocalHost
from tests.bench.sshd import HOST, running_server

SHORT, LONG = Workload(1, 8, 120), Workload(2, 16, 120, (4, 9, 16), 0.5)
PROTOCOL = TimingProtocol(min_rounds=6, max_rounds=30, cap_s=0.2)


class BundleHost:
    """Takes a bundle to a host and brings its results back, all on this machine."""

    name = "bundle"

    def __init__(self, folder: Path, model: bytes) -> None:
        self._folder, self._model, self._number = folder, model, 0

    def hello(self) -> dict[str, Any]:
        results = self._carry({"model": self._model}, Request(self._model, workloads=(SHORT,), protocol=PROTOCOL))
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

    def _carry(
        self,
        models: Mapping[str, bytes],
        request: Request,
    ) -> Results:
        self._number += 1
        folder = self._folder / str(self._number)
        plan = write_bundle(folder / "bundle.zip", models, request, visits=1)
        command = [sys.executable, "bundle.zip"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            raise HostError(done.stderr.strip())
        return read_results(folder / "results.jsonl", plan)


@pytest.fixture(scope="module", params=["local", "ssh", "bundle", "simulated"])
def host(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, models: list[bytes]
) -> Iterator[Host]:
    opened: Host
    match request.param:
        case "local":
            opened = LocalHost(timeout_s=60)
        case "ssh":
            server = request.getfixturevalue("server")
            opened = SshHost(HOST, sys.executable, server.ssh, timeout_s=60)
        case "bundle":
            opened = BundleHost(tmp_path_factory.mktemp("bundles"), models[0])
        case _:
            opened = SimulatedHost(seed=0)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with running_server(tmp_path_factory.mktemp("sshd")) as started:
        yield started


def asked(anchor: bytes, *workloads: Workload, protocol: TimingProtocol = PROTOCOL) -> Request:
    return Request(anchor, workloads=workloads, protocol=protocol)


def samples_of(found: Samples | Failure) -> Samples:
    assert isinstance(found, Samples), found
    return found


def test_every_model_gets_samples_of_every_workload(host: Host, models: list[bytes]) -> None:
    named = {f"model {number}": model for number, model in enumerate(models)}
    found = host.measure(named, asked(models[0], SHORT, LONG))
    assert set(found) == set(named)
    for samples in map(samples_of, found.values()):
        for rows in (samples.model_ns, samples.anchor_ns):
            assert len(rows) == 2
            assert all(6 <= len(row) <= 30 for row in rows)
            assert all(type(value) is int and value > 0 for row in rows for value in row)
        assert [len(row) for row in samples.model_ns] == [len(row) for row in samples.anchor_ns]


def test_a_fixed_protocol_makes_exactly_so_many_rounds(host: Host, models: list[bytes]) -> None:
    found = host.measure({"model": models[1]}, asked(models[0], SHORT, LONG, protocol=TimingProtocol.fixed(7)))
    assert [len(row) for row in samples_of(found["model"]).model_ns] == [7, 7]


def test_a_model_may_have_two_names_and_be_its_own_anchor(host: Host, models: list[bytes]) -> None:
    found = host.measure({"one": models[1], "two": models[1]}, asked(models[1], SHORT))
    assert set(found) == {"one", "two"}
    assert all(samples_of(one).model_ns for one in found.values())


def test_a_model_that_is_refused_costs_only_itself(host: Host, models: list[bytes]) -> None:
    named = {"good": models[1], "bad": b"not a model", "also good": models[2]}
    found = host.measure(named, asked(models[0], SHORT))
    refused = found["bad"]
    assert isinstance(refused, Failure)
    assert refused.reason
    assert "\n" not in refused.reason
    assert samples_of(found["good"])
    assert samples_of(found["also good"])


def test_nothing_but_refused_models_is_no_reason_to_stop(host: Host, models: list[bytes]) -> None:
    found = host.measure({"bad": b"not a model", "worse": b""}, asked(models[0], SHORT))
    assert {name: type(one) for name, one in found.items()} == {"bad": Failure, "worse": Failure}


def test_hello_tells_what_the_host_is_and_how_it_does(host: Host) -> None:
    hello = host.hello()
    assert set(hello["fingerprint"]) == set(fingerprint())
    assert {"python", "numpy", "onnxruntime"} <= set(hello["versions"])
    assert isinstance(hello["conditions"], dict)


def test_what_was_forgotten_can_be_measured_again(host: Host, models: list[bytes]) -> None:
    for _ in range(2):
        assert samples_of(host.measure({"model": models[1]}, asked(models[0], SHORT))["model"])
        host.forget()


def test_a_hopeless_anchor_stops_the_host_with_one_sentence(host: Host, models: list[bytes]) -> None:
    with pytest.raises(HostError) as caught:
        host.measure({"model": models[1]}, asked(b"not a model", SHORT))
    assert str(caught.value)
    assert "\n" not in str(caught.value)
    assert samples_of(host.measure({"model": models[1]}, asked(models[0], SHORT))["model"])
