from __future__ import annotations

import numpy as np
import pytest

from ortnas.export.intervals import Interval
from ortnas.export.part import Outputs, Part
from ortnas.nas.console import Console
from ortnas.nas.stages.learned import no_worse, warn_of_chance
from ortnas.nas.text import EncodedExamples
from ortnas.search.intervals import sample_scores

N = 300


def part_of(labels: list[int] | list[float], names: tuple[str, ...] = ()) -> Part:
    ids = [[1, 2]] * len(labels)
    return Part(EncodedExamples(ids, ids, labels), label_names=names)


def chance(metric: str, outputs: Outputs, part: Part) -> str:
    return no_worse(metric, sample_scores(metric, {"model": outputs}, part).score("model"), part)


def answers(labels: np.ndarray, right: float, seed: int = 1) -> Outputs:
    """Of two classes, right for that share of the texts."""
    is_right = np.random.default_rng(seed).random(len(labels)) < right
    return list(np.eye(2, dtype=np.float32)[np.where(is_right, labels, 1 - labels)])


@pytest.mark.parametrize("metric", ["accuracy", "matthews"])
def test_answers_at_random_may_be_chance_and_good_ones_are_not(metric: str) -> None:
    labels = (np.arange(N) % 20 < 11).astype(int)
    part = part_of(labels.tolist(), ("no", "yes"))
    base = f"{labels.mean():.4f}" if metric == "accuracy" else "0.0000"
    assert chance(metric, answers(labels, 0.5), part) == f"since 'yes' for all of them gets {base}"
    assert chance(metric, answers(labels, 0.75), part) == ""


def test_a_likelihood_is_compared_with_that_of_the_labels_shares() -> None:
    labels = (np.arange(N) % 20 < 11).astype(int)
    part = part_of(labels.tolist(), ("no", "yes"))
    share = 11 / 20
    shares = share * np.log(share) + (1 - share) * np.log(1 - share)
    assert chance("log_likelihood", answers(labels, 0.5), part) == f"since 'yes' for all of them gets {shares:.4f}"
    assert chance("log_likelihood", answers(labels, 0.9), part) == ""


def test_a_rare_label_is_seen_by_a_metric_that_looks_for_it() -> None:
    labels = (np.arange(N) % 20 == 0).astype(int)
    part = part_of(labels.tolist(), ("ham", "spam"))
    outputs = answers(labels, 0.95)
    assert chance("accuracy", outputs, part) == "since 'ham' for all of them gets 0.9500"
    assert chance("matthews", outputs, part) == ""


def test_numbers_have_to_go_with_the_gold_ones() -> None:
    rng = np.random.default_rng(2)
    gold = rng.normal(size=N)
    part = part_of(gold.tolist())
    related, unrelated = gold + rng.normal(size=N), rng.normal(size=N)
    assert chance("spearman", list(related[:, None].astype(np.float32)), part) == ""
    outputs = list(unrelated[:, None].astype(np.float32))
    assert chance("spearman", outputs, part) == "since numbers that have nothing to do with them get 0"


def test_the_warning_names_score_part_and_what_would_help(capsys: pytest.CaptureFixture[str]) -> None:
    part, score = part_of([0, 1, 1, 1], ("no", "yes")), Interval(0.75, 0.5, 1.0)
    warn_of_chance(Console(to_stderr=True), "classification", "accuracy", score, part, "report")
    said = " ".join(capsys.readouterr().err.split())
    assert "accuracy of 0.7500 on 4 texts of the report part may be chance, since 'yes' for all of them gets" in said
    assert "training.teacher_steps" in said
    warn_of_chance(Console(to_stderr=True), "token-classification", "span_f1", score, part, "report")
    assert capsys.readouterr().err == ""
