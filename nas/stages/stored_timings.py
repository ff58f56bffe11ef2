"""Timings in the measurement store: listed, exported for other programs, imported from latency files."""

from __future__ import annotations

import csv
import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ortnas.bench.estimates import Timing
from ortnas.bench.store import IMPORTED_MODEL, Measurement, Store, StoreError, Summary, timings
from ortnas.bench.target import Target
from ortnas.bench.timing import Setup, Workload
from ortnas.nas.architecture.space import LAYER_DIMENSIONS
from ortnas.nas.architecture.subnet import Subnet
from ortnas.nas.console import Console
from ortnas.nas.files import aside
from ortnas.nas.run.configuration import ConfigurationError
from ortnas.predictors.latency_files import read_latency_file

_PRECISIONS = ("int8", "fp32")
# Columns of an export, in order, and what they hold; those with lists have one entry per layer.
_COLUMNS = {
    "target": "text",
    "host": "text",
    "threads": "integer",
    "concurrency": "integer",
    "workloads": "text",
    "precision": "text",
    "model": "text",
    "subnet_key": "text",
    "depth": "integer",
    "hidden_size": "integer",
    "source": "integers",
    **dict.fromkeys(LAYER_DIMENSIONS, "integers"),
    "keep_float": "text",
    "state": "text",
    "reason": "text",
    "latency_ms": "number",
    "error": "number",
    "p95_ms": "number",
    "rounds": "integer",
    "measured_at": "time",
}
# Raw samples have a list per workload, and a place in Parquet only.
_SAMPLES = ("samples_ns", "anchor_ns")


def list_datasets(store_path: Path, console: Console) -> dict[str, Any]:
    """Shows what the store holds, a row per target, precision and model. Raises StoreError."""
    with open_store(store_path) as store:
        summaries = store.summary()
    if not summaries:
        console.say(f"{store_path} holds no timings yet")
    else:
        columns = ("host", "processor", "session", "workloads", "precision", "subnets", "unstable visits")
        console.table(
            f"Timings in {store_path}",
            (*columns, "failed visits", "ms", "noise floor", "target", "last timed"),
            [_table_row(summary) for summary in summaries],
        )
    return {"store": str(store_path), "datasets": [_to_json(summary) for summary in summaries]}


def export_dataset(
    store_path: Path, file: Path, target: str | None = None, precision: str | None = None
) -> dict[str, Any]:
    """Writes one row per visit to ``file``, .parquet (with raw samples) or .csv (lists as JSON).

    ``target`` is a hash or its beginning. A visit's latency is brought to its target's reference; ``error`` is the
    standard error as a share, empty where one visit alone does not tell it. Raises ConfigurationError and StoreError.
    """
    writers = {".parquet": _write_parquet, ".csv": _write_csv}
    if file.suffix not in writers:
        raise ConfigurationError(f"{file}: {' and '.join(writers)} files can be written; choose one of these endings")
    with open_store(store_path) as store:
        summaries = store.summary()
        chosen = [
            summary
            for summary in summaries
            if summary.target.hash.startswith(target or "") and precision in (None, summary.precision)
        ]
        if not chosen:
            there = ", ".join(f"{summary.target.hash} {summary.precision}" for summary in summaries) or "nothing"
            raise ConfigurationError(f"no timings to export: {store_path} holds {there}")
        rows = [row for summary in chosen for row in _rows(store, summary)]
    with aside(file) as temporary:
        writers[file.suffix](temporary, rows)
    hashes = dict.fromkeys(summary.target.hash for summary in chosen)
    return {"file": str(file), "rows": len(rows), "targets": list(hashes)}


def import_latencies(
    store_path: Path, file: Path, precision: str, threads: int = 1, batch: int = 1, sequence: int = 128
) -> dict[str, Any]:
    """Adds an AutoTinyBERT-style latency file as a target of its own, once.

    The file says nothing of how it was taken: ``precision``, ``threads``, ``batch`` and ``sequence`` do. Raises
    LatencyFileError, ConfigurationError and StoreError.
    """
    if precision not in _PRECISIONS:
        raise ConfigurationError(f"precision = {precision!r}; allowed are {', '.join(_PRECISIONS)}")
    latencies = [(Subnet.from_json(document), latency_ms) for document, latency_ms in read_latency_file(file)]
    target = imported_target(file, Setup(threads=threads), Workload(batch, sequence))
    with Store(store_path) as store:
        is_known = bool(store.measurements(target, precision, IMPORTED_MODEL))
        if not is_known:
            rows = [(subnet.key, subnet.to_json(), latency_ms) for subnet, latency_ms in latencies]
            store.add_latencies(target, file.name, precision, rows)
    return {
        "imported": 0 if is_known else len(latencies),
        "known": len(latencies) if is_known else 0,
        "subnets": len({subnet.key for subnet, _ in latencies}),
        "host": file.name,
        "target": target.hash,
    }


def imported_target(file: Path, setup: Setup, workload: Workload) -> Target:
    """What stands for the host of a latency file, which names none: the file's name and content."""
    fingerprint = {"imported": file.name, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
    return Target(fingerprint, setup, (workload,))


def open_store(store_path: Path) -> Store:
    """The store of a run that has one. Raises StoreError."""
    if not store_path.is_file():
        raise StoreError(f"{store_path}: there are no timings yet; `ortnas bench` takes them")
    return Store(store_path)


def _processor(target: Target) -> str:
    """The host's own name for it; of imported timings nothing is known but where they came from."""
    return str(target.fingerprint.get("cpu") or "unknown")


def _workloads(target: Target) -> str:
    return ", ".join(workload.describe() for workload in target.workloads)


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, timezone.utc)


def _table_row(summary: Summary) -> tuple[str, ...]:
    if summary.fastest_ms is None or summary.slowest_ms is None:
        latencies = ""
    else:
        latencies = f"{summary.fastest_ms:.2f} to {summary.slowest_ms:.2f}"
    return (
        summary.host,
        _processor(summary.target),
        summary.target.setup.describe(),
        _workloads(summary.target),
        summary.precision,
        str(summary.subnets),
        str(summary.visits["unstable"]),
        str(summary.visits["failed"]),
        latencies,
        "" if summary.noise_floor is None else f"{summary.noise_floor:.1%}",
        summary.target.hash,
        f"{_time(summary.last_at):%Y-%m-%d %H:%M} UTC",
    )


def _to_json(summary: Summary) -> dict[str, Any]:
    return {
        "target": summary.target.hash,
        "host": summary.host,
        **summary.target.to_json(),
        "precision": summary.precision,
        "model": summary.model,
        "subnets": summary.subnets,
        "visits": summary.visits,
        "fastest_ms": summary.fastest_ms,
        "slowest_ms": summary.slowest_ms,
        "noise_floor": summary.noise_floor,
        "first_at": _time(summary.first_at).isoformat(),
        "last_at": _time(summary.last_at).isoformat(),
    }


def _rows(store: Store, summary: Summary) -> Iterator[dict[str, Any]]:
    """One per visit, with the keys of _COLUMNS and _SAMPLES."""
    target = summary.target
    measurements = store.measurements(target, summary.precision, summary.model)
    timing_of: dict[int, Timing] = {}
    if any(row.samples for row in measurements):
        _, reference = timings(measurements, target.workloads)
        timing_of = {
            number: Timing((row.samples,), reference) for number, row in enumerate(measurements) if row.samples
        }
    for number, row in enumerate(measurements):
        subnet = Subnet.from_json(row.subnet)
        yield {
            "target": target.hash,
            "host": summary.host,
            "threads": target.setup.threads,
            "concurrency": target.setup.concurrency,
            "workloads": _workloads(target),
            "precision": summary.precision,
            "model": summary.model,
            "subnet_key": row.subnet_key,
            "depth": len(subnet.layers),
            "hidden_size": subnet.hidden_size,
            **{name: [getattr(layer, name) for layer in subnet.layers] for name in ("source", *LAYER_DIMENSIONS)},
            "keep_float": " ".join(subnet.keep_float),
            "state": row.state,
            "reason": row.reason,
            **_figures(row, timing_of.get(number)),
            "measured_at": None if row.measured_at is None else _time(row.measured_at),
        }


def _figures(row: Measurement, timing: Timing | None) -> dict[str, Any]:
    if row.samples is None or timing is None:
        return {"latency_ms": None, "error": None, "p95_ms": None, "rounds": 0, "samples_ns": [], "anchor_ns": []}
    rounds = len(row.samples.model_ns[0])
    # A single round tells neither.
    error = timing.error if rounds > 1 and math.isfinite(timing.error) else None
    return {
        "latency_ms": timing.latency_ms,
        "error": error,
        "p95_ms": timing.percentile_ms(95) if rounds > 1 else None,
        "rounds": rounds,
        "samples_ns": [list(values) for values in row.samples.model_ns],
        "anchor_ns": [list(values) for values in row.samples.anchor_ns],
    }


def _write_parquet(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    import pyarrow
    import pyarrow.parquet

    types = {
        "text": pyarrow.string(),
        "integer": pyarrow.int64(),
        "integers": pyarrow.list_(pyarrow.int64()),
        "number": pyarrow.float64(),
        "time": pyarrow.timestamp("us", tz="UTC"),
    }
    samples = pyarrow.list_(pyarrow.list_(pyarrow.int64()))
    columns = {name: types[kind] for name, kind in _COLUMNS.items()} | dict.fromkeys(_SAMPLES, samples)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, pyarrow.schema(list(columns.items()))), str(path))


def _write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    def cell(kind: str, value: Any) -> Any:
        if value is None or kind not in ("integers", "time"):
            return value
        return json.dumps(value) if kind == "integers" else value.isoformat()

    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(_COLUMNS)
        writer.writerows([cell(kind, row[name]) for name, kind in _COLUMNS.items()] for row in rows)
