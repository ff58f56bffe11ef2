"""SQuAD's scores from their definitions (Rajpurkar et al. 2016, 2018), by trying everything: slow, and nothing shared
with what it is compared with. Arguments and results are those of transformers' ``squad_metrics``, which releases before
5 had, so that a test can hold this against them."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any


def best_non_null(features: Sequence[Any], longest: int) -> tuple[tuple[int, int, int], float]:
    """(feature, first token, last token) of the likeliest span, and by how much no answer is likelier."""
    spans = [
        (float(item.start_logits[first] + item.end_logits[last]), (number, first, last))
        for number, item in enumerate(features)
        for first in item.token_to_orig_map
        for last in item.token_to_orig_map
        if first <= last < first + longest
    ]
    score, place = max(spans)
    null_score = min(float(item.start_logits[0] + item.end_logits[0]) for item in features)
    return place, null_score - score


def normalised(text: str) -> str:
    """In lower case, without punctuation, without articles, words one blank apart."""
    plain = text.lower().translate(str.maketrans("", "", string.punctuation))
    return " ".join(re.sub(r"\b(?:a|an|the)\b", " ", plain).split())


def get_raw_scores(
    examples: Sequence[Any], predictions: Mapping[str, str]
) -> tuple[dict[str, float], dict[str, float]]:
    """Exact match and F1 of every question, as if each were answered."""
    exact, f1 = {}, {}
    for example in examples:
        # A right answer that normalisation leaves nothing of is none.
        right = [answer["text"] for answer in example.answers if normalised(answer["text"])] or [""]
        words = normalised(predictions[example.qas_id]).split()
        exact[example.qas_id] = max(int(words == normalised(text).split()) for text in right)
        f1[example.qas_id] = max(_overlap(words, normalised(text).split()) for text in right)
    return exact, f1


def _overlap(ours: list[str], theirs: list[str]) -> float:
    if not ours or not theirs:
        return int(ours == theirs)
    common = (Counter(ours) & Counter(theirs)).total()
    precision, recall = common / len(ours), common / len(theirs)
    return 2 * precision * recall / (precision + recall) if common else 0


def squad_evaluate(
    examples: Sequence[Any],
    predictions: Mapping[str, str],
    no_answer_probs: Mapping[str, float] | None = None,
    no_answer_probability_threshold: float = 1.0,
) -> dict[str, float]:
    """All figures in percent; those of the best threshold where it is known how likely no answer is."""
    margins = no_answer_probs or {example.qas_id: 0.0 for example in examples}
    answerable = {example.qas_id: bool(example.answers) for example in examples}
    silent = {name: float(not has) for name, has in answerable.items()}
    result: dict[str, float] = {}
    kinds = dict(zip(("exact", "f1"), get_raw_scores(examples, predictions), strict=True))
    groups = {"": list(answerable), "HasAns_": [], "NoAns_": []}
    for name, has in answerable.items():
        groups["HasAns_" if has else "NoAns_"].append(name)
    for prefix, names in groups.items():
        if not names:
            continue
        for kind, raw in kinds.items():
            scores = [silent[name] if margins[name] > no_answer_probability_threshold else raw[name] for name in names]
            result[f"{prefix}{kind}"] = 100 * sum(scores) / len(names)
        result[f"{prefix}total"] = len(names)
    if no_answer_probs:
        for kind, raw in kinds.items():
            best, threshold = _best(raw, silent, margins)
            result |= {f"best_{kind}": 100 * best / len(examples), f"best_{kind}_thresh": threshold}
    return result


def _best(raw: Mapping[str, float], silent: Mapping[str, float], margins: Mapping[str, float]) -> tuple[float, float]:
    """The best sum over all thresholds, and the lowest threshold that gives it; 0 where none is answered."""
    best, threshold = sum(silent.values()), 0.0
    order = sorted(margins, key=lambda name: margins[name])
    for answered in range(1, len(order) + 1):
        total = sum(raw[name] for name in order[:answered]) + sum(silent[name] for name in order[answered:])
        if total > best + 1e-9:
            best, threshold = total, margins[order[answered - 1]]
    return best, threshold
