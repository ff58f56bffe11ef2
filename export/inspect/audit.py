"""What ONNX Runtime really runs: how much of a model's matrix products is in integers, and what is not."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from ortnas.bench.session import Setup
from ortnas.bench.timing import Workload
from ortnas.export.inspect.messages import EXTERNAL_DATA, Message, element_type, parse_model
from ortnas.export.inspect.products import Product, Shape, Uncounted, find_products, inner_graphs, tensors_to_measure
from ortnas.export.inspect.running import (
    Model,
    graph_inputs,
    make_up_inputs,
    measured_shapes,
    optimized_file,
    read_model,
)
from ortnas.nas.failures import OrtnasError

_NAMED_PRODUCTS = 3


class CoverageError(OrtnasError):
    """A model in which too little runs in integers; the message names what does not."""


@dataclass(frozen=True)
class Port:
    """An input or output as the file declares it; open sizes have names, or none (``?``)."""

    name: str
    type: str
    shape: tuple[int | str, ...]

    def describe(self) -> str:
        return f"{self.name} {self.type} [{', '.join(map(str, self.shape))}]"


@dataclass(frozen=True)
class Audit:
    """What a file holds and what ONNX Runtime makes of it.

    ``operators_in_file`` and ``operators`` (of the optimized graph) count nodes, most frequent first. Multiply-adds of
    ``products`` are those of one run at ``input_shapes``; ``uncounted`` is in none of the shares.
    ``weight_bytes`` is by element type.
    """

    file_bytes: int
    ir_version: int
    opset: int
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    input_shapes: dict[str, Shape]
    operators_in_file: dict[str, int]
    operators: dict[str, int]
    weight_bytes: dict[str, int]
    products: tuple[Product, ...]
    uncounted: tuple[Uncounted, ...]

    @property
    def weight_products(self) -> tuple[Product, ...]:
        """Products with a constant operand."""
        return tuple(product for product in self.products if product.has_weight)

    @property
    def integer_share(self) -> float:
        """Share of all multiply-adds that integer kernels do; 0 where there are none."""
        return _integer_share(self.products)

    @property
    def weight_integer_share(self) -> float:
        """The same for the products with weights; those of two activations stay in floats by design."""
        return _integer_share(self.weight_products)

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {
            "integer_share": self.integer_share,
            "weight_integer_share": self.weight_integer_share,
        }


def audit(model: Model, workload: Workload, setup: Setup) -> Audit:
    """Optimizes a model as a session with this setup would, runs it once on made-up inputs, and counts its products.

    Raises InspectionError where the model cannot be read, loaded, or run at this batch and sequence.
    """
    in_file = read_model(model)
    with optimized_file(model, setup) as path:
        feeds = make_up_inputs(in_file, workload)
        optimized = parse_model(path.read_bytes())
        shapes = measured_shapes(path, tensors_to_measure(optimized.graph), feeds, setup)
    products, uncounted = find_products(optimized.graph, shapes, {node.name for node in in_file.graph.node})
    return Audit(
        file_bytes=_file_bytes(model, in_file),
        ir_version=in_file.ir_version,
        opset=next((item.version for item in in_file.opset_import if item.domain in ("", "ai.onnx")), 0),
        inputs=tuple(map(_port, graph_inputs(in_file.graph))),
        outputs=tuple(map(_port, in_file.graph.output)),
        input_shapes={name: value.shape for name, value in feeds.items()},
        operators_in_file=_count_operators(in_file),
        operators=_count_operators(optimized),
        weight_bytes=_weight_bytes(in_file),
        products=products,
        uncounted=uncounted,
    )


def check_coverage(audit: Audit, threshold: float, allowed: Collection[str] = ()) -> None:
    """Raises CoverageError where integer kernels do less than ``threshold`` of the weight products' multiply-adds.

    ``allowed`` are patterns (``fnmatch``) of node names that stay in floats on purpose, or uncounted: they are left
    out. Any other product that could not be counted fails the check, and so does a model without weight products.
    """

    def is_allowed(name: str) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in allowed)

    weights = audit.weight_products
    considered = [product for product in weights if product.kernel == "integer" or not is_allowed(product.name)]
    not_counted = [node for node in audit.uncounted if not is_allowed(node.name)]
    if not_counted:
        raise CoverageError(
            "integer coverage cannot be told, as these products could not be counted: "
            + _listed([f"{node.name} ({node.operator}: {node.reason})" for node in not_counted])
        )
    if not weights:
        raise CoverageError("integer coverage cannot be told: the model has no product with a weight")
    share = _integer_share(considered)
    if considered and share < threshold:
        floats = [product for product in considered if product.kernel == "float"]
        floats.sort(key=lambda product: -product.multiply_adds)
        raise CoverageError(
            f"integer kernels do {100 * share:.6g} % of the weight products' multiply-adds, less than "
            f"{100 * threshold:.6g} %; in floats: "
            + _listed([f"{item.name} ({item.operator}: {item.reason})" for item in floats])
        )


def _listed(entries: list[str]) -> str:
    unnamed = len(entries) - _NAMED_PRODUCTS
    return ", ".join(entries[:_NAMED_PRODUCTS]) + (f" and {unnamed} more" if unnamed > 0 else "")


def _integer_share(products: Collection[Product]) -> float:
    total = sum(product.multiply_adds for product in products)
    return sum(product.multiply_adds for product in products if product.kernel == "integer") / total if total else 0.0


def _graphs(graph: Message) -> Iterator[Message]:
    yield graph
    for node in graph.node:
        for body in inner_graphs(node):
            yield from _graphs(body)


def _count_operators(model: Message) -> dict[str, int]:
    """Bodies of control flow and local functions included."""
    counts: Counter[str] = Counter(node.op_type for function in model.functions for node in function.node)
    counts.update(node.op_type for graph in _graphs(model.graph) for node in graph.node)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _weights(model: Message) -> Iterator[Message]:
    for graph in _graphs(model.graph):
        yield from graph.initializer
        for node in graph.node:
            if node.op_type == "Constant":
                yield from (item.t for item in node.attribute if item.name == "value")


def _weight_bytes(model: Message) -> dict[str, int]:
    sizes: Counter[str] = Counter()
    for tensor in _weights(model):
        name, bits = element_type(tensor.data_type)
        sizes[name] += math.ceil(math.prod(tensor.dims) * bits / 8)
    return dict(sizes.most_common())


def _file_bytes(model: Model, in_file: Message) -> int:
    """Size of the file and of the files beside it that hold its weights."""
    if not isinstance(model, Path):
        return len(model)
    beside = {
        entry.value
        for tensor in _weights(in_file)
        if tensor.data_location == EXTERNAL_DATA
        for entry in tensor.external_data
        if entry.key == "location"
    }
    return sum(path.stat().st_size for path in (model, *(model.parent / name for name in beside)))


def _port(item: Message) -> Port:
    kind = item.type.WhichOneof("value")
    if kind != "tensor_type":
        return Port(item.name, kind or "?", ())
    dimensions = item.type.tensor_type.shape.dim
    shape = tuple(size.dim_value if size.HasField("dim_value") else size.dim_param or "?" for size in dimensions)
    return Port(item.name, element_type(item.type.tensor_type.elem_type)[0], shape)
