"""Sampled subnets -> measurement store."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ortnas.bench.estimates import Reference, Timing, noise_floor
from ortnas.bench.host import Failure
from ortnas.bench.store import Measurement, Store, StoreError, timings
from ortnas.bench.timing import Z_TWO_SIDED, Samples, half_width
from ortnas.bench.visits import GROUP_SIZE
from ortnas.nas.architecture.space import Genomes
from ortnas.nas.architecture.subnet import Subnet
from ortnas.nas.run.run import Run
from ortnas.nas.stages.fit import budget_in_ms, fit_timings
from ortnas.nas.stages.packaging import coverage
from ortnas.predictors.fitting import MINIMUM_MEASUREMENTS, Predictor
from ortnas.predictors.survey import most_useful, stratified

_FAILURES_IN_A_ROW = 5
# Subnets whose models the host holds at a time: their visits are this far apart.
_CHUNK = 20
# An active run starts with so many, and adds so many at a time.
_FIRST, _MORE = 40, 20


def bench(run: Run) -> dict[str, Any]:
    """Times ``bench.subnets`` subnets on the target; visits in the store are not made again.

    With ``bench.until_error`` or ``bench.minutes`` it starts with fewer, and adds those that the predictor needs most
    until the goal is met. Raises StoreError and HostError.
    """
    settings, precision, target = run.configuration.bench, run.configuration.precision, run.target
    active = settings.until_error is not None or settings.minutes is not None
    requests = ", ".join(workload.describe() for workload in target.workloads)
    run.console.heading(
        f"bench: time {'subnets until the goal is met' if active else f'{settings.subnets} subnets'}",
        f"Each is exported to {precision.upper()} ONNX and timed on {place(run)} ({target.setup.threads} thread(s), "
        f"batch {requests}), in turn with the full model, in {settings.visits} sessions at different times.",
    )
    if precision == "int8":
        # All subnets have the full network's operators, so what holds for it holds for them.
        coverage(run, run.exporter.sliced(run.supernet.dimensions.full_subnet), precision)
    with Store(run.store_file) as store:
        check_target(run, store)
        survey = _Survey(run, store)
        ending = _until_goal(survey) if active else _all_at_once(survey)
        usable, reference = timings(survey.rows(), target.workloads)
    return _conclude(run, usable, reference, survey, ending)


def place(run: Run) -> str:
    """Where timings are taken, for people."""
    return "this machine" if run.host.name == "local" else run.host.name


def check_target(run: Run, store: Store) -> None:
    """Raises StoreError where the store holds timings of the same host as it was before something changed."""
    if run.configuration.bench.new_target:
        return
    known = [target for target, host in store.targets() if host == run.host.name]
    alike = [
        target
        for target in known
        if (target.setup, len(target.workloads)) == (run.target.setup, len(run.target.workloads))
    ]
    if not alike or any(target.hash == run.target.hash for target in known):
        return
    differences = min((run.target.differences(target) for target in alike), key=len)
    workloads = {"batch", "sequence", "weight", "vocab_size"}
    if all(difference.split(":")[0].split()[-1] in workloads for difference in differences):
        return
    raise StoreError(
        f"{run.store_file} holds timings of {place(run)} when it was different ({'; '.join(differences)}); timings of "
        f"both never mix. --new-target starts a second data set beside the first"
    )


def _all_at_once(survey: _Survey) -> str:
    survey.add(stratified(survey.run.supernet.space, survey.run.configuration.bench.subnets, survey.rng()))
    return ""


def _until_goal(survey: _Survey) -> str:
    """Adds subnets where the predictor is least sure and around the budgets; says why it ended."""
    run, settings = survey.run, survey.run.configuration.bench
    until = None if settings.minutes is None else time.monotonic() + settings.minutes * 60
    survey.until = until
    survey.add(stratified(run.supernet.space, min(_FIRST, settings.subnets), survey.rng()))
    while True:
        predictor = survey.predictor()
        if predictor is not None:
            error = predictor.quality.mean_error
            run.console.say(f"{predictor.quality.measurements} subnets: error {error:.1%} on held-out timings")
            if settings.until_error is not None and error <= settings.until_error:
                return f"the error of {settings.until_error:.1%} is reached"
        if until is not None and time.monotonic() >= until:
            return f"{settings.minutes:g} minutes are over"
        if until is None and survey.count >= max(settings.subnets, _FIRST):
            return f"{survey.count} subnets (bench.subnets) did not reach the error of {settings.until_error:.1%}"
        before = survey.count
        survey.add(survey.next_ones(predictor, _MORE))
        if survey.count == before:
            return "the space holds no more subnets"


@dataclass
class _Survey:
    """Subnets under measurement and the rows that the store has of them."""

    run: Run
    store: Store
    until: float | None = None
    failed: int = 0

    def rng(self) -> np.random.Generator:
        return np.random.default_rng(self.run.configuration.seed)

    def rows(self) -> list[Measurement]:
        return self.run.measurements(self.store)

    @property
    def count(self) -> int:
        return len({row.subnet_key for row in self.rows()})

    def predictor(self) -> Predictor | None:
        usable, _ = timings(self.rows(), self.run.target.workloads)
        return fit_timings(self.run, self.rows(), usable) if len(usable) >= MINIMUM_MEASUREMENTS else None

    def next_ones(self, predictor: Predictor | None, n: int) -> Genomes:
        """Where another measurement tells most; which ones depends only on what was measured."""
        space = self.run.supernet.space
        measured = np.stack([space.encode(Subnet.from_json(row.subnet)) for row in self.rows()])
        rng = np.random.default_rng([self.run.configuration.seed, len(measured)])
        if predictor is None:
            return stratified(space, n, rng, taken=measured)
        _, reference = timings(self.rows(), self.run.target.workloads)
        budgets = [budget_in_ms(budget, reference.latency_ms) for budget in self.run.configuration.search.budgets]
        return most_useful(space, predictor, measured, n, budgets, rng)

    def add(self, genomes: Genomes) -> None:
        """Makes the visits that these subnets lack, each stored at once; stops where the time is over."""
        run, wanted = self.run, self.run.configuration.bench.visits
        subnets = {subnet.key: subnet for subnet in map(run.supernet.space.decode, genomes)}
        made = dict.fromkeys(subnets, 0)
        rows = self.rows()
        for row in rows:
            if row.subnet_key in made:
                # A model that failed is not tried again.
                made[row.subnet_key] = wanted if row.state == "failed" else made[row.subnet_key] + 1
        total = wanted * len(subnets)
        failures_in_a_row = 0
        with run.console.progress("bench") as report:
            report(sum(made.values()), total, "")
            for number, group in self._groups(subnets, made, wanted):
                if self.until is not None and time.monotonic() >= self.until:
                    return
                for measurement in self._visit(number, group):
                    if measurement.state == "failed":
                        self.failed += 1
                        failures_in_a_row += 1
                        made[measurement.subnet_key] = wanted
                    else:
                        failures_in_a_row = 0
                        made[measurement.subnet_key] += 1
                    if failures_in_a_row == _FAILURES_IN_A_ROW:
                        raise StoreError(
                            f"{failures_in_a_row} measurements failed in a row, the last with: {measurement.reason}"
                        )
                report(sum(made.values()), total, "")

    def _groups(
        self, subnets: dict[str, Subnet], made: dict[str, int], wanted: int
    ) -> Iterator[tuple[int, dict[str, Subnet]]]:
        """Groups of subnets for one visit each, with its number, in new company every time.

        They are formed of all subnets, made or not, so that a run that goes on after a kill has the same ones.
        """
        order = list(subnets)
        self.rng().shuffle(order)
        for start in range(0, len(order), _CHUNK):
            chunk = order[start : start + _CHUNK]
            for number in range(wanted):
                company = list(chunk)
                np.random.default_rng(number).shuffle(company)
                for first in range(0, len(company), GROUP_SIZE):
                    due = [key for key in company[first : first + GROUP_SIZE] if made[key] <= number]
                    if due:
                        yield number, {key: subnets[key] for key in due}
            self.run.host.forget()

    def _visit(self, number: int, group: dict[str, Subnet]) -> list[Measurement]:
        run = self.run
        exporter, precision = run.exporter, run.configuration.precision
        # Latency depends on the graph, not on the values in it.
        models = {
            key: exporter.sliced(subnet) if precision == "int8" else exporter.build(subnet, precision)
            for key, subnet in group.items()
        }
        found = run.host.measure(models, run.request, number)
        measurements = [measurement_of(group[key], result, run.protocol.share) for key, result in found.items()]
        self.store.add(run.target, run.host.name, precision, run.timed_model, measurements)
        return measurements


def measurement_of(subnet: Subnet, found: Samples | Failure, share: float) -> Measurement:
    """A row for the store; ``unstable`` where the median is not known within ± ``share``."""
    if isinstance(found, Failure):
        return Measurement(subnet.key, subnet.to_json(), "failed", found.reason, None)
    pairs = zip(found.model_ns, found.anchor_ns, strict=True)
    wide = max(half_width(np.divide(model, anchor)) for model, anchor in pairs)
    state, reason = ("ok", "") if wide <= share else ("unstable", f"median known within {wide:.1%}, not {share:.1%}")
    return Measurement(subnet.key, subnet.to_json(), state, reason, found)


def _conclude(
    run: Run, usable: dict[str, Timing], reference: Reference, survey: _Survey, ending: str
) -> dict[str, Any]:
    latencies = [timing.latency_ms for timing in usable.values()]
    floor = noise_floor(usable.values())
    unstable = sum(Z_TWO_SIDED * timing.error > run.protocol.share for timing in usable.values())
    if ending:
        run.console.say(ending)
    rows = [
        ("subnets timed", str(len(usable))),
        ("failed", str(survey.failed)),
        (f"known less well than ± {run.protocol.share:.1%}", str(unstable)),
        ("fastest to slowest", f"{min(latencies):.2f} to {max(latencies):.2f} ms"),
        ("full model", f"{reference.latency_ms:.2f} ms"),
        ("repeating a timing changes it by", "unknown" if floor is None else f"{floor:.1%} on average"),
    ]
    run.console.table("Timings", ("figure", "value"), rows)
    run.event("bench", measurements=len(usable), failed=survey.failed, reference_ms=reference.latency_ms, ending=ending)
    return {
        "measurements": len(usable),
        "failed": survey.failed,
        "unstable": unstable,
        "noise_floor": floor,
        "full_latency_ms": reference.latency_ms,
        "fastest_ms": min(latencies),
        "target": run.target.hash,
        "ending": ending,
    }
