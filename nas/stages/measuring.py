"""Models -> timings on the target, a few at a time beside the full model."""

from __future__ import annotations

from collections.abc import Mapping

from bench.estimates import Reference, Timing, reference_of
from bench.hosts import Failure, HostError
from bench.timing import Protocol, Samples
from nas.run import Run

# Models that take turns: more share one anchor's time, fewer wait less long for it.
GROUP_SIZE = 5
# What is shipped is timed longer than what a predictor is fitted to.
FINAL_VISITS = 3
_FINAL_CAP_S = 2.0


def visit(run: Run, models: Mapping[str, bytes], protocol: Protocol) -> dict[str, Samples | Failure]:
    """One visit of each model, at most GROUP_SIZE of them. Raises HostError where the host itself fails."""
    return run.host.measure(models, run.anchor, run.target.setup, run.target.workloads, protocol)


def time_finally(run: Run, models: Mapping[str, bytes], reference: Reference | None = None) -> dict[str, Timing]:
    """Timings of models that decisions rest on, each visited several times.

    They refer to the anchor's latency here where no reference is given. Raises HostError where a model fails.
    """
    protocol = Protocol(share=run.configuration.bench.confidence, cap_s=_FINAL_CAP_S)
    visits: dict[str, list[Samples]] = {name: [] for name in models}
    names = list(models)
    with run.console.progress("timing") as report:
        for number in range(FINAL_VISITS):
            # Other neighbours in every pass.
            order = names[number:] + names[:number]
            for start in range(0, len(order), GROUP_SIZE):
                group = {name: models[name] for name in order[start : start + GROUP_SIZE]}
                for name, found in visit(run, group, protocol).items():
                    if isinstance(found, Failure):
                        raise HostError(f"{run.host.name} could not time {name}: {found.reason}")
                    visits[name].append(found)
                report(number * len(names) + start + len(group), FINAL_VISITS * len(names), "")
    run.host.forget()
    if reference is None:
        reference = reference_of([one for found in visits.values() for one in found], run.target.workloads)
    return {name: Timing(tuple(found), reference) for name, found in visits.items()}
