from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ortnas.bench.store import IMPORTED_MODEL, Measurement, Store, StoreError, timings
from ortnas.bench.target import Target
from ortnas.bench.timing import Samples, Setup, Workload

ROOT = Path(__file__).parents[2]
TARGET = Target({"cpu": "one"}, Setup(), (Workload(),))
MIX = Target({"cpu": "one"}, Setup(), (Workload(weight=3), Workload(4, 32)))
VISIT = Samples(((1_000_000,) * 8,), ((2_000_000,) * 8,))
# What programs of these tests start with.
PROGRAM = """
import json, os, resource, sys
from pathlib import Path
from bench.store import *
from bench.timing import Samples, Setup, Workload
target = Target({"cpu": "one"}, Setup(), (Workload(),))
path = Path(sys.argv[1])
def rows(name, count, rounds=8):
    samples = Samples(((1_000_000,) * rounds,), ((2_000_000,) * rounds,))
    return [Measurement(f"{name}-{number}", {"hidden_size": number}, "ok", "", samples) for number in range(count)]
"""


def measurement(
    key: str = "k", state: str = "ok", samples: Samples | None = VISIT, at: float | None = None
) -> Measurement:
    reason = "why" if state == "failed" else ""
    return Measurement(key, {"hidden_size": 8}, state, reason, None if state == "failed" else samples, at)


def visit(model_ms: float, anchor_ms: float = 2.0, rounds: int = 8) -> Samples:
    return Samples(((int(model_ms * 1e6),) * rounds,), ((int(anchor_ms * 1e6),) * rounds,))


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROGRAM + script, *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> str:
    output, problem = process.communicate(timeout=60)
    assert process.returncode == 0, problem
    return output


def keys(path: Path, target: Target = TARGET) -> list[str]:
    with Store(path) as store:
        return [row.subnet_key for row in store.measurements(target, "int8", "m")]


COUNTS = st.integers(1, 2**62)
SAMPLES = st.lists(st.lists(st.tuples(COUNTS, COUNTS), min_size=1, max_size=9), min_size=2, max_size=2).map(
    lambda parts: Samples(*(tuple(tuple(pair[side] for pair in part) for part in parts) for side in (0, 1)))
)
DOCUMENTS = st.dictionaries(
    st.text(max_size=5), st.integers() | st.text(max_size=5) | st.lists(st.integers()), max_size=3
)
MEASUREMENTS = st.builds(
    Measurement,
    st.text(max_size=12),
    DOCUMENTS,
    st.sampled_from(["ok", "unstable"]),
    st.text(max_size=12),
    SAMPLES,
    st.floats(0, 4e9),
) | st.builds(Measurement, st.text(max_size=12), DOCUMENTS, st.just("failed"), st.text(), st.none(), st.floats(0, 4e9))


@given(
    batches=st.lists(st.lists(MEASUREMENTS, max_size=4), max_size=3),
    host=st.text(max_size=9),
    model=st.text(max_size=9),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_goes_in_comes_out(tmp_path: Path, batches: list[list[Measurement]], host: str, model: str) -> None:
    path = tmp_path / f"{len(os.listdir(tmp_path))}.sqlite"
    with Store(path) as store:
        for batch in batches:
            store.add(MIX, host, "int8", model, batch)
    added = [row for batch in batches for row in batch]
    with Store(path) as store:
        found = store.measurements(MIX, "int8", model)
        assert found == added
        assert [row.measured_at for row in found] == [row.measured_at for row in added]
        assert store.targets() == [(MIX, host)] * bool(batches)
        assert sum(sum(summary.visits.values()) for summary in store.summary()) == len(added)
        for document in store.subnets():
            assert document in [row.subnet for row in added]


def test_targets_precisions_and_models_never_mix(tmp_path: Path) -> None:
    with Store(tmp_path / "s.sqlite") as store:
        store.add(TARGET, "here", "int8", "m", [measurement()])
        for target, precision, model in ((MIX, "int8", "m"), (TARGET, "fp32", "m"), (TARGET, "int8", "n")):
            assert store.measurements(target, precision, model) == []


def test_a_target_is_named_by_all_that_it_is() -> None:
    variants = {
        TARGET.hash,
        MIX.hash,
        Target({"cpu": "two"}, Setup(), (Workload(),)).hash,
        Target({"cpu": "one"}, Setup(threads=2), (Workload(),)).hash,
        Target({"cpu": "one"}, Setup(spinning=False), (Workload(),)).hash,
        Target({"cpu": "one"}, Setup(affinity=(0,)), (Workload(),)).hash,
        Target({"cpu": "one"}, Setup(), (Workload(sequence=64),)).hash,
    }
    assert len(variants) == 7
    padded = Target({"cpu": "one"}, Setup(), (Workload(lengths=(7, 9)),))
    assert padded.hash == TARGET.hash
    assert TARGET.differences(padded.to_json()) == []
    other = Target({"cpu": "two"}, Setup(threads=2), (Workload(),))
    assert TARGET.differences(other.to_json()) == ["cpu: 'two', here 'one'", "threads: 2, here 1"]
    assert "workload 2 batch: 4, here None" in TARGET.differences(MIX.to_json())


def test_timings_gather_all_visits_and_leave_failures_out() -> None:
    rows = [
        measurement("a", samples=visit(1)),
        measurement("b", "failed"),
        measurement("c", "unstable", visit(5)),
        measurement("a", samples=visit(4, 4)),
    ]
    usable, reference = timings(rows, TARGET.workloads)
    assert {key: len(timing.visits) for key, timing in usable.items()} == {"a": 2, "c": 1}
    assert reference.latency_ms == pytest.approx(2.0)
    assert usable["a"].visits_ms == pytest.approx([1.0, 2.0])
    with pytest.raises(StoreError, match="no usable measurement"):
        timings(rows[1:2], TARGET.workloads)


def test_the_summary_tells_what_there_is(tmp_path: Path) -> None:
    with Store(tmp_path / "s.sqlite") as store:
        assert store.summary() == []
        rows = [
            measurement("a", samples=visit(1.0), at=50),
            measurement("a", samples=visit(1.1), at=70),
            measurement("b", "unstable", visit(3.0), at=20),
            measurement("c", "failed", at=60),
        ]
        store.add(TARGET, "here", "int8", "m", rows)
        store.add(MIX, "there", "fp32", "n", [measurement("c", "failed", at=5)])
        store.add(TARGET, "here", "fp32", "m", [measurement("a", samples=visit(2.0), at=90)])
        first, second, third = store.summary()
    assert (first.target, first.host, first.precision, first.model, first.subnets) == (TARGET, "here", "int8", "m", 3)
    assert first.visits == {"ok": 2, "unstable": 1, "failed": 1}
    assert (first.fastest_ms, first.slowest_ms) == pytest.approx((1.05, 3.0))
    assert first.noise_floor == pytest.approx((1 - 1 / 1.1) / 2**0.5)
    assert (first.first_at, first.last_at) == (20, 70)
    assert (second.target, second.precision, second.noise_floor) == (TARGET, "fp32", None)
    assert (third.target, third.host, third.fastest_ms, third.slowest_ms, third.noise_floor) == (
        MIX,
        "there",
        None,
        None,
        None,
    )
    assert third.visits == {"ok": 0, "unstable": 0, "failed": 1}


def test_imported_latencies_come_out_as_they_were(tmp_path: Path) -> None:
    target = Target({"imported": "cpu.lat", "sha256": "0"}, Setup(), (Workload(),))
    given_ms = {"a": 12.345678, "b": 0.001, "c": 987.654321}
    with Store(tmp_path / "s.sqlite") as store:
        store.add_latencies(target, "cpu.lat", "fp32", [(key, {"hidden_size": 8}, ms) for key, ms in given_ms.items()])
        store.add_latencies(target, "cpu.lat", "fp32", [("c", {"hidden_size": 8}, 987.654321 * 1.1)])
        usable, _ = timings(store.measurements(target, "fp32", IMPORTED_MODEL), target.workloads)
    assert {key: round(usable[key].latency_ms, 9) for key in "ab"} == {key: given_ms[key] for key in "ab"}
    assert usable["c"].visits_ms == pytest.approx([987.654321, 987.654321 * 1.1], rel=1e-9)
    # One figure tells nothing of its error; two that differ do.
    assert usable["a"].error == 0
    assert usable["c"].error == pytest.approx(0.05 / 1.05, rel=1e-6)
    assert usable["c"].upper_ms > usable["c"].latency_ms


def test_a_clock_that_jumps_changes_no_order(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    with Store(path) as store:
        for key, at in (("a", 2e9), ("b", 1e9), ("c", None), ("d", 0.0)):
            store.add(TARGET, "here", "int8", "m", [measurement(key, at=at)])
        (summary,) = store.summary()
        assert (summary.first_at, summary.last_at) == (0, 2e9)
    assert keys(path) == ["a", "b", "c", "d"]


def test_every_measurement_survives_a_kill(tmp_path: Path) -> None:
    script = """
store = Store(path)
number = int(sys.argv[2])
while True:
    store.add(target, "here", "int8", "m", rows(number, 5, rounds=5000))
    print(number, flush=True)
    number += 1
"""
    path, first = tmp_path / "s.sqlite", 0
    for batches in (1, 4, 7):
        process = start(script, path, first)
        assert process.stdout is not None
        acknowledged = [int(process.stdout.readline()) for _ in range(batches)][-1]
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        stored = keys(path)
        last = int(stored[-1].split("-")[0])
        assert last >= acknowledged
        assert stored == [f"{batch}-{number}" for batch in range(last + 1) for number in range(5)]
        first = last + 1
    with Store(path) as store:
        whole = Samples(((1_000_000,) * 5000,), ((2_000_000,) * 5000,))
        assert all(row.samples == whole for row in store.measurements(TARGET, "int8", "m"))


def test_writers_wait_for_each_other(tmp_path: Path) -> None:
    script = """
for number in range(200):
    with Store(path) as store:
        store.add(target, "here", "int8", "m", rows(f"{sys.argv[2]}-{number}", 1))
"""
    for process in [start(script, tmp_path / "s.sqlite", name) for name in "ab"]:
        finish(process)
    assert sorted(keys(tmp_path / "s.sqlite")) == sorted(f"{name}-{number}-0" for name in "ab" for number in range(200))


def test_a_full_disk_costs_only_what_does_not_fit(tmp_path: Path) -> None:
    script = """
with Store(path) as store:
    store.add(target, "here", "int8", "m", rows("before", 3))
    # No file may grow beyond this, as on a disk that is full.
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    stored = 0
    try:
        while True:
            store.add(target, "here", "int8", "m", rows(stored, 5, rounds=500))
            stored += 1
    except StoreError as error:
        left = len(store.measurements(target, "int8", "m"))
        print(json.dumps([stored, left, str(error)]))
"""
    path = tmp_path / "s.sqlite"
    stored, left, problem = json.loads(finish(start(script, path)))
    assert stored > 2
    assert left == 3 + 5 * stored
    assert problem.startswith(f"the measurement could not be stored in {path}: ")
    assert keys(path)[3:] == [f"{batch}-{number}" for batch in range(stored) for number in range(5)]
    with Store(path) as store:
        store.add(TARGET, "here", "int8", "m", [measurement("after")])
    assert keys(path)[-1] == "after"


def test_a_full_disk_leaves_no_half_made_store(tmp_path: Path) -> None:
    script = """
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
try:
    Store(path)
except StoreError as error:
    print(error)
"""
    for size in (0, 6000):
        path = tmp_path / f"{size}.sqlite"
        assert "is not a usable measurement store" in finish(start(script, path, size))
        assert keys(path) == []


def test_a_folder_that_cannot_be_written_gets_a_sentence() -> None:
    script = """
if os.getuid() == 0:
    os.setgroups([]), os.setgid(65534), os.setuid(65534)
for file in (path / "there.sqlite", path / "new.sqlite", path / "folder" / "new.sqlite"):
    try:
        Store(file)
        print("opened")
    except StoreError as error:
        print(error)
"""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with Store(folder / "there.sqlite") as store:
            store.add(TARGET, "here", "int8", "m", [measurement("a")])
        folder.chmod(0o555)
        problems = finish(start(script, folder)).splitlines()
        folder.chmod(0o755)
        assert len(problems) == 3
        for problem in problems:
            assert f"{name}/" in problem
            assert "is not a usable measurement store: " in problem
        assert keys(folder / "there.sqlite") == ["a"]


def test_what_is_no_store_gets_a_sentence_and_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    path.write_bytes(b"this is no database" * 100)
    with pytest.raises(StoreError, match=r"s\.sqlite is not a usable measurement store"):
        Store(path)
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE address (name TEXT)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="a database of something else"):
        Store(path)
    assert path.read_bytes() == before
    path.unlink()
    with Store(path):
        pass
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version=99")
    connection.close()
    with pytest.raises(StoreError, match="newer release"):
        Store(path)
    with pytest.raises(StoreError, match="is not a usable measurement store"):
        Store(tmp_path)


def test_damage_anywhere_gets_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    with Store(path) as store:
        store.add(
            TARGET, "here", "int8", "m", [measurement(str(number), samples=visit(1, rounds=60)) for number in range(60)]
        )
    whole = path.read_bytes()
    rng = random.Random(0)
    refused = []
    for attempt in range(40):
        damaged = bytearray(whole)
        if attempt % 4:
            position = rng.randrange(len(whole) - 200)
            damaged[position : position + 200] = rng.randbytes(200)
        else:
            del damaged[rng.randrange(100, len(whole)) :]
        copy = tmp_path / f"{attempt}.sqlite"
        copy.write_bytes(damaged)
        try:
            with Store(copy) as store:
                store.summary()
                store.subnets()
                store.measurements(TARGET, "int8", "m")
        except StoreError as error:
            refused.append(str(copy) in str(error))
    assert all(refused)
    assert len(refused) > 20


@pytest.mark.parametrize(
    ("column", "value", "problem"),
    [
        ("samples_ns", "[[1,", "measurement 1 is damaged"),
        ("samples_ns", "[[1, 2]]", "as many samples as each other"),
        ("samples_ns", "[]", "lists of lists"),
        ("anchor_ns", "[[0, 2, 3, 4, 5, 6, 7, 8]]", "positive whole numbers"),
        ("subnet", "{", "measurement 1 is damaged"),
        ("subnet", None, "a subnet is damaged|measurement 1 is damaged"),
    ],
)
def test_a_row_edited_by_hand_gets_a_sentence(tmp_path: Path, column: str, value: Any, problem: str) -> None:
    path = tmp_path / "s.sqlite"
    with Store(path) as store:
        store.add(TARGET, "here", "int8", "m", [measurement()])
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA ignore_check_constraints=1")
        connection.execute(f"UPDATE measurement SET {column} = ?", (value if value is not None else b"\xff",))
    connection.close()
    with Store(path) as store, pytest.raises(StoreError, match=problem):
        store.measurements(TARGET, "int8", "m")


def test_samples_of_another_number_of_workloads_are_refused(tmp_path: Path) -> None:
    with Store(tmp_path / "s.sqlite") as store:
        store.add(MIX, "here", "int8", "m", [measurement()])
        with pytest.raises(StoreError, match="samples of 1 workloads, the target has 2"):
            store.summary()


def test_unknown_states_are_refused_with_all_that_came_with_them(tmp_path: Path) -> None:
    with Store(tmp_path / "s.sqlite") as store:
        with pytest.raises(StoreError, match="could not be stored"):
            store.add(TARGET, "here", "int8", "m", [measurement("good"), measurement(state="fine")])
        assert store.measurements(TARGET, "int8", "m") == []
        assert store.targets() == []


# The tables of the first release.
FIRST_SCHEMA = """
    CREATE TABLE target (
        hash TEXT PRIMARY KEY, fingerprint TEXT NOT NULL, setup TEXT NOT NULL, workload TEXT NOT NULL
    );
    CREATE TABLE measurement (
        id INTEGER PRIMARY KEY,
        target TEXT NOT NULL REFERENCES target(hash),
        subnet_key TEXT NOT NULL,
        subnet TEXT NOT NULL,
        precision TEXT NOT NULL,
        model TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('ok', 'unstable', 'failed')),
        reason TEXT NOT NULL DEFAULT '',
        samples_ns TEXT NOT NULL DEFAULT '[]',
        anchor_ns TEXT NOT NULL DEFAULT '[]',
        measured_at REAL NOT NULL
    );
    CREATE INDEX measurement_by_subnet ON measurement (target, precision, model, subnet_key);
    PRAGMA journal_mode=WAL;
    PRAGMA user_version=1;
"""


def first_store(path: Path, rows: Sequence[tuple[Any, ...]]) -> None:
    """A store of the first release; rows are target, key, precision, state, samples, anchor, time."""
    connection = sqlite3.connect(path)
    connection.executescript(FIRST_SCHEMA)
    workload = {"batch": 1, "sequence": 128, "vocab_size": 30522}
    session = {"provider": "CPUExecutionProvider", "threads": 1}
    for name, cpu in (("0123456789ab", "one"), ("ba9876543210", "two")):
        documents = [json.dumps(document) for document in ({"cpu": cpu}, session, workload)]
        connection.execute("INSERT INTO target VALUES (?, ?, ?, ?)", (name, *documents))
    connection.executemany(
        "INSERT INTO measurement (target, subnet_key, subnet, precision, model, state, samples_ns, anchor_ns,"
        " measured_at) VALUES (?, ?, '{\"hidden_size\": 8}', ?, 'm', ?, ?, ?, ?)",
        [(*row[:4], json.dumps(row[4]), json.dumps(row[5]), row[6]) for row in rows],
    )
    connection.commit()
    connection.close()


def ms(*values: float) -> list[int]:
    return [int(value * 1e6) for value in values]


FIRST_ROWS = [
    ("0123456789ab", "a", "int8", "ok", ms(1, 1, 3, 1), ms(2, 2), 10.0),
    ("0123456789ab", "b", "int8", "failed", [], [], 20.0),
    ("0123456789ab", "c", "int8", "unstable", ms(6), ms(4), 15.0),
    ("0123456789ab", "a", "fp32", "ok", ms(5), ms(5), 30.0),
    ("ba9876543210", "a", "int8", "ok", ms(9), ms(9), 40.0),
]


def test_a_store_of_the_first_release_is_read(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    first_store(path, FIRST_ROWS)
    other = Target({"cpu": "two"}, Setup(), (Workload(),))
    for _ in range(2):
        with Store(path) as store:
            assert store.targets() == [(TARGET, "local"), (other, "local")]
            rows = store.measurements(TARGET, "int8", "m")
            assert [(row.subnet_key, row.state, row.measured_at) for row in rows] == [
                ("a", "ok", 10.0),
                ("b", "failed", 20.0),
                ("c", "unstable", 15.0),
            ]
            assert [row.samples for row in rows] == [
                Samples(((1_000_000, 1_000_000),), ((2_000_000, 2_000_000),)),
                None,
                Samples(((6_000_000,),), ((4_000_000,),)),
            ]
            usable, reference = timings(rows, TARGET.workloads)
            assert reference.latency_ms == pytest.approx(3.0)
            assert {key: timing.latency_ms for key, timing in usable.items()} == pytest.approx({"a": 1.5, "c": 4.5})
            assert len(store.measurements(TARGET, "fp32", "m")) == len(store.measurements(other, "int8", "m")) == 1
    with Store(path) as store:
        store.add(TARGET, "local", "int8", "m", [measurement("d")])
    assert keys(path) == ["a", "b", "c", "d"]


def test_one_of_several_processes_migrates(tmp_path: Path) -> None:
    first_store(tmp_path / "s.sqlite", FIRST_ROWS)
    script = """
with Store(path) as store:
    store.add(target, "local", "int8", "m", rows(sys.argv[2], 1))
"""
    for process in [start(script, tmp_path / "s.sqlite", name) for name in "de"]:
        finish(process)
    stored = keys(tmp_path / "s.sqlite")
    assert stored[:3] == ["a", "b", "c"]
    assert sorted(stored[3:]) == ["d-0", "e-0"]


def test_a_migration_that_fails_leaves_the_store_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    first_store(path, FIRST_ROWS)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE measurement SET samples_ns = '[1,' WHERE subnet_key = 'c'")
    connection.close()
    with pytest.raises(StoreError, match=r"s\.sqlite is not a usable measurement store"):
        Store(path)
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
        assert [row[0] for row in connection.execute("SELECT hash FROM target")] == ["0123456789ab", "ba9876543210"]
    connection.close()
