"""Spans are scored as SQuAD defines it: see ``squad_reference``."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ortnas.export.answers import (
    answer_texts,
    best_null_threshold,
    best_spans,
    exact_match,
    no_answer_accuracy,
    span_f1,
)
from ortnas.export.metrics import all_scores
from ortnas.export.part import Part, Thresholds
from ortnas.nas.text import EncodedExamples, Example, Window
from ortnas.search.intervals import score_intervals
from tests.export import squad_reference

# No article stands alone: of an answer that normalisation leaves nothing of, the script thinks two ways.
WORDS = ("the-end", "Ulm", "Danube,", "lies", "river", "theatre", "é", "minster.", "at", "old")
QUESTION_TOKENS = 3


def make_part(seed: int, questions: int = 30, unanswerable: float = 0.4) -> tuple[list[np.ndarray], Part]:
    """Random logits for questions with two windows each; a token is a word, questions take the first three tokens.

    Right answers and no answer are somewhat likelier than others, as a model would have it.
    """
    rng = np.random.default_rng(seed)
    outputs, windows, examples = [], [], []
    for number in range(questions):
        words = [str(word) for word in rng.choice(WORDS, 24)]
        starts = np.cumsum([0, *(len(word) + 1 for word in words)]).tolist()
        places = [(start, start + len(word)) for start, word in zip(starts, words, strict=False)]
        context = " ".join(words)
        first = int(rng.integers(0, 20))
        last = first + int(rng.integers(0, 3))
        is_unanswerable = bool(rng.random() < unanswerable)
        right = ((places[first][0], context[places[first][0] : places[last][1]]),)
        examples.append(Example("who?", context, answers=() if is_unanswerable else right))
        for offset in (0, 8):
            output = rng.standard_normal((QUESTION_TOKENS + 16, 2)).astype(np.float32)
            output[0] += 2 + is_unanswerable * rng.standard_normal(2)
            inside = (first - offset + QUESTION_TOKENS, last - offset + QUESTION_TOKENS)
            if not is_unanswerable and QUESTION_TOKENS <= inside[0] <= inside[1] < len(output):
                output[inside[0], 0] += 2
                output[inside[1], 1] += 2
            outputs.append(output)
            windows.append(Window(number, [None] * QUESTION_TOKENS + places[offset : offset + 16]))
    ids = [[1] * len(output) for output in outputs]
    return outputs, Part(EncodedExamples(ids, ids, [(0, 0)] * len(outputs), windows), examples)


def reference_spans(outputs: list[np.ndarray], part: Part) -> tuple[dict[str, str], dict[str, float]]:
    """Best answers and null scores less theirs, by question."""
    texts, margins = {}, {}
    for number, example in enumerate(part.examples):
        rows = [row for row, window in enumerate(part.encoded.windows or ()) if window.example == number]
        places = [part.encoded.windows[row].characters for row in rows]
        features = [
            SimpleNamespace(
                start_logits=outputs[row][:, 0],
                end_logits=outputs[row][:, 1],
                token_to_orig_map={token for token, place in enumerate(characters) if place is not None},
            )
            for row, characters in zip(rows, places, strict=True)
        ]
        (feature, start, end), margin = squad_reference.best_non_null(features, 30)
        texts[str(number)] = example.pair[places[feature][start][0] : places[feature][end][1]]
        margins[str(number)] = float(margin)
    return texts, margins


def reference_examples(part: Part) -> list[SimpleNamespace]:
    return [
        SimpleNamespace(qas_id=str(number), answers=[{"text": text} for _, text in example.answers])
        for number, example in enumerate(part.examples)
    ]


@pytest.mark.parametrize("seed", range(20))
def test_spans_and_null_scores_are_those_of_transformers(seed: int) -> None:
    outputs, part = make_part(seed)
    texts, margins = reference_spans(outputs, part)
    spans = best_spans(outputs, part)
    assert [span.text for span in spans] == list(texts.values())
    np.testing.assert_allclose([span.null_margin for span in spans], list(margins.values()), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_threshold_and_scores_of_squad_2_are_those_of_its_script(seed: int) -> None:
    outputs, part = make_part(seed)
    texts, margins = reference_spans(outputs, part)
    expected = squad_reference.squad_evaluate(reference_examples(part), texts, margins, 0.0)
    threshold = best_null_threshold(outputs, part)
    assert threshold == pytest.approx(expected["best_f1_thresh"], abs=1e-5)
    assert span_f1(outputs, part) == pytest.approx(expected["best_f1"] / 100), "the search part's own threshold"
    elsewhere, other = make_part(seed + 100)
    texts, margins = reference_spans(elsewhere, other)
    expected = squad_reference.squad_evaluate(reference_examples(other), texts, margins, threshold)
    names = {"f1": "span_f1", "exact": "exact_match", "HasAns_f1": "answerable_f1", "NoAns_f1": "no_answer_accuracy"}
    scores = all_scores("span", elsewhere, replace(other, null_threshold=threshold))
    assert scores == pytest.approx({ours: expected[theirs] / 100 for theirs, ours in names.items()})
    assert expected["NoAns_exact"] == expected["NoAns_f1"]


def test_where_no_answer_is_worth_giving_none_is_given() -> None:
    outputs, part = make_part(0, unanswerable=1.0)
    threshold = best_null_threshold(outputs, part)
    assert threshold is not None
    assert threshold < min(span.null_margin for span in best_spans(outputs, part))
    assert set(answer_texts(outputs, replace(part, null_threshold=threshold))) == {""}
    assert span_f1(outputs, part) == no_answer_accuracy(outputs, part) == exact_match(outputs, part) == 1


@pytest.mark.slow
def test_equal_margins_are_answered_together() -> None:
    outputs, part = make_part(1)
    windows = part.encoded.windows or ()
    again = [Window(window.example + 30, window.characters) for window in windows]
    encoded = EncodedExamples(
        part.encoded.ids[:1] * 120, part.encoded.type_ids[:1] * 120, [(0, 0)] * 120, [*windows, *again]
    )
    # The same logits twice; what is right for one question is wrong for its copy.
    copies = [replace(example, answers=() if example.answers else ((0, "nothing"),)) for example in part.examples]
    doubled = Part(encoded, [*part.examples, *copies])
    scores = [
        span_f1(outputs * 2, replace(doubled, null_threshold=span.null_margin))
        for span in best_spans(outputs * 2, doubled)
    ]
    assert span_f1(outputs * 2, doubled) == max(0.5, *scores)


@pytest.mark.parametrize("seed", range(5))
def test_where_every_question_has_an_answer_one_is_always_given(seed: int) -> None:
    outputs, part = make_part(seed, unanswerable=0)
    texts, _ = reference_spans(outputs, part)
    expected = squad_reference.squad_evaluate(reference_examples(part), texts)
    assert best_null_threshold(outputs, part) is None
    scores = all_scores("span", outputs, part)
    assert scores == pytest.approx({"span_f1": expected["f1"] / 100, "exact_match": expected["exact"] / 100})


@pytest.mark.slow
def test_samples_of_texts_keep_the_threshold_that_each_model_was_given() -> None:
    outputs, part = make_part(3)
    models, thresholds = {"ours": outputs, "silent": outputs}, {"ours": Thresholds(0.5), "silent": Thresholds(-1e6)}
    intervals = score_intervals("span_f1", models, part, "ours", thresholds=thresholds)
    silent = intervals["silent"].score
    assert silent.value == np.mean([example.is_unanswerable for example in part.examples])
    assert intervals["ours"].score.value == span_f1(outputs, replace(part, null_threshold=0.5))
    assert 0.5 * silent.value < silent.low < silent.value < silent.high


PIECES = st.sampled_from(
    ["the", "The", "a ", "an", " ", ".", "-", "theatre", "a.n", "ÀÉ", "ß", "İ", "\u00a0", "\n", "1"]
)
TEXTS = st.one_of(st.text(max_size=12), st.lists(PIECES, max_size=8).map("".join))


@pytest.mark.slow
@given(answer=TEXTS, right=st.lists(TEXTS, min_size=1, max_size=3), is_unanswerable=st.booleans())
def test_texts_are_compared_as_the_script_compares_them(answer: str, right: list[str], is_unanswerable: bool) -> None:
    windows = [Window(0, [None, (0, len(answer))]), Window(1, [None, (0, 1)])]
    # A second question without an answer makes this a part of SQuAD 2.0.
    answers = () if is_unanswerable else tuple((0, text) for text in right)
    examples = [Example("?", answer, answers=answers), Example("?", "x", answers=())]
    part = Part(EncodedExamples([[1, 1]] * 2, [[0, 0]] * 2, [(0, 0)] * 2, windows), examples, null_threshold=10.0)
    outputs = [np.zeros((2, 2), np.float32)] * 2
    golds = [] if is_unanswerable else [{"text": text} for text in right]
    reference = [SimpleNamespace(qas_id="0", answers=golds), SimpleNamespace(qas_id="1", answers=[])]
    exact, f1 = squad_reference.get_raw_scores(reference, {"0": answer.strip(), "1": "x"})
    assert exact_match(outputs, part) == pytest.approx(sum(exact.values()) / 2)
    assert span_f1(outputs, part) == pytest.approx(sum(f1.values()) / 2)


@pytest.mark.parametrize("seed", range(3))
def test_the_reference_is_the_library_where_it_still_has_it(seed: int) -> None:
    library = pytest.importorskip("transformers.data.metrics.squad_metrics", reason="transformers 5 has it no more")
    outputs, part = make_part(seed)
    texts, margins = reference_spans(outputs, part)
    arguments = (reference_examples(part), texts, margins, 0.25)
    assert squad_reference.squad_evaluate(*arguments) == pytest.approx(dict(library.squad_evaluate(*arguments)))
