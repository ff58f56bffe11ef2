"""A host, or a run's host and model -> what it does to timings."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from ortnas.bench.estimates import AnchorLatency, Timing, anchor_latency_of
from ortnas.bench.findings import Reading, findings
from ortnas.bench.host import Failure, Host, HostError
from ortnas.bench.hosts import open_host
from ortnas.bench.request import Request
from ortnas.bench.timing import Samples, Setup, TimingProtocol, Workload
from ortnas.nas.console import Console

_PAUSE_S = 1.0


def _pause_s(host: Host) -> float:
    """Between visits; a simulated host knows no time."""
    return 0.0 if host.name == "simulated" else _PAUSE_S


def examine(configuration: Path | None, host: str | None, threads: int | None, console: Console) -> dict[str, Any]:
    """Of the run's host, session, workloads and full model, or of a host with a random MiniLM. Raises HostError.

    ``configuration``: a ``run.yaml`` or a run folder, in which nothing is changed.
    """
    if configuration is None:
        reached = open_host(host or "local")
        try:
            return doctor(reached, Setup(threads=threads or 1), (Workload(),), console, pause_s=_pause_s(reached))
        finally:
            reached.close()
    # A host that serves lacks what training needs.
    from ortnas.export.weights import SupernetError
    from ortnas.nas.run.naming import configuration_of
    from ortnas.nas.run.run import Run

    overrides = {"target.host": host, "target.threads": threads}
    chosen = {key: value for key, value in overrides.items() if value is not None}
    run = Run(configuration_of(configuration, chosen), console, only_looks=True)
    try:
        try:
            model = run.models.anchor
        except SupernetError:
            model = None  # not trained yet
        return doctor(
            run.target.host,
            run.models.target.setup,
            run.models.target.workloads,
            console,
            model,
            pause_s=_pause_s(run.target.host),
        )
    finally:
        run.close()


_PROTOCOL = TimingProtocol()
_PAUSE_S = 1.0
# The anchor is worth naming where noise without it is so many times as large.
_GAIN = 1.2


@dataclass(frozen=True)
class Noise:
    """How far two sessions of one model lie apart, as a share, over all pairs."""

    median: float
    p95: float


def doctor(
    host: Host,
    setup: Setup,
    workloads: Sequence[Workload],
    console: Console,
    model: bytes | None = None,
    sessions: int = 8,
    protocol: TimingProtocol = _PROTOCOL,
    pause_s: float = _PAUSE_S,
) -> dict[str, Any]:
    """Prints what the host does to timings, and the noise floor over ``sessions`` sessions of one model.

    ``model`` is timed beside itself; without one, half of a random network of MiniLM-L6's sizes beside the whole.
    Returns a JSON-ready object; where the state of one of its ``findings`` is ``fail``, timings cannot be trusted.
    Raises HostError, and ValueError for less than two sessions.
    """
    if sessions < 2:
        raise ValueError(f"{sessions} session tells nothing of how far two lie apart; take 2 or more")
    hello = host.hello()
    console.heading(
        f"doctor: what {'this machine' if host.name == 'local' else host.name} does to timings",
        f"{sessions} sessions of one model are timed as `ortnas bench` does; the host's counters are read in between.",
    )
    timed, anchor = (model, model) if model is not None else _random_models(hello["fingerprint"], workloads)
    request = Request(anchor, setup, tuple(workloads), protocol)
    readings: list[Reading] = [host.hello()["conditions"]]
    visits: list[Samples] = []
    with console.progress("sessions") as report:
        for number in range(sessions):
            if number:
                time.sleep(pause_s)
            samples = host.measure({"model": timed}, request, number)["model"]
            if isinstance(samples, Failure):
                raise HostError(f"{host.name} cannot time the model: {samples.reason}")
            visits.append(samples)
            readings.append(host.hello()["conditions"])
            report(number + 1, sessions, "")
    host.forget()
    facts = findings(readings, setup)
    reference = anchor_latency_of(visits, workloads)
    sessions_ms = [float(value) for value in Timing(tuple(visits), reference).visits_ms]
    plain_sessions_ms = [_plain_ms(samples, reference) for samples in visits]
    noise, plain = noise_of(sessions_ms), noise_of(plain_sessions_ms)
    console.table(
        f"{hello['fingerprint']['cpu']}, {setup.describe()}, ONNX Runtime {hello['versions']['onnxruntime']}",
        ("check", "result", "detail"),
        [(finding.name, finding.state, finding.detail) for finding in facts],
    )
    console.say()
    for sentence in describe(noise, plain, sessions):
        console.say(sentence)
    return {
        "host": host.name,
        "findings": [asdict(finding) for finding in facts],
        "noise_floor": asdict(noise),
        "plain_noise": asdict(plain),
        "sessions_ms": sessions_ms,
        "plain_sessions_ms": plain_sessions_ms,
        "setup": setup.to_json(),
        "workloads": [workload.to_json() for workload in workloads],
        "fingerprint": hello["fingerprint"],
        "versions": hello["versions"],
        "conditions": [dict(readings[0]), dict(readings[-1])],
    }


def noise_of(latencies_ms: Sequence[float]) -> Noise:
    """Of two or more sessions of one model."""
    differences = [abs(first_ms / second_ms - 1) for first_ms, second_ms in combinations(latencies_ms, 2)]
    return Noise(float(np.median(differences)), float(np.percentile(differences, 95)))


def _random_models(fingerprint: Mapping[str, Any], workloads: Sequence[Workload]) -> tuple[bytes, bytes]:
    """Half of a network and the whole, for the workloads' vocabulary and lengths."""
    from ortnas.export.synthetic import MINILM_L6, synthetic_models

    dimensions = replace(
        MINILM_L6,
        vocab_size=max(workload.vocab_size for workload in workloads),
        max_positions=max(MINILM_L6.max_positions, *(workload.sequence for workload in workloads)),
    )
    whole, half = synthetic_models(fingerprint.get("isa", ()), dimensions)
    return half, whole


def _plain_ms(samples: Samples, reference: AnchorLatency) -> float:
    """Latency by the clock alone: the median of the model's own samples, over all workloads by their shares."""
    medians_ms = [float(np.median(row)) / 1e6 for row in samples.model_ns]
    return sum(median * share for median, share in zip(medians_ms, reference.shares, strict=True))


def describe(noise: Noise, plain: Noise, sessions: int) -> list[str]:
    """What the noise of so many sessions means, beside that without an anchor."""
    if noise.median * _GAIN < plain.median:
        worth = f"the anchor takes out {1 - noise.median / plain.median:.0%} of it"
    elif plain.median * _GAIN < noise.median:
        worth = "while the host is as steady as this, the anchor adds noise of its own"
    else:
        worth = "while the host is as steady as this, the anchor changes little"
    return [
        f"Noise floor: two of the {sessions} sessions differ by {noise.median:.2%} (median of all pairs; 95th "
        f"percentile {noise.p95:.2%}). By the clock alone it is {plain.median:.2%} ({plain.p95:.2%}); {worth}.",
        f"Two subnets less than {noise.p95:.2%} apart cannot be told apart by a session each; errors below "
        f"{noise.median:.2%} are noise.",
    ]
