"""What nodes of a graph know of places and distances: ranges, masks, turned heads, biases and products by distance."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np
from onnx import TensorProto, numpy_helper

from ortnas.export.graph.builder import Graph
from ortnas.export.graph.reference import positions_in_heads
from ortnas.nas.architecture.ops import Group, RelativeTable, Weight
from ortnas.nas.architecture.positions import frequencies, relative_rows, ring_of_buckets
from ortnas.nas.arrays import Array

# Finite, so that a row of padding gives no NaN; large enough to vanish in the softmax.
MASKED_SCORE = -10000.0
# Holds (batch, sequence).
SHAPE = "shape"


class Value(NamedTuple):
    """A tensor of the graph; ``shape`` has names for its dynamic axes, ``channels`` says what the last one of tokens is
    made of."""

    name: str
    shape: tuple[int | str, ...]
    channels: Group = ("hidden",)


class PositionOps:
    """The part of ``GraphOps`` that positions need. ``graph`` begins with the mask, where models are given one."""

    def __init__(self, max_positions: int, has_mask: bool = True) -> None:
        self.graph = graph = Graph()
        self._max_positions, self._has_mask = max_positions, has_mask
        self._has_range = self._has_places = self._has_distances = self._has_ones = False
        graph.node("Shape", ["input_ids"], SHAPE)
        if not has_mask:
            return
        graph.node("Cast", ["attention_mask"], "mask", to=TensorProto.FLOAT)
        spread = graph.node("Unsqueeze", ["mask", graph.integers(1, 2)], "attention/mask")
        inverse = graph.node("Sub", [graph.constant("one.float", np.array(1, np.float32)), spread], "attention/padding")
        graph.node("Mul", [inverse, self._masked_score()], "attention/bias")

    def _masked_score(self) -> str:
        return self.graph.constant("attention/masked_score", np.array(MASKED_SCORE, np.float32))

    def _shown(self) -> str:
        """[batch, sequence] in float32: 0 for padding, 1 for what counts."""
        if not self._has_mask and not self._has_ones:
            self._has_ones = True
            shown = numpy_helper.from_array(np.array([1], np.float32))
            self.graph.node("ConstantOfShape", [SHAPE], "mask", value=shown)
        return "mask"

    def _biased(self, name: str, scores: str, bias: Value) -> str:
        """Scores of attention with a bias of ``mask`` or ``relate``, which may be none."""
        return self.graph.node("Add", [scores, bias.name], name) if bias.name else scores

    def _range(self) -> str:
        """0 to sequence - 1."""
        name = "embeddings/range"
        if self._has_range:
            return name
        self._has_range = True
        zero = self.graph.constant("zero", np.array(0, np.int64))
        unit = self.graph.constant("one", np.array(1, np.int64))
        length = self.graph.node("Gather", [SHAPE, unit], "sequence_length", axis=0)
        return self.graph.node("Range", [zero, length, unit], name)

    def mask(self, reach: int | None = None) -> Value:
        if reach is None:
            return Value("attention/bias" if self._has_mask else "", ("batch", 1, 1, "sequence"))
        graph, name = self.graph, f"attention/reach_{reach}"
        places = self._places()
        rows = graph.node("Unsqueeze", [places, graph.integers(1)], f"{name}/places")
        distances = graph.node("Abs", [graph.node("Sub", [places, rows], f"{name}/signed")], f"{name}/distances")
        limit = graph.constant(f"{name}/limit", np.array(reach, np.float32))
        is_beyond = graph.node("Greater", [distances, limit], f"{name}/is_beyond")
        beyond = graph.node("Cast", [is_beyond], f"{name}/beyond", to=TensorProto.FLOAT)
        masked = graph.node("Mul", [beyond, self._masked_score()], f"{name}/masked")
        bias = self._biased(f"{name}/bias", masked, self.mask())
        return Value(bias, ("batch", 1, "sequence", "sequence"))

    def _places(self) -> str:
        """0 to sequence - 1 in float32."""
        if not self._has_places:
            self._has_places = True
            self.graph.node("Cast", [self._range()], "positions", to=TensorProto.FLOAT)
        return "positions"

    def turns(self, theta: float, head_size: int) -> Value:
        """Cosines and sines are ``{name}/cosines`` and ``{name}/sines``, [sequence, 1, head_size], the latter with the
        sign of the entry that they go with."""
        graph, name = self.graph, f"turns/{theta:g}"
        places = graph.node("Unsqueeze", [self._places(), graph.integers(1, 2)], f"{name}/places")
        angles = graph.constant(f"{name}/frequencies", frequencies(theta, head_size))
        angles = graph.node("Mul", [places, angles], f"{name}/angles")
        cosines, sines = (graph.node(kind, [angles], f"{name}/{kind.lower()}") for kind in ("Cos", "Sin"))
        graph.node("Concat", [cosines, cosines], f"{name}/cosines", axis=-1)
        graph.node("Concat", [graph.node("Neg", [sines], f"{name}/minus_sin"), sines], f"{name}/sines", axis=-1)
        return Value(name, ("sequence", 1, head_size))

    def _turn(self, name: str, split: str, turns: Value) -> str:
        """Heads [batch, sequence, heads, head_size], turned."""
        graph = self.graph
        halves = [f"{name}/first", f"{name}/second"]
        graph.split(split, halves, f"{name}/halves")
        swapped = graph.node("Concat", halves[::-1], f"{name}/swapped", axis=-1)
        kept = graph.node("Mul", [split, f"{turns.name}/cosines"], f"{name}/kept")
        crossed = graph.node("Mul", [swapped, f"{turns.name}/sines"], f"{name}/crossed")
        return graph.node("Add", [kept, crossed], f"{name}/turned")

    def relate(self, name: str, mask: Value, table: Weight[Array]) -> Value:
        # A row of values by distance, one shorter in every row of pairs than the row before: written once for every
        # query and read with rows of one value less, they shift by one from query to query. All of that moves whole
        # rows; looking up every pair takes ten times as long.
        graph, (buckets, heads) = self.graph, table.groups
        values = graph.constant(f"{name}.table", table.values.T, (heads, buckets))
        ring = graph.node("Gather", [values, self._ring_of_buckets()], f"{name}/by_distance", axis=1)
        tiled = graph.node("Tile", [ring, "distances/repeats"], f"{name}/tiled")
        zero, one, two = (graph.integers(number) for number in range(3))
        needed = graph.node("Slice", [tiled, zero, "distances/needed", one], f"{name}/needed")
        shifted = graph.node("Reshape", [needed, "distances/shifted"], f"{name}/shifted")
        related = graph.node("Slice", [shifted, zero, "distances/length", two], f"{name}/related")
        shape = "batch", table.values.shape[1], "sequence", "sequence"
        return Value(self._biased(f"{name}/bias", related, mask), shape)

    def _ring_of_buckets(self) -> str:
        """Buckets of the distances 0 to length - 1 and -length to -1; with it the sizes that ``relate`` needs."""
        graph, ring = self.graph, "distances/ring"
        if "distances/buckets" in graph.initializers:
            return ring
        table = graph.constant("distances/buckets", ring_of_buckets(self._max_positions).astype(np.int32))
        zero, one, two = (graph.integers(number) for number in range(3))
        length = graph.node("Slice", [SHAPE, one, two], "distances/length")
        forward = graph.node("Slice", [table, zero, length], "distances/forward")
        start, end = graph.node("Neg", [length], "distances/start"), graph.integers(2 * self._max_positions)
        backward = graph.node("Slice", [table, start, end], "distances/backward")
        graph.node("Concat", [forward, backward], ring, axis=0)
        graph.node("Concat", [one, length], "distances/repeats", axis=0)
        shorter = graph.node("Sub", [graph.node("Mul", [length, two], "distances/all"), one], "distances/shorter")
        graph.node("Mul", [length, shorter], "distances/needed")
        # The first axis stays as it is.
        graph.node("Concat", [zero, length, shorter], "distances/shifted", axis=0)
        return ring

    def position_heads(
        self,
        name: str,
        table: RelativeTable[Array],
        weight: Weight[Array],
        bias: Weight[Array],
        part: Literal["query", "key"],
    ) -> Value:
        """[heads, head_size, 2 * sequence]."""

        def computed(kept: Mapping[str, int]) -> Array:
            cut_table = replace(
                table,
                table=_cut(table.table, kept),
                norm_weight=_cut(table.norm_weight, kept),
                norm_bias=_cut(table.norm_bias, kept),
            )
            split = positions_in_heads(cut_table, _cut(weight, kept), _cut(bias, kept))
            # The softmax scale of three products, for tokens on the query projection.
            return split * np.float32(1 / math.sqrt(3 * split.shape[-1])) if part == "query" else split

        graph, (heads, head_size) = self.graph, bias.values.shape
        rows = self._relative_rows(table.buckets, table.farthest, part)
        needed = graph.node("Gather", [graph.fold(f"{name}.table", computed), rows], f"{name}/by_distance", axis=1)
        return Value(graph.node("Transpose", [needed], name, perm=(0, 2, 1)), (heads, head_size, "distances"))

    def _relative_rows(self, buckets: int, farthest: int, part: Literal["query", "key"]) -> str:
        graph, needed = self.graph, f"distances/of_{part}"
        if f"{needed}.rows" in graph.initializers:
            return needed
        rows = relative_rows(self._max_positions, buckets, farthest, part).astype(np.int32)
        constant = graph.constant(f"{needed}.rows", rows)
        if not self._has_distances:
            self._has_distances = True
            one, two = graph.integers(1), graph.integers(2)
            length = graph.node("Slice", [SHAPE, one, two], "distances/length")
            middle = graph.integers(self._max_positions)
            graph.node("Sub", [middle, length], "distances/start")
            graph.node("Add", [middle, length], "distances/end")
            # Of the products of all tokens and positions, one after the other, those from the first that is needed on.
            graph.node("Sub", [length, one], "distances/first")
            twice = graph.node("Add", [length, length], "distances/twice")
            shorter = graph.node("Sub", [twice, one], "distances/shorter")
            product = graph.node("Mul", [length, shorter], "distances/count")
            graph.node("Add", ["distances/first", product], "distances/last")
            zeros = graph.integers(0, 0)
            graph.node("Concat", [zeros, length, shorter], "distances/shifted", axis=0)
        return graph.node("Slice", [constant, "distances/start", "distances/end"], needed)

    def _by_pair(self, name: str, products: str) -> str:
        """Of products with positions [batch, heads, sequence, 2 * sequence] those of every token's distances to all,
        [batch, heads, sequence, sequence]: from token to token they lie one place further in front. Products with the
        whole table, of which GatherElements then picks one for every pair, take 1.6 times as long at 128 tokens and 6
        times at 32."""
        graph = self.graph
        flat = graph.node("Reshape", [products, graph.integers(0, 0, -1)], f"{name}/flat")
        two, three = graph.integers(2), graph.integers(3)
        needed = graph.node("Slice", [flat, "distances/first", "distances/last", two], f"{name}/needed")
        shifted = graph.node("Reshape", [needed, "distances/shifted"], f"{name}/shifted")
        return graph.node("Slice", [shifted, graph.integers(0), "distances/length", three], f"{name}/by_pair")


def _cut(weight: Weight[Array], kept: Mapping[str, int]) -> Weight[Array]:
    return replace(weight, values=weight.values[tuple(slice(kept.get(label)) for label in weight.axes)])
