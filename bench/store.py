"""The measurement store: one SQLite file, one row per visit to a model, each committed at once."""

from __future__ import annotations

import contextlib
import itertools
import json
import sqlite3
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from .errors import BenchError
from .estimates import AnchorLatency, Timing, anchor_latency_of, noise_floor
from .file_system import file_system_of, is_shared
from .schema import MIGRATIONS
from .target import Target
from .timing import Samples, Workload

# Stands for the model of latencies that others took, and what their anchor, which they do not have, is said to take.
IMPORTED_MODEL = "imported"
IMPORTED_ANCHOR_NS = 1_000_000
# What reading a row that was damaged raises.
_DAMAGE = (AttributeError, KeyError, OverflowError, RecursionError, TypeError, ValueError)
_STATES = ("ok", "unstable", "failed")
_LONGEST_SAID = 200


def _said(error: Exception) -> str:
    """One line of what a library says; SQLite quotes whole values."""
    text = "".join(character if character.isprintable() else " " for character in str(error)[:_LONGEST_SAID])
    return text.strip() or type(error).__name__


class StoreError(BenchError):
    """A store that cannot be used."""


@dataclass(frozen=True)
class Measurement:
    """One row: which subnet, what came of it, and its raw samples (None where it failed).

    ``measured_at`` is in seconds since 1970; where it is None, that is when it is stored. Clocks jump, so no order is
    read from it.
    """

    subnet_key: str
    subnet: dict[str, Any]
    state: str
    reason: str
    samples: Samples | None
    measured_at: float | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Summary:
    """What the store holds of one target, precision and model.

    ``visits`` counts rows by state. The latencies are None where nothing is usable, ``noise_floor`` where no subnet
    was visited twice; times are in seconds since 1970.
    """

    target: Target
    host: str
    precision: str
    model: str
    subnets: int
    visits: dict[str, int]
    fastest_ms: float | None
    slowest_ms: float | None
    noise_floor: float | None
    first_at: float
    last_at: float


class Store:
    """Opens or creates a store file; other processes may have it open too. Every method raises StoreError where the
    file is damaged, newer than this release, no measurement store or cannot be written.

    ``notice`` is a sentence where the file system does without SQLite's write-ahead log, else empty.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.notice = path, ""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            kind = file_system_of(path.parent)
            # Hosts share no memory, which the log's index needs: it may seem to work, and then lose what two wrote.
            if is_shared(kind):
                self._open(has_log=False)
            else:
                try:
                    self._open(has_log=True)
                except sqlite3.OperationalError as error:
                    if "locked" in str(error):
                        raise
                    try:
                        self._open(has_log=False)
                    except (sqlite3.Error, *_DAMAGE):
                        raise error from None
            has_log = self._has_log()
        except (OSError, sqlite3.Error, *_DAMAGE) as error:
            raise StoreError(f"{path} is not a usable measurement store: {_said(error)}") from error
        if not has_log:
            self.notice = (
                f"{path}: the file system{f' ({kind})' if kind else f' of {path.parent}'} has no memory that processes "
                f"share, so the store keeps a rollback journal instead of a write-ahead log; every measurement is "
                f"committed by itself all the same."
            )

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def add(self, target: Target, host: str, precision: str, model: str, measurements: Sequence[Measurement]) -> None:
        """Commits measurements together: all are stored or none.

        ``model`` identifies the graph and recipe that they were made with.
        """
        facts = target.to_json()
        now = time.time()
        try:
            with self._writing():
                self._connection.execute(
                    "INSERT OR IGNORE INTO target (hash, fingerprint, setup, workloads, host) VALUES (?, ?, ?, ?, ?)",
                    (target.hash, *(json.dumps(facts[part]) for part in ("fingerprint", "setup", "workloads")), host),
                )
                self._connection.executemany(
                    "INSERT INTO measurement (target, subnet_key, subnet, precision, model, state, reason, samples_ns,"
                    " anchor_ns, measured_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    [
                        (
                            target.hash,
                            row.subnet_key,
                            json.dumps(row.subnet),
                            precision,
                            model,
                            row.state,
                            row.reason,
                            json.dumps(row.samples.model_ns if row.samples else []),
                            json.dumps(row.samples.anchor_ns if row.samples else []),
                            now if row.measured_at is None else row.measured_at,
                        )
                        for row in measurements
                    ],
                )
        except sqlite3.Error as error:
            raise StoreError(f"the measurement could not be stored in {self.path}: {_said(error)}") from error

    def add_latencies(
        self, target: Target, host: str, precision: str, rows: Sequence[tuple[str, dict[str, Any], float]]
    ) -> None:
        """Commits latencies that others took: subnet's key, its JSON, ms. The model is ``IMPORTED_MODEL``.

        Each is one visit of one round. There was no anchor, so one of 1 ms stands beside all of them: what is read
        back is the latency that was given, to the nanosecond, and nothing about its error. Speed-ups over that anchor
        mean nothing.
        """
        measurements = [
            Measurement(key, subnet, "ok", "", Samples(((round(latency_ms * 1e6),),), ((IMPORTED_ANCHOR_NS,),)))
            for key, subnet, latency_ms in rows
        ]
        self.add(target, host, precision, IMPORTED_MODEL, measurements)

    def measurements(self, target: Target, precision: str, model: str) -> list[Measurement]:
        """All rows of one target, precision and model, in the order in which they were stored."""
        rows = self._rows(
            "SELECT id, subnet_key, subnet, state, reason, samples_ns, anchor_ns, measured_at FROM measurement"
            " WHERE target = ? AND precision = ? AND model = ? ORDER BY id",
            (target.hash, precision, model),
        )
        measurements = []
        for id_, key, subnet, state, reason, model_ns, anchor_ns, measured_at in rows:
            try:
                samples = _samples(model_ns, anchor_ns, len(target.workloads))
                if not all(isinstance(text, str) for text in (key, reason)) or state not in _STATES:
                    raise ValueError("its key or reason is no text, or its state unknown")
                if not isinstance(measured_at, int | float):
                    raise ValueError("its time is no number")
                measurements.append(Measurement(key, _object(subnet), state, reason, samples, measured_at))
            except _DAMAGE as error:
                raise StoreError(f"{self.path}: measurement {id_} is damaged: {_said(error)}") from error
        return measurements

    def targets(self) -> list[tuple[Target, str]]:
        """All targets with the names of their hosts, oldest first."""
        targets = []
        for *parts, host in self._rows("SELECT fingerprint, setup, workloads, host FROM target ORDER BY rowid"):
            try:
                documents = dict(zip(("fingerprint", "setup", "workloads"), map(json.loads, parts), strict=True))
                if not isinstance(host, str):
                    raise ValueError("its host is no text")
                targets.append((Target.from_json(documents), host))
            except _DAMAGE as error:
                raise StoreError(f"{self.path}: target {len(targets) + 1} is damaged: {_said(error)}") from error
        return targets

    def subnets(self) -> list[dict[str, Any]]:
        """The JSON of every subnet that was measured on any target."""
        rows = self._rows("SELECT DISTINCT subnet FROM measurement")
        try:
            return [_object(subnet) for (subnet,) in rows]
        except _DAMAGE as error:
            raise StoreError(f"{self.path}: a subnet is damaged: {_said(error)}") from error

    def summary(self) -> list[Summary]:
        """One entry per target, precision and model, oldest first."""
        summaries = []
        for target, host in self.targets():
            groups = self._rows(
                "SELECT precision, model, MIN(measured_at), MAX(measured_at) FROM measurement WHERE target = ?"
                " GROUP BY precision, model ORDER BY MIN(id)",
                (target.hash,),
            )
            for precision, model, first_at, last_at in groups:
                rows = self.measurements(target, precision, model)
                states = [row.state for row in rows]
                usable = timings(rows, target.workloads)[0] if any(row.samples for row in rows) else {}
                latencies_ms = [timing.latency_ms for timing in usable.values()]
                summaries.append(
                    Summary(
                        target,
                        host,
                        precision,
                        model,
                        len({row.subnet_key for row in rows}),
                        {state: states.count(state) for state in ("ok", "unstable", "failed")},
                        min(latencies_ms, default=None),
                        max(latencies_ms, default=None),
                        noise_floor(usable.values()),
                        first_at,
                        last_at,
                    )
                )
        return summaries

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path, timeout=30, isolation_level=None)

    def _open(self, has_log: bool) -> None:
        """Connects and prepares; closes again where that fails."""
        self._connection = self._connect()
        try:
            if has_log:
                self._migrate()
                self._connection.execute("PRAGMA journal_mode=WAL")
                # Only the first reading after that needs the log's shared index.
                self._version()
            else:
                self._open_without_log()
        except BaseException:
            self._connection.close()
            raise

    def _open_without_log(self) -> None:
        """A file with a log, left by a host that could keep one, is read by a process that has it alone: that needs no
        shared index, and brings what the log holds into the file."""
        try:
            has_log = self._has_log()
        except sqlite3.OperationalError:
            has_log = True
        if has_log:
            # The reading before may have opened the index already.
            self._connection.close()
            self._connection = self._connect()
            self._connection.execute("PRAGMA locking_mode=EXCLUSIVE")
        self._migrate()
        self._connection.execute("PRAGMA journal_mode=DELETE")
        if has_log:
            self._connection.execute("PRAGMA locking_mode=NORMAL")
            self._version()  # the next access lets go of the file

    def _has_log(self) -> bool:
        mode: str = self._connection.execute("PRAGMA journal_mode").fetchone()[0]
        return mode == "wal"

    def _migrate(self) -> None:
        """Creates or migrates the tables; of several processes that would, one does."""
        if self._version() < len(MIGRATIONS):
            with self._writing():
                version = self._version()
                if version == 0 and self._rows("SELECT 1 FROM sqlite_master"):
                    raise StoreError(f"{self.path} is a database of something else, not a measurement store")
                for migration in MIGRATIONS[version:]:
                    migration(self._connection)
                self._connection.execute(f"PRAGMA user_version={len(MIGRATIONS)}")

    def _version(self) -> int:
        version: int = self._connection.execute("PRAGMA user_version").fetchone()[0]
        if version > len(MIGRATIONS):
            raise StoreError(f"{self.path} was written by a newer release (schema {version}); update ortnas")
        return version

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """One transaction; another writer is waited for. Raises sqlite3.Error, and leaves nothing half done then."""
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                with contextlib.suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
            raise

    def _rows(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        try:
            return self._connection.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise StoreError(f"{self.path} cannot be read: {_said(error)}") from error


def _object(text: str) -> dict[str, Any]:
    """Raises ValueError or TypeError where the text is no JSON object."""
    if not isinstance(document := json.loads(text), dict):
        raise ValueError(f"{type(document).__name__} where an object is expected")
    return document


def _samples(model_ns: str, anchor_ns: str, workloads: int) -> Samples | None:
    """Raises ValueError where they are not what a measurement holds."""
    model, anchor = json.loads(model_ns), json.loads(anchor_ns)
    if not model and not anchor:
        return None
    samples = Samples.from_json({"model_ns": model, "anchor_ns": anchor})
    if len(samples.model_ns) != workloads:
        raise ValueError(f"samples of {len(samples.model_ns)} workloads, the target has {workloads}")
    return samples


def timings(
    measurements: Sequence[Measurement], workloads: Sequence[Workload]
) -> tuple[dict[str, Timing], AnchorLatency]:
    """Usable timings by subnet key, all visits of each, and what they refer to.

    Raises StoreError where nothing is usable.
    """
    visits: dict[str, list[Samples]] = {}
    for measurement in measurements:
        if measurement.samples is not None:
            visits.setdefault(measurement.subnet_key, []).append(measurement.samples)
    if not visits:
        raise StoreError("the store holds no usable measurement of this target; run `ortnas bench`")
    reference = anchor_latency_of(list(itertools.chain.from_iterable(visits.values())), workloads)
    return {key: Timing(tuple(samples), reference) for key, samples in visits.items()}, reference
