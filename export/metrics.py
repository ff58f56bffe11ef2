"""Task metrics on model outputs, by the definitions of scikit-learn, SciPy and the tasks' own scorers.

In numpy alone: hosts that check packages have neither library.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ortnas.export.neighbours import neighbour_divergences
from ortnas.export.ranks import rank_correlation, ranks
from ortnas.export.retrieval import QUERY_VALUES, pair_cosines
from ortnas.export.tags import TagScheme, find_scheme
from ortnas.export.vectors import unit_rows
from ortnas.nas.architecture.heads import HEADS
from ortnas.nas.arrays import Array, Vector
from ortnas.nas.judgements import Judgements
from ortnas.nas.text import IGNORED, EncodedExamples, Example

Outputs = Sequence[Array]
_LONGEST_ANSWER = 30
_STARTS_CONSIDERED = 20


@dataclass(frozen=True)
class Part:
    """A part of the data to score on: encoded inputs with their labels, the examples behind them, and label names.

    ``teacher`` holds the teacher's embeddings [n, size] where there are no labels. ``examples`` is empty for
    packed corpora. ``null_threshold`` is a model's own: by how much the score of no answer has to exceed that of the
    best one for there to be none. Without it, questions without an answer are judged by the threshold that suits this
    part best. ``judgements`` are of pairs of the texts, where the part is there for them.
    """

    encoded: EncodedExamples
    examples: Sequence[Example] = ()
    label_names: tuple[str, ...] = ()
    teacher: Array | None = None
    null_threshold: float | None = None
    judgements: Judgements | None = None

    @property
    def size(self) -> int:
        """What a score is a figure of: inputs, judged pairs or queries."""
        return len(self.encoded) if self.judgements is None else self.judgements.size

    @property
    def labels(self) -> npt.NDArray[Any]:
        """Class ids or numbers, [n]."""
        return np.asarray(self.encoded.labels)


def accuracy(outputs: Outputs, part: Part) -> float:
    """Share of texts whose largest logit is the label."""
    return float((np.stack(outputs).argmax(1) == part.labels).mean())


def f1(outputs: Outputs, part: Part) -> float:
    """F1 of the second label where there are two, mean F1 of all labels where there are more."""
    hits, predicted, true = _label_counts(outputs, part)
    if len(part.label_names) == 2:
        hits, predicted, true = hits[1:2], predicted[1:2], true[1:2]
    # A label that neither the texts nor the answers have is no label of this part.
    occurs = predicted + true > 0
    return float((2 * hits[occurs] / (predicted + true)[occurs]).mean()) if occurs.any() else 0.0


def matthews(outputs: Outputs, part: Part) -> float:
    """Matthews correlation coefficient, of several labels by Gorodkin (2004); 0 where all answers or labels are one."""
    hits, predicted, true = _label_counts(outputs, part)
    texts = len(outputs)
    covariance = hits.sum() * texts - predicted @ true
    spread = (texts**2 - predicted @ predicted) * (texts**2 - true @ true)
    return float(covariance / np.sqrt(spread)) if spread > 0 else 0.0


def _label_counts(outputs: Outputs, part: Part) -> tuple[Vector, Vector, Vector]:
    """By label, float64 [labels]: how often it is answered rightly, answered, and right."""
    logits, labels = np.stack(outputs), part.labels
    answers, size = logits.argmax(1), logits.shape[1]
    hits, predicted, true = (
        np.bincount(rows, minlength=size).astype(np.float64) for rows in (labels[answers == labels], answers, labels)
    )
    return hits, predicted, true


def log_likelihoods(outputs: Outputs, labels: npt.NDArray[Any]) -> Vector:
    """Logarithm of the probability that each text's label gets, [n]."""
    logits = np.stack(outputs).astype(np.float64)
    shifted = logits - logits.max(1, keepdims=True)
    normalised = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    return np.asarray(normalised[np.arange(len(labels)), labels])


def log_likelihood(outputs: Outputs, part: Part) -> float:
    """Mean logarithm of the label's probability: minus the cross entropy."""
    return float(log_likelihoods(outputs, part.labels).mean())


def pearson(outputs: Outputs, part: Part) -> float:
    """Pearson correlation with the numbers; 0 where all outputs are equal."""
    predicted = np.stack(outputs)[:, 0].astype(np.float64)
    return float(np.corrcoef(predicted, part.labels)[0, 1]) if np.ptp(predicted) > 0 else 0.0


def spearman(outputs: Outputs, part: Part) -> float:
    """Spearman rank correlation of the outputs with the numbers, or of the cosines of judged pairs with theirs."""
    if part.judgements is None:
        return rank_correlation(np.stack(outputs)[:, 0], part.labels)
    return rank_correlation(pair_cosines(outputs, part.judgements), np.array(part.judgements.grades))


def pearson_spearman(outputs: Outputs, part: Part) -> float:
    """Mean of both correlations, as GLUE scores STS-B."""
    return (pearson(outputs, part) + spearman(outputs, part)) / 2


def token_accuracy(outputs: Outputs, part: Part) -> float:
    """Share of words whose largest logit is the label; words that were cut off count as missed."""
    pairs = list(_tagged_words(outputs, part))
    hits = sum(ours == theirs for predicted, true in pairs for ours, theirs in zip(predicted, true, strict=True))
    return hits / max(1, sum(len(true) for _, true in pairs))


def entity_f1(outputs: Outputs, part: Part) -> float:
    """F1 of whole entities over all sentences: type and both ends must agree; 0 where there are none on either side.

    Tags are read by their scheme; tags without one as types, of which equal ones side by side are one entity.
    """
    names = part.label_names
    scheme = find_scheme(names) or TagScheme("", {name: ("I", name) for name in names})
    predicted_entities = true_entities = hits = 0
    for predicted, true in _tagged_words(outputs, part):
        ours = scheme.entities([None if tag is None else names[tag] for tag in predicted])
        theirs = scheme.entities([names[tag] for tag in true])
        predicted_entities += len(ours)
        true_entities += len(theirs)
        hits += len(ours & theirs)
    return 2 * hits / max(1, predicted_entities + true_entities)


def _tagged_words(outputs: Outputs, part: Part) -> Iterator[tuple[list[int | None], Sequence[int]]]:
    """For every sentence the tags that its words get, None for words that are cut off, and the right ones."""
    encoded = part.encoded
    assert encoded.labels is not None
    for row, (output, labels) in enumerate(zip(outputs, encoded.labels, strict=True)):
        counted = np.asarray(labels) != IGNORED
        tags: list[int] = output.argmax(1)[counted].tolist()
        if encoded.words is None or not part.examples:
            yield list(tags), [label for label in labels if label != IGNORED]
            continue
        right = part.examples[row].tags
        predicted: list[int | None] = [None] * len(right)
        for word, tag in zip(encoded.words[row], tags, strict=True):
            predicted[word] = tag
        yield predicted, right


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


def _words(text: str) -> list[str]:
    """Lower case, without punctuation and articles, as SQuAD's scorer compares."""
    plain = "".join(character for character in text.lower() if character not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", plain).split()


def _equal(answer: str, right: str) -> float:
    return float(_words(answer) == _words(right))


def _overlap(answer: str, right: str) -> float:
    ours, theirs = _words(answer), _words(right)
    common = sum((Counter(ours) & Counter(theirs)).values())
    if not ours or not theirs:
        return float(ours == theirs)
    return 2 * common / (len(ours) + len(theirs))


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


def masked_accuracy(outputs: Outputs, part: Part) -> float:  # noqa: ARG001 one of many metrics
    """Share of masked tokens that rank first."""
    return float(np.concatenate(outputs)[:, 1].mean())


def masked_log_likelihood(outputs: Outputs, part: Part) -> float:  # noqa: ARG001 one of many metrics
    """Mean log-probability of masked tokens, in nats; minus the cross entropy."""
    return float(np.concatenate(outputs)[:, 0].mean(dtype=np.float64))


def mean_cosine(outputs: Outputs, part: Part) -> float:
    """Mean cosine of embeddings with the teacher's."""
    assert part.teacher is not None
    return float((unit_rows(np.stack(outputs)) * unit_rows(part.teacher)).sum(1).mean())


def similarity_spearman(outputs: Outputs, part: Part) -> float:
    """Spearman correlation of all pairwise cosines with the teacher's."""
    assert part.teacher is not None
    pairs = np.triu_indices(len(outputs), 1)
    units = (unit_rows(matrix) for matrix in (np.stack(outputs), part.teacher))
    ours, theirs = (ranks((unit @ unit.T)[pairs]) for unit in units)
    return float(np.corrcoef(ours, theirs)[0, 1])


def neighbour_likelihood(outputs: Outputs, part: Part) -> float:
    """Minus the mean divergence of each text's neighbours from those by the teacher's embeddings; at most 0."""
    assert part.teacher is not None
    return -float(neighbour_divergences(np.stack(outputs), part.teacher).mean())


def recall_at_1(outputs: Outputs, part: Part) -> float:
    """Mean share of a query's relevant documents that rank first."""
    return _query_mean("recall_at_1", outputs, part)


def mrr_at_10(outputs: Outputs, part: Part) -> float:
    """Mean of one over the rank of a query's first relevant document, of ten."""
    return _query_mean("mrr_at_10", outputs, part)


def ndcg_at_10(outputs: Outputs, part: Part) -> float:
    """Mean normalised discounted gain of a query's first ten documents."""
    return _query_mean("ndcg_at_10", outputs, part)


def _query_mean(metric: str, outputs: Outputs, part: Part) -> float:
    assert part.judgements is not None
    return float(QUERY_VALUES[metric](outputs, part.judgements).mean())


# Metrics of embeddings that lie in the teacher's space.
OF_ONE_SPACE = (mean_cosine.__name__,)
Metric = Callable[[Outputs, Part], float]
METRICS: dict[str, Metric] = {
    metric.__name__: metric
    for metric in (
        similarity_spearman,
        mean_cosine,
        neighbour_likelihood,
        accuracy,
        f1,
        matthews,
        log_likelihood,
        pearson_spearman,
        pearson,
        spearman,
        recall_at_1,
        mrr_at_10,
        ndcg_at_10,
        entity_f1,
        token_accuracy,
        span_f1,
        exact_match,
        masked_accuracy,
        masked_log_likelihood,
    )
}


def suitable_metrics(head: str, label_names: Sequence[str]) -> list[str]:
    """The head's metrics that mean something for such labels, the usual one first: there is no ``entity_f1`` where the
    tags are no tags of entities."""
    names = HEADS[head].metrics
    has_entities = entity_f1.__name__ in names and find_scheme(label_names) is not None
    return [name for name in names if has_entities or name != entity_f1.__name__]


def judged_metrics(judgements: Judgements) -> list[str]:
    """The metrics that such judgements serve."""
    return [spearman.__name__] if judgements.are_scored else list(QUERY_VALUES)


def all_scores(head: str, outputs: Outputs, part: Part, shares_space: bool = True) -> dict[str, float]:
    """Every suitable metric of the head, by name; of a part of judged pairs those of its judgements alone. Where
    questions without an answer are among others, of either kind too.

    Without ``shares_space`` embeddings lie in another space than the teacher's, maybe of another size: how near they
    are one by one means nothing, and is left out.
    """
    names = suitable_metrics(head, part.label_names) if part.judgements is None else judged_metrics(part.judgements)
    metrics = [METRICS[name] for name in names if shares_space or name not in OF_ONE_SPACE]
    if len({example.is_unanswerable for example in part.examples}) == 2:
        metrics += [answerable_f1, no_answer_accuracy]
    return {metric.__name__: metric(outputs, part) for metric in metrics}
