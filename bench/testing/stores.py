"""What every measurement store must do: subclass the suite and give it a fixture ``open_store``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import pytest

from ortnas.bench.errors import BenchError
from ortnas.bench.session import Setup
from ortnas.bench.store import IMPORTED_MODEL, Measurement, Summary, timings
from ortnas.bench.target import Target
from ortnas.bench.timing import Samples, Workload

TARGET = Target({"cpu": "one"}, Setup(), (Workload(),))
MIX = Target({"cpu": "one"}, Setup(), (Workload(weight=3), Workload(4, 32)))


class AnyStore(Protocol):
    """The part of ``bench.store.Store`` that stages use."""

    def add(
        self, target: Target, host: str, precision: str, model: str, measurements: Sequence[Measurement]
    ) -> None: ...

    def add_latencies(
        self, target: Target, host: str, precision: str, rows: Sequence[tuple[str, dict[str, Any], float]]
    ) -> None: ...

    def measurements(self, target: Target, precision: str, model: str) -> list[Measurement]: ...

    def targets(self) -> list[tuple[Target, str]]: ...

    def subnets(self) -> list[dict[str, Any]]: ...

    def summary(self) -> list[Summary]: ...


# Opens the same store again at every call; a fresh one for every test.
Opening = Callable[[], AbstractContextManager[AnyStore]]


def visit(model_ms: float, anchor_ms: float = 2.0, rounds: int = 8, workloads: int = 1) -> Samples:
    model, anchor = ((int(value * 1e6),) * rounds for value in (model_ms, anchor_ms))
    return Samples((model,) * workloads, (anchor,) * workloads)


def timed(key: str, state: str = "ok", samples: Samples | None = None, at: float | None = None) -> Measurement:
    """A row; one that ``failed`` has a reason and no samples."""
    subnet, failed = {"hidden_size": 8, "key": key}, state == "failed"
    return Measurement(key, subnet, state, "why" if failed else "", None if failed else samples or visit(1.0), at)


class StoreSuite:
    @pytest.fixture
    def open_store(self) -> Opening:
        pytest.fail("give the suite a fixture ``open_store`` that gives a function which opens yours")

    def test_an_empty_store_holds_nothing(self, open_store: Opening) -> None:
        with open_store() as store:
            assert store.summary() == []
            assert store.targets() == []
            assert store.subnets() == []
            assert store.measurements(TARGET, "int8", "m") == []

    def test_what_goes_in_comes_out_in_its_order(self, open_store: Opening) -> None:
        batches = [
            [timed("a", samples=visit(1.5, workloads=2), at=7.25), timed("b", "failed", at=3.0)],
            [],
            [
                timed("a", "unstable", visit(2.0, workloads=2, rounds=1), at=0.0),
                timed("'; --\u00e9\n", "failed", at=9e9),
            ],
        ]
        added = [row for batch in batches for row in batch]
        with open_store() as store:
            for batch in batches:
                store.add(MIX, "a host", "int8", "m", batch)
        for _ in range(2):
            with open_store() as store:
                stored = store.measurements(MIX, "int8", "m")
                assert stored == added
                assert [row.measured_at for row in stored] == [row.measured_at for row in added]
                assert store.targets() == [(MIX, "a host")]
                subnets = store.subnets()
                assert len(subnets) == 3
                assert all(row.subnet in subnets for row in added)

    def test_times_that_are_not_given_are_those_of_storing(self, open_store: Opening) -> None:
        with open_store() as store:
            store.add(TARGET, "here", "int8", "m", [timed("a"), timed("b")])
            first, second = (row.measured_at for row in store.measurements(TARGET, "int8", "m"))
        assert first is not None
        assert first == second

    def test_targets_precisions_and_models_never_mix(self, open_store: Opening) -> None:
        with open_store() as store:
            store.add(TARGET, "here", "int8", "m", [timed("a")])
            for target, precision, model in ((MIX, "int8", "m"), (TARGET, "fp32", "m"), (TARGET, "int8", "n")):
                assert store.measurements(target, precision, model) == []

    def test_a_target_is_stored_once_whatever_its_host_is_called(self, open_store: Opening) -> None:
        with open_store() as store:
            store.add(TARGET, "here", "int8", "m", [timed("a")])
            store.add(TARGET, "renamed", "int8", "m", [timed("b")])
            assert store.targets() == [(TARGET, "here")]
            assert [row.subnet_key for row in store.measurements(TARGET, "int8", "m")] == ["a", "b"]

    def test_rows_that_cannot_be_stored_leave_none_of_their_batch(self, open_store: Opening) -> None:
        with open_store() as store:
            store.add(TARGET, "here", "int8", "m", [timed("before")])
            with pytest.raises(BenchError) as refused:
                store.add(TARGET, "here", "int8", "m", [timed("good"), timed("bad", "no such state")])
            assert "\n" not in str(refused.value)
            store.add(TARGET, "here", "int8", "m", [timed("after")])
        with open_store() as store:
            assert [row.subnet_key for row in store.measurements(TARGET, "int8", "m")] == ["before", "after"]

    def test_two_that_have_it_open_see_what_the_other_stored(self, open_store: Opening) -> None:
        with open_store() as first, open_store() as second:
            first.add(TARGET, "here", "int8", "m", [timed("a")])
            second.add(TARGET, "here", "int8", "m", [timed("b")])
            for store in (first, second):
                assert [row.subnet_key for row in store.measurements(TARGET, "int8", "m")] == ["a", "b"]

    def test_the_summary_tells_what_there_is(self, open_store: Opening) -> None:
        with open_store() as store:
            rows = [
                timed("a", samples=visit(1.0), at=50),
                timed("a", samples=visit(1.1), at=70),
                timed("b", "unstable", visit(3.0), at=20),
                timed("c", "failed", at=60),
            ]
            store.add(TARGET, "here", "int8", "m", rows)
            store.add(MIX, "there", "fp32", "n", [timed("c", "failed", at=5)])
            store.add(TARGET, "here", "fp32", "m", [timed("a", samples=visit(2.0), at=90)])
            first, second, third = store.summary()
        assert (first.target, first.host, first.precision, first.model) == (TARGET, "here", "int8", "m")
        assert first.subnets == 3
        assert first.visits == {"ok": 2, "unstable": 1, "failed": 1}
        assert (first.fastest_ms, first.slowest_ms) == pytest.approx((1.05, 3.0))
        assert first.noise_floor == pytest.approx((1 - 1 / 1.1) / 2**0.5)
        assert (first.first_at, first.last_at) == (20, 70)
        assert (second.target, second.precision, second.noise_floor) == (TARGET, "fp32", None)
        assert (third.target, third.host) == (MIX, "there")
        assert (third.fastest_ms, third.slowest_ms, third.noise_floor) == (None, None, None)
        assert third.visits == {"ok": 0, "unstable": 0, "failed": 1}

    def test_imported_latencies_come_out_as_they_were(self, open_store: Opening) -> None:
        target = Target({"imported": "cpu.lat", "sha256": "0"}, Setup(), (Workload(),))
        latencies_ms = {"a": 12.345678, "b": 0.001, "c": 987.654321}
        rows = [(key, {"hidden_size": 8}, latency_ms) for key, latency_ms in latencies_ms.items()]
        with open_store() as store:
            store.add_latencies(target, "cpu.lat", "fp32", rows)
            store.add_latencies(target, "cpu.lat", "fp32", [("c", {"hidden_size": 8}, 987.654321 * 1.1)])
            usable, _ = timings(store.measurements(target, "fp32", IMPORTED_MODEL), target.workloads)
        assert {key: round(usable[key].latency_ms, 9) for key in "ab"} == {key: latencies_ms[key] for key in "ab"}
        assert usable["c"].visits_ms == pytest.approx([987.654321, 987.654321 * 1.1], rel=1e-9)
        # One figure tells nothing of its error; two that differ do.
        assert usable["a"].error == 0
        assert usable["c"].error == pytest.approx(0.05 / 1.05, rel=1e-6)
        assert usable["c"].upper_ms > usable["c"].latency_ms

    def test_a_clock_that_jumps_changes_no_order(self, open_store: Opening) -> None:
        with open_store() as store:
            for key, at in (("a", 2e9), ("b", 1e9), ("c", None), ("d", 0.0)):
                store.add(TARGET, "here", "int8", "m", [timed(key, at=at)])
            (summary,) = store.summary()
            assert (summary.first_at, summary.last_at) == (0, 2e9)
        with open_store() as store:
            assert [row.subnet_key for row in store.measurements(TARGET, "int8", "m")] == ["a", "b", "c", "d"]
