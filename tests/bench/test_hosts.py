"""The worker process, driven for real."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.fingerprint import fingerprint, fingerprint_hash
from bench.hosts import HostError, LocalHost
from bench.timing import Protocol, Setup, Workload
from export.graph import float_model
from tests.networks import make_dimensions, make_space, random_tensors

WORKLOAD, PROTOCOL = Workload(1, 16, 120), Protocol(1, 2, 2)


@pytest.fixture(scope="module")
def model() -> bytes:
    dimensions = make_dimensions()
    content: bytes = float_model(random_tensors(dimensions), dimensions, make_space().smallest).SerializeToString()
    return content


@pytest.fixture
def host() -> Iterator[LocalHost]:
    with LocalHost(timeout_s=60) as opened:
        yield opened


def worker_pid(host: LocalHost) -> int:
    assert host._process is not None
    return host._process.pid


def test_measures_models_by_name(host: LocalHost, model: bytes) -> None:
    samples = host.measure({"a": model, "b": model}, Setup(), WORKLOAD, PROTOCOL)
    assert len(samples["a"]) == 4
    assert samples["a"] == samples["b"]


def test_worker_sees_the_host_as_this_process_does(host: LocalHost) -> None:
    facts = host.fingerprint()
    assert facts == fingerprint()
    assert len(fingerprint_hash(facts)) == 12
    assert fingerprint_hash(facts) != fingerprint_hash(facts | {"cores": 999})


def test_a_model_that_is_refused_costs_that_model_only(host: LocalHost, model: bytes) -> None:
    with pytest.raises(HostError, match="InvalidProtobuf"):
        host.measure({"bad": b"not a model"}, Setup(), WORKLOAD, PROTOCOL)
    before = worker_pid(host)
    assert host.measure({"good": model}, Setup(), WORKLOAD, PROTOCOL)
    assert worker_pid(host) == before


def test_a_killed_worker_is_replaced_and_gets_its_models_again(host: LocalHost, model: bytes) -> None:
    host.measure({"a": model}, Setup(), WORKLOAD, PROTOCOL)
    os.kill(worker_pid(host), signal.SIGKILL)
    with pytest.raises(HostError, match="ended with status -9"):
        host.measure({"a": model}, Setup(), WORKLOAD, PROTOCOL)
    assert host.measure({"a": model}, Setup(), WORKLOAD, PROTOCOL)


def test_a_hanging_worker_is_stopped(model: bytes) -> None:
    with LocalHost(timeout_s=60) as host:
        host.measure({"a": model}, Setup(), WORKLOAD, PROTOCOL)
        os.kill(worker_pid(host), signal.SIGSTOP)
        host.timeout_s = 1
        with pytest.raises(HostError, match="did not answer within 1 s"):
            host.measure({"a": model}, Setup(), WORKLOAD, PROTOCOL)
        host.timeout_s = 60
        assert host.measure({"a": model}, Setup(), WORKLOAD, PROTOCOL)


def test_dropped_models_are_sent_again(host: LocalHost, model: bytes) -> None:
    host.measure({"a": model}, Setup(), WORKLOAD, PROTOCOL)
    host.drop(model)
    host.drop(model)
    assert host.measure({"a": model}, Setup(), WORKLOAD, PROTOCOL)


def test_worker_needs_numpy_and_onnxruntime_only(tmp_path: Path, model: bytes) -> None:
    """Speaks the protocol by hand with a copy of ``bench`` alone, where nothing else of the project is in reach."""
    source = Path(__file__).resolve().parents[2] / "bench"
    (tmp_path / "bench").mkdir()
    for path in source.glob("*.py"):
        (tmp_path / "bench" / path.name).write_bytes(path.read_bytes())
    blocked = ("torch", "transformers", "onnx", "nas", "export", "scipy", "xgboost")
    script = (
        f"import sys; sys.modules.update(dict.fromkeys({blocked!r}))\n"
        f"sys.path.insert(0, {str(tmp_path)!r}); import bench.worker; bench.worker.main()"
    )
    digest = hashlib.sha256(model).hexdigest()
    measure = {
        "models": [digest],
        "setup": Setup().to_json(),
        "workload": WORKLOAD.to_json(),
        "protocol": PROTOCOL.to_json(),
    }
    requests = [
        b'{"do": "hello"}\n',
        json.dumps({"do": "put", "digest": digest, "size_bytes": len(model)}).encode() + b"\n" + model,
        json.dumps({"do": "measure", **measure}).encode() + b"\n",
        b'{"do": "dance"}\n',
        json.dumps({"do": "put", "digest": "0" * 64, "size_bytes": 1}).encode() + b"\nx",
        b'{"do": "bye"}\n',
    ]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, "-c", script]
    done = subprocess.run(
        command, input=b"".join(requests), capture_output=True, check=True, env=environment, cwd=tmp_path
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [answer["ok"] for answer in answers] == [True, True, True, False, False]
    assert len(answers[2]["samples_ns"][digest]) == 4
    assert "dance" in answers[3]["error"]
    assert "digest" in answers[4]["error"]
