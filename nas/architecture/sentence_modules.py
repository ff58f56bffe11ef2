"""What follows an encoder that makes embeddings, as data: poolings of its tokens, then a chain of modules.

Both are those of sentence-transformers, by its names of poolings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from ortnas.nas.architecture.ops import Axes, PoolingMode

POOLING_MODES: tuple[PoolingMode, ...] = get_args(PoolingMode)
ModuleKind = Literal["dense", "layer_norm", "normalize", "truncate"]
MODULE_KINDS: tuple[ModuleKind, ...] = get_args(ModuleKind)
_RESIZING = ("dense", "truncate")
# That of torch's LayerNorm, which the library leaves as it is.
LAYER_NORM_EPSILON = 1e-5


@dataclass(frozen=True)
class SentenceModule:
    """A step from one vector a text to the next.

    ``dense``: a product with ``size`` outputs, a bias where ``has_bias``, and an ``activation`` ("identity" for none).
    ``normalize``: to length one. ``truncate``: the first ``size`` entries. ``size`` 0 is that of the input.
    """

    kind: ModuleKind
    size: int = 0
    activation: str = "identity"
    has_bias: bool = False

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> SentenceModule:
        """Raises TypeError or ValueError for what is no module."""
        module = cls(**document)
        if module.kind not in MODULE_KINDS or type(module.size) is not int:
            raise ValueError(f"no module of an embedding: {module}")
        if (module.kind in _RESIZING) != (module.size > 0):
            raise ValueError(f"size {module.size} does not fit the module {module.kind}")
        return module


NORMALIZE = SentenceModule("normalize")


def module_sizes(pooled_size: int, modules: Sequence[SentenceModule]) -> dict[str, int]:
    """Lengths of the vectors between modules by the labels of their axes: ``module_0`` goes into the first."""
    sizes = {"module_0": pooled_size}
    for number, module in enumerate(modules):
        sizes[f"module_{number + 1}"] = module.size or sizes[f"module_{number}"]
    return sizes


def module_tensors(modules: Sequence[SentenceModule]) -> dict[str, Axes]:
    """Axes of the modules' weights by canonical name."""
    tensors: dict[str, Axes] = {}
    for number, module in enumerate(modules):
        name, before, behind = f"head.modules.{number}", f"module_{number}", f"module_{number + 1}"
        if module.kind == "dense":
            tensors[f"{name}.weight"] = (behind, before)
        if module.kind == "layer_norm":
            tensors[f"{name}.weight"] = (behind,)
        if module.has_bias or module.kind == "layer_norm":
            tensors[f"{name}.bias"] = (behind,)
    return tensors
