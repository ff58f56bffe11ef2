from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nas.space import Genomes, SearchSpace
from predictors.features import TERMS, analytic_terms, tree_features
from predictors.latency import PredictorError, fit, load_predictor, save_predictor
from tests.networks import make_space

TARGET = {
    "fingerprint": {"cpu": "x"},
    "setup": {"threads": 1},
    "workload": {"batch": 2, "sequence": 16, "vocab_size": 9},
}


def measured(space: SearchSpace, n: int, noise: float, seed: int = 0) -> tuple[Genomes, np.ndarray]:
    """Latencies of a machine whose law the analytic terms contain, with a kink that they do not, and noise."""
    rng = np.random.default_rng(seed)
    genomes = space.sample(n, rng)
    population = space.expand(genomes)
    terms = analytic_terms(population, 2, 16)
    latency_ms = terms @ np.array([0.3, 1.0, 0, 0.2, 0.2, 0.5, 0, 2.0, 1.0, 0])
    latency_ms = latency_ms * np.where(population.hidden_size % 16, 1.1, 1.0)
    return genomes, latency_ms * np.exp(noise * rng.standard_normal(n))


def fitted(n: int = 120, noise: float = 0.02, **changes: object):
    space = make_space()
    genomes, latency_ms = measured(space, n, noise)
    return fit(space, genomes, latency_ms, TARGET, "int8", noise, "inputs", **changes)


def test_terms_count_what_they_say() -> None:
    space = make_space()
    subnet = space.largest
    terms = dict(zip(TERMS, analytic_terms(space.expand(space.encode(subnet)[None]), 2, 16)[0] * 1e6, strict=True))
    tokens = 32
    ffn = sum(layer.ffn_size for layer in subnet.layers)
    width = sum(layer.num_heads * layer.head_size for layer in subnet.layers)
    assert terms["projections"] + terms["ffn"] == pytest.approx(tokens * subnet.multiply_adds)
    assert terms["attention"] == pytest.approx(2 * 2 * 16 * 16 * width)
    assert terms["softmax"] == pytest.approx(2 * 16 * 16 * sum(layer.num_heads for layer in subnet.layers))
    assert terms["ffn_elements"] == pytest.approx(tokens * ffn)


def test_features_are_vectorised_row_by_row() -> None:
    space = make_space()
    genomes = space.sample(12, np.random.default_rng(0))
    population = space.expand(genomes)
    together = tree_features(population, analytic_terms(population, 1, 8))
    for row in range(12):
        alone = space.expand(genomes[row : row + 1])
        np.testing.assert_allclose(tree_features(alone, analytic_terms(alone, 1, 8))[0], together[row])


def test_held_out_error_nears_the_noise() -> None:
    predictor = fitted()
    assert predictor.quality.mean_error < 0.025
    assert predictor.quality.kendall > 0.9
    genomes, latency_ms = measured(predictor.space, 300, 0.0, seed=5)
    predicted, _ = predictor.predict(genomes)
    assert np.abs(predicted / latency_ms - 1).mean() < 0.03


def test_the_bound_covers_fresh_subnets() -> None:
    predictor = fitted()
    genomes, latency_ms = measured(predictor.space, 2000, 0.02, seed=9)
    _, upper_ms = predictor.predict(genomes)
    assert 0.88 <= (latency_ms <= upper_ms).mean() <= 1.0
    assert predictor.upper_factor < 1.15
    assert fitted(level=0.6).upper_factor < predictor.upper_factor


def test_twelve_measurements_are_enough_for_the_prior() -> None:
    predictor = fitted(12)
    genomes, latency_ms = measured(predictor.space, 200, 0.0, seed=4)
    assert np.abs(predictor.predict(genomes)[0] / latency_ms - 1).mean() < 0.25


def test_saved_and_loaded_predictors_agree(tmp_path: Path) -> None:
    predictor = fitted()
    save_predictor(tmp_path, predictor)
    loaded = load_predictor(tmp_path)
    genomes = predictor.space.sample(50, np.random.default_rng(1))
    np.testing.assert_allclose(loaded.predict(genomes), predictor.predict(genomes), rtol=1e-6)
    assert (loaded.quality, loaded.target, loaded.space) == (predictor.quality, predictor.target, predictor.space)
    assert {path.name for path in tmp_path.iterdir()} == {"model.ubj", "predictor.json"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda values: values[:9], "9 measurements; a predictor needs at least 10"),
        (lambda values: values * 0 + 2.5, "all measurements are equal"),
        (lambda values: np.where(np.arange(len(values)) == 3, -1.0, values), "not positive"),
        (lambda values: np.where(np.arange(len(values)) == 3, np.nan, values), "not positive"),
    ],
)
def test_unusable_measurements_get_a_sentence(change: object, message: str) -> None:
    space = make_space()
    genomes, latency_ms = measured(space, 40, 0.02)
    latency_ms = change(latency_ms)  # type: ignore[operator]
    with pytest.raises(PredictorError, match=message):
        fit(space, genomes[: len(latency_ms)], latency_ms, TARGET, "int8", 0.02, "inputs")


def test_missing_and_damaged_folders_get_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(PredictorError, match="run `ortnas fit`"):
        load_predictor(tmp_path)
    save_predictor(tmp_path, fitted(40))
    (tmp_path / "model.ubj").write_bytes(b"rubbish")
    with pytest.raises(PredictorError, match="cannot be used"):
        load_predictor(tmp_path)
    (tmp_path / "predictor.json").write_text("{}")
    with pytest.raises(PredictorError):
        load_predictor(tmp_path)
