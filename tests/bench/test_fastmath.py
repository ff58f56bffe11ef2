"""Float products in bfloat16: who may ask for them, and that it is recorded. What they compute: ``make test-arm64``."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ortnas.bench import fastmath
from ortnas.bench.fingerprint import fingerprint
from ortnas.bench.host import HostError
from ortnas.bench.request import Request
from ortnas.bench.session import PROVIDERS, Setup, make_session
from ortnas.bench.simulated import SimulatedHost
from ortnas.bench.target import Target
from ortnas.bench.timing import Samples, TimingProtocol, Workload
from ortnas.bench.worker_host import LocalHost

ASKED = Setup(fastmath_bfloat16=True)
WORKLOADS = (Workload(1, 8, 120),)
ARM = {"cpu": "Arm Neoverse V1", "machine": "aarch64", "system": "Linux", "isa": ["asimddp", "i8mm", "bf16"]}


@pytest.mark.parametrize(
    ("facts", "sentence"),
    [
        ({}, ""),
        ({"isa": ["asimddp"], "cpu": "Arm Neoverse N1"}, "Arm Neoverse N1 has no bfloat16 instructions (bf16)"),
        ({"machine": "x86_64", "isa": ["avx512_bf16"]}, "64-bit Arm under Linux alone; this is x86_64 under Linux"),
        ({"machine": "arm64", "system": "Darwin"}, "this is arm64 under Darwin"),
        ({"machine": None, "system": None}, "this is None under None"),
    ],
)
def test_only_arm_processors_with_the_instructions_have_it(facts: dict[str, Any], sentence: str) -> None:
    obstacle = fastmath.obstacle(ARM | facts)
    assert sentence in obstacle
    assert bool(obstacle) is bool(sentence)


def test_a_setup_says_it_and_targets_differ_by_it() -> None:
    document = json.loads(json.dumps(ASKED.to_json()))
    assert Setup.from_json(document) == ASKED
    assert "fastmath_bfloat16" not in Setup().to_json()  # targets of earlier runs keep their names
    assert "bfloat16" in ASKED.describe()
    plain, fast = (Target(ARM, setup, WORKLOADS) for setup in (Setup(), ASKED))
    assert plain.hash != fast.hash
    assert plain.differences(fast) == ["fastmath_bfloat16: True, here None"]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"fastmath_bfloat16": "yes"}, "fastmath_bfloat16 is true or false"),
        ({"provider": PROVIDERS["cuda"]}, "a setting of CPUExecutionProvider"),
        (Setup.for_openvino().to_json(), "a setting of CPUExecutionProvider"),
    ],
)
def test_what_is_no_setup_is_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Setup.from_json(ASKED.to_json() | changes)


def test_sessions_are_opened_with_it(models: list[bytes]) -> None:
    options = make_session(models[0], ASKED).get_session_options()  # type: ignore[attr-defined]
    assert options.get_session_config_entry(fastmath.ENTRY) == "1"
    plain = make_session(models[0], Setup()).get_session_options()  # type: ignore[attr-defined]
    with pytest.raises(RuntimeError):
        plain.get_session_config_entry(fastmath.ENTRY)


@pytest.mark.skipif(not fastmath.obstacle(fingerprint()), reason="this processor has it")
def test_a_worker_refuses_what_its_processor_cannot_do_and_goes_on(models: list[bytes]) -> None:
    protocol = TimingProtocol.fixed(4)
    with LocalHost() as host:
        with pytest.raises(HostError, match=r"^local: fastmath_bfloat16: .* bfloat16 "):
            host.measure({"model": models[1]}, Request(models[0], ASKED, WORKLOADS, protocol))
        timed = host.measure({"model": models[1]}, Request(models[0], Setup(), WORKLOADS, protocol))
    assert isinstance(timed["model"], Samples)


def test_the_simulated_host_is_no_arm_processor(models: list[bytes]) -> None:
    with SimulatedHost() as host, pytest.raises(HostError, match=r"simulated: fastmath_bfloat16: .* x86_64 under"):
        host.measure({}, Request(models[0], ASKED, WORKLOADS))
