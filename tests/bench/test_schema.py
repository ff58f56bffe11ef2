from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ortnas.bench.session import Setup
from ortnas.bench.store import Store, StoreError, timings
from ortnas.bench.target import Target
from ortnas.bench.timing import Samples, Workload
from tests.bench.stores import TARGET, finish, keys, measurement, start

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
