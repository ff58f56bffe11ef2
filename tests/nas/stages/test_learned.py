from __future__ import annotations

import numpy as np
import pytest

from ortnas.export.part import Outputs, Part
from ortnas.nas.stages.learned import chance
from ortnas.nas.text import EncodedExamples

N = 300


def part_of(labels: list[int] | list[float], names: tuple[str, ...] = ()) -> Part:
    ids = [[1, 2]] * len(labels)
    return Part(EncodedExamples(ids, ids, labels), label_names=names)


def answers(labels: np.ndarray, right: float, seed: int = 1) -> Outputs:
    """Of two classes, right for that share of the texts."""
    is_right = np.random.default_rng(seed).random(len(labels)) < right
    return list(np.eye(2, dtype=np.float32)[np.where(is_right, labels, 1 - labels)])


@pytest.mark.parametrize("metric", ["accuracy", "matthews"])
def test_answers_at_random_may_be_chance_and_good_ones_are_not(metric: str) -> None:
    labels = (np.arange(N) % 20 < 11).astype(int)
    part = part_of(labels.tolist(), ("no", "yes"))
    doubt = chance(metric, answers(labels, 0.5), part)
    base = f"{labels.mean():.4f}" if metric == "accuracy" else "0.0000"
    assert doubt.startswith(f"the full model's {metric} of ")
    assert doubt.endswith(f"on 300 texts of the search part may be chance; 'yes' for all of them gets {base}")
    assert chance(metric, answers(labels, 0.75), part) == ""


def test_a_likelihood_is_compared_with_that_of_the_labels_shares() -> None:
    labels = (np.arange(N) % 20 < 11).astype(int)
    part = part_of(labels.tolist(), ("no", "yes"))
    share = 11 / 20
    shares = share * np.log(share) + (1 - share) * np.log(1 - share)
    assert chance("log_likelihood", answers(labels, 0.5), part).endswith(f"'yes' for all of them gets {shares:.4f}")
    assert chance("log_likelihood", answers(labels, 0.9), part) == ""


def test_a_rare_label_is_seen_by_a_metric_that_looks_for_it() -> None:
    labels = (np.arange(N) % 20 == 0).astype(int)
    part = part_of(labels.tolist(), ("ham", "spam"))
    outputs = answers(labels, 0.95)
    assert "'ham' for all of them gets 0.9500" in chance("accuracy", outputs, part)
    assert chance("matthews", outputs, part) == ""


def test_numbers_have_to_go_with_the_gold_ones() -> None:
    rng = np.random.default_rng(2)
    gold = rng.normal(size=N)
    part = part_of(gold.tolist())
    related, unrelated = gold + rng.normal(size=N), rng.normal(size=N)
    assert chance("spearman", list(related[:, None].astype(np.float32)), part) == ""
    assert "numbers that have nothing to do with them get 0" in chance(
        "spearman", list(unrelated[:, None].astype(np.float32)), part
    )
