"""The measurement store: one SQLite file, one row per measurement, each committed at once."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from bench.fingerprint import fingerprint_hash
from bench.timing import Setup, Timing, Workload, anchor_reference_ms

_MIGRATIONS = (
    """
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
    """,
)


class StoreError(RuntimeError):
    """A store that cannot be used."""


@dataclass(frozen=True)
class Target:
    """Where and how models are timed. ``hash`` names it; timings of different targets never mix."""

    fingerprint: dict[str, Any]
    setup: Setup
    workload: Workload

    @property
    def hash(self) -> str:
        return fingerprint_hash(self.to_json())

    def to_json(self) -> dict[str, Any]:
        return {
            "fingerprint": self.fingerprint,
            "setup": self.setup.to_json(),
            "workload": self.workload.to_json(),
        }

    def differences(self, other: Mapping[str, Any]) -> list[str]:
        """Where another target's JSON differs, as ``key: theirs, here ours``."""
        found = []
        for part, ours in self.to_json().items():
            theirs = other.get(part, {})
            found += [
                f"{key}: {theirs.get(key)!r}, here {ours.get(key)!r}"
                for key in sorted(set(ours) | set(theirs))
                if ours.get(key) != theirs.get(key)
            ]
        return found


@dataclass(frozen=True)
class Measurement:
    """One row: which subnet, what came of it, and its raw samples."""

    subnet_key: str
    subnet: dict[str, Any]
    state: str
    reason: str
    samples_ns: tuple[int, ...]
    anchor_ns: tuple[int, ...]


class Store:
    """Opens or creates a store file. Raises StoreError for a damaged or newer one."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._connection = sqlite3.connect(path, timeout=30)
            self._connection.execute("PRAGMA journal_mode=WAL")
            version = self._connection.execute("PRAGMA user_version").fetchone()[0]
        except sqlite3.DatabaseError as error:
            raise StoreError(f"{path} is not a usable measurement store: {error}") from error
        if version > len(_MIGRATIONS):
            raise StoreError(f"{path} was written by a newer release (schema {version}); update ortnas")
        for number, script in enumerate(_MIGRATIONS[version:], start=version + 1):
            self._connection.executescript(f"BEGIN; {script} PRAGMA user_version={number}; COMMIT;")

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def add(self, target: Target, precision: str, model: str, measurement: Measurement) -> None:
        """Commits one measurement. ``model`` identifies the weights and recipe that it was made with."""
        facts = target.to_json()
        try:
            with self._connection:
                self._connection.execute(
                    "INSERT OR IGNORE INTO target VALUES (?, ?, ?, ?)",
                    (target.hash, *(json.dumps(facts[part]) for part in ("fingerprint", "setup", "workload"))),
                )
                self._connection.execute(
                    "INSERT INTO measurement (target, subnet_key, subnet, precision, model, state, reason, samples_ns,"
                    " anchor_ns, measured_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        target.hash,
                        measurement.subnet_key,
                        json.dumps(measurement.subnet),
                        precision,
                        model,
                        measurement.state,
                        measurement.reason,
                        json.dumps(measurement.samples_ns),
                        json.dumps(measurement.anchor_ns),
                        time.time(),
                    ),
                )
        except sqlite3.Error as error:
            raise StoreError(f"the measurement could not be stored: {error}") from error

    def measurements(self, target: Target, precision: str, model: str) -> list[Measurement]:
        """All rows of one target, precision and model, oldest first."""
        rows = self._connection.execute(
            "SELECT subnet_key, subnet, state, reason, samples_ns, anchor_ns FROM measurement"
            " WHERE target = ? AND precision = ? AND model = ? ORDER BY id",
            (target.hash, precision, model),
        )
        return [
            Measurement(key, json.loads(subnet), state, reason, tuple(json.loads(samples)), tuple(json.loads(anchor)))
            for key, subnet, state, reason, samples, anchor in rows
        ]

    def subnets(self) -> list[dict[str, Any]]:
        """The JSON of every subnet that was measured on any target."""
        rows = self._connection.execute("SELECT DISTINCT subnet FROM measurement")
        return [json.loads(subnet) for (subnet,) in rows]


def timings(measurements: list[Measurement]) -> tuple[dict[str, Timing], float]:
    """Usable timings by subnet key (the latest where there are several), and the anchor's reference latency in ms.

    Raises StoreError where nothing is usable.
    """
    usable = [measurement for measurement in measurements if measurement.state != "failed"]
    if not usable:
        raise StoreError("the store holds no usable measurement of this target; run `ortnas bench`")
    reference_ms = anchor_reference_ms([measurement.anchor_ns for measurement in usable])
    return {
        measurement.subnet_key: Timing(measurement.samples_ns, measurement.anchor_ns, reference_ms)
        for measurement in usable
    }, reference_ms
