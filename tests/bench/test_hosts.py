"""The worker process on this machine, driven for real, and what can happen to it."""

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

from ortnas.bench.fingerprint import fingerprint
from ortnas.bench.host import Failure, HostError
from ortnas.bench.request import Request
from ortnas.bench.timing import Samples, Setup, TimingProtocol, Workload
from ortnas.bench.worker_host import LocalHost
from ortnas.export.graph.model import float_model
from tests.bench.pythons import DIES, HANGS, when_opened, write_python
from tests.networks import make_dimensions, make_space, random_tensors

WORKLOADS, PROTOCOL = (Workload(1, 16, 120),), TimingProtocol.fixed(4)
MEBIBYTE = 1 << 20


@pytest.fixture
def host() -> Iterator[LocalHost]:
    opened = LocalHost(timeout_s=60)
    yield opened
    opened.close()


class PatientHost(LocalHost):
    """Gives every new worker the time that it takes to start on a busy machine."""

    def _start(self) -> subprocess.Popen[bytes]:
        self.timeout_s = 60
        return super()._start()


def worker_id(host: LocalHost) -> int:
    assert host.process_id is not None
    return host.process_id


def kill_worker(host: LocalHost) -> None:
    """Returns when it has ended; the host has not looked at it yet."""
    os.kill(worker_id(host), signal.SIGKILL)
    os.waitid(os.P_PID, worker_id(host), os.WEXITED | os.WNOWAIT)


def measure(host: LocalHost, anchor: bytes, *models: bytes, setup: Setup | None = None) -> list[Samples | Failure]:
    named = {str(number): model for number, model in enumerate(models)}
    results = host.measure(named, Request(anchor, setup or Setup(), WORKLOADS, PROTOCOL))
    return [results[name] for name in named]


def test_the_worker_sees_the_host_as_this_process_does(host: LocalHost) -> None:
    facts = host.hello()["fingerprint"]
    assert facts == fingerprint()


def test_a_refused_model_leaves_the_worker_as_it_is(host: LocalHost, models: list[bytes]) -> None:
    assert isinstance(measure(host, models[0], models[1])[0], Samples)
    before = worker_id(host)
    assert isinstance(measure(host, models[0], b"not a model")[0], Failure)
    assert isinstance(measure(host, models[0], models[1])[0], Samples)
    assert worker_id(host) == before


@pytest.mark.slow
def test_a_worker_that_was_killed_meanwhile_is_replaced_and_gets_its_models_again(
    host: LocalHost, models: list[bytes]
) -> None:
    measure(host, models[0], models[1])
    kill_worker(host)
    assert isinstance(measure(host, models[0], models[1])[0], Samples)
    kill_worker(host)
    assert host.hello()["fingerprint"]
    kill_worker(host)
    host.forget()
    assert isinstance(measure(host, models[0], models[1])[0], Samples)


def test_a_model_that_kills_the_worker_costs_only_itself(tmp_path: Path, models: list[bytes]) -> None:
    with LocalHost(60, write_python(tmp_path, when_opened(models[3], DIES))) as host:
        results = measure(host, models[0], *models[1:])
    assert [type(result) for result in results] == [Samples, Samples, Failure, Samples, Samples]
    failure = results[2]
    assert isinstance(failure, Failure)
    assert failure.reason.startswith("the worker ended with status -9 (killed; out of memory?)")


@pytest.mark.slow
def test_an_anchor_that_kills_the_worker_stops_the_host(tmp_path: Path, models: list[bytes]) -> None:
    with (
        LocalHost(60, write_python(tmp_path, when_opened(models[0], DIES))) as host,
        pytest.raises(HostError, match="local: the worker ended with status -9"),
    ):
        measure(host, models[0], models[1])


@pytest.mark.slow
def test_a_model_that_hangs_is_stopped(tmp_path: Path, models: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ortnas.bench.worker_host._SLOW_INFERENCE_S", 0.01)
    with PatientHost(python=write_python(tmp_path, when_opened(models[2], HANGS))) as host:
        measure(host, models[0], models[1])
        hung = worker_id(host)
        host.timeout_s = 0.5
        (result,) = measure(host, models[0], models[2])
        assert isinstance(result, Failure)
        assert "did not answer within 0.5" in result.reason
        with pytest.raises(ProcessLookupError):
            os.kill(hung, 0)
        assert isinstance(measure(host, models[0], models[1])[0], Samples)


@pytest.mark.slow
def test_a_stopped_worker_is_replaced(host: LocalHost, models: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ortnas.bench.worker_host._SLOW_INFERENCE_S", 0.01)
    measure(host, models[0], models[1])
    os.kill(worker_id(host), signal.SIGSTOP)
    host.timeout_s = 0.5
    with pytest.raises(HostError, match=r"did not answer within 0.5"):
        host.hello()
    host.timeout_s = 60
    assert isinstance(measure(host, models[0], models[1])[0], Samples)


@pytest.mark.slow
def test_nothing_lies_in_the_temporary_folder_afterwards(
    tmp_path: Path, models: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with LocalHost(60) as host:
        measure(host, models[0], models[1])
        kill_worker(host)
        assert len(list(tmp_path.glob("*/*.onnx"))) == 2
        measure(host, models[0], models[2])
        (folder,) = tmp_path.iterdir()  # the dead worker's is gone
        host.forget()
        assert os.listdir(folder) == []
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this operating system has no affinity of processes")
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="two requests at a time need two processors")
def test_requests_can_come_together(host: LocalHost, models: list[bytes]) -> None:
    (samples,) = measure(host, models[0], models[1], setup=Setup(concurrency=2))
    assert isinstance(samples, Samples)
    turn_samples = Setup(concurrency=2).samples_a_turn(PROTOCOL.runs)
    assert [len(row) for row in samples.model_ns] == [PROTOCOL.min_rounds * turn_samples]


def test_more_requests_at_a_time_than_processors_are_refused(host: LocalHost, models: list[bytes]) -> None:
    processors = os.cpu_count() or 1
    with pytest.raises(HostError, match=f"keep {processors + 1} processors busy, and there are {processors}"):
        measure(host, models[0], models[1], setup=Setup(threads=2, concurrency=processors))
    assert measure(host, models[0], models[1])


def test_processors_and_spinning_can_be_chosen(host: LocalHost, models: list[bytes]) -> None:
    allowed = sorted(os.sched_getaffinity(0))
    for setup in (Setup(affinity=(allowed[0],)), Setup(threads=2, spinning=False)):
        assert isinstance(measure(host, models[0], models[1], setup=setup)[0], Samples)
        assert os.sched_getaffinity(worker_id(host)) == set(allowed)
    for forbidden in ((allowed[-1] + 500,), (allowed[0], allowed[-1] + 500)):
        with pytest.raises(HostError, match=r"local: .*affinity .* is not allowed here, only some of"):
            measure(host, models[0], models[1], setup=Setup(affinity=forbidden))


def test_a_provider_that_the_host_lacks_gets_a_sentence(host: LocalHost, models: list[bytes]) -> None:
    with pytest.raises(HostError, match=r"QNNExecutionProvider is not available here; there is .*CPU"):
        measure(host, models[0], models[1], setup=Setup("QNNExecutionProvider"))


def test_a_model_that_does_not_fit_on_the_disk_costs_only_itself(tmp_path: Path, models: list[bytes]) -> None:
    dimensions = make_dimensions(vocab_size=60_000)
    large = float_model(random_tensors(dimensions), dimensions, make_space().smallest).SerializeToString()
    room = 2 * MEBIBYTE
    assert max(map(len, models)) < room < len(large)
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({room}, {room}))"
    with LocalHost(60, write_python(tmp_path, limit)) as host:
        refused, taken = measure(host, models[0], large, models[1])
        assert isinstance(refused, Failure)
        assert "File too large" in refused.reason
        assert isinstance(taken, Samples)
        before = worker_id(host)
        assert isinstance(measure(host, models[0], models[2])[0], Samples)
        assert worker_id(host) == before


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_the_worker_needs_little_memory_beside_the_models(host: LocalHost) -> None:
    dimensions = make_dimensions(vocab_size=20_000, hidden_size=256, head_size=64, embedding_size=256)
    space = make_space(hidden_size=(256,), num_heads=(4,), head_size=(64,))
    model = float_model(random_tensors(dimensions), dimensions, space.largest).SerializeToString()
    measure(host, model, model)
    status = Path(f"/proc/{worker_id(host)}/status").read_text()
    (peak_kib,) = (int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    # The anchor and the model, each as a session holds it.
    assert peak_kib * 1024 - 2 * len(model) < 150 * MEBIBYTE


def test_the_worker_is_not_taken_from_the_current_folder(
    tmp_path: Path, models: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "__init__.py").write_text("raise SystemExit('this is another bench')")
    monkeypatch.chdir(tmp_path)
    with LocalHost(60) as host:
        assert isinstance(measure(host, models[0], models[1])[0], Samples)


def test_the_worker_needs_numpy_and_onnxruntime_only(tmp_path: Path, models: list[bytes]) -> None:
    """Writes the messages by hand with a copy of ``bench`` alone, where nothing else of the project is in reach."""
    source = Path(__file__).resolve().parents[2] / "bench"
    (tmp_path / "bench").mkdir()
    for path in source.glob("*.py"):
        (tmp_path / "bench" / path.name).write_bytes(path.read_bytes())
    blocked = ("torch", "transformers", "onnx", "nas", "export", "scipy", "xgboost")
    script = (
        f"import sys; sys.modules.update(dict.fromkeys({blocked!r}))\n"
        f"sys.path.insert(0, {str(tmp_path)!r}); import bench.worker; bench.worker.main()"
    )
    model = models[0]
    digest = hashlib.sha256(model).hexdigest()
    measure = {
        "models": [digest],
        **Request(model, workloads=WORKLOADS, protocol=PROTOCOL).to_json(),
    }
    requests = [
        b'{"do": "hello"}\n',
        json.dumps({"do": "put", "digest": digest, "size_bytes": len(model)}).encode() + b"\n" + model,
        json.dumps({"do": "measure", **measure}).encode() + b"\n",
        b'{"do": "dance"}\n',
        json.dumps({"do": "put", "digest": "0" * 64, "size_bytes": 1}).encode() + b"\nx",
        json.dumps({"do": "put", "digest": "../escape", "size_bytes": 0}).encode() + b"\n",
        json.dumps({"do": "drop", "digests": [digest]}).encode() + b"\n",
        json.dumps({"do": "measure", **measure}).encode() + b"\n",
    ]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", script],
        input=b"".join(requests),
        capture_output=True,
        check=True,
        env=environment,
        cwd=tmp_path,
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [answer["ok"] for answer in answers] == [True, True, True, False, False, False, True, False]
    assert [len(row) for row in answers[2]["results"][digest]["model_ns"]] == [4]
    assert "dance" in answers[3]["error"]
    assert "digest" in answers[4]["error"]
    assert "no SHA-256" in answers[5]["error"]
