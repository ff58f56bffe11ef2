"""How far timings can be trusted: ``python tests/performance/measurement.py [--quick] [--json]``.

Random INT8 subnets of MiniLM-L6 are timed twice, in two orders, by our protocol (rounds beside the anchor, two sessions
each) and by the plain one (one subnet after the other, 20 runs after 10 that do not count), in turn within the same
minutes; then both again while another process loads one core now and then. The last line of ``--json`` holds
``repeat_median`` and ``repeat_p95`` (relative differences between the two timings of a subnet), ``plain_repeat_*`` the
same of the plain protocol, ``loaded_*`` under load, ``noise_floor`` (what our timings say of themselves),
``subnets_per_minute`` for subnets of about 10 ms with export, quantization, sessions and all,
``worker_resident_mib``: peak memory of the worker beyond the model's size, ``bundle_megabytes``: size of a bundle of
120 subnets, and ``bundle_timing_ratio``: latency of models as a bundle's host rebuilds them / as they were exported,
the median over subnets of sessions in turn.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ortnas.bench.bundle import write_bundle
from ortnas.bench.bundle_run import Bundle
from ortnas.bench.estimates import Timing, anchor_latency_of, noise_floor
from ortnas.bench.request import Request
from ortnas.bench.session import Setup, make_session
from ortnas.bench.timing import Samples, TimingProtocol, Workload, make_inputs, time_interleaved
from ortnas.bench.worker_host import LocalHost
from ortnas.export.build import Exporter
from ortnas.nas.architecture.subnet import Subnet
from ortnas.nas.console import Console
from tests.performance.export_speed import make_exporter, random_subnets, write_minilm

SETUP, WORKLOADS = Setup(), (Workload(1, 128),)
GROUP, VISITS = 5, 2
BUNDLED = 120
PLAIN_WARMUP, PLAIN_RUNS = 10, 20
# A full network takes about 12 ms where these were written.
LONG_SHARE = 0.8
Models = dict[str, bytes]


def time_ours(models: Models, anchor: bytes, seed: int) -> dict[str, list[Samples]]:
    """All visits of each model, on a worker of its own."""
    rng, visits = np.random.default_rng(seed), {name: list[Samples]() for name in models}
    with LocalHost() as host:
        for _ in range(VISITS):
            order = [str(name) for name in rng.permutation(list(models))]
            for start in range(0, len(order), GROUP):
                group = {name: models[name] for name in order[start : start + GROUP]}
                for name, samples in host.measure(group, Request(anchor, SETUP, WORKLOADS)).items():
                    assert isinstance(samples, Samples), samples
                    visits[name].append(samples)
    return visits


def time_plainly(models: Models, seed: int) -> dict[str, float]:
    """Median ms of each model, one after the other."""
    latency_ms = {}
    for name in np.random.default_rng(seed).permutation(list(models)):
        session = make_session(models[str(name)], SETUP)
        feed = make_inputs(session, WORKLOADS[0], seed=1)
        samples_ns = []
        for number in range(PLAIN_WARMUP + PLAIN_RUNS):
            start = time.perf_counter_ns()
            session.run(None, feed)
            if number >= PLAIN_WARMUP:
                samples_ns.append(time.perf_counter_ns() - start)
        latency_ms[str(name)] = statistics.median(samples_ns) / 1e6
    return latency_ms


def repeat(models: Models, anchor: bytes) -> dict[str, float]:
    """Both protocols twice, in turn."""
    plain_first, first = time_plainly(models, 1), time_ours(models, anchor, 1)
    plain_second, second = time_plainly(models, 2), time_ours(models, anchor, 2)
    # As in a store, both runs refer to the anchor of all; each by its own anchor is given beside it.
    both = [samples for run in (first, second) for visits in run.values() for samples in visits]
    together, apart = [], []
    for run in (first, second):
        own = anchor_latency_of([samples for visits in run.values() for samples in visits], WORKLOADS)
        together.append(_timings(run, anchor_latency_of(both, WORKLOADS)))
        apart.append(_timings(run, own))
    floor = noise_floor([timing for timings in together for timing in timings.values()])
    assert floor is not None
    return (
        _spread("repeat", *({name: timing.latency_ms for name, timing in timings.items()} for timings in together))
        | _spread(
            "own_reference", *({name: timing.latency_ms for name, timing in timings.items()} for timings in apart)
        )
        | _spread("plain_repeat", plain_first, plain_second)
        | {"noise_floor": floor}
    )


def _timings(visits: Mapping[str, Sequence[Samples]], reference: object) -> dict[str, Timing]:
    return {name: Timing(tuple(samples), reference) for name, samples in visits.items()}


def _spread(name: str, first: Mapping[str, float], second: Mapping[str, float]) -> dict[str, float]:
    differences = [abs(first[key] / second[key] - 1) for key in first]
    return {
        f"{name}_median": float(np.median(differences)),
        f"{name}_p95": float(np.percentile(differences, 95)),
    }


def _burn(seed: int) -> None:
    """Works for a while, rests for a while."""
    pauses = random.Random(seed)
    while True:
        end = time.monotonic() + pauses.uniform(0.3, 3)
        while time.monotonic() < end:
            sum(range(10_000))
        time.sleep(pauses.uniform(0.3, 3))


@contextmanager
def background_load() -> Iterator[None]:
    process = multiprocessing.get_context("spawn").Process(target=_burn, args=(0,), daemon=True)
    process.start()
    try:
        yield
    finally:
        process.kill()
        process.join()


def long_subnets(exporter: Exporter, count: int) -> list[Subnet]:
    """Random subnets that do about four fifths of the full network's work."""
    space = exporter.supernet.space
    genomes = space.sample(4096, np.random.default_rng(3))
    work = space.expand(genomes).multiply_adds
    full = space.expand(space.encode(exporter.supernet.dimensions.full_subnet)[None]).multiply_adds[0]
    nearest = np.argsort(np.abs(work - LONG_SHARE * full), kind="stable")[:count]
    return [space.decode(genomes[row]) for row in nearest]


def throughput(folder: Path, count: int) -> dict[str, float]:
    """Everything included: a new exporter, which quantizes the full network once, and a new worker."""
    start = time.monotonic()
    exporter = make_exporter(folder)
    subnets = long_subnets(exporter, count)
    anchor = exporter.sliced(exporter.supernet.dimensions.full_subnet)
    visits = time_ours({subnet.key: exporter.sliced(subnet) for subnet in subnets}, anchor, 1)
    elapsed_s = time.monotonic() - start
    reference = anchor_latency_of([samples for of_subnet in visits.values() for samples in of_subnet], WORKLOADS)
    latencies = [timing.latency_ms for timing in _timings(visits, reference).values()]
    return {"subnets_per_minute": 60 * len(visits) / elapsed_s, "throughput_latency_ms": float(np.median(latencies))}


def worker_memory(model: bytes) -> float | None:
    """Peak resident MiB of a worker that times one model, beyond the model's size; None where there is no /proc."""
    with LocalHost() as host:
        host.measure({}, Request(model, SETUP, WORKLOADS, TimingProtocol.fixed(30)))
        status = Path(f"/proc/{host.process_id}/status")
        if not status.is_file():
            return None
        peak_kib = next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return (peak_kib * 1024 - len(model)) / 2**20


def bundle_figures(exporter: Exporter, folder: Path, timed_count: int) -> dict[str, float]:
    """Of a bundle as ``ortnas bench --bundle`` writes it; some of its models are timed as its host would have them."""
    full = exporter.supernet.dimensions.full_subnet
    subnets = random_subnets(exporter, BUNDLED)
    path = folder / "bundle.zip"
    request = Request(exporter.build(full, "int8"), SETUP, WORKLOADS, source=exporter.sliced(full))
    plan = write_bundle(path, ((subnet.key, exporter.sliced(subnet)) for subnet in subnets), request, VISITS)
    bundle, digests = Bundle(path), dict(plan["models"])
    pairs = ((exporter.sliced(subnet), bundle.model(digests[subnet.key])) for subnet in subnets[:timed_count])
    return {"bundle_megabytes": path.stat().st_size / 1e6, "bundle_timing_ratio": rebuilt_ratio(pairs)}


def rebuilt_ratio(pairs: Iterable[tuple[bytes, bytes]]) -> float:
    """Median latency of rebuilt models in exported ones; which of the two is opened first alternates."""
    ratios = []
    for number, (exported, rebuilt) in enumerate(pairs):
        named = {"exported": exported, "rebuilt": rebuilt}
        order = list(named)[:: 1 - number % 2 * 2]
        sessions = {name: make_session(named[name], SETUP) for name in order}
        samples = time_interleaved(sessions, order[0], WORKLOADS, TimingProtocol.fixed(100))
        median_ns = {name: statistics.median(samples[name].model_ns[0]) for name in order}
        ratios.append(median_ns["rebuilt"] / median_ns["exported"])
    return statistics.median(ratios)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    console = Console(to_stderr=arguments.json)
    count, loaded_count, long_count = (30, 15, 15) if arguments.quick else (30, 30, 40)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_minilm(folder)
        exporter = make_exporter(folder)
        anchor = exporter.sliced(exporter.supernet.dimensions.full_subnet)
        models = {subnet.key: exporter.sliced(subnet) for subnet in random_subnets(exporter, count)}
        figures: dict[str, float | None] = {"worker_resident_mib": worker_memory(anchor)}
        figures |= throughput(folder, long_count)
        console.say(f"{figures['subnets_per_minute']:.0f} subnets a minute")
        figures |= bundle_figures(exporter, folder, loaded_count)
        console.say(
            f"a bundle of {BUNDLED} subnets has {figures['bundle_megabytes']:.0f} MB; its models take "
            f"{figures['bundle_timing_ratio']:.3f} of what they take as exported"
        )
        figures |= repeat(models, anchor)
        with background_load():
            loaded = repeat(dict(list(models.items())[:loaded_count]), anchor)
    figures |= {f"loaded_{name}": value for name, value in loaded.items()}
    rows = []
    for title, prefix in (("idle", ""), ("a load comes and goes", "loaded_")):
        for protocol, kind in (
            ("ours", "repeat"),
            ("ours, each run by its own anchor", "own_reference"),
            ("plain", "plain_repeat"),
        ):
            values = [figures[f"{prefix}{kind}_{figure}"] for figure in ("median", "p95")]
            rows.append((title, protocol, *(f"{value:.1%}" for value in values if value is not None)))
    console.table(f"The same {count} subnets timed twice", ("host", "protocol", "median difference", "95 %"), rows)
    console.say(
        f"\nnoise floor by our own visits {figures['noise_floor']:.1%}; {figures['subnets_per_minute']:.0f} subnets a "
        f"minute of {figures['throughput_latency_ms']:.1f} ms"
        + (f"; the worker takes {memory:.0f} MiB" if (memory := figures["worker_resident_mib"]) else "")
    )
    if arguments.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
