from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ortnas.bench.host import Host, HostError
from ortnas.bench.request import Request
from ortnas.bench.testing.hosts import HostSuite
from ortnas.bench.timing import Samples, TimingProtocol, Workload
from ortnas.nas.architecture.subnet import Layer, Subnet
from ortnas.search.cluster import ClusterError, ClusterHost, connected, on_cluster
from ortnas.search.constraints import Constraint
from ortnas.search.evolution import Evolution, Settings
from ortnas.search.loop import Scored, run_search
from ortnas.search.racing import Race
from ortnas.search.scoring import Dispatch, Outcome, Scorer, in_threads
from tests.networks import SizePredictor, make_space, random_subnets
from tests.search.landscape import capacity
from tests.search.test_scoring import make_exporter, make_part, part_labelled_by

pytestmark = pytest.mark.slow

ray = pytest.importorskip("ray", reason="ray is not installed; it is the extra 'ray'")


@pytest.mark.parametrize("address", ["ray://127.0.0.1:1", "127.0.0.1:1", "nonsense"])
def test_a_cluster_that_is_not_there_gives_a_sentence(address: str) -> None:
    with pytest.raises(ClusterError, match=f"no Ray cluster could be reached at {address}: "), connected(address):
        pass


def test_a_cluster_behind_a_token_is_called_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    options = ["--head", "--block", f"--port={address.partition(':')[2]}", "--num-cpus=0", "--include-dashboard=false"]
    environment = os.environ | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "a secret of some length"}
    ray_command = Path(sys.executable).with_name("ray")
    # Sockets are in this folder, and their paths have to be short.
    with tempfile.TemporaryDirectory() as folder:
        head = subprocess.Popen([ray_command, "start", *options, f"--temp-dir={folder}"], env=environment)
        try:
            wait_for(lambda: is_open(address))
            # One try is enough; Ray makes twenty.
            monkeypatch.setenv("RAY_gcs_server_port_wait_time_s", "1")
            message = f"reached at {address}: a token guards it.*RAY_AUTH_MODE=token"
            with pytest.raises(ClusterError, match=message), connected(address):
                pass
        finally:
            # Its processes go with it.
            head.kill()
            head.wait()


def is_open(address: str) -> bool:
    host, port = address.split(":")
    with socket.socket() as knocking:
        return knocking.connect_ex((host, int(port))) == 0


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    """A head and a node that carries the label of a target."""
    from ray.cluster_utils import Cluster

    # A lost node is given up after a second, not after half a minute.
    health = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 300, "health_check_failure_threshold": 3}
    head = {"num_cpus": 1, "include_dashboard": False, "_system_config": health}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    cluster.add_node(num_cpus=1, resources={"phone": 1})
    with connected(cluster.address):
        yield cluster
    cluster.shutdown()


@pytest.mark.usefixtures("nodes")
@pytest.mark.parametrize("form", ["own", "sliced"])
def test_scores_are_those_of_this_machine(tmp_path: Path, form: Any) -> None:
    exporter, part = make_exporter(), make_part()
    subnets = [*random_subnets(make_space(), 3), Subnet(16, (Layer(7, 2, 4, 16),))]

    def outcomes(dispatch: Dispatch) -> list[Any]:
        scorer = Scorer(exporter, part, "int8", "accuracy", tmp_path / dispatch.__qualname__, form, dispatch=dispatch)
        return [(outcome.score, outcome.reason) for outcome in scorer.outcomes(subnets, [None] * len(subnets))]

    assert outcomes(on_cluster()) == outcomes(in_threads(1))


@pytest.mark.usefixtures("nodes")
def test_a_search_on_the_cluster_is_the_local_search(tmp_path: Path) -> None:
    exporter, space = make_exporter(), make_space()
    part = part_labelled_by(exporter, space.largest, 200)

    def searched(name: str, dispatch: Dispatch) -> Scored:
        scorer = Scorer(exporter, part, "int8", "accuracy", tmp_path / f"{name}-scores", "sliced", Race(), dispatch)
        evolution = Evolution(space, [Constraint(SizePredictor(space))], Settings(population=4), seed=3)
        return run_search(evolution, scorer, 24, tmp_path / name, batch=8, keep=2)

    assert searched("cluster", on_cluster()) == searched("local", in_threads(2))


class Stuck:
    """Gets nowhere on one node; everywhere else it waits until that node is at work, and then answers.

    It leaves a file for each subnet and node.
    """

    def __init__(self, folder: Path, doomed: str) -> None:
        self.folder, self.doomed = folder, doomed

    def __call__(self, subnet: Subnet, _: Any) -> Outcome:
        node = ray.get_runtime_context().get_node_id()
        (self.folder / f"{node}-{subnet.key}").touch()
        wait_for(lambda: node != self.doomed and any(self.folder.glob(f"{self.doomed}-*")))
        return Outcome(capacity(subnet))


def wait_for(condition: Callable[[], bool]) -> None:
    for _ in range(1200):
        if condition():
            return
        time.sleep(0.05)
    raise TimeoutError


def test_what_a_lost_node_was_doing_is_done_again(tmp_path: Path, nodes: Any) -> None:
    doomed = nodes.add_node(num_cpus=2)
    nodes.wait_for_nodes()
    subnets = random_subnets(make_space(), 6)
    evaluation = Stuck(tmp_path, doomed.node_id)
    outcomes = on_cluster()(evaluation, [(subnet, None) for subnet in subnets])  # type: ignore[arg-type]
    scores: list[Any] = []
    with ThreadPoolExecutor(1) as pool:
        scoring = pool.submit(lambda: scores.extend(outcome.score for outcome in outcomes))
        wait_for(lambda: any(tmp_path.glob(f"{doomed.node_id}-*")))
        nodes.remove_node(doomed, allow_graceful=False)
        scoring.result()
    assert scores == [capacity(subnet) for subnet in subnets]
    lost = {path.name.split("-")[1] for path in tmp_path.glob(f"{doomed.node_id}-*")}
    elsewhere = {path.name.split("-")[1] for path in tmp_path.iterdir() if doomed.node_id not in path.name}
    assert lost
    assert lost <= elsewhere


@pytest.mark.usefixtures("nodes")
def test_timings_are_taken_on_the_labelled_node_one_at_a_time() -> None:
    exporter, host = make_exporter(), ClusterHost("phone", timeout_s=60)
    assert "onnxruntime" in host.hello()["fingerprint"]
    anchor, model = (exporter.build(subnet, "int8") for subnet in (make_space().largest, make_space().smallest))
    workload = Workload(1, 16, 120)
    outcomes = host.measure(
        {"one": model, "broken": b"no model"}, Request(anchor, workloads=(workload,), protocol=TimingProtocol.fixed(10))
    )
    samples = outcomes["one"]
    assert isinstance(samples, Samples)
    assert len(samples.model_ns[0]) == len(samples.anchor_ns[0]) == 10
    assert not isinstance(outcomes["broken"], Samples)

    @ray.remote(num_cpus=0, resources={"phone": 1})  # type: ignore[untyped-decorator, unused-ignore]
    def occupy() -> tuple[float, float]:
        start = time.monotonic()
        time.sleep(0.2)
        return start, time.monotonic()

    first, second = sorted(ray.get([occupy.remote(), occupy.remote()]))
    assert first[1] <= second[0]


@pytest.mark.usefixtures("nodes")
def test_a_label_that_no_node_carries_is_named_with_what_to_do() -> None:
    with pytest.raises(HostError, match=r"no node of the cluster carries the label 'tablet'.*ray start"):
        ClusterHost("tablet").hello()


@pytest.mark.usefixtures("nodes")
def test_a_host_that_cannot_time_even_the_anchor_says_so() -> None:
    with pytest.raises(HostError, match="ray:phone"):
        ClusterHost("phone", timeout_s=60).measure({}, Request(b"no model"))


@pytest.mark.usefixtures("nodes")
class TestRay(HostSuite):
    @pytest.fixture
    def host(self) -> Host:
        return ClusterHost("phone", timeout_s=60)
