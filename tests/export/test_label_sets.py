from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, log_loss, recall_score

from ortnas.export import label_sets
from ortnas.export.metrics import all_scores, find_thresholds, label_log_likelihood, macro_f1, micro_f1
from ortnas.export.part import Part, Thresholds
from ortnas.nas.text import IGNORED, EncodedExamples
from ortnas.search.intervals import sample_scores
from ortnas.search.racing import text_values

NAMES = ("a", "b", "c", "never")


def make_part(n: int = 80, seed: int = 0) -> tuple[list[np.ndarray], Part, np.ndarray]:
    """Logits that know something of the labels, the part, and the labels as flags; nobody has the last one."""
    rng = np.random.default_rng(seed)
    flags = rng.random((n, 4)) < (0.5, 0.2, 0.1, 0.0)
    logits = (3 * flags - 2 + rng.standard_normal((n, 4))).astype(np.float32)
    encoded = EncodedExamples([[1]] * n, [[0]] * n, [np.flatnonzero(row).tolist() for row in flags])
    return list(logits), Part(encoded, label_names=NAMES), flags


@pytest.mark.parametrize("threshold", [0.1, 0.5, 0.9])
def test_scores_are_scikit_learns(threshold: float) -> None:
    outputs, part, flags = make_part()
    part = Part(part.encoded, label_names=NAMES, label_thresholds=(threshold,) * 4)
    probabilities = 1 / (1 + np.exp(-np.stack(outputs).astype(np.float64)))
    given_labels = probabilities >= threshold
    assert micro_f1(outputs, part) == pytest.approx(f1_score(flags, given_labels, average="micro"))
    # A label that is neither right nor given anywhere has no F1.
    assert macro_f1(outputs, part) == pytest.approx(
        f1_score(flags, given_labels, average="macro", zero_division=np.nan)
    )
    losses = [log_loss(flags[:, label], probabilities[:, label], labels=[False, True]) for label in range(4)]
    assert label_log_likelihood(outputs, part) == pytest.approx(-np.mean(losses))
    scores = all_scores("multi-label", outputs, part)
    assert set(scores) == {"micro_f1", "macro_f1", "label_log_likelihood", "recall of a", "recall of b", "recall of c"}
    expected = recall_score(flags, given_labels, average=None, zero_division=0)
    assert [scores[f"recall of {name}"] for name in NAMES[:3]] == pytest.approx(expected[:3].tolist())


def test_nothing_given_and_nothing_right_scores_nothing() -> None:
    outputs = [np.full(2, -9, np.float32)] * 3
    part = Part(EncodedExamples([[1]] * 3, [[0]] * 3, [[], [], []]), label_names=("a", "b"))
    assert label_sets.find_thresholds(outputs, part.label_sets) == (0.5, 0.5)
    assert all_scores("multi-label", outputs, part)["micro_f1"] == 0
    assert macro_f1(outputs, part) == 0


def test_a_frequent_label_has_a_threshold_of_its_own_and_a_rare_one_the_shared_one() -> None:
    rng = np.random.default_rng(1)
    n = 2000
    often, rare = rng.random(n) < 0.4, np.arange(n) < 1
    # The first label's logits lie three too low; the second's one text lies where nobody would put a threshold.
    logits = np.stack([2.0 * often - 4 + rng.normal(0, 0.2, n), np.where(rare, -8, -9)], axis=1).astype(np.float32)
    sets = [[label for label, has in ((0, often[row]), (1, rare[row])) if has] for row in range(n)]
    own, shared = label_sets.find_thresholds(list(logits), sets)
    assert 1 / (1 + np.exp(4)) < own < 1 / (1 + np.exp(2))
    # One text moves it by a tenth of the way.
    assert 0.5 * own < shared < own
    counts = label_sets.count_labels(list(logits), sets, (own, shared))
    assert counts.hits[0] / counts.true[0] > 0.98


# scikit-learn's checks take their time on a busy machine.
@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=1, max_size=12))
def test_no_single_threshold_has_a_better_f1(rows: list[tuple[int, bool]]) -> None:
    scores, flags = np.array([score for score, _ in rows], np.float64), np.array([flag for _, flag in rows])
    ours = f1_score(flags, scores >= label_sets._best_threshold(scores, flags), zero_division=0)
    for threshold in range(-4, 5):
        assert ours >= f1_score(flags, scores >= threshold, zero_division=0)


def test_flags_pass_over_what_fills_up() -> None:
    assert label_sets.label_flags([[2, IGNORED], []], 3).tolist() == [[False, False, True], [False, False, False]]


def test_thresholds_found_on_one_part_hold_on_samples_of_another() -> None:
    outputs, search, _ = make_part(seed=1)
    thresholds = find_thresholds("multi-label", outputs, search)
    assert thresholds.null_threshold is None
    assert len(thresholds.label_thresholds or ()) == 4
    report_outputs, report, _ = make_part(n=60, seed=2)
    models = {"ours": report_outputs, "all": report_outputs}
    sampled = sample_scores("micro_f1", models, report, 0, {"ours": thresholds, "all": Thresholds(None, (0.0,) * 4)})
    flags = label_sets.label_flags(report.label_sets, 4)
    assert sampled.whole["all"] == pytest.approx(f1_score(flags, np.ones_like(flags), average="micro"))
    assert sampled.score("ours").low > sampled.score("all").high
    # A mean over texts: candidates can be raced by it.
    values = text_values("label_log_likelihood", report_outputs, report, np.arange(60))
    assert values is not None
    assert values.mean() == pytest.approx(label_log_likelihood(report_outputs, report))
