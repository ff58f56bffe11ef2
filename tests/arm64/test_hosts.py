"""Arm machines as hosts: a worker over pipes, the same over ssh, and a bundle that runs there."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnxruntime
import pytest

from ortnas.bench import fastmath
from ortnas.bench.bundle import read_results, write_bundle
from ortnas.bench.host import Failure, Host, HostError
from ortnas.bench.request import Request
from ortnas.bench.session import Setup
from ortnas.bench.ssh import SshHost
from ortnas.bench.testing.hosts import HostSuite
from ortnas.bench.testing.models import VOCAB_SIZE, make_model
from ortnas.bench.timing import Samples, TimingProtocol, Workload
from ortnas.bench.worker_host import LocalHost
from ortnas.export.graph.model import float_model
from ortnas.export.int8.recipes import choose_recipe
from tests.arm64.environment import PROCESSORS
from tests.bench.sshd import HOST, running_server
from tests.networks import make_dimensions, make_space, random_subnets, random_tensors

pytestmark = pytest.mark.slow
ISA = {"cortex-a72": [], "neoverse-n1": ["asimddp"], "neoverse-v1": ["asimddp", "i8mm", "bf16", "sve"]}
RECIPES = {"cortex-a72": "generic", "neoverse-n1": "arm64_dotprod", "neoverse-v1": "arm64_i8mm"}
WORKLOADS = (Workload(1, 8, VOCAB_SIZE),)
VISITS = 2


@pytest.fixture(scope="module")
def piped(arm_python: str) -> Iterator[Host]:
    with LocalHost(timeout_s=600, python=arm_python) as host:
        yield host


@pytest.fixture(scope="module")
def over_ssh(arm_pythons: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with (
        running_server(tmp_path_factory.mktemp("sshd")) as server,
        SshHost(HOST, arm_pythons["neoverse-n1"], server.ssh, timeout_s=600) as host,
    ):
        yield host


def test_the_fingerprint_names_the_processor_and_its_instructions(piped: Host, processor: str) -> None:
    hello = piped.hello()
    facts = hello["fingerprint"]
    assert (facts["cpu"], facts["machine"], facts["system"]) == (PROCESSORS[processor].name, "aarch64", "Linux")
    assert facts["isa"] == ISA[processor]
    assert choose_recipe(facts["isa"]).name == RECIPES[processor]
    assert hello["versions"]["onnxruntime"] == onnxruntime.__version__


def test_products_in_bfloat16_are_timed_or_refused(piped: Host, processor: str) -> None:
    request = Request(make_model(8), Setup(fastmath_bfloat16=True), WORKLOADS, TimingProtocol.fixed(4))
    if fastmath.obstacle(piped.hello()["fingerprint"]):
        name = PROCESSORS[processor].name
        with pytest.raises(HostError, match=rf"^local: fastmath_bfloat16: {name} has no bfloat16 instructions"):
            piped.measure({"model": make_model(64)}, request)
    else:
        assert processor == "neoverse-v1"
        assert isinstance(piped.measure({"model": make_model(64)}, request)["model"], Samples)


class TestWorkerOverPipes(HostSuite):
    @pytest.fixture
    def host(self, piped: Host) -> Host:
        return piped


class TestWorkerOverSsh(HostSuite):
    @pytest.fixture
    def host(self, over_ssh: Host) -> Host:
        return over_ssh


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Subnets that are stored as slices of the first, and a model that is none; with the plan."""
    dimensions = make_dimensions()
    tensors, subnets = random_tensors(dimensions), random_subnets(make_space(), 1)
    models = {
        subnet.key: float_model(tensors, dimensions, subnet).SerializeToString() for subnet in dict.fromkeys(subnets)
    }
    source = models[subnets[0].key]
    request = Request(source, workloads=WORKLOADS, protocol=TimingProtocol.fixed(6), source=source)
    path = tmp_path_factory.mktemp("bundle") / "bundle.pyz"
    plan = write_bundle(path, models | {"bad": b"no model"}, request, VISITS)
    return path, json.loads(json.dumps(plan))


def run_there(python: str, path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [python, path.name, *arguments]
    return subprocess.run(command, cwd=path.parent, capture_output=True, text=True, check=False)


def test_a_bundle_runs_from_start_to_end(
    arm_python: str, processor: str, bundle: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    """Models that are slices of one, one that is none, and a second run that has nothing left to do."""
    path, plan = bundle
    out = tmp_path / "results.jsonl"
    done = run_there(arm_python, path, "--out", str(out))
    assert done.returncode == 0, done.stderr
    results = read_results(out, plan)
    assert results.complete
    assert results.fingerprint["cpu"] == PROCESSORS[processor].name
    names = {name for name, _ in plan["models"]}
    assert {name for name, result in results.visits if isinstance(result, Failure)} == {"bad"}
    assert Counter(name for name, _ in results.visits) == dict.fromkeys(names, VISITS) | {"bad": 1}
    again = run_there(arm_python, path, "--out", str(out))
    assert (again.returncode, read_results(out, plan)) == (0, results)


def test_a_bundle_goes_on_only_where_it_was_begun(
    arm_pythons: dict[str, str], bundle: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    path, _ = bundle
    out = tmp_path / "results.jsonl"
    assert run_there(arm_pythons["neoverse-n1"], path, "--out", str(out)).returncode == 0
    refused = run_there(arm_pythons["neoverse-v1"], path, "--out", str(out))
    assert refused.returncode == 1
    assert "was begun on another host (cpu: 'Arm Neoverse N1', here 'Arm Neoverse V1')" in refused.stderr


def test_a_bundle_that_asks_for_bfloat16_is_refused_where_there_is_none(
    arm_pythons: dict[str, str], tmp_path: Path
) -> None:
    request = Request(make_model(8), Setup(fastmath_bfloat16=True), WORKLOADS, TimingProtocol.fixed(4))
    path = tmp_path / "bundle.pyz"
    plan = write_bundle(path, {"model": make_model(64)}, request, visits=1)
    refused = run_there(arm_pythons["cortex-a72"], path)
    assert refused.returncode == 1
    assert refused.stderr.startswith(
        "error: local: fastmath_bfloat16: Arm Cortex-A72 has no bfloat16 instructions (bf16)"
    )
    assert refused.stderr.count("\n") == 1
    done = run_there(arm_pythons["neoverse-v1"], path, "--out", str(tmp_path / "v1.jsonl"))
    assert done.returncode == 0, done.stderr
    assert read_results(tmp_path / "v1.jsonl", plan).complete
