from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from ortnas.export.metrics import METRICS, accuracy
from ortnas.export.part import Part
from ortnas.nas.text import EncodedExamples
from ortnas.search.mixed_precision import (
    Evaluation,
    Goal,
    PrecisionSearch,
    Products,
    Resolution,
    mean_difference,
    score_resolution,
    search_precision,
    worth,
)

NAMES = tuple(f"layers/{layer}/{part}" for layer in range(3) for part in ("attention/output", "ffn/in", "ffn/out"))
FINE = Resolution(0.0, 0.01)


class Model:
    """A network whose law is known: every product left in float adds its gain, drift and ms, unless two overlap.

    Of two that overlap, the second brings nothing: the first has mended what both did.
    """

    def __init__(
        self,
        gains: dict[str, float],
        removed: dict[str, float] | None = None,
        added_ms: dict[str, float] | None = None,
        overlap: Products = (),
    ) -> None:
        self.gains, self.removed, self.added_ms, self.overlap = gains, removed or {}, added_ms or {}, overlap
        self.asked: list[Products] = []
        self.calls = 0

    def __call__(self, sets: Sequence[Products]) -> list[Evaluation]:
        self.calls += 1
        self.asked += sets
        return [self.evaluation(kept) for kept in sets]

    def evaluation(self, kept: Products) -> Evaluation:
        doubled = [product for product in kept if product in self.overlap][1:]
        mending = [product for product in kept if product not in doubled]
        score = 0.8 + sum(self.gains.get(product, 0.0) for product in mending)
        drift = 1.0 - sum(self.removed.get(product, 0.0) for product in mending)
        return Evaluation(score, drift, 5.0 + sum(self.added_ms.get(product, 0.5) for product in kept))


def added(search: PrecisionSearch) -> list[str]:
    return [step.added for step in search.path[1:]]


def test_products_are_added_by_score_gained_per_ms_until_the_goal() -> None:
    gains = {NAMES[1]: 0.04, NAMES[4]: 0.05, NAMES[7]: 0.03, NAMES[8]: 0.01}
    model = Model(gains, added_ms={NAMES[1]: 0.1, NAMES[4]: 1.0, NAMES[7]: 0.2})
    search = search_precision(NAMES, model, Goal(0.91, limit=6), FINE)
    assert added(search) == [NAMES[1], NAMES[7], NAMES[4]]
    assert search.ending == "goal"
    assert search.chosen is search.path[-1]
    assert search.chosen.kept == (NAMES[1], NAMES[4], NAMES[7])
    assert search.chosen.evaluation == model.evaluation(search.chosen.kept)
    assert list(search.alone)[:4] == [NAMES[1], NAMES[7], NAMES[4], NAMES[8]]
    assert search.alone.keys() == set(NAMES)


def test_ties_of_the_score_are_broken_by_drift_removed_per_ms() -> None:
    removed = {NAMES[0]: 0.2, NAMES[3]: 0.1, NAMES[6]: 0.05, NAMES[2]: -0.3}
    model = Model({}, removed, added_ms={NAMES[0]: 1.0, NAMES[3]: 0.2})
    search = search_precision(NAMES, model, Goal(0.9, limit=6), FINE)
    assert added(search) == [NAMES[3], NAMES[0], NAMES[6]]
    assert search.ending == "nothing helps"
    # What removes drift and gains no score is tried, and not recommended.
    assert search.chosen.kept == ()


def test_gains_within_the_resolution_are_chance_and_do_not_lead() -> None:
    model = Model({NAMES[5]: 0.003, NAMES[2]: 0.001}, {NAMES[2]: 0.4, NAMES[5]: 0.01})
    coarse = Resolution(0.005, 0.01)
    assert added(search_precision(NAMES, model, Goal(0.9, limit=1), FINE)) == [NAMES[5]]
    assert added(search_precision(NAMES, model, Goal(0.9, limit=1), coarse)) == [NAMES[2]]
    search = search_precision(NAMES, model, Goal(0.9, limit=6), coarse)
    assert max(step.evaluation.score for step in search.path) > search.path[0].evaluation.score
    assert search.chosen.kept == ()


def test_without_the_goal_the_shortest_set_that_nothing_clearly_beats_is_chosen() -> None:
    gains = {NAMES[0]: 0.05, NAMES[3]: 0.02, NAMES[6]: 0.0005}
    for resolution, expected in ((0.0, NAMES[:7:3]), (0.001, NAMES[:4:3]), (0.03, NAMES[:1])):
        removed = dict.fromkeys(gains, 0.1)
        search = search_precision(NAMES, Model(gains, removed), Goal(0.99, limit=6), Resolution(resolution, 0.01))
        assert search.ending == "nothing helps"
        assert len(search.path) == 4
        assert search.chosen.kept == expected


def test_a_product_that_another_has_mended_is_seen_to_bring_nothing() -> None:
    gains = {NAMES[0]: 0.05, NAMES[1]: 0.04, NAMES[2]: 0.01}
    search = search_precision(NAMES, Model(gains, overlap=NAMES[:2]), Goal(0.86, limit=6), FINE)
    assert added(search) == [NAMES[0], NAMES[2]]
    assert search.ending == "goal"


def test_a_network_within_the_tolerance_is_left_alone_but_described() -> None:
    model = Model({NAMES[0]: 0.05})
    search = search_precision(NAMES, model, Goal(0.8, limit=6), FINE)
    assert search.ending == "goal"
    assert search.chosen.kept == ()
    assert len(model.asked) == 1 + len(NAMES)
    assert next(iter(search.alone)) == NAMES[0]


def test_the_limit_and_the_budget_end_the_search() -> None:
    gains = {name: 0.001 * (number + 1) for number, name in enumerate(NAMES)}
    search = search_precision(NAMES, Model(gains), Goal(0.99, limit=2), FINE)
    assert added(search) == [NAMES[8], NAMES[7]]
    assert search.ending == "limit"
    search = search_precision(NAMES, Model(gains), Goal(0.99, limit=6, budget_ms=6.6), FINE)
    assert len(search.chosen.kept) == 3
    assert search.chosen.evaluation.latency_ms <= 6.6
    assert search.ending == "budget"
    # What is too slow gives way to what still fits.
    dear = Model(gains, added_ms={NAMES[8]: 2.0, NAMES[6]: 0.05})
    search = search_precision(NAMES, dear, Goal(0.99, limit=6, budget_ms=5.6), FINE)
    assert added(search) == [NAMES[6], NAMES[7]]
    assert search.ending == "budget"


def test_a_model_that_exceeds_the_budget_as_it_is_stays_as_it_is() -> None:
    search = search_precision(NAMES, Model({NAMES[0]: 0.05}), Goal(0.99, limit=6, budget_ms=4.0), FINE)
    assert search.ending == "budget"
    assert search.chosen.kept == ()


@pytest.mark.parametrize("width", [1, 4, 20])
def test_no_set_is_evaluated_twice_and_a_step_costs_no_more_than_its_width(width: int) -> None:
    rng = np.random.default_rng(0)
    for _ in range(30):
        gains = dict(zip(NAMES, rng.choice([-0.01, 0.0, 0.01, 0.02], len(NAMES)).tolist(), strict=True))
        removed = dict(zip(NAMES, rng.normal(0.02, 0.05, len(NAMES)).tolist(), strict=True))
        overlap = tuple(rng.choice(NAMES, 4, replace=False).tolist())
        model = Model(gains, removed, overlap=overlap)
        search = search_precision(NAMES, model, Goal(0.9, limit=5), FINE, width)
        assert len(model.asked) == len(set(model.asked)) == len({frozenset(kept) for kept in model.asked})
        assert all(kept == tuple(name for name in NAMES if name in kept) for kept in model.asked)
        for shorter, longer in pairwise(search.path):
            assert worth(shorter.evaluation, longer.evaluation, FINE) > (0.0, 0.0)
            assert set(longer.kept) - set(shorter.kept) == {longer.added}
        # Beyond the width only where none of the first helps.
        if search.ending in ("goal", "limit") and not set(overlap) & set(search.chosen.kept):
            assert len(model.asked) <= 1 + len(NAMES) + width * (len(search.path) - 1)


def test_a_harder_goal_or_a_wider_limit_only_lengthens_the_path() -> None:
    gains = {name: 0.01 + 0.001 * number for number, name in enumerate(NAMES)}
    goals = [search_precision(NAMES, Model(gains), Goal(score, limit=9), FINE) for score in np.arange(0.79, 0.95, 0.01)]
    limits = [search_precision(NAMES, Model(gains), Goal(0.99, limit), FINE) for limit in range(1, 9)]
    for searches in (goals, limits):
        for easier, harder in pairwise(searches):
            assert harder.path[: len(easier.path)] == easier.path
    assert len(goals[0].path) == 1
    assert len(limits[-1].path) == 9


def test_a_network_without_integer_products_has_nothing_to_search() -> None:
    search = search_precision((), Model({}), Goal(0.9, limit=6), FINE)
    assert (search.alone, search.ending, search.chosen.kept) == ({}, "nothing helps", ())


def test_time_saved_or_too_short_to_tell_does_not_make_a_gain_endless() -> None:
    base = Evaluation(0.8, 1.0, 5.0)
    gained = replace(base, score=0.82, drift=0.9)
    for latency_ms in (4.0, 5.0, 5.009):
        assert worth(base, replace(gained, latency_ms=latency_ms), FINE) == pytest.approx((2.0, 10.0))
    assert worth(base, replace(gained, latency_ms=5.1), FINE) == pytest.approx((0.2, 1.0))
    assert worth(base, replace(gained, score=0.79), FINE) < (0.0, 0.0)


def make_part(truth: np.ndarray) -> Part:
    return Part(EncodedExamples([[5]] * len(truth), [[0]] * len(truth), truth.tolist()))


def one_hot(classes: np.ndarray) -> list[np.ndarray]:
    return list(np.eye(3, dtype=np.float32)[classes])


def test_the_resolution_of_accuracy_is_that_of_the_texts_on_which_models_disagree() -> None:
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 3, 200)
    first, second = truth.copy(), truth.copy()
    first[:25] = (truth[:25] + 1) % 3
    second[25:50] = (truth[25:50] + 1) % 3
    part = make_part(truth)
    # A difference of as many fair coins, over the number of texts (McNemar 1947).
    expected = math.sqrt(50) / 200
    resolution = score_resolution(accuracy, one_hot(first), one_hot(second), part, mixtures=400)
    assert resolution == pytest.approx(expected, rel=0.1)
    assert score_resolution(accuracy, one_hot(first), one_hot(second), part) == pytest.approx(expected, rel=0.5)
    assert score_resolution(accuracy, one_hot(first), one_hot(first), part) == 0.0


@pytest.mark.parametrize("name", ["f1", "matthews"])
def test_the_resolution_of_other_metrics_is_finite_and_falls_with_more_texts(name: str) -> None:
    rng = np.random.default_rng(2)
    resolutions = []
    for texts in (50, 800):
        truth = rng.integers(0, 3, texts)
        noisy = [np.where(rng.random(texts) < 0.2, (truth + 1) % 3, truth) for _ in range(2)]
        resolutions.append(score_resolution(METRICS[name], one_hot(noisy[0]), one_hot(noisy[1]), make_part(truth)))
    assert 0 < resolutions[1] < resolutions[0] < 0.3


def test_the_mean_difference_counts_every_value_of_rows_of_all_lengths() -> None:
    rng = np.random.default_rng(3)
    first = [rng.standard_normal((length, 2)).astype(np.float32) for length in (1, 7, 3)]
    second = [row + np.float32(0.25) for row in first]
    second[1] = first[1] - np.float32(1.0)
    assert mean_difference(first, second) == pytest.approx((0.25 * 4 + 1.0 * 7) / 11, rel=1e-5)
