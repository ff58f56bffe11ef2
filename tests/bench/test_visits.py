from __future__ import annotations

from collections.abc import Mapping

import pytest

from ortnas.bench.estimates import AnchorLatency
from ortnas.bench.host import Failure, HostError
from ortnas.bench.request import Request
from ortnas.bench.session import Setup
from ortnas.bench.simulated import SimulatedHost, cost_ms
from ortnas.bench.timing import Samples, TimingProtocol, Workload
from ortnas.bench.visits import GROUP_SIZE, time_models
from tests.bench.test_simulated import ANCHOR, stating, uniform

ROUNDS = TimingProtocol.fixed(20)
REQUEST = Request(ANCHOR, protocol=ROUNDS)
SUBNETS = {f"ffn {size}": uniform(ffn=size) for size in range(128, 128 * 8, 128)}
MODELS = {name: stating(subnet) for name, subnet in SUBNETS.items()}


class Listening(SimulatedHost):
    """Remembers who was timed together."""

    def __init__(self, noise: float = 0.02) -> None:
        super().__init__(noise=noise)
        self.groups: list[frozenset[str]] = []
        self.forgets = 0

    def measure(
        self,
        models: Mapping[str, bytes],
        request: Request,
        visit: int = 0,
    ) -> dict[str, Samples | Failure]:
        self.groups.append(frozenset(models))
        return super().measure(models, request, visit)

    def forget(self) -> None:
        self.forgets += 1
        super().forget()


def test_every_model_is_visited_as_often_as_asked_in_new_company() -> None:
    host, reports = Listening(), []
    timings = time_models(MODELS, REQUEST, host=host, visits=3, report=lambda *report: reports.append(report))
    assert list(timings) == list(MODELS)
    assert {len(timing.visits) for timing in timings.values()} == {3}
    assert max(map(len, host.groups)) == GROUP_SIZE < len(MODELS)
    for name in MODELS:
        company = [group for group in host.groups if name in group]
        assert len(company) == 3
        assert len(set(company)) > 1
    assert host.forgets == 1
    assert [done for done, _, _ in reports] == [5, 7, 12, 14, 19, 21]
    assert reports[-1] == (21, 21, "")


def test_timings_refer_to_the_anchor_here_or_to_what_is_given() -> None:
    workloads, setup = (Workload(1, 64), Workload(2, 32, weight=3)), Setup(threads=2)
    request = Request(ANCHOR, setup, workloads, ROUNDS)
    timings = time_models(MODELS, request, Listening(noise=0))
    for name, timing in timings.items():
        costs = [cost_ms(SUBNETS[name], workload, setup) for workload in workloads]
        assert timing.latency_ms == pytest.approx((costs[0] + 3 * costs[1]) / 4, rel=1e-4)
    twice = AnchorLatency(tuple(2 * value for value in timing.reference.anchor_ms), timing.reference.shares)
    again = time_models(MODELS, request, Listening(noise=0), reference=twice)
    assert {name: timing.latency_ms for name, timing in again.items()} == pytest.approx(
        {name: 2 * timing.latency_ms for name, timing in timings.items()}
    )


def test_a_model_that_cannot_be_timed_is_named() -> None:
    with pytest.raises(HostError, match="simulated could not time broken: "):
        time_models(MODELS | {"broken": b"no model"}, REQUEST, host=Listening())


def test_nothing_to_time_takes_no_host() -> None:
    assert time_models({}, Request(b"no model")) == {}


def test_without_a_host_this_machine_times(models: list[bytes]) -> None:
    request = Request(models[0], workloads=(Workload(1, 16, 120),), protocol=ROUNDS)
    timings = time_models({"model": models[1]}, request)
    assert timings["model"].latency_ms > 0
    assert len(timings["model"].visits) == 2
