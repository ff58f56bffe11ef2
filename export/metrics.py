"""Task metrics on model outputs, by the definitions of scikit-learn, SciPy and the tasks' own scorers.

In numpy alone: hosts that check packages have neither library.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ortnas.export import label_sets, query_ranks
from ortnas.export.answers import (
    answerable_f1,
    best_null_threshold,
    exact_match,
    has_unanswerable,
    no_answer_accuracy,
    span_f1,
)
from ortnas.export.neighbours import neighbour_divergences
from ortnas.export.part import Outputs, Part, Thresholds
from ortnas.export.ranks import rank_correlation, similarity_ranks
from ortnas.export.retrieval import QUERY_VALUES, pair_cosines
from ortnas.export.tags import TagScheme, find_scheme
from ortnas.export.vectors import unit_rows
from ortnas.nas.architecture.heads import HEADS
from ortnas.nas.arrays import Vector
from ortnas.nas.judgements import Judgements
from ortnas.nas.text import IGNORED

# Figures of single labels are called so, followed by the label.
RECALL_OF = "recall of "
# Documents that each text is compared with, token by token.
_COMPARED_TEXTS = 16


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


def micro_f1(outputs: Outputs, part: Part) -> float:
    """F1 of all decisions whether a text has a label."""
    return label_sets.micro_f1(_label_set_counts(outputs, part))


def macro_f1(outputs: Outputs, part: Part) -> float:
    """Mean F1 of the labels, where a text may have several."""
    return label_sets.macro_f1(_label_set_counts(outputs, part))


def label_log_likelihood(outputs: Outputs, part: Part) -> float:
    """Mean logarithm of the probability that a label is there or not as it is: minus the binary cross entropy."""
    return float(label_sets.mean_log_likelihoods(outputs, part.label_sets).mean())


def label_recalls(outputs: Outputs, part: Part) -> dict[str, float]:
    """By label, how many of the texts that have it are given it; without labels that no text has."""
    recalls = label_sets.recalls(_label_set_counts(outputs, part))
    named = zip(part.label_names, recalls, strict=True)
    return {f"{RECALL_OF}{name}": recall for name, recall in named if recall is not None}


def _label_set_counts(outputs: Outputs, part: Part) -> label_sets.Counts:
    return label_sets.count_labels(outputs, part.label_sets, part.label_thresholds)


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


def find_thresholds(head: str, outputs: Outputs, part: Part) -> Thresholds:
    """Those that give these outputs the best F1 on this part: for no answer as SQuAD 2.0's ``find_best_thresh`` finds
    it, for labels as ``label_sets.find_thresholds``."""
    if HEADS[head].takes_label_sets:
        return Thresholds(label_thresholds=label_sets.find_thresholds(outputs, part.label_sets))
    return Thresholds(best_null_threshold(outputs, part))


def needs_thresholds(head: str, part: Part) -> bool:
    """Whether there is anything for ``find_thresholds`` to find."""
    return HEADS[head].takes_label_sets or has_unanswerable(part)


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
    return float(np.corrcoef(similarity_ranks(np.stack(outputs)), part.teacher_ranks)[0, 1])


def token_cosine(outputs: Outputs, part: Part) -> float:
    """Mean over texts of the mean cosine of its tokens' vectors with the teacher's."""
    assert part.teacher is not None
    pairs = zip(outputs, part.teacher, strict=True)
    return float(np.mean([(unit_rows(own) * unit_rows(other[: len(own)])).sum(1).mean() for own, other in pairs]))


def maxsim_spearman(outputs: Outputs, part: Part) -> float:
    """Spearman correlation of the MaxSim of texts, each the query of up to 16 others, with the teacher's.

    MaxSim is divided by the number of the query's tokens: it would rank texts by their length.
    """
    assert part.teacher is not None
    theirs = [other[: len(own)] for own, other in zip(outputs, part.teacher, strict=True)]
    return rank_correlation(_maxsims(outputs), _maxsims(theirs))


def _maxsims(texts: Outputs) -> Vector:
    steps = range(1, min(_COMPARED_TEXTS, len(texts) - 1) + 1)
    units = [unit_rows(vectors) for vectors in texts]
    pairs = ((unit, units[(row + step) % len(units)]) for step in steps for row, unit in enumerate(units))
    return np.array([(query @ document.T).max(1).mean() for query, document in pairs], np.float64)


def neighbour_likelihood(outputs: Outputs, part: Part) -> float:
    """Minus the mean divergence of each text's neighbours from those by the teacher's embeddings; at most 0."""
    assert part.teacher is not None
    return -float(neighbour_divergences(np.stack(outputs), part.teacher).mean())


def recall_at_1(outputs: Outputs, part: Part) -> float:
    """Mean share of a query's relevant documents that rank first."""
    return _query_mean("recall_at_1", outputs, part)


def mrr_at_10(outputs: Outputs, part: Part) -> float:
    """Mean of one over the rank of a query's first relevant document, or passage, of ten."""
    return _query_mean("mrr_at_10", outputs, part)


def ndcg_at_10(outputs: Outputs, part: Part) -> float:
    """Mean normalised discounted gain of a query's first ten documents, or passages."""
    return _query_mean("ndcg_at_10", outputs, part)


def list_log_likelihood(outputs: Outputs, part: Part) -> float:
    """Mean logarithm of the probability of a query's relevant passages among its passages."""
    return _query_mean("list_log_likelihood", outputs, part)


def _query_mean(metric: str, outputs: Outputs, part: Part) -> float:
    if part.judgements is None:
        return float(query_ranks.QUERY_VALUES[metric](outputs, part.labels).mean())
    return float(QUERY_VALUES[metric](outputs, part.judgements).mean())


# Metrics of embeddings that lie in the teacher's space.
OF_ONE_SPACE = (mean_cosine.__name__, token_cosine.__name__)
Metric = Callable[[Outputs, Part], float]
METRICS: dict[str, Metric] = {
    metric.__name__: metric
    for metric in (
        similarity_spearman,
        mean_cosine,
        maxsim_spearman,
        token_cosine,
        neighbour_likelihood,
        accuracy,
        f1,
        matthews,
        log_likelihood,
        micro_f1,
        macro_f1,
        label_log_likelihood,
        pearson_spearman,
        pearson,
        spearman,
        recall_at_1,
        mrr_at_10,
        ndcg_at_10,
        list_log_likelihood,
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
    scores = {metric.__name__: metric(outputs, part) for metric in metrics}
    return scores | label_recalls(outputs, part) if HEADS[head].takes_label_sets else scores
