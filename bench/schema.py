"""The tables of a measurement store, and how those of older releases become today's."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable

from .target import Target

_TABLES = """
    CREATE TABLE target (
        hash TEXT PRIMARY KEY,
        fingerprint TEXT NOT NULL,
        setup TEXT NOT NULL,
        workload TEXT NOT NULL
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
"""


def _create_tables(connection: sqlite3.Connection) -> None:
    for statement in _TABLES.split(";"):
        connection.execute(statement)


def _several_workloads(connection: sqlite3.Connection) -> None:
    """Targets get a name and a list of workloads, samples a list per workload."""
    connection.execute("ALTER TABLE target RENAME COLUMN workload TO workloads")
    connection.execute("ALTER TABLE target ADD COLUMN host TEXT NOT NULL DEFAULT 'local'")
    rows = connection.execute("SELECT hash, fingerprint, setup, workloads FROM target").fetchall()
    for old, fingerprint, setup, workload in rows:
        target = Target.from_json(
            {"fingerprint": json.loads(fingerprint), "setup": json.loads(setup), "workloads": [json.loads(workload)]}
        )
        workloads = json.dumps(target.to_json()["workloads"])
        connection.execute("UPDATE target SET hash = ?, workloads = ? WHERE hash = ?", (target.hash, workloads, old))
        connection.execute("UPDATE measurement SET target = ? WHERE target = ?", (target.hash, old))
    for id_, model, anchor in connection.execute("SELECT id, samples_ns, anchor_ns FROM measurement").fetchall():
        # Runs in a row of several rounds have no anchor run of their own: as many of the anchor's stand beside them.
        both = [json.loads(model), json.loads(anchor)]
        shortest = min(map(len, both))
        rows_ns = [json.dumps([row[:shortest]]) if shortest else "[]" for row in both]
        connection.execute("UPDATE measurement SET samples_ns = ?, anchor_ns = ? WHERE id = ?", (*rows_ns, id_))


# One for each ``user_version``, from that before it.
MIGRATIONS: tuple[Callable[[sqlite3.Connection], None], ...] = (_create_tables, _several_workloads)
