"""How good a predictor is, and how far above its predictions a latency can lie: both from measurements held out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from scipy.stats import kendalltau

from ortnas.nas.arrays import Vector

# Fewer subnets in a window say nothing about their order.
_WINDOW_SUBNETS = 4
# Predictions that err nearly as much as one and the same figure for all subnets have learnt nothing.
_LEARNT_SHARE = 0.9


@dataclass(frozen=True)
class Quality:
    """Figures on measurements that the fitted model had not seen (cross-validation). Shares and errors are fractions.

    ``within_5`` and ``within_10`` are the shares of errors of at most 5 and 10 %, ``window_kendall`` the rank
    correlation among subnets within ±10 % of a budget, averaged over budgets from the fast to the slow, ``coverage``
    the share of latencies under the bound, ``noise_floor`` what measurements differ by when repeated, and
    ``constant_error`` the error of predicting the median for all. ``outliers`` measurements were left out, of the fit
    and of the figures. ``warning`` is empty, or says why the predictor is not to be relied on.
    """

    measurements: int
    outliers: int
    mean_error: float
    error_p95: float
    within_5: float
    within_10: float
    kendall: float
    window_kendall: float | None
    coverage: float
    noise_floor: float | None
    constant_error: float
    warning: str


def judge(
    latency_ms: Vector, predicted_ms: Vector, upper_ms: Vector, noise_floor: float | None, outliers: int
) -> Quality:
    """Of measured latencies, held-out predictions and their bounds, (n,) each."""
    errors = np.abs(predicted_ms / latency_ms - 1)
    constant_error = float(np.abs(np.median(latency_ms) / latency_ms - 1).mean())
    return Quality(
        measurements=len(latency_ms),
        outliers=outliers,
        mean_error=float(errors.mean()),
        error_p95=float(np.percentile(errors, 95)),
        within_5=float((errors <= 0.05).mean()),
        within_10=float((errors <= 0.10).mean()),
        kendall=_kendall(latency_ms, predicted_ms),
        window_kendall=mean_window_kendall(latency_ms, predicted_ms),
        coverage=float((latency_ms <= upper_ms).mean()),
        noise_floor=noise_floor,
        constant_error=constant_error,
        warning=_warning(float(errors.mean()), constant_error, outliers, len(latency_ms)),
    )


def bound_factor(scores: Vector, level: float) -> float:
    """By how many of its own deviations a prediction is raised to bound the latency with probability ``level``.

    Scores are log(measured / predicted) in units of the prediction's deviation, on measurements held out: one-sided
    conformal prediction, locally scaled (Lei et al. 2018, section 5.2), with n + 1 (Vovk et al. 2005). With too few for
    the level, the largest is stretched as a normal distribution's would be.
    """
    n = len(scores)
    ordered = np.sort(scores)
    rank = math.ceil((n + 1) * level)
    if rank <= n:
        return max(0.0, float(ordered[rank - 1]))
    normal = NormalDist()
    return max(0.0, float(ordered[-1])) * normal.inv_cdf(level) / normal.inv_cdf(n / (n + 1))


def window_kendall(latency_ms: Vector, predicted_ms: Vector, budget_ms: float, window: float = 0.1) -> float | None:
    """Kendall rank correlation among subnets whose latency is within ± ``window`` of the budget; None for too few."""
    near = np.abs(latency_ms / budget_ms - 1) <= window
    if near.sum() < _WINDOW_SUBNETS:
        return None
    return _kendall(latency_ms[near], predicted_ms[near])


def mean_window_kendall(latency_ms: Vector, predicted_ms: Vector) -> float | None:
    """Mean of ``window_kendall`` over budgets at the deciles of the latencies."""
    budgets = np.percentile(latency_ms, np.arange(10, 100, 10))
    windows = [window_kendall(latency_ms, predicted_ms, float(budget)) for budget in budgets]
    correlations = [value for value in windows if value is not None]
    return float(np.mean(correlations)) if correlations else None


def _kendall(latency_ms: Vector, predicted_ms: Vector) -> float:
    """0 where one of them is constant: then there is no order."""
    value = float(kendalltau(latency_ms, predicted_ms).statistic)
    return 0.0 if math.isnan(value) else value


def _warning(mean_error: float, constant_error: float, outliers: int, measurements: int) -> str:
    if mean_error >= _LEARNT_SHARE * constant_error:
        return (
            f"nothing was learnt: predictions err by {mean_error:.1%}, and one figure for all subnets would err by "
            f"{constant_error:.1%}; the timings do not depend on the subnets' sizes, or are too noisy"
        )
    if outliers:
        return (
            f"{outliers} of {measurements + outliers} measurements are far from what subnets of their size take, and "
            f"were left out; repeat them"
        )
    return ""
