"""Models that decisions rest on -> their timings on the run's target."""

from __future__ import annotations

from collections.abc import Mapping

from bench.estimates import Reference, Timing
from bench.timing import Protocol
from bench.visits import time_models
from nas.run import Run

# What is shipped is timed longer than what a predictor is fitted to.
_VISITS, _CAP_S = 3, 2.0


def time_finally(run: Run, models: Mapping[str, bytes], reference: Reference | None = None) -> dict[str, Timing]:
    """As ``bench.visits.time_models``, beside the run's anchor. Raises HostError where a model fails."""
    target = run.target
    protocol = Protocol(share=run.configuration.bench.confidence, cap_s=_CAP_S)
    with run.console.progress("timing") as report:
        return time_models(
            models, run.anchor, target.setup, target.workloads, run.host, _VISITS, protocol, reference, report
        )
