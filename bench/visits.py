"""Models -> timings: several visits of each, a few models at a time beside the anchor, in new company every time."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from .estimates import AnchorLatency, Timing, anchor_latency_of
from .host import Failure, Host, HostError
from .request import Request
from .timing import Samples
from .worker_host import LocalHost

# Models that take turns: more share one anchor's time, fewer wait less long for it.
GROUP_SIZE = 5

# What is done, of how many, and a remark.
Report = Callable[[int, int, str], None]


def time_models(
    models: Mapping[str, bytes],
    request: Request,
    host: Host | None = None,
    visits: int = 2,
    reference: AnchorLatency | None = None,
    report: Report | None = None,
) -> dict[str, Timing]:
    """Timings of ONNX models with BERT's inputs, by name, on ``host`` (this machine where none is given).

    Each model is timed in ``visits`` sessions at different times, in turn with the request's anchor, whose slow moments
    count as the host's. Latencies
    refer to the anchor's own over all visits, or to ``reference``. Raises HostError where a model cannot be timed.
    """
    if not models:
        return {}
    if host is None:
        with LocalHost() as local:
            return time_models(models, request, local, visits, reference, report)
    samples: dict[str, list[Samples]] = {name: [] for name in models}
    names = list(models)
    for number in range(visits):
        shift = number % len(names)
        order = names[shift:] + names[:shift]
        for start in range(0, len(order), GROUP_SIZE):
            group = {name: models[name] for name in order[start : start + GROUP_SIZE]}
            for name, result in host.measure(group, request, number).items():
                if isinstance(result, Failure):
                    raise HostError(f"{host.name} could not time {name}: {result.reason}")
                samples[name].append(result)
            if report is not None:
                report(number * len(names) + start + len(group), visits * len(names), "")
    host.forget()
    if reference is None:
        reference = anchor_latency_of(
            [visit for visits_made in samples.values() for visit in visits_made], request.workloads
        )
    return {name: Timing(tuple(visits_made), reference) for name, visits_made in samples.items()}
