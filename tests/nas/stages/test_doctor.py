from __future__ import annotations

import json
import os
from typing import Any

import pytest

from ortnas.bench.findings import Finding, findings
from ortnas.bench.host import HostError
from ortnas.bench.request import Request
from ortnas.bench.session import Setup
from ortnas.bench.simulated import SimulatedHost
from ortnas.bench.timing import Samples, TimingProtocol, Workload
from ortnas.bench.worker_host import LocalHost
from ortnas.export.graph.model import float_model
from ortnas.nas.console import Console
from ortnas.nas.stages.doctor import Noise, compare_runtimes, describe, describe_runtimes, doctor, noise_of
from tests.networks import make_dimensions, make_space, random_tensors

WORKLOADS, PROTOCOL = (Workload(1, 16, 120),), TimingProtocol.fixed(30)
# A machine that does nothing to timings.
QUIET: dict[str, Any] = {
    "clock_s": 50.0,
    "load": 0.1,
    "processors": 4,
    "cores": 4,
    "hyper_threads": False,
    "capacities": [1024],
    "cpu_quota": 4.0,
    "quota_stops": 3,
    "governors": ["performance"],
    "turbo": False,
    "frequency_mhz": 3000.0,
    "busy_s": 1000.0,
    "steal_s": 7.0,
    "own_s": 2.0,
    "heat_slowdowns": 9,
    "cooling": 0,
    "board_flags": 0,
    "hypervisor": False,
}
# Ten seconds of work later.
LATER = QUIET | {"clock_s": 60.0, "busy_s": 1010.5, "own_s": 12.0}


def find(name: str, *readings: dict[str, Any], setup: Setup = Setup(threads=2)) -> Finding:  # noqa: B008
    (finding,) = (finding for finding in findings(readings, setup) if finding.name == name)
    return finding


@pytest.fixture(scope="module")
def model() -> bytes:
    dimensions = make_dimensions()
    content: bytes = float_model(random_tensors(dimensions), dimensions, make_space().largest).SerializeToString()
    return content


def test_a_quiet_machine_passes() -> None:
    assert {finding.state for finding in findings([QUIET, LATER], Setup(threads=4))} == {"pass"}


def test_what_cannot_be_read_is_unknown_not_passed() -> None:
    unreadable: dict[str, Any] = dict.fromkeys(QUIET)
    for readings in ([unreadable, unreadable], [{}, {}]):
        assert {finding.state for finding in findings(readings, Setup(threads=4))} == {"unknown"}


@pytest.mark.parametrize(
    ("name", "changes", "state", "said"),
    [
        ("processors", {"processors": 1}, "fail", "2 threads on 1"),
        ("quota", {"cpu_quota": 1.5}, "fail", "grants 1.5 processors to 2 thread"),
        ("quota", {"cpu_quota": 2.5}, "pass", "2.5 processors are granted"),
        ("quota", {"cpu_quota": 2.5, "quota_stops": 15}, "warn", "in 12 periods"),
        ("hyper-threads", {"hyper_threads": True}, "warn", "one processor a core"),
        ("hyper-threads", {"hyper_threads": True, "cores": 1}, "warn", "2 threads on 1 core"),
        ("hyper-threads", {"hypervisor": True}, "unknown", "below it, neighbours may share them"),
        ("kinds of core", {"capacities": [446, 1024]}, "warn", "44%"),
        ("clock governor", {"governors": ["performance", "powersave"]}, "warn", "echo performance | sudo tee"),
        ("turbo", {"turbo": True}, "warn", "no_turbo"),
        ("clock", {"frequency_mhz": None}, "unknown", "cannot be read"),
        ("clock", {"hypervisor": True}, "unknown", "whatever the clock does"),
        ("heat and supply", {"heat_slowdowns": 10}, "warn", "cool them better"),
        ("heat and supply", {"cooling": 1}, "warn", "cool them better"),
        ("heat and supply", {"board_flags": 0x4}, "warn", "cool them better"),
        ("heat and supply", {"board_flags": 0x40000}, "warn", "cool them better"),
        ("heat and supply", {"board_flags": 0x10000}, "warn", "stronger supply"),
        ("heat and supply", {"board_flags": 0x1}, "warn", "stronger supply"),
        ("other programs", {"busy_s": 1017.0}, "warn", "0.7 of 4 processors busy"),
        ("other programs", {"busy_s": None}, "unknown", "the load was 0.10 before"),
        ("stolen time", {"steal_s": 7.5}, "warn", "4.5%"),
        ("stolen time", {"steal_s": 7.05}, "pass", "0.5%"),
        ("neighbours", {"hypervisor": True}, "warn", "a virtual machine"),
    ],
)
def test_each_disturbance_is_named_with_what_to_do(name: str, changes: dict[str, Any], state: str, said: str) -> None:
    finding = find(name, QUIET, LATER | changes)
    assert finding.state == state
    assert said in finding.detail


def test_a_clock_that_falls_from_session_to_session_is_seen() -> None:
    fallen = LATER | {"frequency_mhz": 2500.0}
    assert find("clock", QUIET, LATER, fallen).state == "warn"
    # The first reading is taken at rest, where the clock may be low.
    assert find("clock", QUIET | {"frequency_mhz": 800.0}, LATER, LATER).state == "pass"


def test_slow_downs_of_a_board_before_the_measurement_are_told_from_those_in_it() -> None:
    before = {"board_flags": 0x50000}
    finding = find("heat and supply", QUIET | before, LATER | before)
    assert finding.state == "warn"
    assert "though not in the measurement" in finding.detail


def test_a_processor_that_was_hot_in_the_midst_only_is_seen() -> None:
    assert find("heat and supply", QUIET, LATER | {"board_flags": 0x8}, LATER).state == "warn"


def test_a_worker_that_was_replaced_leaves_the_work_of_others_unknown() -> None:
    restarted = LATER | {"own_s": 0.3}
    assert find("other programs", QUIET, restarted).state == "unknown"
    assert find("other programs", QUIET | {"load": 3.0}, restarted).state == "warn"


def test_a_hypervisor_that_never_reported_stolen_time_is_not_believed() -> None:
    first, last = (reading | {"steal_s": 0.0, "hypervisor": True} for reading in (QUIET, LATER))
    assert find("stolen time", first, last).state == "unknown"


def test_threads_are_held_against_the_processors_that_they_are_held_to() -> None:
    setup = Setup(threads=2, affinity=(3,))
    assert find("processors", QUIET, LATER, setup=setup).state == "fail"


def test_noise_is_taken_over_all_pairs_of_sessions() -> None:
    noise = noise_of([1.0, 1.0, 1.0, 2.0])
    assert noise.median == pytest.approx(0.25)
    assert noise.p95 == pytest.approx(0.5)
    assert noise_of([3.0, 3.0]).p95 == 0


@pytest.mark.slow
def test_this_machine_is_examined(model: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    with LocalHost() as host:
        result = doctor(host, Setup(), WORKLOADS, Console(), model, sessions=3, protocol=PROTOCOL, pause_s=0)
    assert json.loads(json.dumps(result)) == result
    assert len(result["sessions_ms"]) == len(result["plain_sessions_ms"]) == 3
    assert min(result["sessions_ms"] + result["plain_sessions_ms"]) > 0
    assert 0 < result["noise_floor"]["median"] <= result["noise_floor"]["p95"]
    assert result["versions"]["onnxruntime"] == result["fingerprint"]["onnxruntime"]
    shown = capsys.readouterr().out
    for finding in result["findings"]:
        assert f"| {finding['name']} " in shown
        assert finding["detail"] in shown
    assert "Noise floor: two of the 3 sessions differ by " in shown
    assert f"errors below {result['noise_floor']['median']:.2%} are noise" in shown


@pytest.mark.slow
def test_more_threads_than_processors_fail_here(model: bytes) -> None:
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with LocalHost() as host:
        setup = Setup(threads=processors + 1, spinning=False)
        console = Console(to_stderr=True)
        result = doctor(host, setup, WORKLOADS, console, model, sessions=2, protocol=PROTOCOL, pause_s=0)
    assert {finding["name"] for finding in result["findings"] if finding["state"] == "fail"} >= {"processors"}


@pytest.mark.slow
def test_without_a_model_half_a_random_one_is_timed_beside_the_whole() -> None:
    workloads = (Workload(1, 16, 120, weight=3), Workload(2, 8, 100))
    with LocalHost() as host:
        result = doctor(
            host, Setup(), workloads, Console(to_stderr=True), sessions=2, protocol=TimingProtocol.fixed(20), pause_s=0
        )
    assert min(result["sessions_ms"]) > 0


def test_a_model_that_cannot_be_timed_is_named(model: bytes) -> None:
    with LocalHost() as host, pytest.raises(HostError, match="InvalidProtobuf"):
        doctor(host, Setup(), WORKLOADS, Console(to_stderr=True), b"not a model", protocol=PROTOCOL)


def test_one_session_is_refused(model: bytes) -> None:
    with LocalHost() as host, pytest.raises(ValueError, match="take 2 or more"):
        doctor(host, Setup(), WORKLOADS, Console(to_stderr=True), model, sessions=1)


class DriftingHost(SimulatedHost):
    """Everything takes four times as long from the third session on."""

    visits = 0

    def measure(self, *arguments: Any, **named: Any) -> Any:
        self.visits += 1
        results = super().measure(*arguments, **named)
        return results if self.visits < 3 else {name: slowed(samples) for name, samples in results.items()}


def slowed(samples: Samples) -> Samples:
    both = (samples.model_ns, samples.anchor_ns)
    model, anchor = (tuple(tuple(4 * value for value in row) for row in rows) for rows in both)
    return Samples(model, anchor)


def test_drift_is_taken_out_by_the_anchor_and_shown_without_it(
    model: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    with DriftingHost() as host:
        result = doctor(host, Setup(), WORKLOADS, Console(), model, sessions=4, protocol=PROTOCOL, pause_s=0)
    assert result["plain_noise"]["p95"] > 0.3
    assert result["noise_floor"]["p95"] < result["plain_noise"]["p95"]
    assert "the anchor takes out " in capsys.readouterr().out


def test_the_faster_runtime_is_named_where_visits_do_not_overlap() -> None:
    assert describe_runtimes({}) == []
    (sentence,) = describe_runtimes({"onnxruntime": [3.0, 3.2, 3.1], "openvino": [2.0, 2.2, 2.9]})
    assert sentence == (
        "Runtimes: 2.20 ms with OpenVINO, 3.10 ms with ONNX Runtime: OpenVINO is the faster one here "
        "(target.runtime: openvino)."
    )
    (sentence,) = describe_runtimes({"onnxruntime": [2.0, 2.1, 2.2], "openvino": [2.15, 2.3, 2.4]})
    assert "neither is shown to be faster" in sentence


class TwoRuntimes(SimulatedHost):
    """OpenVINO takes half as long."""

    def hello(self) -> dict[str, Any]:
        answer = super().hello()
        return answer | {"versions": answer["versions"] | {"openvino": "simulated"}}

    def measure(self, models: Any, request: Request, visit: int = 0) -> Any:
        results = super().measure(models, request, visit)
        return results if request.setup.runtime == "openvino" else {key: slowed(each) for key, each in results.items()}


def test_both_runtimes_are_timed_where_the_host_has_them(model: bytes) -> None:
    request = Request(model, Setup(threads=2), WORKLOADS, PROTOCOL)
    with TwoRuntimes() as host:
        latencies_ms = compare_runtimes(host, model, request, host.hello()["versions"])
    assert "OpenVINO is the faster one here" in describe_runtimes(latencies_ms)[0]
    with SimulatedHost() as host:
        assert compare_runtimes(host, model, request, host.hello()["versions"]) == {}


@pytest.mark.parametrize(
    ("noise", "plain", "said"),
    [(0.01, 0.04, "takes out 75% of it"), (0.01, 0.011, "changes little"), (0.04, 0.01, "adds noise of its own")],
)
def test_it_is_said_what_the_anchor_is_worth(noise: float, plain: float, said: str) -> None:
    first, second = describe(Noise(noise, 0.08), Noise(plain, 0.09), sessions=8)
    assert said in first
    assert second.startswith("Two subnets less than 8.00% apart ")


@pytest.mark.slow
def test_a_host_without_noise_shows_none() -> None:
    with SimulatedHost(noise=0) as host:
        result = doctor(host, Setup(), WORKLOADS, Console(to_stderr=True), sessions=3, pause_s=0)
    assert result["noise_floor"] == pytest.approx({"median": 0, "p95": 0}, abs=1e-6)
    assert result["plain_noise"] == pytest.approx({"median": 0, "p95": 0}, abs=1e-6)
