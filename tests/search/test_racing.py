from __future__ import annotations

import numpy as np
import pytest

from ortnas.export.metrics import METRICS
from ortnas.export.part import Part
from ortnas.nas.text import EncodedExamples
from ortnas.search.racing import Race, expected_score, text_values

TEXTS = 1000


def raced(race: Race, candidate: np.ndarray, rival: np.ndarray, rng: np.random.Generator) -> int:
    """After how many texts the candidate is turned away; all of them where it is not."""
    order = rng.permutation(len(rival))
    looks = race.looks(len(rival))
    for count in looks:
        seen = order[:count]
        if race.is_hopeless(candidate[seen] - rival[seen], len(rival), len(looks)):
            return count
    return len(rival)


def pair(rng: np.random.Generator, gained: int, lost: int) -> tuple[np.ndarray, np.ndarray]:
    """Rights and wrongs of a candidate and its rival: so many texts are right only for one of them."""
    rival = (rng.random(TEXTS) < 0.9).astype(float)
    candidate = rival.copy()
    candidate[rng.permutation(np.flatnonzero(rival == 0))[:gained]] = 1
    candidate[rng.permutation(np.flatnonzero(rival == 1))[:lost]] = 0
    return candidate, rival


@pytest.mark.slow
@pytest.mark.parametrize(("gained", "lost"), [(3, 3), (20, 20), (60, 60), (8, 6)])
def test_what_is_as_good_as_its_rival_is_turned_away_no_more_often_than_stated(gained: int, lost: int) -> None:
    rng = np.random.default_rng(0)
    race = Race(error=0.05)
    away = [raced(race, *pair(rng, gained, lost), rng) < TEXTS for _ in range(1000)]
    # 0.05, and three standard errors of a share of 1,000 experiments.
    assert np.mean(away) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 1000)


def test_the_best_of_many_survives_as_often_as_stated_and_most_of_the_work_is_saved() -> None:
    rng = np.random.default_rng(1)
    race, spent, lost_best = Race(error=0.05), 0, 0
    experiments, candidates = 200, 20
    for _ in range(experiments):
        hard = rng.random(TEXTS)
        skills = rng.uniform(0.80, 0.92, candidates)
        rows = (np.clip(skills[:, None] + rng.normal(0, 0.05, (candidates, TEXTS)), 0, 1) > hard).astype(float)
        best = int(rows.mean(1).argmax())
        # The rival is the best of those before the true best.
        rival = rows[np.arange(candidates) != best][: candidates // 2]
        rival = rival[rival.mean(1).argmax()]
        counts = [raced(race, row, rival, rng) for row in rows]
        lost_best += counts[best] < TEXTS
        spent += sum(counts)
    assert lost_best / experiments <= 0.05
    assert spent < 0.7 * experiments * candidates * TEXTS


def test_a_clear_loser_is_turned_away_at_the_first_look() -> None:
    rng = np.random.default_rng(2)
    candidate, rival = pair(rng, 0, 300)
    assert raced(Race(), candidate, rival, rng) == 250


def test_few_differences_of_one_sign_prove_little() -> None:
    differences = np.zeros(250)
    differences[:3] = -1
    assert not Race().is_hopeless(differences, 1000, 3)
    assert not Race().is_hopeless(np.zeros(250), 1000, 3)


def test_small_splits_are_not_raced() -> None:
    assert Race().looks(60) == []
    assert Race().looks(100) == [50, 75]
    assert Race().looks(1000) == [250, 500, 750]


def test_the_expected_score_of_a_rejected_candidate_is_near_its_true_one() -> None:
    rng = np.random.default_rng(3)
    errors = []
    for _ in range(200):
        candidate, rival = pair(rng, 20, 60)
        seen = rng.permutation(TEXTS)[:250]
        errors.append(expected_score(rival, candidate[seen] - rival[seen]) - candidate.mean())
    assert abs(np.mean(errors)) < 0.003
    assert np.std(errors) < 0.02


@pytest.mark.parametrize("metric", ["accuracy", "log_likelihood"])
def test_what_texts_add_averages_to_the_metric(metric: str) -> None:
    rng = np.random.default_rng(0)
    outputs, labels = list(rng.standard_normal((50, 3))), rng.integers(0, 3, 50).tolist()
    part = Part(EncodedExamples([[1]] * 50, [[0]] * 50, labels), (), ("a", "b", "c"))
    rows = np.sort(rng.permutation(50)[:20])
    values = text_values(metric, outputs, part, np.arange(50))
    some = text_values(metric, [outputs[row] for row in rows], part, rows)
    assert values is not None
    assert some is not None
    assert values.mean() == pytest.approx(METRICS[metric](outputs, part))
    np.testing.assert_allclose(some, values[rows])
