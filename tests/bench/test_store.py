from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ortnas.bench.store import Measurement, Store, StoreError, timings
from ortnas.bench.testing.stores import Opening, StoreSuite
from ortnas.bench.timing import Samples
from tests.bench.stores import MIX, TARGET, finish, keys, measurement, start, visit

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


@pytest.mark.slow
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
        stored = store.measurements(MIX, "int8", model)
        assert stored == added
        assert [row.measured_at for row in stored] == [row.measured_at for row in added]
        assert store.targets() == [(MIX, host)] * bool(batches)
        assert sum(sum(summary.visits.values()) for summary in store.summary()) == len(added)
        for document in store.subnets():
            assert document in [row.subnet for row in added]


class TestStore(StoreSuite):
    @pytest.fixture
    def open_store(self, tmp_path: Path) -> Opening:
        return lambda: Store(tmp_path / "folder" / "s.sqlite")


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


@pytest.mark.slow
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


@pytest.mark.slow
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
