"""Latencies of subnets for ``predictor_accuracy``: timed on this host, simulated, or read from a file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ortnas.bench.estimates import Timing, anchor_latency_of, noise_floor
from ortnas.bench.request import Request
from ortnas.bench.session import Setup
from ortnas.bench.simulated import SimulatedHost, cost_ms
from ortnas.bench.target import Target
from ortnas.bench.timing import Samples, TimingProtocol, Workload
from ortnas.bench.worker_host import LocalHost
from ortnas.export.build import Exporter
from ortnas.export.graph.model import LAYOUT_VERSION
from ortnas.nas.architecture.presets import covering
from ortnas.nas.architecture.space import SearchSpace
from ortnas.nas.architecture.subnet import Subnet
from ortnas.nas.console import Console
from ortnas.nas.files import append_line, read_lines
from ortnas.nas.stages.stored_timings import imported_target
from ortnas.predictors.fitting import Predictor, fit_predictor
from ortnas.predictors.latency_files import read_latency_file
from ortnas.predictors.survey import stratified
from tests.performance.rival_predictors import Array

RECORDINGS = Path("runs") / "predictor_accuracy"
GROUP, VISITS, SAMPLE_SEED = 5, 2, 20


class Setting(NamedTuple):
    threads: int
    sequence: int

    @property
    def name(self) -> str:
        return f"int8-{self.threads}x{self.sequence}"


@dataclass(frozen=True)
class Dataset:
    """Measured subnets of one target; ``errors`` None where nothing is known of single timings."""

    space: SearchSpace
    genomes: Array
    latency_ms: Array
    errors: Array | None
    target: Target
    noise_floor: float | None

    def __len__(self) -> int:
        return len(self.latency_ms)

    def rows(self, chosen: Array) -> Dataset:
        errors = None if self.errors is None else self.errors[chosen]
        return replace(self, genomes=self.genomes[chosen], latency_ms=self.latency_ms[chosen], errors=errors)

    def fit_predictor(self) -> Predictor:
        return fit_predictor(
            self.space, self.genomes, self.latency_ms, self.errors, self.target, "int8", self.noise_floor, "measured"
        )

    def error_of(self, predicted_ms: Array) -> float:
        return float(np.abs(predicted_ms / self.latency_ms - 1).mean())


def record(
    exporter: Exporter, host: LocalHost, setting: Setting, count: int, cap_s: float, is_fresh: bool, console: Console
) -> Dataset:
    """Timings of ``count`` subnets on this host, those of an earlier run of this script among them."""
    space = exporter.supernet.space
    setup, workloads = Setup(threads=setting.threads), (Workload(1, setting.sequence),)
    target = Target(host.hello()["fingerprint"], setup, workloads)
    header = {"target": target.hash, "space": space.to_json(), "layout": LAYOUT_VERSION, "cap_s": cap_s}
    header |= {"subnets": count, "seed": SAMPLE_SEED}
    path = RECORDINGS / f"{setting.name}-{count}.jsonl"
    lines = [] if is_fresh else read_lines(path)
    if not lines or lines[0] != header:
        path.unlink(missing_ok=True)
        append_line(path, header)
        lines = []
    genomes = stratified(space, count, np.random.default_rng(SAMPLE_SEED))
    visits: dict[int, list[Samples]] = {row: [] for row in range(len(genomes))}
    for line in lines[1:]:
        visits[line["row"]].append(Samples.from_json(line))
    rng = np.random.default_rng(SAMPLE_SEED)
    anchor = exporter.sliced(exporter.supernet.dimensions.full_subnet)
    request = Request(anchor, setup, workloads, TimingProtocol(cap_s=cap_s))
    with console.progress(f"timing, {setting.threads} thread(s), {setting.sequence} tokens") as report:
        # Both visits far apart, and in other company: what drifts slowly is noise of a timing, too.
        for visit in range(VISITS):
            order = [row for row in rng.permutation(len(genomes)).tolist() if len(visits[row]) <= visit]
            for start in range(0, len(order), GROUP):
                group = {str(row): exporter.sliced(space.decode(genomes[row])) for row in order[start : start + GROUP]}
                for name, samples in host.measure(group, request, visit).items():
                    if not isinstance(samples, Samples):
                        raise SystemExit(f"subnet {name} could not be timed: {samples.reason}")
                    visits[int(name)].append(samples)
                    append_line(path, {"row": int(name), **samples.to_json()})
                host.forget()
                report(sum(map(len, visits.values())), VISITS * len(genomes), "")
    reference = anchor_latency_of([samples for of_subnet in visits.values() for samples in of_subnet], workloads)
    timings = [Timing(tuple(visits[row]), reference) for row in range(len(genomes))]
    latency_ms, errors = (np.array([getattr(timing, name) for timing in timings]) for name in ("latency_ms", "error"))
    return Dataset(space, genomes, latency_ms, errors, target, noise_floor(timings))


def simulate(space: SearchSpace, genomes: Array, setting: Setting, noise: float, seed: int) -> Dataset:
    """The simulated host's costs with normal noise."""
    setup, workload = Setup(threads=setting.threads), Workload(1, setting.sequence)
    costs = np.array([cost_ms(space.decode(genome).to_json(), workload, setup) for genome in genomes])
    latency_ms = costs * np.exp(noise * np.random.default_rng(seed).standard_normal(len(costs)))
    target = Target(SimulatedHost().hello()["fingerprint"], setup, (workload,))
    # Two visits' means differ by the noise of one: sqrt(2) * noise / sqrt(2), 0.8 of it on average.
    return Dataset(space, genomes, latency_ms, None, target, noise * float(np.sqrt(2 / np.pi) * np.sqrt(2)))


def read_file(path: Path) -> Dataset:
    """A latency file as AutoTinyBERT's; such a file names no host."""
    read = read_latency_file(path)
    subnets = [Subnet.from_json(document) for document, _ in read]
    space = covering(subnets)
    target = imported_target(path, Setup(), Workload(1, 128))
    genomes = np.stack([space.encode(subnet) for subnet in subnets])
    return Dataset(space, genomes, np.array([ms for _, ms in read]), None, target, None)
