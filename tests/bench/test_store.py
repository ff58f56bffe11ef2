from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.store import Measurement, Store, StoreError, Target, timings
from bench.timing import Setup, Workload

TARGET = Target({"cpu": "one"}, Setup(), Workload())
SAMPLES = st.lists(st.integers(1, 2**62), min_size=1, max_size=9).map(tuple)


def measurement(
    key: str = "k", state: str = "ok", samples: tuple[int, ...] = (1, 2), anchor: tuple[int, ...] = (3,)
) -> Measurement:
    return Measurement(key, {"hidden_size": 8}, state, "why" if state == "failed" else "", samples, anchor)


@given(rows=st.lists(st.tuples(st.text(max_size=12), SAMPLES, SAMPLES), max_size=5))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rows_come_back_as_they_were_added(
    tmp_path: Path, rows: list[tuple[str, tuple[int, ...], tuple[int, ...]]]
) -> None:
    path = tmp_path / f"{len(os.listdir(tmp_path))}.sqlite"
    added = [measurement(key, "ok", samples, anchor) for key, samples, anchor in rows]
    with Store(path) as store:
        for row in added:
            store.add(TARGET, "int8", "m", row)
    with Store(path) as store:
        assert store.measurements(TARGET, "int8", "m") == added


def test_targets_precisions_and_models_never_mix(tmp_path: Path) -> None:
    other = Target({"cpu": "two"}, Setup(), Workload())
    with Store(tmp_path / "s.sqlite") as store:
        store.add(TARGET, "int8", "m", measurement())
        for target, precision, model in ((other, "int8", "m"), (TARGET, "fp32", "m"), (TARGET, "int8", "n")):
            assert store.measurements(target, precision, model) == []


def test_a_target_is_named_by_all_that_it_is() -> None:
    variants = {
        TARGET.hash,
        Target({"cpu": "two"}, Setup(), Workload()).hash,
        Target({"cpu": "one"}, Setup(threads=2), Workload()).hash,
        Target({"cpu": "one"}, Setup(), Workload(sequence=64)).hash,
    }
    assert len(variants) == 4
    other = Target({"cpu": "two"}, Setup(threads=2), Workload())
    assert TARGET.differences(other.to_json()) == ["cpu: 'two', here 'one'", "threads: 2, here 1"]


def test_every_measurement_survives_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    script = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from bench.store import *\n"
        "target = Target({'cpu': 'one'}, Setup(), Workload())\n"
        "store = Store(Path(sys.argv[1]))\n"
        "for key in 'abc':\n"
        "    store.add(target, 'int8', 'm', Measurement(key, {}, 'ok', '', (1,), (1,)))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], check=False, cwd=Path(__file__).parents[2])
    assert done.returncode == -signal.SIGKILL
    with Store(path) as store:
        assert [row.subnet_key for row in store.measurements(TARGET, "int8", "m")] == ["a", "b", "c"]


def test_timings_take_the_latest_and_leave_failures_out() -> None:
    rows = [
        measurement("a", samples=(1_000_000,), anchor=(2_000_000,)),
        measurement("b", "failed", (), ()),
        measurement("a", samples=(3_000_000,), anchor=(2_000_000,)),
    ]
    usable, reference_ms = timings(rows)
    assert list(usable) == ["a"]
    assert usable["a"].latency_ms == pytest.approx(3.0)
    assert reference_ms == pytest.approx(2.0)
    with pytest.raises(StoreError, match="no usable measurement"):
        timings(rows[1:2])


def test_damaged_and_newer_stores_get_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    path.write_bytes(b"this is no database" * 100)
    with pytest.raises(StoreError, match="not a usable measurement store"):
        Store(path)
    path.unlink()
    Store(path)
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version=99")
    with pytest.raises(StoreError, match="newer release"):
        Store(path)


def test_unknown_states_are_refused(tmp_path: Path) -> None:
    with Store(tmp_path / "s.sqlite") as store:
        with pytest.raises(StoreError, match="could not be stored"):
            store.add(TARGET, "int8", "m", measurement(state="fine"))
        assert store.measurements(TARGET, "int8", "m") == []
