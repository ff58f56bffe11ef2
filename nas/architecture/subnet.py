"""One architecture of the space."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ortnas.nas.architecture.blocks import counted_layer
from ortnas.nas.failures import OrtnasError
from ortnas.nas.wording import shown

# Sizes of networks are below it; larger numbers are slips.
MAXIMUM_SIZE = 10**9
_PRODUCT = re.compile(r"[a-z0-9_/]+")


class SpaceError(OrtnasError, ValueError):
    """A subnet, genome or space that cannot exist."""


def read_size(entry: Mapping[str, Any], name: str) -> int:
    """A size in an entry of a document. Raises KeyError or TypeError."""
    value = entry[name]
    if type(value) is not int or not 0 <= value < MAXIMUM_SIZE:
        raise TypeError(f"{name} is {shown(value)}, no whole number of up to nine digits")
    return value


def _read_products(names: Any) -> tuple[str, ...]:
    """Raises TypeError."""
    if not isinstance(names, list) or not all(isinstance(name, str) and _PRODUCT.fullmatch(name) for name in names):
        raise TypeError(f"keep_float is {shown(names)}, no list of weight products")
    return tuple(sorted(set(names)))


@dataclass(frozen=True, slots=True)
class Layer:
    """One encoder layer of a subnet, cut from layer ``source`` of the supernet.

    Without heads (``num_heads`` and ``head_size`` 0) or FFN (``ffn_size`` 0) it lacks that part, its layer norm too.
    """

    source: int
    num_heads: int
    head_size: int
    ffn_size: int


@dataclass(frozen=True, slots=True)
class Subnet:
    """One architecture: the width of the residual stream and its layers, first to last.

    ``keep_float``: names of weight products that its INT8 model leaves in float, beside those of the recipe; sorted.
    """

    hidden_size: int
    layers: tuple[Layer, ...]
    keep_float: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        document: dict[str, Any] = {
            "hidden_size": self.hidden_size,
            "layers": [{name: getattr(layer, name) for name in Layer.__slots__} for layer in self.layers],
        }
        return document | ({"keep_float": list(self.keep_float)} if self.keep_float else {})

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Subnet:
        """Raises SpaceError where the document does not describe a subnet."""
        try:
            layers = tuple(Layer(*(read_size(entry, name) for name in Layer.__slots__)) for entry in document["layers"])
            return cls(read_size(document, "hidden_size"), layers, _read_products(document.get("keep_float", [])))
        except (KeyError, TypeError) as error:
            raise SpaceError(f"not a subnet: {error!r} while reading {shown(document)}") from error

    @property
    def key(self) -> str:
        """First 12 hexadecimal digits of the SHA-256 of the canonical JSON."""
        canonical = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]

    @property
    def multiply_adds(self) -> int:
        """As ``count_multiply_adds``, where FFNs have no gates."""
        return self.count_multiply_adds(False)

    def count_multiply_adds(self, is_gated: bool) -> int:
        """Multiply-adds per token of the encoder's weight matrices (attention products excluded), FFNs gated or not."""
        return sum(
            counted_layer(is_gated).multiply_adds(
                {
                    "hidden": self.hidden_size,
                    "heads": layer.num_heads,
                    "head": layer.head_size,
                    "ffn": layer.ffn_size,
                }
            )
            for layer in self.layers
        )

    def describe(self) -> str:
        """One short line, with runs of equal values folded."""
        parts = [f"hidden {self.hidden_size}", f"layers {len(self.layers)}"]
        for label, values in (
            ("heads", [f"{layer.num_heads}x{layer.head_size}" if layer.num_heads else "0" for layer in self.layers]),
            ("ffn", [str(layer.ffn_size) for layer in self.layers]),
        ):
            parts.append(f"{label} {values[0] if len(set(values)) == 1 else ','.join(values)}")
        if self.keep_float:
            parts.append(f"float {','.join(name.removeprefix('layers/') for name in self.keep_float)}")
        return " · ".join(parts)
