"""Distillation recipes: the names of the losses, which heads they serve, and the usual sum of every head."""

from __future__ import annotations

from collections.abc import Mapping, Set

# Losses that look at labels only; every other one needs a teacher.
LABEL_LOSSES = frozenset({"labels"})
# Losses that look at the head's output.
OUTPUT_LOSSES = frozenset({"labels", "soft_labels", "embedding", "similarity"})
_EMBEDDING_LOSSES = frozenset({"embedding", "similarity", "tokens"})
LOSSES = {
    "labels": "cross entropy with the labels (masked tokens for masked-lm), squared error for regression",
    "soft_labels": "KL divergence to the teacher's softened labels",
    "hidden": "squared error of last hidden states, projected to the teacher's size",
    "attention": "squared error of the last layer's attention scores before the softmax",
    "relations": "KL divergence of the last layer's query, key and value relations",
    "embedding": "cosine distance of sentence embeddings",
    "similarity": "squared error of the batch's similarity matrix",
    "tokens": "cosine distance of last hidden states",
}
DEFAULT_LOSSES: dict[str, dict[str, float]] = {
    "embedding": {"embedding": 1.0, "similarity": 1.0, "tokens": 1.0},
    "classification": {"labels": 0.5, "soft_labels": 0.5, "hidden": 1.0},
    "regression": {"labels": 0.5, "soft_labels": 0.5, "hidden": 1.0},
    "token-classification": {"labels": 0.5, "soft_labels": 0.5, "hidden": 1.0},
    "span": {"labels": 0.5, "soft_labels": 0.5, "hidden": 1.0},
    "masked-lm": {"labels": 1.0, "hidden": 1.0},
}


def choose_losses(head: str, configured: Mapping[str, float] | None, activation: str | None = None) -> dict[str, float]:
    """The configured sum, or the head's usual one, without terms of weight 0.

    Raises ValueError for a loss that is unknown or needs what the head has not. Under an ``activation`` of the
    checkpoint, the network's number is not what labels are compared with.
    """
    usual = DEFAULT_LOSSES[head]
    if activation == "sigmoid":
        usual = {name: weight for name, weight in usual.items() if name not in LABEL_LOSSES}
    losses = {name: weight for name, weight in (configured or usual).items() if weight}
    if activation == "sigmoid" and losses.keys() & LABEL_LOSSES:
        raise ValueError("labels does not fit a cross-encoder, whose number goes through a sigmoid; soft_labels does")
    if unknown := losses.keys() - LOSSES.keys():
        raise ValueError(f"no loss is called {', '.join(sorted(unknown))}; there are {', '.join(LOSSES)}")
    if not losses:
        raise ValueError("every loss has weight 0; nothing would be trained")
    allowed: Set[str] = _EMBEDDING_LOSSES | {"hidden", "attention", "relations"}
    if head != "embedding":
        allowed = LOSSES.keys() - _EMBEDDING_LOSSES
    if misfits := losses.keys() - allowed:
        raise ValueError(f"{', '.join(sorted(misfits))} does not fit head {head}; {', '.join(sorted(allowed))} do")
    return losses
