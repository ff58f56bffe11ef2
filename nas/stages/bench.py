"""Sampled subnets -> measurement store."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ortnas.bench.estimates import AnchorLatency, Timing, noise_floor
from ortnas.bench.host import Failure
from ortnas.bench.store import Measurement, Store, StoreError, timings
from ortnas.bench.timing import Z_TWO_SIDED, Samples, half_width
from ortnas.bench.visits import GROUP_SIZE
from ortnas.nas.architecture.space import Genomes
from ortnas.nas.architecture.subnet import Subnet
from ortnas.nas.console import Console
from ortnas.nas.run.configuration import Configuration
from ortnas.nas.run.folder import RunFolder
from ortnas.nas.run.models import Models
from ortnas.nas.run.target import RunTarget
from ortnas.nas.stages.fit import fit_timings
from ortnas.nas.stages.packaging import coverage
from ortnas.predictors.fitting import MINIMUM_MEASUREMENTS, Predictor
from ortnas.predictors.survey import most_useful, stratified

_FAILURES_IN_A_ROW = 5
# Subnets whose models the host holds at a time: their visits are this far apart.
_CHUNK = 20
# An active run starts with so many, and adds so many at a time.
_FIRST, _MORE = 40, 20


def bench(
    configuration: Configuration,
    console: Console,
    run_folder: RunFolder,
    run_target: RunTarget,
    run_models: Models,
    most_s: float | None = None,
) -> dict[str, Any]:
    """Times ``bench.subnets`` subnets on the target; visits in the store are not made again.

    Where they take longer than ``most_s`` seconds, it ends with fewer, but not with less than a predictor needs.
    With ``bench.until_error`` or ``bench.minutes`` it starts with fewer, and adds those that the predictor needs most
    until the goal is met. Raises StoreError and HostError.
    """
    settings, precision, target = configuration.bench, configuration.precision, run_models.target
    active = settings.until_error is not None or settings.minutes is not None
    requests = ", ".join(workload.describe() for workload in target.workloads)
    console.heading(
        f"bench: time {'subnets until the goal is met' if active else f'{settings.subnets} subnets'}",
        f"Each is exported to {precision.upper()} ONNX and timed on {place(run_target)} ({target.setup.describe()}, "
        f"batch {requests}), in turn with the full model, in {settings.visits} sessions at different times.",
    )
    if precision == "int8":
        # All subnets have the full network's operators, so what holds for it holds for them.
        coverage(configuration, run_models, run_models.source, precision)
    with Store(run_folder.store_file) as store:
        if store.notice:
            console.say(store.notice)
        check_target(configuration, run_folder, run_target, run_models, store)
        survey = _Survey(configuration, console, run_target, run_models, store)
        ending = _until_goal(survey) if active else _all_at_once(survey, most_s)
        usable, reference = timings(survey.rows(), target.workloads)
    return _conclude(console, run_folder, run_target, run_models, usable, reference, survey, ending)


def place(run_target: RunTarget) -> str:
    """Where timings are taken, for people."""
    return "this machine" if run_target.host.name == "local" else run_target.host.name


def check_target(
    configuration: Configuration, run_folder: RunFolder, run_target: RunTarget, run_models: Models, store: Store
) -> None:
    """Raises StoreError where the store holds timings of the same host as it was before something changed."""
    if configuration.bench.new_target:
        return
    of_host = [target for target, host in store.targets() if host == run_target.host.name]
    alike = [
        target
        for target in of_host
        if (target.setup, len(target.workloads)) == (run_models.target.setup, len(run_models.target.workloads))
    ]
    if not alike or any(target.hash == run_models.target.hash for target in of_host):
        return
    differences = min((run_models.target.differences(target) for target in alike), key=len)
    workloads = {"batch", "sequence", "weight", "vocab_size", "fixed", "mask"}
    if all(difference.split(":")[0].split()[-1] in workloads for difference in differences):
        return
    raise StoreError(
        f"{run_folder.store_file} holds timings of {place(run_target)} when it was different "
        f"({'; '.join(differences)}); timings of both never mix. --new-target starts a second data set beside the first"
    )


def _all_at_once(survey: _Survey, most_s: float | None) -> str:
    chosen = stratified(survey.run_models.supernet.space, survey.configuration.bench.subnets, survey.rng())
    if most_s is None:
        survey.add(chosen)
        return ""
    until = time.monotonic() + most_s
    # They come from the cheapest to the dearest, and may not all be timed.
    chosen = survey.rng().permutation(chosen)
    survey.add(chosen[:_FIRST])
    survey.until = until
    survey.add(chosen[_FIRST:])
    if survey.count >= len(chosen):
        return ""
    return f"{survey.count} of {len(chosen)} subnets were timed in the time that is planned for it"


def _until_goal(survey: _Survey) -> str:
    """Adds subnets where the predictor is least sure and around the budgets; says why it ended."""
    settings = survey.configuration.bench
    until = None if settings.minutes is None else time.monotonic() + settings.minutes * 60
    survey.until = until
    survey.add(stratified(survey.run_models.supernet.space, min(_FIRST, settings.subnets), survey.rng()))
    while True:
        predictor = survey.predictor()
        if predictor is not None:
            error = predictor.quality.mean_error
            survey.console.say(f"{predictor.quality.measurements} subnets: error {error:.1%} on held-out timings")
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

    configuration: Configuration
    console: Console
    run_target: RunTarget
    run_models: Models
    store: Store
    until: float | None = None
    failed: int = 0

    def rng(self) -> np.random.Generator:
        return np.random.default_rng(self.configuration.seed)

    def rows(self) -> list[Measurement]:
        return self.run_models.measurements(self.store)

    @property
    def count(self) -> int:
        return len({row.subnet_key for row in self.rows()})

    def predictor(self) -> Predictor | None:
        usable, _ = timings(self.rows(), self.run_models.target.workloads)
        if len(usable) < MINIMUM_MEASUREMENTS:
            return None
        return fit_timings(self.configuration, self.run_models, self.rows(), usable)

    def next_ones(self, predictor: Predictor | None, n: int) -> Genomes:
        """Where another measurement tells most; which ones depends only on what was measured."""
        space = self.run_models.supernet.space
        measured = np.stack([space.encode(Subnet.from_json(row.subnet)) for row in self.rows()])
        rng = np.random.default_rng([self.configuration.seed, len(measured)])
        if predictor is None:
            return stratified(space, n, rng, taken=measured)
        _, reference = timings(self.rows(), self.run_models.target.workloads)
        concurrency = self.configuration.target.concurrency
        budgets = [budget.limit_ms(reference.latency_ms, concurrency) for budget in self.configuration.search.budgets]
        return most_useful(space, predictor, measured, n, budgets, rng)

    def add(self, genomes: Genomes) -> None:
        """Makes the visits that these subnets lack, each stored at once; stops where the time is over."""
        wanted = self.configuration.bench.visits
        subnets = {subnet.key: subnet for subnet in map(self.run_models.supernet.space.decode, genomes)}
        made = dict.fromkeys(subnets, 0)
        rows = self.rows()
        for row in rows:
            if row.subnet_key in made:
                # A model that failed is not tried again.
                made[row.subnet_key] = wanted if row.state == "failed" else made[row.subnet_key] + 1
        total = wanted * len(subnets)
        failures_in_a_row = 0
        with self.console.progress("bench") as report:
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
            self.run_target.host.forget()

    def _visit(self, number: int, group: dict[str, Subnet]) -> list[Measurement]:
        precision = self.configuration.precision
        models = {key: self.run_models.for_timing(subnet) for key, subnet in group.items()}
        request = replace(self.run_models.request, source=self.run_models.source)
        results = self.run_target.host.measure(models, request, number)
        measurements = [
            measurement_of(group[key], result, self.run_target.protocol.share) for key, result in results.items()
        ]
        self.store.add(
            self.run_models.target, self.run_target.host.name, precision, self.run_models.timed_model, measurements
        )
        return measurements


def measurement_of(subnet: Subnet, result: Samples | Failure, share: float) -> Measurement:
    """A row for the store; ``unstable`` where the median is not known within ± ``share``."""
    if isinstance(result, Failure):
        return Measurement(subnet.key, subnet.to_json(), "failed", result.reason, None)
    pairs = zip(result.model_ns, result.anchor_ns, strict=True)
    wide = max(half_width(np.divide(model, anchor)) for model, anchor in pairs)
    state, reason = ("ok", "") if wide <= share else ("unstable", f"median known within {wide:.1%}, not {share:.1%}")
    return Measurement(subnet.key, subnet.to_json(), state, reason, result)


def _conclude(
    console: Console,
    run_folder: RunFolder,
    run_target: RunTarget,
    run_models: Models,
    usable: dict[str, Timing],
    reference: AnchorLatency,
    survey: _Survey,
    ending: str,
) -> dict[str, Any]:
    latencies = [timing.latency_ms for timing in usable.values()]
    floor = noise_floor(usable.values())
    unstable = sum(Z_TWO_SIDED * timing.error > run_target.protocol.share for timing in usable.values())
    if ending:
        console.say(ending)
    rows = [
        ("subnets timed", str(len(usable))),
        ("failed", str(survey.failed)),
        (f"known less well than ± {run_target.protocol.share:.1%}", str(unstable)),
        ("fastest to slowest", f"{min(latencies):.2f} to {max(latencies):.2f} ms"),
        ("full model", f"{reference.latency_ms:.2f} ms"),
        ("repeating a timing changes it by", "unknown" if floor is None else f"{floor:.1%} on average"),
    ]
    console.table("Timings", ("figure", "value"), rows)
    run_folder.event(
        "bench", measurements=len(usable), failed=survey.failed, reference_ms=reference.latency_ms, ending=ending
    )
    return {
        "measurements": len(usable),
        "failed": survey.failed,
        "unstable": unstable,
        "noise_floor": floor,
        "full_latency_ms": reference.latency_ms,
        "fastest_ms": min(latencies),
        "target": run_models.target.hash,
        "ending": ending,
    }
