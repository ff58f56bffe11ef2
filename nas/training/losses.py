"""Losses between a subnet's signals and labels or a teacher's signals; each returns a scalar."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ortnas.nas.architecture.heads import HEADS, Labels
from ortnas.nas.text import IGNORED

_MASKED = -1e4
_TINY = 1e-12
# Of cosines, before a softmax; the usual one of sentence-transformers.
_PAIR_SCALE = 20.0
_SCORED_WEIGHT = 10.0


def label_loss(
    head: str, output: Tensor, labels: Tensor, attention_mask: Tensor, labelled: Tensor | None = None
) -> Tensor:
    """Cross entropy with the labels, binary where a text may have several, or squared error for numbers (Devlin et al.
    2019, "BERT", section 4). Of a query's passages cross entropy of the softmax over them with their grades ("ListNet",
    Cao et al. 2007); queries without a relevant passage do not count.

    Shapes by kind of labels: class [batch, labels] and [batch]; classes [batch, labels] and [batch, most ids]; number
    [batch, 1] and [batch]; tags [batch, sequence, labels] and [batch, sequence]; answer [batch, sequence, 2] and
    [batch, 2]; grades [batch, 1] and [batch, 2], queries' numbers first; masked [masked tokens, vocabulary] and
    [batch, sequence]. Entries of IGNORED do not count. ``labelled``, boolean [batch], tells which texts have labels;
    the others count as 0 in the mean.
    """
    compute = LOSSES_OF_LABELS[HEADS[head].labels]
    if labelled is None:
        return compute(output, labels, attention_mask)
    if not labelled.any():
        return output.sum() * 0
    share = labelled.to(output.dtype).mean()
    return share * compute(output[labelled], labels[labelled], attention_mask[labelled])


def soft_label_loss(
    head: str, output: Tensor, teacher: Tensor, labels: Tensor, attention_mask: Tensor, temperature: float
) -> Tensor:
    """KL divergence to the teacher's softened labels, of each label alone where a text may have several; or squared
    error, for numbers (Hinton et al. 2015) and for the differences of passages of one query.

    Shapes as in ``label_loss``; of the labels, only queries' numbers are looked at.
    """
    return LOSSES_OF_SOFT_LABELS[HEADS[head].labels](output, teacher, labels, attention_mask, temperature)


def _cross_entropy(output: Tensor, labels: Tensor, _: Tensor) -> Tensor:
    return F.cross_entropy(output.flatten(0, -2), labels.flatten(), ignore_index=IGNORED)


def label_targets(output: Tensor, labels: Tensor) -> Tensor:
    """1 where a label applies, else 0, [batch, labels] as the logits; ``labels`` are ids, filled up with IGNORED."""
    targets = torch.zeros(len(output), output.shape[1] + 1, dtype=output.dtype, device=output.device)
    # What fills up goes to a column of its own.
    columns = torch.where(labels == IGNORED, output.shape[1], labels)
    return targets.scatter(1, columns, 1.0)[:, :-1]


def _binary_cross_entropy(output: Tensor, labels: Tensor, _: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(output, label_targets(output, labels))


def _squared_error(output: Tensor, labels: Tensor, _: Tensor) -> Tensor:
    return F.mse_loss(output.squeeze(-1), labels.to(output.dtype))


def _list_cross_entropy(output: Tensor, labels: Tensor, _: Tensor) -> Tensor:
    is_own = _same_query(labels)
    scores = output[:, 0].expand(len(is_own), -1).masked_fill(~is_own, _MASKED)
    grades = labels[:, 1].to(output.dtype).expand(len(is_own), -1).masked_fill(~is_own, 0)
    total = grades.sum(1)
    # NaN where nobody says how relevant a passage is.
    counts = total > 0
    if not counts.any():
        return output.sum() * 0
    targets = grades[counts] / total[counts, None]
    return -(targets * F.log_softmax(scores[counts], -1)).sum(1).mean()


def _same_query(labels: Tensor) -> Tensor:
    """Which rows are each query's, [queries, batch]."""
    queries = labels[:, 0]
    distinct: Tensor = torch.unique(queries)
    return distinct[:, None] == queries[None]


def _answer_cross_entropy(output: Tensor, labels: Tensor, attention_mask: Tensor) -> Tensor:
    return F.cross_entropy(span_scores(output, attention_mask).flatten(0, 1), labels.flatten())


def _masked_cross_entropy(output: Tensor, labels: Tensor, _: Tensor) -> Tensor:
    return F.cross_entropy(output, labels[labels != IGNORED])


def _divergence(output: Tensor, teacher: Tensor, _labels: Tensor, _mask: Tensor, temperature: float) -> Tensor:
    student, target = (F.log_softmax(scores / temperature, -1) for scores in (output, teacher))
    return temperature**2 * F.kl_div(student, target, log_target=True, reduction="batchmean")


def _binary_divergence(output: Tensor, teacher: Tensor, _labels: Tensor, _mask: Tensor, temperature: float) -> Tensor:
    """Of each label's yes and no, as a mean over labels as the cross entropy is."""
    ours, theirs = (
        torch.stack([F.logsigmoid(scores / temperature), F.logsigmoid(-scores / temperature)])
        for scores in (output, teacher)
    )
    return temperature**2 * F.kl_div(ours, theirs, log_target=True, reduction="sum") / output.numel()


def _squared_difference(output: Tensor, teacher: Tensor, *_: object) -> Tensor:
    return F.mse_loss(output, teacher)


def _margin_difference(output: Tensor, teacher: Tensor, labels: Tensor, *_: object) -> Tensor:
    """Mean squared error of the differences of scores, over all pairs of passages of a query: it keeps the teacher's
    order and distances, and needs no labels ("MarginMSE", Hofstätter et al. 2020)."""
    errors, is_own = (output - teacher)[:, 0], _same_query(labels).to(output.dtype)
    counts = is_own.sum(1)
    # Over ordered pairs of n numbers, squared differences sum up to 2 n times the squared distances from their mean.
    means = is_own @ errors / counts
    squares = is_own @ errors.square() - counts * means.square()
    pairs = (counts * (counts - 1)).sum()
    return (2 * counts * squares).sum() / pairs.clamp(min=1)


def _token_divergence(
    output: Tensor, teacher: Tensor, labels: Tensor, attention_mask: Tensor, temperature: float
) -> Tensor:
    is_token = attention_mask.bool()
    return _divergence(output[is_token], teacher[is_token], labels, attention_mask, temperature)


def _answer_divergence(
    output: Tensor, teacher: Tensor, labels: Tensor, attention_mask: Tensor, temperature: float
) -> Tensor:
    ours, theirs = (span_scores(scores, attention_mask).flatten(0, 1) for scores in (output, teacher))
    return _divergence(ours, theirs, labels, attention_mask, temperature)


LOSSES_OF_LABELS: dict[Labels, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "class": _cross_entropy,
    "classes": _binary_cross_entropy,
    "number": _squared_error,
    "tags": _cross_entropy,
    "answer": _answer_cross_entropy,
    "grades": _list_cross_entropy,
    "masked": _masked_cross_entropy,
}
LOSSES_OF_SOFT_LABELS: dict[Labels, Callable[[Tensor, Tensor, Tensor, Tensor, float], Tensor]] = {
    "class": _divergence,
    "classes": _binary_divergence,
    "number": _squared_difference,
    "tags": _token_divergence,
    "answer": _answer_divergence,
    "grades": _margin_difference,
    "masked": _divergence,
}


def span_scores(output: Tensor, attention_mask: Tensor) -> Tensor:
    """Start and end scores [batch, 2, sequence] with padding out of the running, from logits [batch, sequence, 2]."""
    return output.transpose(1, 2).masked_fill(~attention_mask.bool()[:, None], _MASKED)


def hidden_loss(student: Tensor, teacher: Tensor, attention_mask: Tensor) -> Tensor:
    """Mean squared error of last hidden states [batch, sequence, size] over tokens that are not padding.

    Jiao et al. 2020, "TinyBERT"; Yin et al. 2021, "AutoTinyBERT". The student's are projected to the teacher's size.
    """
    mask = attention_mask.to(student.dtype)
    return ((student - teacher).square().mean(-1) * mask).sum() / mask.sum()


def attention_loss(
    student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor], attention_mask: Tensor, num_heads: int
) -> Tensor:
    """Mean squared error of attention scores before the softmax (Yin et al. 2021, "AutoTinyBERT").

    Query and key, each [batch, heads, sequence, head_size]. The subnet's heads are the teacher's first ``num_heads``.
    """
    ours, theirs = (
        query[:, :num_heads] @ key[:, :num_heads].transpose(2, 3) / math.sqrt(query.shape[-1])
        for query, key in (student, teacher)
    )
    mask = attention_mask.to(ours.dtype)
    pairs = mask[:, None, :, None] * mask[:, None, None, :]
    return ((ours - theirs).square() * pairs).sum() / (pairs.sum() * num_heads)


def relation_loss(student: Tensor, teacher: Tensor, attention_mask: Tensor, relation_heads: int = 12) -> Tensor:
    """KL divergence of the relations between tokens' vectors (Wang et al. 2021, "MiniLMv2", equations 2 to 4).

    Queries, keys or values, [batch, heads, sequence, head_size]; the vectors of all heads are joined and split anew
    into relation heads, as many as both widths allow, so that neither heads nor widths need agree.
    """
    widths = [tensor.shape[1] * tensor.shape[3] for tensor in (student, teacher)]
    common = math.gcd(*widths)
    heads = max(count for count in range(1, relation_heads + 1) if common % count == 0)
    padding = ~attention_mask.bool()[:, None, None, :]

    def relations(vectors: Tensor) -> Tensor:
        joined = vectors.transpose(1, 2).flatten(2)
        split = joined.view(*joined.shape[:2], heads, -1).transpose(1, 2)
        scores = split @ split.transpose(2, 3) / math.sqrt(split.shape[-1])
        return F.log_softmax(scores.masked_fill(padding, _MASKED), -1)

    ours, theirs = relations(student), relations(teacher)
    divergence = (theirs.exp() * (theirs - ours)).sum(-1)
    mask = attention_mask.to(ours.dtype)[:, None, :]
    return (divergence * mask).sum() / (mask.sum() * heads)


def embedding_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared error of embeddings [batch, size] over twice the teacher's mean squared length: for unit vectors the mean
    cosine distance; of others, lengths are taught too."""
    squares = teacher.square().sum(-1).mean().clamp(min=_TINY)
    return (student - teacher).square().sum(-1).mean() / (2 * squares)


def similarity_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared error of the batch's matrix of cosines; embeddings [batch, size].

    Matching similarities (Park et al. 2019, "Relational Knowledge Distillation") keeps neighbours together where a
    small subnet cannot match every embedding.
    """
    ours, theirs = F.normalize(student, dim=-1), F.normalize(teacher, dim=-1)
    return F.mse_loss(ours @ ours.T, theirs @ theirs.T)


def pair_loss(embeddings: Tensor, grades: Tensor, rows: Tensor) -> Tensor:
    """What pairs teach. Embeddings [batch, size] of first and second texts by turns; ``grades`` and the texts' numbers
    ``rows`` are [batch].

    Without a score (NaN), cross entropy of finding each text's other one among those of the batch (Henderson et al.
    2017, "Efficient Natural Language Response Suggestion"), both ways. With scores, from 0 to 1, squared error of the
    cosines (Reimers & Gurevych 2019, "Sentence-BERT"), ten times, as it is so much smaller.
    """
    vectors, grades = F.normalize(embeddings, dim=-1), grades[::2]
    first, second = vectors[::2], vectors[1::2]
    if not grades.isnan().any():
        return _SCORED_WEIGHT * F.mse_loss((first * second).sum(-1), grades)
    similarities, places = _PAIR_SCALE * first @ second.T, torch.arange(len(first), device=first.device)
    firsts, seconds = rows[::2], rows[1::2]
    # A text that is in several pairs of the batch is no wrong answer to any of them.
    is_same = (firsts[:, None] == firsts) | (seconds[:, None] == seconds)
    is_same.fill_diagonal_(False)
    similarities = similarities.masked_fill(is_same, _MASKED)
    return (F.cross_entropy(similarities, places) + F.cross_entropy(similarities.T, places)) / 2


def maxsim_loss(student: Tensor, teacher: Tensor, attention_mask: Tensor) -> Tensor:
    """Squared error of the batch's matrix of MaxSim (Khattab & Zaharia 2020, "ColBERT"), and of its rows' margins.

    Vectors [batch, sequence, size] of length one. Each text is query and document once; the sum over a query's tokens
    is their mean, so that long texts count as short ones. Margins between documents of one query are what ranks them
    (Hofstatter et al. 2020, "Margin-MSE").
    """
    ours, theirs = _maxsim(student, attention_mask), _maxsim(teacher, attention_mask)
    margins = F.mse_loss(ours - ours.mean(1, keepdim=True), theirs - theirs.mean(1, keepdim=True))
    return F.mse_loss(ours, theirs) + margins


def _maxsim(vectors: Tensor, attention_mask: Tensor) -> Tensor:
    """[queries, documents]."""
    shown = attention_mask.bool()
    cosines = torch.einsum("qid,pjd->qpij", vectors, vectors)
    best = cosines.masked_fill(~shown[None, :, None, :], -1.0).amax(3)
    counted = shown.to(vectors.dtype)[:, None, :]
    return (best * counted).sum(2) / counted.sum(2)


def token_loss(student: Tensor, teacher: Tensor, attention_mask: Tensor) -> Tensor:
    """Mean cosine distance of last hidden states [batch, sequence, size] over the tokens that are not padding.

    Many more targets per sentence than the sentence's own output (hidden-state distillation: Jiao et al. 2020,
    "TinyBERT").
    """
    mask = attention_mask.to(student.dtype)
    return ((1 - F.cosine_similarity(student, teacher, dim=-1)) * mask).sum() / mask.sum()


def chosen_positions(head: str, labels: Tensor | None) -> Tensor | None:
    """The tokens whose outputs alone are computed, boolean [batch, sequence]: those behind masks; None for all."""
    if not HEADS[head].fills_masks:
        return None
    assert labels is not None
    return labels != IGNORED
