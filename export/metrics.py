"""Task metrics on model outputs, by the definitions of scikit-learn, SciPy and the tasks' own scorers."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from export.outputs import Array
from export.tags import TagScheme, find_scheme
from nas.text import IGNORED, EncodedExamples, Example

Outputs = Sequence[Array]
_LONGEST_ANSWER = 30
_STARTS_CONSIDERED = 20


@dataclass(frozen=True)
class Part:
    """One split to score on: encoded inputs with their labels, the examples behind them, and label names.

    ``teacher`` holds the teacher's unit embeddings [n, size] where there are no labels. ``examples`` is empty for
    packed corpora.
    """

    encoded: EncodedExamples
    examples: Sequence[Example] = ()
    label_names: tuple[str, ...] = ()
    teacher: Array | None = None

    @property
    def labels(self) -> npt.NDArray[Any]:
        """Class ids or numbers, [n]."""
        return np.asarray(self.encoded.labels)


def accuracy(outputs: Outputs, part: Part) -> float:
    """Share of texts whose largest logit is the label."""
    return float((np.stack(outputs).argmax(1) == part.labels).mean())


def f1(outputs: Outputs, part: Part) -> float:
    """F1 of the second label where there are two, mean F1 of all labels where there are more."""
    from sklearn.metrics import f1_score

    average = "binary" if len(part.label_names) == 2 else "macro"
    return float(f1_score(part.labels, np.stack(outputs).argmax(1), average=average, zero_division=0))


def matthews(outputs: Outputs, part: Part) -> float:
    """Matthews correlation coefficient."""
    from sklearn.metrics import matthews_corrcoef

    return float(matthews_corrcoef(part.labels, np.stack(outputs).argmax(1)))


def log_likelihoods(outputs: Outputs, labels: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Logarithm of the probability that each text's label gets, [n]."""
    from scipy.special import log_softmax

    return np.asarray(log_softmax(np.stack(outputs).astype(np.float64), axis=1)[np.arange(len(labels)), labels])


def log_likelihood(outputs: Outputs, part: Part) -> float:
    """Mean logarithm of the label's probability: minus the cross entropy."""
    return float(log_likelihoods(outputs, part.labels).mean())


def pearson(outputs: Outputs, part: Part) -> float:
    """Pearson correlation with the numbers; 0 where all outputs are equal."""
    predicted = np.stack(outputs)[:, 0].astype(np.float64)
    return float(np.corrcoef(predicted, part.labels)[0, 1]) if np.ptp(predicted) > 0 else 0.0


def spearman(outputs: Outputs, part: Part) -> float:
    """Spearman rank correlation with the numbers; 0 where all outputs are equal."""
    from scipy.stats import spearmanr

    predicted = np.stack(outputs)[:, 0]
    return float(spearmanr(predicted, part.labels).statistic) if np.ptp(predicted) > 0 else 0.0


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
    """Share of questions whose answer equals one of the right ones after normalisation (SQuAD 1.1)."""
    return _best_of_answers(outputs, part, lambda found, right: float(_words(found) == _words(right)))


def span_f1(outputs: Outputs, part: Part) -> float:
    """Mean overlap of words with the best of the right answers (SQuAD 1.1)."""
    return _best_of_answers(outputs, part, _overlap)


def _best_of_answers(outputs: Outputs, part: Part, compare: Callable[[str, str], float]) -> float:
    answers = answer_texts(outputs, part)
    scores = [
        max(compare(found, right) for _, right in example.answers)
        for found, example in zip(answers, part.examples, strict=True)
    ]
    return float(np.mean(scores))


def _words(text: str) -> list[str]:
    """Lower case, without punctuation and articles, as SQuAD's scorer compares."""
    plain = "".join(character for character in text.lower() if character not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", plain).split()


def _overlap(found: str, right: str) -> float:
    ours, theirs = _words(found), _words(right)
    common = sum((Counter(ours) & Counter(theirs)).values())
    if not ours or not theirs:
        return float(ours == theirs)
    return 2 * common / (len(ours) + len(theirs))


def answer_texts(outputs: Outputs, part: Part) -> list[str]:
    """For every question the likeliest span of at most 30 tokens over all windows of its context."""
    assert part.encoded.windows is not None
    best: dict[int, tuple[float, str]] = {}
    for output, window in zip(outputs, part.encoded.windows, strict=True):
        context = part.examples[window.example].pair or ""
        tokens = [token for token, characters in enumerate(window.characters) if characters is not None]
        starts = sorted(tokens, key=lambda token: -output[token, 0])[:_STARTS_CONSIDERED]
        for start in starts:
            ends = [token for token in tokens if start <= token < start + _LONGEST_ANSWER]
            end = max(ends, key=lambda token: output[token, 1])
            score = float(output[start, 0] + output[end, 1])
            if score > best.get(window.example, (-np.inf, ""))[0]:
                first, last = window.characters[start], window.characters[end]
                assert first is not None
                assert last is not None
                best[window.example] = score, context[first[0] : last[1]]
    return [best.get(number, (0.0, ""))[1] for number in range(len(part.examples))]


def masked_accuracy(outputs: Outputs, part: Part) -> float:  # noqa: ARG001 one of many metrics
    """Share of masked tokens that rank first."""
    return float(np.concatenate(outputs)[:, 1].mean())


def masked_log_likelihood(outputs: Outputs, part: Part) -> float:  # noqa: ARG001 one of many metrics
    """Mean log-probability of masked tokens, in nats; minus the cross entropy."""
    return float(np.concatenate(outputs)[:, 0].mean(dtype=np.float64))


def mean_cosine(outputs: Outputs, part: Part) -> float:
    """Mean cosine of unit embeddings with the teacher's."""
    assert part.teacher is not None
    return float((np.stack(outputs) * part.teacher).sum(1).mean())


def similarity_spearman(outputs: Outputs, part: Part) -> float:
    """Spearman correlation of all pairwise similarities with the teacher's."""
    from scipy.stats import rankdata

    assert part.teacher is not None
    pairs = np.triu_indices(len(outputs), 1)
    ours, theirs = (rankdata((matrix @ matrix.T)[pairs]) for matrix in (np.stack(outputs), part.teacher))
    return float(np.corrcoef(ours, theirs)[0, 1])


Metric = Callable[[Outputs, Part], float]
# The first metric of a head that suits the labels decides where nothing else is asked for; all of those are reported.
HEAD_METRICS: dict[str, tuple[Metric, ...]] = {
    "embedding": (similarity_spearman, mean_cosine),
    "classification": (accuracy, f1, matthews, log_likelihood),
    "regression": (pearson_spearman, pearson, spearman),
    "token-classification": (entity_f1, token_accuracy),
    "span": (span_f1, exact_match),
    "masked-lm": (masked_accuracy, masked_log_likelihood),
}
METRICS: dict[str, Metric] = {metric.__name__: metric for metrics in HEAD_METRICS.values() for metric in metrics}


def suitable_metrics(head: str, label_names: Sequence[str]) -> list[str]:
    """The head's metrics that mean something for such labels, the usual one first: there is no ``entity_f1`` where the
    tags are no tags of entities."""
    names = [metric.__name__ for metric in HEAD_METRICS[head]]
    if head == "token-classification" and find_scheme(label_names) is None:
        names.remove(entity_f1.__name__)
    return names


def all_scores(head: str, outputs: Outputs, part: Part) -> dict[str, float]:
    """Every suitable metric of the head, by name."""
    return {name: METRICS[name](outputs, part) for name in suitable_metrics(head, part.label_names)}
