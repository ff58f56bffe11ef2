"""From a subnet to a ready ONNX model in memory, checked against the network that it came from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
import onnx

from ortnas.export.graph.builder import Graph
from ortnas.export.graph.encoder import build_graph, check_products
from ortnas.export.graph.fixed_shapes import fix_shapes
from ortnas.export.graph.fused_attention import fuse_attention
from ortnas.export.graph.inputs import USUAL_INPUTS, ModelInputs
from ortnas.export.graph.model import to_model
from ortnas.export.graph.reference import reference_output
from ortnas.export.inference import load, run
from ortnas.export.int8.calibration import calibrate
from ortnas.export.int8.quantize import quantize
from ortnas.export.int8.recipes import Recipe
from ortnas.export.int8.slicing import QuantizedSupernet
from ortnas.export.model_cache import ModelCache
from ortnas.export.size import subnet_bytes
from ortnas.export.weights import SupernetFolder
from ortnas.nas.architecture.dimensions import Dimensions
from ortnas.nas.architecture.subnet import Subnet
from ortnas.nas.arrays import Array, Feeds
from ortnas.nas.failures import OrtnasError

Precision = Literal["int8", "fp32"]
FLOAT_TOLERANCE = 1e-4
_COMPARED_ROWS = 4
# What a protobuf message, and with it an ONNX file without external data, can hold.
LARGEST_MODEL_BYTES = 2**31 - 1


class ExportError(OrtnasError):
    """An export that is impossible, or does not compute what its network computes."""


@dataclass(frozen=True)
class Exporter:
    """Builds models of one supernet, for one kind of ``inputs``, with one recipe and one set of calibration batches.

    ``fuses_attention``: models without a mask have ONNX Runtime's own operator for it, which is not a standard one.
    """

    supernet: SupernetFolder
    recipe: Recipe
    calibration: Sequence[Feeds]
    inputs: ModelInputs = USUAL_INPUTS
    fuses_attention: bool = True
    _models: ModelCache = field(default_factory=ModelCache, init=False, repr=False, compare=False)

    @cached_property
    def quantized_supernet(self) -> QuantizedSupernet:
        """The full network, calibrated and quantized once."""
        dimensions = self.supernet.dimensions
        subnet = dimensions.full_subnet
        graph = build_graph(self.supernet.tensors, dimensions, subnet, self.inputs.mask)
        floats = self.supernet.space.keep_float
        return QuantizedSupernet(self._quantized(graph, subnet), graph, dimensions, floats)

    def sliced(self, subnet: Subnet) -> bytes:
        """A serialized INT8 model cut from the quantized full network: the graph of ``build``, other values.

        For timing, which does not depend on them; calibration and weight ranges are those of the full network.
        """
        self.check_size(subnet, "int8")
        if not set(subnet.keep_float) <= set(self.supernet.space.keep_float):
            return self.build(subnet, "int8")
        return self.finished(self.quantized_supernet.cut(subnet))

    def build(self, subnet: Subnet, precision: Precision) -> bytes:
        """A serialized ONNX model: float32, or INT8 calibrated on its own. Of those built last, each is built once.

        Raises ExportError where the float graph and the network differ by more than 1e-4, and where the model is too
        large for one file.
        """
        return self._models.get((subnet.key, precision), lambda: self._build(subnet, precision))

    def _build(self, subnet: Subnet, precision: Precision) -> bytes:
        self.check_size(subnet, precision)
        graph = build_graph(self.supernet.tensors, self.supernet.dimensions, subnet, self.inputs.mask)
        if precision == "fp32":
            return self._proven_float(graph, subnet)
        if self.inputs != USUAL_INPUTS:
            # What is calibrated takes any shape and a mask.
            self._proven_float(graph, subnet)
        return self.finished(self._quantized(graph, subnet))

    def _proven_float(self, graph: Graph, subnet: Subnet) -> bytes:
        content = self.finished(to_model(graph, self.supernet.dimensions, subnet, mask=self.inputs.mask))
        self._compare(subnet, run(load(content), self._compared))
        return content

    def finished(self, model: onnx.ModelProto) -> bytes:
        """A model for any shape as it is timed and packaged."""
        shapes, mask = self.inputs.shapes, self.inputs.mask
        if self.fuses_attention and not mask:
            model = fuse_attention(model)
        if shapes is not None:
            model = fix_shapes(model, shapes)
        content: bytes = model.SerializeToString()
        return content

    def check_size(self, subnet: Subnet, precision: Precision) -> None:
        """Raises ExportError for a model that does not fit into one file, from its sizes alone."""
        check_size(self.supernet.dimensions, subnet, self.recipe if precision == "int8" else None)

    def _quantized(self, graph: Graph, subnet: Subnet) -> onnx.ModelProto:
        """The INT8 model of a graph for any shape. Ranges are those of texts with a mask, whose tensors it shares."""
        dimensions, mask = self.supernet.dimensions, self.inputs.mask
        masked = graph if mask else build_graph(self.supernet.tensors, dimensions, subnet)
        named = to_model(masked, dimensions, subnet, external=True)
        calibration = calibrate(
            named, self.calibration, self.recipe.calibration, masked.initializers, self.recipe.attention
        )
        self._compare(subnet, calibration.output)
        recipe = self.recipe.keeping(subnet.keep_float)
        return quantize(to_model(graph, dimensions, subnet, mask=mask), calibration.ranges, recipe)

    @property
    def _compared(self) -> Feeds:
        """The inputs that float outputs are compared on."""
        return {name: values[:_COMPARED_ROWS] for name, values in self.calibration[0].items()}

    def _compare(self, subnet: Subnet, output: Array) -> None:
        feeds = self._compared
        output = output[:_COMPARED_ROWS]
        expected = reference_output(self.supernet.tensors, self.supernet.dimensions, subnet, feeds)
        if expected.ndim == 3:
            # What comes out at padding is nobody's.
            shown = feeds["attention_mask"] == 1
            output, expected = output[shown], expected[shown]
        difference = float(np.abs(output - expected).max())
        scale = max(1.0, float(np.abs(expected).max()))
        if not difference <= FLOAT_TOLERANCE * scale:
            raise ExportError(f"{subnet.describe()}: float ONNX and network differ by {difference:.2g}")


def check_size(dimensions: Dimensions, subnet: Subnet, recipe: Recipe | None) -> None:
    """Of an INT8 model by a recipe, or a float model without one. Raises ExportError, and SpaceError where the subnet
    does not fit the supernet."""
    dimensions.check(subnet)
    check_products(dimensions, subnet)
    size_bytes = subnet_bytes(dimensions, subnet, recipe)
    if size_bytes > LARGEST_MODEL_BYTES:
        remedy = "precision int8 or a smaller space" if recipe is None else "a smaller space, or keep less in float"
        raise ExportError(
            f"{subnet.describe()}: the {'FP32' if recipe is None else 'INT8'} model would have {size_bytes / 1e9:.2f} "
            f"GB, and one ONNX file holds {LARGEST_MODEL_BYTES / 1e9:.2f} GB; take {remedy}"
        )
