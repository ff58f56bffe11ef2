"""Predictions near a budget, corrected by timings of what a search chose there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ortnas.search.candidate import Candidate
from ortnas.search.constraints import Constraint
from ortnas.search.correction import CorrectedPredictor, Correction, find_correction
from ortnas.search.evolution import Evolution, Settings
from ortnas.search.loop import Scored, run_search
from tests.networks import SizePredictor
from tests.search.landscape import Landscape, deep_space

_MARGIN = 1.04


def correction_of(errors: Sequence[float]) -> Correction | None:
    predicted_ms = np.linspace(4.0, 4.2, len(errors))
    return find_correction(predicted_ms, _MARGIN * predicted_ms, predicted_ms * np.exp(errors))


def test_too_few_timings_tell_nothing() -> None:
    assert correction_of([0.03, 0.02]) is None
    assert correction_of([0.03, 0.02, 0.025]) is not None


@given(st.lists(st.floats(-0.2, 0.2), min_size=3, max_size=20))
def test_the_shift_is_the_error_in_common_and_the_margin_never_below_half_of_the_predictors(
    errors: list[float],
) -> None:
    correction = correction_of(errors)
    assert correction is not None
    assert correction.shift == pytest.approx(np.mean(errors), abs=1e-9)
    assert correction.margin >= 0.5 * np.log(_MARGIN) - 1e-12
    assert correction.timings == len(errors)
    assert Correction.from_json(correction.to_json()) == correction


def test_the_stated_share_of_further_timings_lies_under_the_bound() -> None:
    rng = np.random.default_rng(0)
    covered, used = [], []
    for _ in range(400):
        errors = rng.normal(rng.normal(0.02, 0.02), 0.02, 9)
        correction = correction_of(errors[:8].tolist())
        assert correction is not None
        covered.append(errors[8] <= correction.shift + correction.margin)
        used.append(errors[8] - correction.shift - correction.margin)
    assert 0.93 <= np.mean(covered) <= 0.98
    # Of a budget that the bound meets, the median latency leaves about what the scatter makes necessary.
    assert -0.045 <= np.median(used) <= -0.03


def test_a_corrected_predictor_scales_the_prediction_and_has_its_own_bound() -> None:
    space = deep_space()
    predictor, genomes = SizePredictor(space), space.sample(20, np.random.default_rng(0))
    corrected = CorrectedPredictor(predictor, Correction(np.log(1.05), np.log(1.02), 8))
    latency_ms, upper_ms = corrected.predict(genomes)
    assert latency_ms == pytest.approx(1.05 * predictor.predict(genomes)[0])
    assert upper_ms == pytest.approx(1.02 * latency_ms)


def search(log: Path | None, scorer: Landscape) -> tuple[Scored, list[Candidate]]:
    """One whose predictions turn out to be 20 % too low after 24 of 40 candidates."""
    space = deep_space()
    predictor = SizePredictor(space)
    evolution = Evolution(space, [Constraint(predictor, 3.0)], Settings(population=8, pool=512), 0)
    first = run_search(evolution, scorer, 24, log, "same", batch=6)
    evolution.constrain([Constraint(CorrectedPredictor(predictor, Correction(np.log(1.2), 0.01, 8)), 3.0)])
    second = run_search(evolution, scorer, 40, log, "same", batch=6)
    return Scored(first.candidates + second.candidates), evolution.ranking


def test_a_search_goes_on_under_the_corrected_bound() -> None:
    scored, ranking = search(None, Landscape())
    assert len(scored.candidates) == 40
    assert all(candidate.upper_ms <= 3.0 for candidate in scored.candidates)
    # Those of the second part keep the bound although all are predicted 20 % slower than before.
    predictor = SizePredictor(deep_space())
    genomes = np.array([candidate.genome for candidate in scored.candidates], np.int16)
    before_ms = predictor.predict(genomes)[0]
    assert (1.2 * before_ms[:24] > 3.0).any()
    assert (1.2 * before_ms[24:] <= 3.0).all()
    assert ranking
    assert all(candidate.upper_ms <= 3.0 for candidate in ranking)
    for candidate in ranking:
        (latency_ms,) = predictor.predict(np.array([candidate.genome], np.int16))[0]
        assert candidate.latency_ms == pytest.approx(1.2 * latency_ms)


def test_one_that_is_killed_goes_on_where_it_was_on_either_side_of_the_correction(tmp_path: Path) -> None:
    whole = tmp_path / "whole.jsonl"
    expected = search(whole, Landscape())
    lines = whole.read_bytes().splitlines(keepends=True)
    for kept in (0, 5, 20, 28, 29, 30, 40, len(lines)):
        log = tmp_path / "killed.jsonl"
        log.write_bytes(b"".join(lines[:kept]))
        scorer = Landscape()
        assert search(log, scorer) == expected
        assert len(scorer.scored) == 40 - sum(b"subnet_key" in line for line in lines[:kept])
