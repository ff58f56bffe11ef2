"""A package under load: concurrent requests with its bundled texts, throughput and latency against concurrency."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from ortnas.bench.load import Clients
from ortnas.bench.session import Session, make_session
from ortnas.bench.target import Target
from ortnas.export.model_requests import requests_of
from ortnas.export.package.record import MODEL_FILE, PackageError, PackageRecord, read_record
from ortnas.export.package.sample import read_sample
from ortnas.nas.arrays import Feeds
from ortnas.nas.failures import OrtnasError
from ortnas.nas.text import load_tokenizer

_WARM_RUNS = 3


class LoadError(OrtnasError):
    """A load that cannot be driven; the message says why."""


@dataclass(frozen=True)
class LoadRow:
    """What ``concurrency`` clients saw, each of which sends its next request when the last one is answered.

    ``requests`` were answered in ``elapsed_s``; ``throughput`` is requests per second. Latencies are the clients', so
    they include waiting for processors and for the session's threads. With more clients than processors the system's
    time slices show: many requests are answered as if alone, some much later.
    """

    concurrency: int
    sessions: int
    threads: int
    requests: int
    elapsed_s: float
    throughput: float
    mean_ms: float
    p50_ms: float
    p95_ms: float
    p99_ms: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def drive(package: Path, concurrency: Sequence[int], seconds: float = 5.0, sessions: int = 1) -> list[LoadRow]:
    """One row per number of concurrent clients, each driven for ``seconds``.

    A request holds as many of the bundled inputs as the package's first workload has sequences, padded to the longest
    of them. ``sessions`` (with the threads that the package was timed with, each) share the clients. Raises LoadError
    and PackageError.
    """
    if not concurrency or min(concurrency) < 1:
        raise LoadError(f"concurrency {list(concurrency)}: give one or more numbers of clients, each at least 1")
    if not (0 < seconds < math.inf) or sessions < 1:
        raise LoadError(f"seconds {seconds:g}, sessions {sessions}: both have to be above 0")
    record = read_record(package)
    target = record.target
    requests = _requests(package, record)
    opened = [_warm_session(package, target, requests[:_WARM_RUNS]) for _ in range(sessions)]
    return [_row(opened, requests, clients, seconds, target.setup.threads) for clients in concurrency]


def _requests(package: Path, record: PackageRecord) -> list[Feeds]:
    encoded = read_sample(package).part(load_tokenizer(package), record.max_length, record.labels).encoded
    if not len(encoded):
        raise PackageError(f"{package}: its bundled sample is empty")
    numbers, batch = list(range(len(encoded))), record.target.workloads[0].batch
    # The last request begins again at the first input where there are not enough.
    return [encoded.feeds((numbers * batch)[start : start + batch]) for start in range(0, len(encoded), batch)]


def _warm_session(package: Path, target: Target, requests: list[Feeds]) -> Session:
    try:
        session = make_session(package / MODEL_FILE, target.setup)
        for feeds in _asked(session, requests):
            session.run(None, feeds)
    except Exception as error:  # ONNX Runtime's own exception types share no public base
        raise LoadError(f"{package / 'model.onnx'} cannot be run: {error}") from error
    return session


def _asked(session: Session, requests: list[Feeds]) -> list[Feeds]:
    """In the shape that the model takes."""
    return [asked for feeds in requests for _, asked in requests_of(session, feeds)]


def _row(sessions: list[Session], requests: list[Feeds], clients: int, seconds: float, threads: int) -> LoadRow:
    of_client = [sessions[number % len(sessions)] for number in range(clients)]
    asked = [_asked(session, requests) for session in of_client]

    def send(client: int, position: int) -> None:
        # Clients begin with different texts.
        of_client[client].run(None, asked[client][(client + position) % len(asked[client])])

    try:
        with Clients(clients) as driven:
            load = driven.drive(send, lambda elapsed_ns, _: elapsed_ns >= seconds * 1e9)
    except Exception as error:  # as above
        raise LoadError(f"a request failed with {clients} clients: {error}") from error
    answered_ms = np.fromiter(chain(*load.latencies_ns), np.float64) / 1e6
    if not len(answered_ms):
        raise LoadError(f"no request was answered within {seconds:g} s; give more seconds")
    elapsed_s = load.elapsed_ns / 1e9
    p50_ms, p95_ms, p99_ms = (float(value) for value in np.percentile(answered_ms, [50, 95, 99]))
    return LoadRow(
        concurrency=clients,
        sessions=len(sessions),
        threads=threads,
        requests=len(answered_ms),
        elapsed_s=elapsed_s,
        throughput=len(answered_ms) / elapsed_s,
        mean_ms=float(answered_ms.mean()),
        p50_ms=p50_ms,
        p95_ms=p95_ms,
        p99_ms=p99_ms,
    )
