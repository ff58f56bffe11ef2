"""The latency predictor: an analytic prior, trees on its residual, and an upper bound with stated coverage."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xgboost
from scipy.optimize import nnls
from scipy.stats import kendalltau

from nas.files import aside, write_json
from nas.space import Genomes, SearchSpace
from predictors.features import TERMS, analytic_terms, tree_features

Vector = npt.NDArray[np.float64]
MODEL_FILE, DESCRIPTION_FILE = "model.ubj", "predictor.json"
MINIMUM_MEASUREMENTS = 10
_FOLDS = 5
_ROUNDS = 60
_TREES = {
    "objective": "reg:squarederror",
    "eta": 0.08,
    "max_depth": 3,
    "min_child_weight": 4,
    "lambda": 4.0,
    "subsample": 0.8,
    "nthread": 2,
    "seed": 0,
}


class PredictorError(ValueError):
    """Measurements or a predictor folder that cannot be used."""


@dataclass(frozen=True)
class Quality:
    """Figures on measurements that the fitted model had not seen (cross-validation). Shares and errors are fractions.

    ``noise_floor`` is what the measurements themselves differ by when repeated.
    """

    measurements: int
    mean_error: float
    error_p95: float
    kendall: float
    coverage: float
    noise_floor: float


@dataclass(frozen=True)
class Predictor:
    """Latency of the subnets of one space on one target.

    ``target`` is the target's JSON; ``upper_factor`` times the prediction bounds the latency with probability
    ``level``.
    """

    space: SearchSpace
    target: dict[str, Any]
    precision: str
    inputs: str
    coefficients: Vector
    booster: xgboost.Booster
    upper_factor: float
    level: float
    quality: Quality

    def predict(self, genomes: Genomes) -> tuple[Vector, Vector]:
        """``latency_ms`` and ``upper_ms``, each (n,), for genomes (n, genes)."""
        terms, features = _matrices(self.space, genomes, self.target["workload"])
        latency_ms = _predict(self.coefficients, self.booster, terms, features)
        return latency_ms, latency_ms * self.upper_factor


def _matrices(space: SearchSpace, genomes: Genomes, workload: dict[str, Any]) -> tuple[Vector, Vector]:
    population = space.expand(genomes)
    terms = analytic_terms(population, workload["batch"], workload["sequence"])
    return terms, tree_features(population, terms)


def _prior(coefficients: Vector, terms: Vector) -> Vector:
    return np.maximum(terms @ coefficients, 1e-6)


def _predict(coefficients: Vector, booster: xgboost.Booster, terms: Vector, features: Vector) -> Vector:
    margin = np.log(_prior(coefficients, terms))
    data = xgboost.DMatrix(features, base_margin=margin)
    latency_ms: Vector = np.exp(booster.predict(data).astype(np.float64))
    return latency_ms


def _fit(terms: Vector, features: Vector, latency_ms: Vector) -> tuple[Vector, xgboost.Booster]:
    """Non-negative least squares on relative errors, then trees on what it leaves over in log space."""
    scale = terms.max(0)
    scale[scale == 0] = 1
    coefficients = nnls(terms / scale / latency_ms[:, None], np.ones(len(terms)))[0] / scale
    margin = np.log(_prior(coefficients, terms))
    data = xgboost.DMatrix(features, label=np.log(latency_ms), base_margin=margin)
    # Few measurements cannot support a residual model; the prior alone serves better.
    rounds = _ROUNDS if len(terms) >= 40 else 0
    return coefficients, xgboost.train(_TREES, data, num_boost_round=rounds)


def _upper_factor(ratios: Vector, level: float) -> float:
    """Conformal quantile of measured/predicted (Vovk et al. 2005; one-sided split conformal with n + 1)."""
    rank = math.ceil((len(ratios) + 1) * level)
    return max(1.0, float(np.sort(ratios)[min(rank, len(ratios)) - 1]))


def fit(
    space: SearchSpace,
    genomes: Genomes,
    latency_ms: Vector,
    target: dict[str, Any],
    precision: str,
    noise_floor: float,
    inputs: str,
    level: float = 0.95,
) -> Predictor:
    """Fits on genomes (n, genes) and their measured latencies (n,), and judges itself by cross-validation.

    Raises PredictorError for too few, repeated-only or implausible measurements.
    """
    if len(latency_ms) < MINIMUM_MEASUREMENTS:
        raise PredictorError(
            f"{len(latency_ms)} measurements; a predictor needs at least {MINIMUM_MEASUREMENTS}. Run `ortnas bench` "
            f"with a larger bench.subnets"
        )
    if not np.isfinite(latency_ms).all() or (latency_ms <= 0).any():
        raise PredictorError("the measurements hold latencies that are not positive numbers")
    if len(np.unique(latency_ms)) == 1:
        raise PredictorError("all measurements are equal; the timings cannot be real")
    terms, features = _matrices(space, genomes, target["workload"])
    folds = np.random.default_rng(0).permutation(len(latency_ms)) % _FOLDS
    predicted = np.empty_like(latency_ms)
    for fold in range(_FOLDS):
        kept = folds != fold
        model = _fit(terms[kept], features[kept], latency_ms[kept])
        predicted[~kept] = _predict(*model, terms[~kept], features[~kept])
    ratios = latency_ms / predicted
    errors = np.abs(1 / ratios - 1)
    # The bound that judges a fold comes from the other folds.
    covered = [ratios[folds == fold] <= _upper_factor(ratios[folds != fold], level) for fold in range(_FOLDS)]
    quality = Quality(
        measurements=len(latency_ms),
        mean_error=float(errors.mean()),
        error_p95=float(np.percentile(errors, 95)),
        kendall=float(kendalltau(predicted, latency_ms).statistic),
        coverage=float(np.concatenate(covered).mean()),
        noise_floor=noise_floor,
    )
    coefficients, booster = _fit(terms, features, latency_ms)
    return Predictor(
        space, target, precision, inputs, coefficients, booster, _upper_factor(ratios, level), level, quality
    )


def save_predictor(folder: Path, predictor: Predictor) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with aside(folder / MODEL_FILE) as temporary:
        temporary.write_bytes(predictor.booster.save_raw("ubj"))
    write_json(
        folder / DESCRIPTION_FILE,
        {
            "space": predictor.space.to_json(),
            "target": predictor.target,
            "precision": predictor.precision,
            "inputs": predictor.inputs,
            "terms": list(TERMS),
            "coefficients": predictor.coefficients.tolist(),
            "upper_factor": predictor.upper_factor,
            "level": predictor.level,
            "quality": asdict(predictor.quality),
            "xgboost": xgboost.__version__,
        },
    )


def load_predictor(folder: Path) -> Predictor:
    """Raises PredictorError where the folder is missing, damaged or made with other features."""
    try:
        description = json.loads((folder / DESCRIPTION_FILE).read_text())
        booster = xgboost.Booster()
        booster.load_model(folder / MODEL_FILE)
        if description["terms"] != list(TERMS):
            raise ValueError("it was fitted on other features; run `ortnas fit` again")
        return Predictor(
            space=SearchSpace.from_json(description["space"]),
            target=description["target"],
            precision=description["precision"],
            inputs=description["inputs"],
            coefficients=np.asarray(description["coefficients"], np.float64),
            booster=booster,
            upper_factor=float(description["upper_factor"]),
            level=float(description["level"]),
            quality=Quality(**description["quality"]),
        )
    except FileNotFoundError:
        raise PredictorError(f"{folder} holds no predictor; run `ortnas fit`") from None
    except (OSError, ValueError, KeyError, TypeError, xgboost.core.XGBoostError) as error:
        raise PredictorError(f"{folder}: the predictor cannot be used, run `ortnas fit`: {error}") from error
