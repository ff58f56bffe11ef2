"""Predictor folders: trees in XGBoost's UBJ, everything else in JSON beside them; nothing in them is executed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import xgboost

from ortnas.bench.target import Target
from ortnas.nas.architecture.space import SearchSpace
from ortnas.nas.arrays import Matrix, Vector
from ortnas.nas.files import aside, write_json
from ortnas.predictors.features import PRECISIONS, SIZES, TERMS, Machine
from ortnas.predictors.predictor import Model, Predictor, PredictorError
from ortnas.predictors.prior import Prior
from ortnas.predictors.quality import Quality
from ortnas.predictors.residual import TREES

MODEL_FILE, DESCRIPTION_FILE = "model.ubj", "predictor.json"


def predictor_folder(root: Path, precision: str, target_hash: str) -> Path:
    """Where the predictor of one precision and target lies."""
    return root / f"{precision}-{target_hash}"


def save_predictor(folder: Path, predictor: Predictor) -> None:
    booster = predictor.model.booster
    model = b"" if booster is None else bytes(booster.save_raw("ubj"))
    prior = predictor.model.prior
    description = {
        "space": predictor.space.to_json(),
        "target": predictor.target.to_json(),
        "precision": predictor.precision,
        "inputs": predictor.inputs,
        "terms": list(TERMS),
        "sizes": list(SIZES),
        "prior": {"prices": prior.prices.tolist(), "spread": prior.scatter, "root": prior.root.tolist()},
        "share": predictor.model.share,
        "factor": predictor.factor,
        "level": predictor.level,
        "quality": asdict(predictor.quality),
        "model_sha256": hashlib.sha256(model).hexdigest(),
        "xgboost": xgboost.__version__,
    }
    # The description names the model's digest: a kill in between leaves a folder that is refused, not a mixture.
    with aside(folder / MODEL_FILE) as temporary:
        temporary.write_bytes(model)
    write_json(folder / DESCRIPTION_FILE, description)


def load_predictor(folder: Path) -> Predictor:
    """Raises PredictorError where the folder is missing, damaged, or made with other features or a newer XGBoost."""
    try:
        description = json.loads((folder / DESCRIPTION_FILE).read_text())
        model = (folder / MODEL_FILE).read_bytes()
    except FileNotFoundError:
        raise PredictorError(f"{folder} holds no predictor; run `ortnas fit`") from None
    except (OSError, ValueError) as error:
        raise PredictorError(f"{folder}: the predictor cannot be read, run `ortnas fit` again: {error}") from error
    try:
        return _predictor(description, model)
    except (ValueError, KeyError, TypeError, AttributeError, xgboost.core.XGBoostError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if isinstance(error, KeyError):
            reason = f"{reason} is missing in {DESCRIPTION_FILE}"
        raise PredictorError(f"{folder}: the predictor cannot be used, run `ortnas fit` again: {reason}") from error


def find_predictor(root: Path, precision: str, target: Target) -> Predictor:
    """The predictor of this precision and target among the folders in ``root``.

    Raises PredictorError where there is none; if there is one of another target, with what differs.
    """
    folder = predictor_folder(root, precision, target.hash)
    if folder.is_dir():
        predictor = load_predictor(folder)
        if differences := target.differences(predictor.target):
            raise PredictorError(f"{folder} holds the predictor of another target ({'; '.join(differences)})")
        if predictor.precision != precision:
            raise PredictorError(f"{folder} holds a predictor of {predictor.precision}, not of {precision}")
        return predictor
    others: list[list[str]] = []
    for path in sorted(root.glob(f"{precision}-*/{DESCRIPTION_FILE}")):
        try:
            others.append(target.differences(Target.from_json(json.loads(path.read_text())["target"])))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
    if not others:
        raise PredictorError(f"{root} holds no predictor of {precision} for this target; run `ortnas fit`")
    nearest = min(others, key=len)
    raise PredictorError(
        f"{root} holds no predictor of {precision} for this target, only for another ({'; '.join(nearest)}); run "
        f"`ortnas bench` and `ortnas fit` here, or `ortnas fit --from` it"
    )


def _predictor(description: dict[str, Any], model: bytes) -> Predictor:
    """Raises what a wrong document brings about; its messages are for people."""
    if (description["terms"], description["sizes"]) != (list(TERMS), list(SIZES)):
        raise ValueError("it was fitted on other features")
    if description["precision"] not in PRECISIONS:
        raise ValueError(f"precision {description['precision']!r} is unknown")
    if hashlib.sha256(model).hexdigest() != description["model_sha256"]:
        raise ValueError(f"{MODEL_FILE} is damaged or belongs to another {DESCRIPTION_FILE}")
    target = Target.from_json(description["target"])
    Machine.of(target, description["precision"])
    prior = description["prior"]
    count = len(TERMS)
    return Predictor(
        space=SearchSpace.from_json(description["space"]),
        target=target,
        precision=description["precision"],
        inputs=str(description["inputs"]),
        model=Model(
            Prior(
                _numbers(prior["prices"], (count,)),
                _number(prior["spread"]),
                _numbers(prior["root"], (count, count)),
            ),
            _booster(model, description["xgboost"]) if model else None,
            _number(description["share"]),
        ),
        factor=_number(description["factor"]),
        level=_number(description["level"]),
        quality=_quality(description["quality"]),
    )


def _booster(model: bytes, version: str) -> xgboost.Booster:
    written, installed = (tuple(map(int, text.split(".")[:2])) for text in (version, xgboost.__version__))
    if written > installed:
        raise ValueError(f"it was written by XGBoost {version}, and {xgboost.__version__} is installed")
    booster = xgboost.Booster()
    booster.load_model(bytearray(model))
    if booster.num_features() != len(SIZES):
        raise ValueError(f"its trees look at {booster.num_features()} sizes, not at {len(SIZES)}")
    booster.set_param({"nthread": TREES["nthread"]})
    return booster


def _quality(document: dict[str, Any]) -> Quality:
    names = {field.name for field in fields(Quality)}
    if set(document) != names:
        raise ValueError(f"its figures lack or add {sorted(names ^ set(document))}")
    optional = ("window_kendall", "noise_floor")
    for name, value in document.items():
        if name != "warning" and not (value is None and name in optional):
            _number(value)
    return Quality(**document)


def _number(value: Any) -> float:
    return float(_numbers(value, ()))


def _numbers(value: Any, shape: tuple[int, ...]) -> Vector | Matrix:
    numbers = np.asarray(value, np.float64)
    if numbers.shape != shape or not np.isfinite(numbers).all():
        raise ValueError(f"{DESCRIPTION_FILE} holds numbers that are none, or too few of them")
    return numbers
