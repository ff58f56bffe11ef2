"""Reading a supernet folder: its description and its tensors as views of one memory-mapped file."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ortnas.nas.architecture.dimensions import Dimensions
from ortnas.nas.architecture.layout import DESCRIPTION_FILE, WEIGHTS_FILE, read_dimensions, tensor_axes, tensor_shape
from ortnas.nas.architecture.space import SearchSpace
from ortnas.nas.architecture.subnet import SpaceError
from ortnas.nas.arrays import Array
from ortnas.nas.failures import OrtnasError


class SupernetError(OrtnasError):
    """A supernet folder that cannot be used; the message says what to do."""


@dataclass(frozen=True)
class SupernetFolder:
    """A trained supernet on disk. ``tensors`` are read-only float32 views of the memory-mapped weights."""

    path: Path
    dimensions: Dimensions
    space: SearchSpace
    tensors: dict[str, Array]
    labels: tuple[str, ...]
    provenance: dict[str, Any]
    digest: str

    @property
    def prompt(self) -> str:
        """What is put before every text where nothing else is asked for."""
        return str((self.provenance.get("prompts") or {}).get(self.provenance.get("default_prompt"), ""))


def memory_map(path: Path) -> dict[str, Array]:
    """The float32 tensors of a safetensors file, without copying (format: 8-byte length, JSON header, data).

    Raises SupernetError for a file that is cut short, malformed or holds other types.
    """
    try:
        raw = np.memmap(path, np.uint8, mode="r")
        length = int.from_bytes(raw[:8].tobytes(), "little")
        if len(raw) < 8 + length:
            raise ValueError("the file is cut short")
        header = json.loads(raw[8 : 8 + length].tobytes())
        tensors = {}
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            start, end = entry["data_offsets"]
            if entry["dtype"] != "F32" or end - start != 4 * math.prod(entry["shape"]):
                raise ValueError(f"{name} is not a plain float32 tensor")
            data = raw[8 + length + start : 8 + length + end]
            tensors[name] = data.view(np.float32).reshape(entry["shape"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SupernetError(f"{path}: cannot be read as safetensors: {error}") from error
    return tensors


def read_supernet(path: Path) -> SupernetFolder:
    """Opens a supernet folder and checks that its tensors have the described shapes and finite values.

    Raises SupernetError with a sentence otherwise.
    """
    description_file = path / DESCRIPTION_FILE
    try:
        description = json.loads(description_file.read_text())
        dimensions = read_dimensions(description["dimensions"])
        space = SearchSpace.from_json(description["space"])
        labels = tuple(description["labels"])
        provenance = description["provenance"]
    except FileNotFoundError:
        raise SupernetError(f"{path} holds no {DESCRIPTION_FILE}; make a supernet with `ortnas train`") from None
    except (OSError, ValueError, KeyError, TypeError, SpaceError) as error:
        raise SupernetError(f"{description_file}: {error}") from error
    tensors = memory_map(path / WEIGHTS_FILE)
    for name, axes in tensor_axes(dimensions).items():
        expected = tensor_shape(axes, dimensions)
        if name not in tensors or tensors[name].shape != expected:
            shape = tensors[name].shape if name in tensors else "nothing"
            raise SupernetError(f"{path / WEIGHTS_FILE}: {name} should have shape {expected}, found {shape}")
        if not np.isfinite(tensors[name].sum(dtype=np.float64)):
            raise SupernetError(f"{path / WEIGHTS_FILE}: {name} holds values that are not finite; train again")
    digest = hashlib.sha256(description_file.read_bytes())
    with (path / WEIGHTS_FILE).open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return SupernetFolder(path, dimensions, space, tensors, labels, provenance, digest.hexdigest()[:16])
