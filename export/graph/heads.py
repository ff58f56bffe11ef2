"""What the head's part of a graph is called and shaped."""

from __future__ import annotations

from ortnas.nas.architecture.layout import Dimensions

# The embedding once more, as a sequence of one token: what loaders of hidden states ask packages for.
ALIAS = "last_hidden_state"
# The weight products of each head that run in integers, and those that never do: one row a text is not worth it.
HEAD_PRODUCTS: dict[str, tuple[str, ...]] = {
    "embedding": (),
    "classification": ("head/pooler", "head/classifier"),
    "regression": ("head/pooler", "head/classifier"),
    "token-classification": ("head/classifier",),
    "span": ("head/classifier",),
    "masked-lm": ("head/transform", "head/decoder"),
}
FLOAT_PRODUCTS = ("head/projection",)


def output_shape(dimensions: Dimensions) -> tuple[int | str, ...]:
    """Shape of every output, with the names of its dynamic axes."""
    return {
        "embedding": ("batch", dimensions.embedding_size),
        "classification": ("batch", dimensions.num_labels),
        "regression": ("batch", 1),
        "token-classification": ("batch", "sequence", dimensions.num_labels),
        "span": ("batch", "sequence"),
        "masked-lm": ("batch", "sequence", dimensions.vocab_size),
    }[dimensions.head]
