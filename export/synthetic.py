"""INT8 models with random weights, for timing a host before there is a supernet: latency does not depend on values."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ortnas.export.build import Exporter
from ortnas.export.int8.recipes import choose_recipe
from ortnas.export.weights import SupernetFolder
from ortnas.nas.architecture.dimensions import Dimensions
from ortnas.nas.architecture.layout import tensor_axes, tensor_shape
from ortnas.nas.architecture.space import SearchSpace
from ortnas.nas.architecture.subnet import Subnet

# The sizes of all-MiniLM-L6-v2.
MINILM_L6 = Dimensions(
    vocab_size=30522,
    max_positions=512,
    token_types=2,
    hidden_size=384,
    num_layers=6,
    num_heads=12,
    head_size=32,
    ffn_size=1536,
    layer_norm_epsilon=1e-12,
    activation="gelu",
    head="embedding",
    embedding_size=384,
)
# BERT's initialization (Devlin et al. 2019); here biases and layer norms vary too.
_STANDARD_DEVIATION = 0.02
_CALIBRATION_TEXTS, _CALIBRATION_TOKENS = 8, 64


def synthetic_models(isa: Collection[str], dimensions: Dimensions = MINILM_L6, seed: int = 0) -> tuple[bytes, bytes]:
    """A random network and one with every other of its layers, as serialized INT8 models for a host with these
    instruction-set flags."""
    full = dimensions.full_subnet
    folder = SupernetFolder(
        path=Path(),
        dimensions=dimensions,
        space=_only(full),
        tensors=_random_tensors(dimensions, seed),
        labels=(),
        provenance={},
        digest="",
    )
    exporter = Exporter(folder, choose_recipe(isa), [_random_feeds(dimensions, seed)])
    return exporter.sliced(full), exporter.sliced(Subnet(full.hidden_size, full.layers[::2]))


def _only(subnet: Subnet) -> SearchSpace:
    """The space that holds one subnet with equal layers."""
    layer, depth = subnet.layers[0], len(subnet.layers)
    return SearchSpace(
        num_layers=depth,
        hidden_size=(subnet.hidden_size,),
        depth=(depth,),
        num_heads=(layer.num_heads,),
        head_size=(layer.head_size,),
        ffn_size=(layer.ffn_size,),
    )


def _random_tensors(dimensions: Dimensions, seed: int) -> dict[str, npt.NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    tensors = {}
    for name, axes in tensor_axes(dimensions).items():
        values = rng.standard_normal(tensor_shape(axes, dimensions), np.float32) * np.float32(_STANDARD_DEVIATION)
        tensors[name] = values + np.float32(1) if name.endswith("norm.weight") else values
    return tensors


def _random_feeds(dimensions: Dimensions, seed: int) -> dict[str, npt.NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    shape = (_CALIBRATION_TEXTS, min(_CALIBRATION_TOKENS, dimensions.max_positions))
    return {
        "input_ids": rng.integers(1, dimensions.vocab_size, shape),
        "attention_mask": np.ones(shape, np.int64),
        "token_type_ids": np.zeros(shape, np.int64),
    }
