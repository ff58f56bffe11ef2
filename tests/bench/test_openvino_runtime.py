"""OpenVINO as the runtime of the timing worker: ``make test-openvino``. What needs no OpenVINO is tested everywhere."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ortnas.bench.bundle import read_results, write_bundle
from ortnas.bench.fingerprint import fingerprint, fingerprint_keys, runtime_of
from ortnas.bench.host import Failure, Host, HostError
from ortnas.bench.hosts import open_host
from ortnas.bench.openvino_runtime import PROPERTIES, OpenvinoSession, RuntimeMissingError, installed_version
from ortnas.bench.request import Request
from ortnas.bench.session import OPENVINO, Setup, fixed_shapes, make_session
from ortnas.bench.simulated import SimulatedHost
from ortnas.bench.target import Target
from ortnas.bench.testing.hosts import HostSuite
from ortnas.bench.timing import Samples, TimingProtocol, Workload, make_inputs
from ortnas.bench.worker_host import LocalHost
from ortnas.export.build import Exporter
from ortnas.export.graph.inputs import ModelInputs
from ortnas.export.inference import drift, load, run
from ortnas.export.int8.recipes import recipe_named
from ortnas.export.weights import SupernetFolder
from tests.networks import make_dimensions, make_space, random_feeds, random_tensors

needs_openvino = pytest.mark.skipif(installed_version() is None, reason="openvino is not installed")
WORKLOADS = (Workload(1, 16, 120),)


@pytest.fixture(scope="module")
def exporter(tmp_path_factory: pytest.TempPathFactory) -> Exporter:
    dimensions = make_dimensions("classification")
    tensors = random_tensors(dimensions)
    folder = SupernetFolder(tmp_path_factory.mktemp("supernet"), dimensions, make_space(), tensors, (), {}, "")
    calibration = [random_feeds(dimensions, batch=8, sequence=20, seed=seed) for seed in range(4)]
    return Exporter(folder, recipe_named("avx512_vnni"), calibration)


@pytest.fixture(scope="module")
def model(exporter: Exporter) -> bytes:
    return exporter.build(make_space().largest, "int8")


def test_a_setup_says_all_that_a_session_is_opened_with() -> None:
    setup = Setup.for_openvino(2, {"INFERENCE_PRECISION_HINT": "f32"}, (0,))
    document = json.loads(json.dumps(setup.to_json()))
    assert Setup.from_json(document) == setup
    assert document["runtime"] == "openvino"
    assert document["provider_options"] == {**PROPERTIES, "INFERENCE_PRECISION_HINT": "f32"}
    assert Target({}, Setup.for_openvino(), WORKLOADS).hash != Target({}, Setup(), WORKLOADS).hash
    assert "runtime" not in Setup().to_json()  # targets of earlier runs keep their names


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"runtime": "tensorflow"}, "'tensorflow'; there is onnxruntime and openvino"),
        ({"runtime": 3}, "the runtime is 3"),
        ({"provider": "CPUExecutionProvider"}, "device CPU"),
        ({"spinning": False}, "no setting for spinning"),
        ({"provider_options": {"CACHE_DIR": "/etc"}}, "CACHE_DIR: of OpenVINO's properties"),
    ],
)
def test_what_is_no_setup_of_openvino_is_refused_by_name(changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Setup.from_json(Setup.for_openvino().to_json() | changes)


def test_a_host_without_openvino_says_how_to_install_it(tmp_path: Path) -> None:
    """A module that cannot be imported stands in its way, whether it is installed or not."""
    (tmp_path / "openvino.py").write_text("raise ImportError('libtbb.so: not there')")
    script = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from ortnas.bench.openvino_runtime import RuntimeMissingError, facts\n"
        "try: facts()\nexcept RuntimeMissingError as error: print(error)"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert said.count("\n") == 1
    assert "-m pip install openvino" in said
    if installed_version() is None:
        with (
            LocalHost(runtime=OPENVINO) as host,
            pytest.raises(HostError, match="OpenVINO is not installed: "),
        ):
            host.hello()
        with pytest.raises(RuntimeMissingError, match="pip install openvino"):
            make_session(b"", Setup.for_openvino())


def test_the_simulated_host_has_every_runtime() -> None:
    host = SimulatedHost(runtime=OPENVINO)
    facts = host.hello()["fingerprint"]
    assert set(facts) == fingerprint_keys(OPENVINO)
    assert runtime_of(facts) == OPENVINO
    assert runtime_of(SimulatedHost().hello()["fingerprint"]) == "onnxruntime"
    assert fingerprint_keys() == set(fingerprint())


@needs_openvino
@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_it_computes_what_onnxruntime_computes(exporter: Exporter, precision: str) -> None:
    content = exporter.build(make_space().largest, precision)  # type: ignore[arg-type]
    feeds = random_feeds(make_dimensions("classification"), batch=4, sequence=20, seed=9)
    expected = run(load(content), feeds)
    exact = run(make_session(content, Setup.for_openvino(properties={"INFERENCE_PRECISION_HINT": "f32"})), feeds)
    assert drift(exact, expected).cosine > 0.999
    assert drift(run(make_session(content, Setup.for_openvino()), feeds), expected).cosine > 0.99


@needs_openvino
def test_outputs_are_the_callers_own_and_threads_may_share_a_session(model: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(model)
    session = OpenvinoSession(tmp_path / "model.onnx", 1, PROPERTIES)
    names = [port.name for port in session.get_outputs()]
    requests = [random_feeds(make_dimensions("classification"), batch=2, sequence=12, seed=seed) for seed in range(4)]
    alone = [session.run(names, feeds)[0] for feeds in requests]
    assert not np.array_equal(alone[0], alone[1])
    together: dict[int, list[np.ndarray]] = {number: [] for number in range(4)}

    def client(number: int) -> None:
        together[number] += [session.run(None, requests[number])[0] for _ in range(20)]

    clients = [threading.Thread(target=client, args=(number,)) for number in range(4)]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join()
    for number, answers in together.items():
        assert len(answers) == 20
        assert all(np.array_equal(answer, alone[number]) for answer in answers)


@needs_openvino
@pytest.mark.parametrize(
    ("inputs", "is_fused"),
    [(ModelInputs((2, 20)), False), (ModelInputs(mask=False), False), (ModelInputs(mask=False), True)],
    ids=["fixed", "unmasked", "made for ONNX Runtime"],
)
def test_models_of_other_requests_run(exporter: Exporter, inputs: ModelInputs, is_fused: bool) -> None:
    subnet = make_space().largest
    feeds = random_feeds(exporter.supernet.dimensions, batch=5, sequence=20, seed=9)
    setup = Setup.for_openvino(properties={"INFERENCE_PRECISION_HINT": "f32"})
    session = make_session(replace(exporter, inputs=inputs, fuses_attention=is_fused).build(subnet, "int8"), setup)
    assert fixed_shapes(session) == inputs.shapes
    expected = run(load(exporter.build(subnet, "int8")), feeds)
    assert drift(run(session, feeds), expected).cosine > 0.999
    if inputs.shapes is not None:
        with pytest.raises(ValueError, match="the model takes 2 x 20 tokens a request, not 1 x 16 tokens"):
            make_inputs(session, WORKLOADS[0], 0)


@needs_openvino
def test_what_openvino_refuses_is_one_sentence(model: bytes) -> None:
    session = make_session(model, Setup.for_openvino())
    wrong = {port.name: np.ones((1, 8, 2, 2), np.int64) for port in session.get_inputs()}
    for action in (
        lambda: make_session(b"no model", Setup.for_openvino()),
        lambda: make_session(model, Setup.for_openvino(properties={"NUM_STREAMS": "many"})),
        lambda: session.run(None, wrong),
    ):
        with pytest.raises(ValueError, match=r"^OpenVINO ") as refusal:
            action()
        assert "\n" not in str(refusal.value)
        assert "Exception from" not in str(refusal.value)


@pytest.fixture(scope="module")
def openvino_host() -> Iterator[Host]:
    host = open_host("local", runtime=OPENVINO)
    yield OpenvinoHost(host)
    host.close()


class OpenvinoHost:
    """Measures what the suite asks for in OpenVINO's sessions."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self.name, self.hello, self.forget, self.close = host.name, host.hello, host.forget, host.close

    def measure(self, models: dict[str, bytes], request: Request, visit: int = 0) -> dict[str, Samples | Failure]:
        setup = Setup.for_openvino(request.setup.threads, affinity=request.setup.affinity)
        changed = Request(request.anchor, setup, request.workloads, request.protocol)
        return self._host.measure(models, changed, visit)


@needs_openvino
class TestOpenvinoHost(HostSuite):
    fingerprint_keys = fingerprint_keys(OPENVINO)

    @pytest.fixture
    def host(self, openvino_host: Host) -> Host:
        return openvino_host


@needs_openvino
@pytest.mark.slow
def test_a_bundle_takes_its_runtime_along(model: bytes, tmp_path: Path) -> None:
    request = Request(model, Setup.for_openvino(), WORKLOADS, TimingProtocol.fixed(6))
    plan = write_bundle(tmp_path / "bundle.zip", {"model": model}, request, visits=1)
    done = subprocess.run([sys.executable, "bundle.zip"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    results = read_results(tmp_path / "results.jsonl", plan)
    assert results.complete
    assert results.fingerprint == fingerprint(OPENVINO)
