from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from ortnas.nas.text import IGNORED
from ortnas.nas.training.losses import (
    attention_loss,
    embedding_loss,
    hidden_loss,
    label_loss,
    maxsim_loss,
    pair_loss,
    relation_loss,
    similarity_loss,
    soft_label_loss,
    token_loss,
)

# Looked at for the numbers of queries alone.
LABELS = torch.tensor([[0.0, 1.0], [0.0, 0.0]])
MASK = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]])


def heads(count: int, size: int, seed: int) -> torch.Tensor:
    return torch.randn(2, count, 4, size, generator=torch.Generator().manual_seed(seed))


def hidden(size: int = 6, seed: int = 0) -> torch.Tensor:
    return torch.randn(2, 4, size, generator=torch.Generator().manual_seed(seed))


def test_labels_of_which_a_text_has_several_are_learned_one_by_one() -> None:
    output, teacher = (torch.randn(3, 4, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    labels = torch.tensor([[0, 3], [2, IGNORED], [IGNORED, IGNORED]])
    flags = torch.tensor([[1.0, 0, 0, 1], [0, 0, 1, 0], [0, 0, 0, 0]])
    expected = F.binary_cross_entropy_with_logits(output, flags)
    torch.testing.assert_close(label_loss("multi-label", output, labels, MASK), expected)
    none = label_loss("multi-label", output, torch.empty(3, 0, dtype=torch.int64), MASK)
    torch.testing.assert_close(none, F.binary_cross_entropy_with_logits(output, torch.zeros(3, 4)))
    soft = soft_label_loss("multi-label", output, teacher, labels, MASK, 1.0)
    entropy = F.binary_cross_entropy(teacher.sigmoid(), teacher.sigmoid())
    torch.testing.assert_close(soft + entropy, F.binary_cross_entropy_with_logits(output, teacher.sigmoid()))
    assert soft_label_loss("multi-label", teacher, teacher, labels, MASK, 2.0).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("head", ["classification", "multi-label", "regression", "token-classification", "span"])
def test_texts_without_labels_count_as_0_whatever_stands_for_their_labels(head: str) -> None:
    shapes = {"regression": (2, 1), "token-classification": (2, 4, 3), "span": (2, 4, 2)}
    output = torch.randn(shapes.get(head, (2, 3)), generator=torch.Generator().manual_seed(0)).requires_grad_()
    labels = {
        "multi-label": torch.tensor([[0, 2], [IGNORED, IGNORED]]),
        "regression": torch.tensor([0.5, torch.nan]),
        "token-classification": torch.tensor([[0, 1, 2, IGNORED], [IGNORED] * 4]),
        "span": torch.tensor([[1, 2], [0, 0]]),
    }.get(head, torch.tensor([2, IGNORED]))
    alone = label_loss(head, output[:1], labels[:1], MASK[:1])
    both = label_loss(head, output, labels, MASK, torch.tensor([True, False]))
    torch.testing.assert_close(both, alone / 2)
    both.backward()
    assert output.grad is not None
    assert output.grad[1].abs().sum() == 0
    assert label_loss(head, output, labels, MASK, torch.tensor([False, False])).item() == 0


def test_hidden_and_token_losses_do_not_see_padding() -> None:
    student, teacher = hidden(), hidden(seed=1)
    changed = student.clone()
    changed[0, 3] = 100
    for loss in (hidden_loss, token_loss):
        torch.testing.assert_close(loss(student, teacher, MASK), loss(changed, teacher, MASK))
        assert loss(teacher, teacher, MASK).item() == pytest.approx(0, abs=1e-6)
    counted = MASK.bool()
    torch.testing.assert_close(hidden_loss(student, teacher, MASK), F.mse_loss(student[counted], teacher[counted]))


def test_attention_loss_compares_the_first_heads_of_the_teacher() -> None:
    query, key, other_query, other_key = (heads(4, 8, seed) for seed in range(4))
    assert attention_loss((query[:, :2], key[:, :2]), (query, key), MASK, 2).item() == pytest.approx(0, abs=1e-6)
    ours, theirs = (q @ k.transpose(2, 3) / 8**0.5 for q, k in ((query, key), (other_query, other_key)))
    pairs = (MASK[:, None, :, None] * MASK[:, None, None, :]).expand(2, 4, 4, 4).bool()
    expected = F.mse_loss(ours[pairs], theirs[pairs])
    torch.testing.assert_close(attention_loss((query, key), (other_query, other_key), MASK, 4), expected)


@pytest.mark.parametrize(("count", "size"), [(4, 8), (2, 8), (3, 4), (5, 7)])
def test_relations_need_no_equal_heads_or_width(count: int, size: int) -> None:
    teacher, student = heads(4, 8, 0), heads(count, size, 1)
    loss = relation_loss(student, teacher, MASK)
    assert loss.item() > 0
    padded = student.clone()
    padded[0, :, 3] = 50
    torch.testing.assert_close(relation_loss(padded, teacher, MASK), loss)
    assert relation_loss(teacher, teacher, MASK).item() == pytest.approx(0, abs=1e-6)


def test_relations_are_the_divergence_of_attention_among_equals() -> None:
    """One relation head, no padding: KL between rows of softmax(A A' / sqrt(width))."""
    student, teacher = heads(1, 6, 0), heads(1, 6, 1)
    ours, theirs = (F.log_softmax(x @ x.transpose(2, 3) / 6**0.5, -1) for x in (student, teacher))
    expected = F.kl_div(ours, theirs, log_target=True, reduction="sum") / 8
    torch.testing.assert_close(relation_loss(student, teacher, torch.ones(2, 4), relation_heads=1), expected)


def test_label_losses_follow_their_heads() -> None:
    logits, labels = torch.randn(3, 5), torch.tensor([1, 4, 0])
    torch.testing.assert_close(
        label_loss("classification", logits, labels, torch.ones(3, 2)), F.cross_entropy(logits, labels)
    )
    numbers = torch.tensor([1.0, 2.0, 3.0])
    expected = ((logits[:, 0] - numbers) ** 2).mean()
    torch.testing.assert_close(label_loss("regression", logits[:, :1], numbers, torch.ones(3, 2)), expected)
    tags = torch.tensor([[IGNORED, 1, IGNORED, IGNORED], [IGNORED, 0, 2, IGNORED]])
    tokens = torch.randn(2, 4, 3)
    expected = F.cross_entropy(tokens[tags != IGNORED], tags[tags != IGNORED])
    torch.testing.assert_close(label_loss("token-classification", tokens, tags, MASK), expected)
    vocabulary = torch.randn(3, 11)
    torch.testing.assert_close(
        label_loss("masked-lm", vocabulary, tags, MASK), F.cross_entropy(vocabulary, tags[tags != IGNORED])
    )


def test_a_span_never_ends_in_padding() -> None:
    output, labels = torch.randn(2, 4, 2), torch.tensor([[1, 2], [0, 3]])
    loss = label_loss("span", output, labels, MASK)
    starts = F.cross_entropy(output[1:, :, 0], labels[1:, 0])
    ends = F.cross_entropy(output[1:, :, 1], labels[1:, 1])
    short = [F.cross_entropy(output[:1, :3, part], labels[:1, part]) for part in (0, 1)]
    torch.testing.assert_close(loss, (starts + ends + short[0] + short[1]) / 4)


def test_passages_are_compared_within_their_query() -> None:
    output, teacher = (torch.randn(6, 1, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    # The last query's grades are not known, the last but one has one passage.
    labels = torch.tensor([[7, 0.0], [7, 2.0], [7, 1.0], [3, 1.0], [9, float("nan")], [9, 1.0]])
    expected = -(torch.tensor([0, 2 / 3, 1 / 3]) * F.log_softmax(output[:3, 0], -1)).sum() / 2
    torch.testing.assert_close(label_loss("reranking", output, labels, MASK), expected)
    pairs = [(0, 1), (0, 2), (1, 2), (4, 5)]
    margins = [((output[a] - output[b]) - (teacher[a] - teacher[b])).square() for a, b in pairs]
    soft = soft_label_loss("reranking", output, teacher, labels, MASK, 2.0)
    torch.testing.assert_close(soft, torch.cat(margins).mean())
    # The level of a query's scores says nothing of their order.
    level = torch.tensor([5.0, 5, 5, -2, 8, 8])[:, None]
    torch.testing.assert_close(soft_label_loss("reranking", output + level, teacher, labels, MASK, 2.0), soft)


def test_queries_without_a_relevant_passage_teach_nothing_by_labels() -> None:
    output = torch.randn(4, 1, requires_grad=True)
    loss = label_loss("reranking", output, torch.tensor([[0, 0.0], [0, 0.0], [1, float("nan")], [1, 1.0]]), MASK)
    loss.backward()
    assert loss.item() == 0
    assert output.grad is not None
    assert not output.grad.any()


@pytest.mark.parametrize(
    "head", ["classification", "regression", "reranking", "token-classification", "span", "masked-lm"]
)
def test_soft_labels_vanish_where_student_and_teacher_agree(head: str) -> None:
    shape = {
        "classification": (2, 3),
        "regression": (2, 1),
        "reranking": (2, 1),
        "masked-lm": (5, 9),
        "span": (2, 4, 2),
    }.get(head, (2, 4, 3))
    teacher, student = torch.randn(shape), torch.randn(shape, requires_grad=True)
    assert soft_label_loss(head, teacher, teacher, LABELS, MASK, 2.0).item() == pytest.approx(0, abs=1e-5)
    loss = soft_label_loss(head, student, teacher, LABELS, MASK, 2.0)
    loss.backward()
    assert loss.item() > 0
    assert student.grad is not None
    assert torch.isfinite(student.grad).all()


def test_embedding_and_similarity_losses_are_zero_only_for_equal_embeddings() -> None:
    ours, theirs = (F.normalize(torch.randn(6, 8), dim=-1) for _ in range(2))
    for loss in (embedding_loss, similarity_loss):
        assert loss(theirs, theirs).item() == pytest.approx(0, abs=1e-6)
        assert loss(ours, theirs).item() > 0.01
    torch.testing.assert_close(embedding_loss(ours, theirs), (ours - theirs).square().sum(-1).mean() / 2)
    torch.testing.assert_close(embedding_loss(ours, theirs), 1 - (ours * theirs).sum(-1).mean())


@pytest.mark.parametrize("scored", [False, True])
def test_pairs_teach_what_sentence_transformers_would(scored: bool) -> None:
    from sentence_transformers.sentence_transformer import SentenceTransformer, losses

    torch.manual_seed(0)
    vectors = torch.randn(12, 8, requires_grad=True)
    grades = torch.rand(6).round(decimals=1) if scored else torch.full((6,), torch.nan)
    loss = pair_loss(vectors, grades.repeat_interleave(2), torch.arange(12))
    model = SentenceTransformer(modules=[torch.nn.Identity()])
    theirs: Any = losses.CosineSimilarityLoss(model)
    if not scored:
        both_ways = ("query_to_doc", "doc_to_query")
        theirs = losses.MultipleNegativesRankingLoss(model, directions=both_ways, partition_mode="per_direction")
    expected = theirs.compute_loss_from_embeddings([vectors[::2], vectors[1::2]], grades)
    torch.testing.assert_close(loss, 10 * expected if scored else expected)


def test_a_text_of_several_pairs_is_no_wrong_answer_to_any_of_them() -> None:
    torch.manual_seed(0)
    vectors, unscored = torch.randn(8, 5), torch.full((8,), torch.nan)
    # The second and the third pair have the second text in common, the first and the last the first one.
    rows = torch.tensor([0, 1, 2, 3, 4, 3, 0, 5])
    vectors[5], vectors[6] = vectors[3], vectors[0]
    loss = pair_loss(vectors, unscored, rows)
    cosines = 20 * F.normalize(vectors[::2], dim=-1) @ F.normalize(vectors[1::2], dim=-1).T
    others = [[1, 2], [0, 3], [0, 3], [1, 2]]
    each = [
        torch.logsumexp(torch.stack([table[row, row], *table[row, places]]), 0) - table[row, row]
        for table in (cosines, cosines.T)
        for row, places in enumerate(others)
    ]
    torch.testing.assert_close(loss, torch.stack(each).mean())


def test_lengths_of_embeddings_are_taught_whatever_their_scale() -> None:
    ours, theirs = 3 * torch.randn(6, 8), 5 * torch.randn(6, 8)
    torch.testing.assert_close(embedding_loss(10 * ours, 10 * theirs), embedding_loss(ours, theirs))
    assert embedding_loss(2 * theirs, theirs).item() == pytest.approx(0.5)
    assert similarity_loss(2 * theirs, theirs).item() == pytest.approx(0, abs=1e-6)
    assert torch.isfinite(embedding_loss(ours, 0 * theirs))


def test_maxsim_is_learned_of_tokens_alone() -> None:
    student, teacher = (F.normalize(hidden(seed=seed), dim=-1) for seed in (0, 1))

    def mean_maxsim(vectors: torch.Tensor) -> torch.Tensor:
        texts = [vectors[0, :3], vectors[1]]
        return torch.stack([torch.stack([(one @ two.T).amax(1).mean() for two in texts]) for one in texts])

    ours, theirs = mean_maxsim(student), mean_maxsim(teacher)
    margins = (ours - ours.mean(1, keepdim=True) - theirs + theirs.mean(1, keepdim=True)).square().mean()
    loss = maxsim_loss(student, teacher, MASK)
    torch.testing.assert_close(loss, (ours - theirs).square().mean() + margins)
    changed = student.clone()
    changed[0, 3] = teacher[0, 0]
    torch.testing.assert_close(maxsim_loss(changed, teacher, MASK), loss)
