"""The operations that networks are written in; torch, numpy and the builder of ONNX graphs carry them out.

A network is written once, as functions over ``Ops``. ``T`` is what a carrier computes with (a tensor, an array, a
tensor of a graph in the making), ``W`` what its weights are (tensors or arrays).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeVar

Axes = tuple[str, ...]
# What an axis of a matrix is made of: a label, or several flattened into one.
Group = tuple[str, ...]
# What a projection to heads is for.
HeadPart = Literal["query", "key", "value"]
# How one vector is made of a text's tokens, by the names of sentence-transformers.
PoolingMode = Literal["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]

T = TypeVar("T")
W_co = TypeVar("W_co", covariant=True)
W_contra = TypeVar("W_contra", contravariant=True)


@dataclass(frozen=True, slots=True)
class Weight(Generic[W_co]):
    """A tensor of the network, or a subnet's part of it, with the labels of its axes.

    The weight of a product has axes of its outputs first, then those of its inputs; heads and their entries, axes of
    their own here, make one of either.
    """

    values: W_co
    axes: Axes

    @property
    def groups(self) -> tuple[Group, ...]:
        return group_axes(self.axes)


@dataclass(frozen=True, slots=True)
class RelativeTable(Generic[W_co]):
    """Embeddings of distances, [relative, hidden], and the layer norm of their rows; ``buckets`` and ``farthest`` are
    those of ``positions.relative_rows``."""

    table: Weight[W_co]
    norm_weight: Weight[W_co]
    norm_bias: Weight[W_co]
    epsilon: float
    buckets: int
    farthest: int


def group_axes(axes: Axes) -> tuple[Group, ...]:
    """The axes of the matrix or vector that products compute with: (outputs, inputs) of a weight, (outputs,) of a
    bias."""
    if axes[:2] == ("heads", "head"):
        return axes[:2], *group_axes(axes[2:])
    return (axes[:1], *group_axes(axes[1:])) if axes else ()


class Ops(Protocol[T, W_contra]):
    """Activations are float32 [tokens, width] outside attention, where tokens may be two axes, [batch, sequence].

    ``name`` is that of the exported graph's node, or what the names of several begin with. ``output`` is that of a
    tensor, where the graph needs one that is not its node's.
    """

    def look_up(
        self, word: Weight[W_contra], position: Weight[W_contra] | None, token_type: Weight[W_contra] | None
    ) -> T:
        """Sum of each token's rows of the tables that there are; one token type is that of all tokens."""

    def mask(self, reach: int | None = None) -> T:
        """What is added to attention's scores, so that nothing attends to padding, nor farther than ``reach`` tokens to
        either side."""

    def relate(self, name: str, mask: T, table: Weight[W_contra]) -> T:
        """``mask``, and for every pair of tokens the row of ``table`` [bucket, heads] for their distance (see
        ``positions.bucket_of``)."""

    def linear(self, name: str, x: T, weight: Weight[W_contra], bias: Weight[W_contra], output: str | None = None) -> T:
        """A weight product: ``x @ weight.T + bias``."""

    def enter(self, name: str, x: T, weight: Weight[W_contra], bias: Weight[W_contra], output: str) -> T:
        """A weight product whose output, ``output``, is the start of the residual stream."""

    def project(
        self, name: str, x: T, weight: Weight[W_contra], bias: Weight[W_contra] | None = None, output: str | None = None
    ) -> T:
        """A product that stays float in quantized models."""

    def layer_norm(self, name: str, x: T, weight: Weight[W_contra], bias: Weight[W_contra], epsilon: float) -> T: ...

    def activation(self, kind: str, name: str, x: T) -> T:
        """``kind`` is "gelu", "gelu_tanh", "relu", "sigmoid", "tanh" or "log1p", the logarithm of 1 + x."""

    def add(self, name: str, x: T, y: T) -> T: ...

    def multiply(self, name: str, x: T, y: T) -> T: ...

    def turns(self, theta: float, head_size: int) -> T:
        """Cosine and sine of the angles by which ``heads`` turns the pairs of a head's entries, at every position."""

    def heads(
        self,
        name: str,
        x: T,
        weight: Weight[W_contra],
        bias: Weight[W_contra],
        part: HeadPart,
        turns: T | None = None,
        terms: int = 1,
    ) -> T:
        """A weight product split into heads, for ``attend`` alone: a carrier scales and transposes here what it
        likes. With ``turns``, the first half of a head's entries and the second are turned by pairs (Su et al. 2021,
        "RoFormer"). ``terms`` is the number of products that a score is the sum of."""

    def position_heads(
        self,
        name: str,
        table: RelativeTable[W_contra],
        weight: Weight[W_contra],
        bias: Weight[W_contra],
        part: Literal["query", "key"],
    ) -> T:
        """The rows of the table by distance, projected and split like tokens, for ``attend`` alone. They depend on
        weights only, and stay float in quantized models."""

    def attend(self, name: str, query: T, key: T, value: T, mask: T, by_position: tuple[T, T] | None = None) -> T:
        """Softmax attention; the heads' outputs side by side, [tokens, heads * head size].

        ``by_position`` are queries and keys of ``position_heads``: to the product of query and key come those of the
        query and the position's key, and of the key and the position's query (He et al. 2021, "DeBERTa").
        """

    def first_token(self, name: str, x: T) -> T:
        """[batch, width] of x [tokens, width]."""

    def pool(self, mode: PoolingMode, name: str, x: T, output: str | None = None) -> T:
        """[batch, width] of each text's tokens without its padding: the first, the last, the largest of each channel,
        their mean, their sum over the root of their number, or their mean weighted by position, 1, 2, ..."""

    def join(self, output: str, vectors: Sequence[T]) -> T:
        """Vectors side by side, [batch, sum of their widths]."""

    def unit(self, output: str, x: T) -> T:
        """Rows scaled to length one."""

    def truncate(self, output: str, x: T, size: int) -> T:
        """The first ``size`` entries of every row."""

    def by_text(self, name: str, x: T, output: str) -> T:
        """x [tokens, width] as the model's output [batch, sequence, width]."""

    def columns(self, name: str, x: T, outputs: tuple[str, ...]) -> T:
        """Every column of x [tokens, n] as an output [batch, sequence] of the model; carriers that have one output
        give [batch, sequence, n]."""
