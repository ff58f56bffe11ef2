"""What raw samples say: latency, percentiles, how sure both are, and what repeating would change."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np

from .timing import Z_TWO_SIDED, Array, Samples, Workload, half_width

# 95 % point of the normal distribution: one tail.
_Z_ONE_SIDED = 1.645


@dataclass(frozen=True)
class AnchorLatency:
    """The anchor's usual latency in ms per workload, and each workload's share of the requests.

    All timings of a target are brought to it: a host that is slower for a while slows the anchor too.
    """

    anchor_ms: tuple[float, ...]
    shares: tuple[float, ...]

    @property
    def latency_ms(self) -> float:
        return self.weigh([1.0] * len(self.shares))

    def weigh(self, times_anchor: Sequence[float]) -> float:
        """Latency in ms over all requests, given what each workload takes in units of the anchor's latency."""
        return sum(
            value * anchor_ms * share
            for value, anchor_ms, share in zip(times_anchor, self.anchor_ms, self.shares, strict=True)
        )


@dataclass(frozen=True)
class Timing:
    """One model's samples, of one or more visits: each a fresh session at another time."""

    visits: tuple[Samples, ...]
    reference: AnchorLatency

    @property
    def visits_ms(self) -> Array:
        """Drift-corrected latency of each visit: the median over rounds of model / anchor, as ms of the reference."""
        return np.array(
            [self.reference.weigh([float(np.median(ratio)) for ratio in _ratios(visit)]) for visit in self.visits]
        )

    @property
    def latency_ms(self) -> float:
        """Drift-corrected p50; of several workloads their weighted mean."""
        return float(np.median(self.visits_ms))

    def percentile_ms(self, percent: float) -> float:
        """Drift-corrected latency below which ``percent`` of the inferences stay; weighted as ``latency_ms``."""
        if percent == 50:
            return self.latency_ms
        return self._of_samples(lambda model_ns: float(np.percentile(model_ns, percent)))

    @property
    def mean_ms(self) -> float:
        """Drift-corrected mean of the samples; weighted as ``latency_ms``. Under so many requests at a time, it is that
        many by the throughput (Little 1961): outliers, which a median passes over, count."""
        return self._of_samples(lambda model_ns: float(np.mean(model_ns)))

    def _of_samples(self, figure: Callable[[Sequence[int]], float]) -> float:
        """A figure of one row of samples, in the usual ms: median over visits."""
        visits = [
            self.reference.weigh(
                [
                    figure(model) / float(np.median(anchor))
                    for model, anchor in zip(visit.model_ns, visit.anchor_ns, strict=True)
                ]
            )
            for visit in self.visits
        ]
        return float(np.median(visits))

    @property
    def error(self) -> float:
        """Standard error of ``latency_ms`` as a share of it.

        The larger of what the rounds show and what the visits show: two sessions of one model differ by more than
        their rounds tell, since memory falls differently.
        """
        # A single round, as an imported figure is, tells nothing of its own error.
        several = [visit for visit in self.visits if len(visit.model_ns[0]) > 1]
        within = [max(map(half_width, _ratios(visit))) / Z_TWO_SIDED for visit in several]
        expected = math.sqrt(sum(value**2 for value in within)) / max(1, len(within))
        if len(self.visits) == 1:
            return expected
        return max(expected, float(np.std(self.visits_ms, ddof=1)) / math.sqrt(len(self.visits)) / self.latency_ms)

    @property
    def upper_ms(self) -> float:
        """One-sided 95 % confidence bound of ``latency_ms``."""
        return self.latency_ms * (1 + _Z_ONE_SIDED * self.error)

    @property
    def spread_ms(self) -> float:
        """Half the width of the middle half of the samples, drift-corrected."""
        return (self.percentile_ms(75) - self.percentile_ms(25)) / 2

    @property
    def drift(self) -> float:
        """How much slower than the reference the host was."""
        slowed = [
            self.reference.weigh(
                [
                    float(np.median(row)) / 1e6 / usual
                    for row, usual in zip(visit.anchor_ns, self.reference.anchor_ms, strict=True)
                ]
            )
            for visit in self.visits
        ]
        return float(np.median(slowed)) / self.reference.latency_ms


def _ratios(samples: Samples) -> list[Array]:
    """Model / anchor of every round, per workload."""
    return [np.divide(model, anchor) for model, anchor in zip(samples.model_ns, samples.anchor_ns, strict=True)]


def anchor_latency_of(visits: Sequence[Samples], workloads: Sequence[Workload]) -> AnchorLatency:
    """The anchor's usual latency over many visits: the median of their medians."""
    total = sum(workload.weight for workload in workloads)
    anchor_ms = [
        float(np.median([np.median(visit.anchor_ns[part]) for visit in visits])) / 1e6 for part in range(len(workloads))
    ]
    return AnchorLatency(tuple(anchor_ms), tuple(workload.weight / total for workload in workloads))


def noise_floor(timings: Collection[Timing]) -> float | None:
    """Mean share by which repeating all visits of a model would change its latency; None without repeated visits.

    Two visits differ by sqrt(visits) times what the means of so many of them differ by.
    """
    differences = [
        abs(float(timing.visits_ms[0] / timing.visits_ms[1]) - 1) / math.sqrt(len(timing.visits))
        for timing in timings
        if len(timing.visits) > 1
    ]
    return float(np.mean(differences)) if differences else None
