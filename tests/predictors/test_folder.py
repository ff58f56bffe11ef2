from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgboost

from ortnas.bench.timing import Workload
from ortnas.predictors.fitting import (
    Predictor,
    PredictorError,
    find_predictor,
    load_predictor,
    predictor_folder,
    save_predictor,
)
from tests.predictors.machines import WIDE, fitted, make_target


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    kinked = fitted(60, noise=0.005, kink=0.15)
    assert kinked.model.booster is not None
    return kinked


@pytest.mark.parametrize("kink", [0.0, 0.15])
def test_saved_and_loaded_predictors_agree(tmp_path: Path, kink: float) -> None:
    predictor = fitted(60, noise=0.005, kink=kink)
    assert (predictor.model.booster is None) == (kink == 0)
    save_predictor(tmp_path, predictor)
    loaded = load_predictor(tmp_path)
    genomes = predictor.space.sample(50, np.random.default_rng(1))
    np.testing.assert_array_equal(loaded.predict(genomes), predictor.predict(genomes))
    np.testing.assert_array_equal(loaded.uncertainty(genomes), predictor.uncertainty(genomes))
    for part in ("quality", "target", "space", "precision", "inputs", "level", "factor"):
        assert getattr(loaded, part) == getattr(predictor, part), part
    assert {path.name for path in tmp_path.iterdir()} == {"model.ubj", "predictor.json"}


def edit(folder: Path, change: Any) -> None:
    document = json.loads((folder / "predictor.json").read_text())
    change(document)
    (folder / "predictor.json").write_text(json.dumps(document))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda document: document.pop("prior"), "'prior' is missing in predictor.json"),
        (lambda document: document["terms"].append("luck"), "it was fitted on other features"),
        (lambda document: document["prior"]["prices"].pop(), "numbers that are none, or too few"),
        (
            lambda document: document["prior"]["prices"].__setitem__(0, float("nan")),
            "numbers that are none, or too few",
        ),
        (lambda document: document.update(factor="much"), "could not convert"),
        (lambda document: document.update(xgboost="99.0.0"), "it was written by XGBoost 99.0.0, and"),
        (lambda document: document.update(model_sha256="0"), "model.ubj is damaged or belongs to another"),
        (lambda document: document["quality"].pop("kendall"), r"its figures lack or add \['kendall'\]"),
        (lambda document: document["space"].update(depth=[99]), "depth 99 exceeds"),
        (lambda document: document["target"].update(workloads=[]), "at least one workload"),
        (lambda document: document["target"]["setup"].pop("provider"), "'provider' is missing"),
        (lambda document: document.update(precision="int3"), "precision 'int3' is unknown"),
        (lambda document: document.update(space=None), "the predictor cannot be used"),
    ],
)
def test_documents_that_were_tampered_with_get_a_sentence(
    tmp_path: Path, predictor: Predictor, change: Any, message: str
) -> None:
    save_predictor(tmp_path, predictor)
    edit(tmp_path, change)
    with pytest.raises(PredictorError, match=message) as caught:
        load_predictor(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_and_damaged_files_get_a_sentence(tmp_path: Path, predictor: Predictor) -> None:
    with pytest.raises(PredictorError, match="holds no predictor; run `ortnas fit`"):
        load_predictor(tmp_path)
    save_predictor(tmp_path, predictor)
    model = (tmp_path / "model.ubj").read_bytes()
    for damaged in (model[:100], b"", model[:-1] + b"x", b"\x80\x04K\x01."):
        (tmp_path / "model.ubj").write_bytes(damaged)
        with pytest.raises(PredictorError, match="damaged"):
            load_predictor(tmp_path)
    (tmp_path / "model.ubj").unlink()
    with pytest.raises(PredictorError, match="holds no predictor"):
        load_predictor(tmp_path)
    (tmp_path / "predictor.json").write_text('{"space": ')
    (tmp_path / "model.ubj").write_bytes(model)
    with pytest.raises(PredictorError, match="cannot be read, run `ortnas fit` again"):
        load_predictor(tmp_path)


def test_trees_of_another_shape_are_refused(tmp_path: Path, predictor: Predictor) -> None:
    save_predictor(tmp_path, predictor)
    rng = np.random.default_rng(0)
    other = xgboost.train({}, xgboost.DMatrix(rng.random((30, 9)), label=rng.random(30)), num_boost_round=2)
    content = bytes(other.save_raw("ubj"))
    (tmp_path / "model.ubj").write_bytes(content)
    import hashlib

    edit(tmp_path, lambda document: document.update(model_sha256=hashlib.sha256(content).hexdigest()))
    with pytest.raises(PredictorError, match="its trees look at 9 sizes"):
        load_predictor(tmp_path)


@pytest.mark.slow
def test_predictors_are_found_by_target_and_precision(tmp_path: Path) -> None:
    here, other = make_target(), make_target(threads=2)
    predictors = {target.setup.threads: fitted(30, target=target) for target in (here, other)}
    for predictor in predictors.values():
        save_predictor(predictor_folder(tmp_path, "int8", predictor.target.hash), predictor)
    for threads, predictor in predictors.items():
        loaded = find_predictor(tmp_path, "int8", make_target(threads=threads))
        assert loaded.target == predictor.target
    with pytest.raises(PredictorError, match="holds no predictor of fp32 for this target; run `ortnas fit`"):
        find_predictor(tmp_path, "fp32", here)


@pytest.mark.slow
def test_another_target_is_refused_by_what_differs(tmp_path: Path) -> None:
    predictor = fitted(30)
    save_predictor(predictor_folder(tmp_path, "int8", predictor.target.hash), predictor)
    newer = make_target(onnxruntime="1.32.0")
    with pytest.raises(PredictorError, match=r"only for another \(onnxruntime: '1.30.0', here '1.32.0'\)"):
        find_predictor(tmp_path, "int8", newer)
    longer = make_target(workloads=(Workload(1, 128),))
    with pytest.raises(PredictorError, match="sequence: 64, here 128"):
        find_predictor(tmp_path, "int8", longer)
    # A folder under another target's name is still the predictor of its own.
    predictor_folder(tmp_path, "int8", predictor.target.hash).rename(predictor_folder(tmp_path, "int8", newer.hash))
    with pytest.raises(PredictorError, match="holds the predictor of another target"):
        find_predictor(tmp_path, "int8", newer)


def test_a_space_comes_back_as_it_was(tmp_path: Path, predictor: Predictor) -> None:
    save_predictor(tmp_path, predictor)
    assert load_predictor(tmp_path).space == WIDE
