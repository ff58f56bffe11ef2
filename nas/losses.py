"""Distillation losses; each compares a subnet's output with the teacher's and returns a scalar."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def embedding_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Cosine distance plus squared error of the batch's similarity matrix; unit embeddings [batch, size].

    Matching similarities (Park et al. 2019, "Relational Knowledge Distillation") keeps neighbours together where a
    small subnet cannot match every embedding.
    """
    cosine = 1 - (student * teacher).sum(-1).mean()
    return cosine + F.mse_loss(student @ student.T, teacher @ teacher.T)


def token_loss(student: Tensor, teacher: Tensor, attention_mask: Tensor) -> Tensor:
    """Mean cosine distance of last hidden states [batch, sequence, size] over the tokens that are not padding.

    Many more targets per sentence than the sentence's own output (hidden-state distillation: Jiao et al. 2020,
    "TinyBERT").
    """
    mask = attention_mask.to(student.dtype)
    return ((1 - F.cosine_similarity(student, teacher, dim=-1)) * mask).sum() / mask.sum()


def classification_loss(student: Tensor, teacher: Tensor, labels: Tensor, temperature: float = 2.0) -> Tensor:
    """Half cross entropy on labels, half KL to the teacher's softened logits (Hinton et al. 2015)."""
    hard = F.cross_entropy(student, labels)
    soft = F.kl_div(
        F.log_softmax(student / temperature, -1),
        F.log_softmax(teacher / temperature, -1),
        log_target=True,
        reduction="batchmean",
    )
    return 0.5 * hard + 0.5 * temperature**2 * soft
