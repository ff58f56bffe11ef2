"""Sampled subnets -> measurement store."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.hosts import HostError
from bench.store import Measurement, Store, StoreError, timings
from nas.run import Run
from nas.space import Genomes, SearchSpace
from nas.stages.comparison import coverage

_POOL = 4096
_FAILURES_IN_A_ROW = 5


def bench(run: Run) -> dict[str, Any]:
    """Times ``bench.subnets`` subnets on the target; those in the store are not timed again. Raises StoreError."""
    wanted = run.configuration.bench.subnets
    precision = run.configuration.precision
    host = run.configuration.target
    run.console.heading(
        f"bench: time {wanted} subnets",
        f"Each is exported to {precision.upper()} ONNX and timed on this machine in a process of its own "
        f"({host.threads} thread(s), batch {host.batch} x {host.sequence} tokens), in turn with the full model.",
    )
    space = run.supernet.space
    if precision == "int8":
        # All subnets have the full network's operators, so what holds for it holds for them.
        coverage(run, run.exporter.sliced(run.supernet.dimensions.full_subnet), precision)
    genomes = stratified_sample(space, wanted, np.random.default_rng(run.configuration.seed))
    with Store(run.store_file) as store:
        done = {row.subnet_key for row in store.measurements(run.target, precision, run.timed_model)}
        failures = 0
        with run.console.progress("bench") as report:
            for number, genome in enumerate(genomes, start=1):
                subnet = space.decode(genome)
                if subnet.key not in done:
                    measurement = _measure(run, subnet.key, genome)
                    store.add(run.target, precision, run.timed_model, measurement)
                    failures = failures + 1 if measurement.state == "failed" else 0
                    if failures == _FAILURES_IN_A_ROW:
                        raise StoreError(
                            f"{failures} measurements failed in a row, the last with: {measurement.reason}"
                        )
                report(number, len(genomes), "")
        rows = store.measurements(run.target, precision, run.timed_model)
    usable, reference_ms = timings(rows)
    failed = sum(row.state == "failed" for row in rows)
    latencies = [timing.latency_ms for timing in usable.values()]
    run.console.say(
        f"{len(usable)} subnets timed, {min(latencies):.2f} to {max(latencies):.2f} ms; the full model takes "
        f"{reference_ms:.2f} ms" + (f"; {failed} failed" if failed else "")
    )
    run.event("bench", measurements=len(usable), failed=failed, reference_ms=reference_ms)
    return {
        "measurements": len(usable),
        "failed": failed,
        "full_latency_ms": reference_ms,
        "fastest_ms": min(latencies),
        "target": run.target.hash,
    }


def _measure(run: Run, key: str, genome: Genomes) -> Measurement:
    subnet = run.supernet.space.decode(genome)
    try:
        exporter, precision = run.exporter, run.configuration.precision
        # Latency depends on the graph, not on the values in it.
        model = exporter.sliced(subnet) if precision == "int8" else exporter.build(subnet, precision)
        models = {"subnet": model, "anchor": run.anchor}
        samples = run.host.measure(models, run.target.setup, run.target.workload, run.protocol)
        if model != run.anchor:
            run.host.drop(model)
    except HostError as error:
        return Measurement(key, subnet.to_json(), "failed", str(error), (), ())
    return Measurement(key, subnet.to_json(), "ok", "", tuple(samples["subnet"]), tuple(samples["anchor"]))


def stratified_sample(space: SearchSpace, n: int, rng: np.random.Generator) -> Genomes:
    """Up to n distinct genomes (n, genes): smallest, largest, and one from each of n - 2 strata of multiply-adds."""
    ends = np.unique([space.encode(space.smallest), space.encode(space.largest)], axis=0)
    pool = np.unique(space.sample(_POOL, rng), axis=0)
    pool = pool[~(pool[:, None] == ends).all(2).any(1)]
    order = np.argsort(space.expand(pool).multiply_adds, kind="stable")
    strata = [stratum for stratum in np.array_split(order, n - len(ends)) if len(stratum)]
    return np.concatenate([ends, pool[[int(rng.choice(stratum)) for stratum in strata]]])
