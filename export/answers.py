"""Metrics of answers that are pieces of a context, by the official scorers of SQuAD (Rajpurkar et al. 2016, 2018)."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from ortnas.export.part import Outputs, Part
from ortnas.nas.arrays import Vector
from ortnas.nas.text import Example

_LONGEST_ANSWER = 30
_STARTS_CONSIDERED = 20


def exact_match(outputs: Outputs, part: Part) -> float:
    """Share of questions whose answer equals one of the right ones after normalisation (SQuAD)."""
    return float(np.mean(_compared(answer_texts(outputs, part), part, _equal)))


def span_f1(outputs: Outputs, part: Part) -> float:
    """Mean overlap of words with the best of the right answers (SQuAD); where there is none, no answer is right."""
    return float(np.mean(_compared(answer_texts(outputs, part), part, _overlap)))


def answerable_f1(outputs: Outputs, part: Part) -> float:
    """``span_f1`` over the questions that have an answer (SQuAD 2.0's HasAns)."""
    return _mean_where(outputs, part, [not example.is_unanswerable for example in part.examples])


def no_answer_accuracy(outputs: Outputs, part: Part) -> float:
    """Share of the questions without an answer that are given none (SQuAD 2.0's NoAns)."""
    return _mean_where(outputs, part, [example.is_unanswerable for example in part.examples])


def _mean_where(outputs: Outputs, part: Part, counted: Sequence[bool]) -> float:
    return float(_compared(answer_texts(outputs, part), part, _overlap)[np.array(counted)].mean())


def _compared(answers: Sequence[str], part: Part, compare: Callable[[str, str], float]) -> Vector:
    """How well each answer agrees with the best of the right ones, [questions]."""
    right = [_right_answers(example, has_unanswerable(part)) for example in part.examples]
    return np.array(
        [max(compare(answer, text) for text in texts) for answer, texts in zip(answers, right, strict=True)]
    )


def has_unanswerable(part: Part) -> bool:
    """Whether a part is scored as SQuAD 2.0: it has questions without an answer, or a threshold for giving none."""
    return part.null_threshold is not None or any(example.is_unanswerable for example in part.examples)


def _right_answers(example: Example, version_2: bool) -> list[str]:
    """SQuAD 2.0 leaves out answers of which normalisation leaves nothing."""
    texts = [text for _, text in example.answers or ()]
    return [text for text in texts if not version_2 or _words(text)] or [""]


class Span(NamedTuple):
    """The likeliest answer to a question, and by how much the score of no answer exceeds its score."""

    text: str
    null_margin: float


def best_spans(outputs: Outputs, part: Part) -> list[Span]:
    """For every question the likeliest span of at most 30 tokens over all windows of its context.

    The score of no answer is the least that a window gives its first token, as in transformers'
    ``compute_predictions_logits`` with ``version_2_with_negative``.
    """
    assert part.encoded.windows is not None
    best: dict[int, tuple[float, str]] = {}
    nulls: dict[int, float] = {}
    for output, window in zip(outputs, part.encoded.windows, strict=True):
        number, context = window.example, part.examples[window.example].pair or ""
        nulls[number] = min(nulls.get(number, np.inf), float(output[0, 0] + output[0, 1]))
        tokens = [token for token, characters in enumerate(window.characters) if characters is not None]
        starts = sorted(tokens, key=lambda token: -output[token, 0])[:_STARTS_CONSIDERED]
        for start in starts:
            ends = [token for token in tokens if start <= token < start + _LONGEST_ANSWER]
            end = max(ends, key=lambda token: output[token, 1])
            score = float(output[start, 0] + output[end, 1])
            if score > best.get(number, (-np.inf, ""))[0]:
                first, last = window.characters[start], window.characters[end]
                assert first is not None
                assert last is not None
                best[number] = score, context[first[0] : last[1]].strip()
    # A context of which the tokenizer leaves nothing has no answer.
    spans = {number: Span(text, nulls[number] - score) for number, (score, text) in best.items()}
    return [spans.get(number, Span("", 0.0)) for number in range(len(part.examples))]


def answer_texts(outputs: Outputs, part: Part) -> list[str]:
    """The answer to every question; empty for none, which there is in data of SQuAD 2.0 only."""
    spans = best_spans(outputs, part)
    if not has_unanswerable(part):
        return [span.text for span in spans]
    threshold = part.null_threshold
    if threshold is None:
        threshold = _best_threshold(spans, part)
    return ["" if span.null_margin > threshold else span.text for span in spans]


def best_null_threshold(outputs: Outputs, part: Part) -> float | None:
    """The threshold that gives these outputs the best F1 on this part, as SQuAD 2.0's ``find_best_thresh`` finds it;
    None for a part without unanswerable questions."""
    return _best_threshold(best_spans(outputs, part), part) if has_unanswerable(part) else None


def _best_threshold(spans: Sequence[Span], part: Part) -> float:
    """Questions are answered in the order of their margins for as long as it pays; equal margins share their fate."""
    answered = _compared([span.text for span in spans], part, _overlap)
    gains = answered - _compared([""] * len(spans), part, _overlap)
    margins = np.array([span.null_margin for span in spans])
    order = np.argsort(margins, kind="stable")
    margins, totals = margins[order], np.cumsum(gains[order])
    totals[:-1][margins[:-1] == margins[1:]] = -np.inf
    best = int(totals.argmax())
    # Where no answer is worth giving, none is given: the official script's 0 would give some.
    return float(margins[best]) if totals[best] > 0 else float(margins[0]) - 1.0


def _words(text: str) -> list[str]:
    """Lower case, without punctuation and articles."""
    plain = "".join(character for character in text.lower() if character not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", plain).split()


def _equal(answer: str, right: str) -> float:
    return float(_words(answer) == _words(right))


def _overlap(answer: str, right: str) -> float:
    """F1 of the words of both."""
    ours, theirs = _words(answer), _words(right)
    common = sum((Counter(ours) & Counter(theirs)).values())
    if not ours or not theirs:
        return float(ours == theirs)
    return 2 * common / (len(ours) + len(theirs))
