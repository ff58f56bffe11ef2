"""The names of the losses, which heads they serve, and the sum of them that training minimises."""

from __future__ import annotations

from collections.abc import Mapping

from ortnas.nas.architecture.heads import HEADS

# Losses that look at labels only; every other one needs a teacher.
LABEL_LOSSES = frozenset({"labels", "pairs"})
# Losses of heads that have labels, of those whose output is a vector, and of those that learn from pairs of texts.
_LABELLED_LOSSES = frozenset({"labels", "soft_labels"})
_PAIR_LOSSES = frozenset({"pairs"})
_EMBEDDING_LOSSES = frozenset({"embedding", "similarity", "tokens"})
# Losses that look at the head's output.
OUTPUT_LOSSES = frozenset({"labels", "soft_labels", "embedding", "similarity", "pairs"})
# Losses that look at last hidden states, and at the last layer's queries, keys and values.
HIDDEN_LOSSES = frozenset({"hidden", "tokens"})
ATTENTION_LOSSES = frozenset({"attention", "relations"})
LOSSES = {
    "labels": "cross entropy with the labels (masked tokens for masked-lm, each label alone for multi-label, a query's "
    "passages for reranking), squared error for regression",
    "soft_labels": "KL divergence to the teacher's softened labels, squared error for regression (of a query's margins "
    "for reranking)",
    "hidden": "squared error of last hidden states, projected to the teacher's size",
    "attention": "squared error of the last layer's attention scores before the softmax",
    "relations": "KL divergence of the last layer's query, key and value relations",
    "embedding": "cosine distance of sentence embeddings (of token vectors for late-interaction)",
    "similarity": "squared error of the batch's similarity matrix (of MaxSim and its margins for late-interaction)",
    "tokens": "cosine distance of last hidden states",
    "pairs": "cross entropy of finding the other text of a pair in the batch; squared error of scored pairs' cosines",
}


def choose_losses(head: str, configured: Mapping[str, float] | None, activation: str | None = None) -> dict[str, float]:
    """The configured sum, or the head's usual one, without terms of weight 0.

    Raises ValueError for a loss that is unknown or needs what the head has not. Under an ``activation`` of the
    checkpoint, the network's number is not what labels are compared with.
    """
    usual = HEADS[head].losses
    # A ranking is the same before and behind a sigmoid.
    is_behind_sigmoid = activation == "sigmoid" and not HEADS[head].ranks
    if is_behind_sigmoid:
        usual = {name: weight for name, weight in usual.items() if name not in LABEL_LOSSES}
    losses = {name: weight for name, weight in (configured or usual).items() if weight}
    if is_behind_sigmoid and losses.keys() & LABEL_LOSSES:
        raise ValueError("labels does not fit a cross-encoder, whose number goes through a sigmoid; soft_labels does")
    if unknown := losses.keys() - LOSSES.keys():
        raise ValueError(f"no loss is called {', '.join(sorted(unknown))}; there are {', '.join(LOSSES)}")
    if not losses:
        raise ValueError("every loss has weight 0; nothing would be trained")
    if losses.keys() == _PAIR_LOSSES:
        raise ValueError("pairs alone would teach nothing of texts without a pair; add embedding or similarity")
    allowed = LOSSES.keys() - (_EMBEDDING_LOSSES if HEADS[head].has_labels else _LABELLED_LOSSES)
    if not HEADS[head].learns_pairs:
        allowed -= _PAIR_LOSSES
    if misfits := losses.keys() - allowed:
        raise ValueError(f"{', '.join(sorted(misfits))} does not fit head {head}; {', '.join(sorted(allowed))} do")
    return losses
