"""A checkpoint's weights under the names of its family, whatever file holds them and whatever wrapped them."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ortnas.nas.architecture.families import FAMILIES, Family
from ortnas.nas.architecture.spelling import take_apart
from ortnas.nas.failures import CheckpointError
from ortnas.nas.training.checkpoint.folder import merging_advice
from ortnas.nas.wording import listed, said, shortened, shown

# How earlier releases of transformers spelled the layer norms' parameters.
_OLD_ENDINGS = {".gamma": ".weight", ".beta": ".bias"}
# Between the parts of names: what torch.compile leaves, and what adapters are called.
_COMPILED = "_orig_mod."
_ADAPTER_MARKS = (".lora_", ".base_layer.", ".modules_to_save.")
_LFS_MARK = b"version https://git-lfs"
_SAFETENSORS, _PICKLE = "model.safetensors", "pytorch_model.bin"
_OTHER_FRAMEWORKS = ("tf_model.h5", "flax_model.msgpack")


def read_weights(name: str, folder: Path, model_type: str) -> dict[str, Tensor]:
    """All tensors of a folder, as they are stored, by the names of a family's model with a head: the encoder's lie
    below its base, such as ``bert.``, a head's beside it. Raises CheckpointError.
    """
    family = FAMILIES[model_type]
    table = family.embeddings["embeddings.word"]
    state = {_current(key): tensor for key, tensor in read_tensors(name, folder).items()}
    if any(mark in f".{key}" for key in state for mark in _ADAPTER_MARKS):
        raise CheckpointError(f"checkpoint {name}: {merging_advice()}")
    tables = sorted(key for key in state if key == table or key.endswith(f".{table}"))
    if not tables:
        raise CheckpointError(
            f"checkpoint {name}: its weights lack {table}, the word embeddings of every {model_type}; they hold "
            f"{listed(sorted(state)) or 'nothing'}"
        )
    if tables[1:]:
        raise CheckpointError(
            f"checkpoint {name}: its weights hold more than one encoder: {listed(tables)}; save one of them alone"
        )
    return _full_names(take_apart(state, family), tables[0].removesuffix(table), family)


def read_tensors(name: str, folder: Path) -> dict[str, Tensor]:
    """All tensors of a folder as they are stored, by their own names. Raises CheckpointError."""
    state: dict[str, Tensor] = {}
    for path in _files(name, folder):
        state |= _read_file(name, path)
    return state


def _full_names(state: Mapping[str, Tensor], inside: str, family: Family) -> dict[str, Tensor]:
    """``inside`` is what stands before the encoder's names: the family's base, what a wrapper put there (such as
    DataParallel's ``module.``), both or nothing."""
    base = f"{family.base}."
    outside = inside.removesuffix(base) if f".{inside}".endswith(f".{base}") else inside
    paths = (*family.embeddings.values(), *family.exit.values(), family.layers)
    encoder_parts = {"pooler", *(path.partition(".")[0] for path in paths)}
    named = {}
    for key, tensor in state.items():
        own = key.removeprefix(outside)
        is_bare = inside == outside and key.startswith(outside) and own.partition(".")[0] in encoder_parts
        named[f"{base}{own}" if is_bare else own] = tensor
    return named


def _current(key: str) -> str:
    key = key.replace(_COMPILED, "")
    ending = next((old for old in _OLD_ENDINGS if key.endswith(old)), None)
    return key if ending is None else key.removesuffix(ending) + _OLD_ENDINGS[ending]


def _files(name: str, folder: Path) -> list[Path]:
    """The file, or the shards that an index names."""
    for whole in (_SAFETENSORS, _PICKLE):
        index = folder / f"{whole}.index.json"
        if (folder / whole).is_file():
            return [folder / whole]
        if index.is_file():
            return [_shard(name, folder, shard) for shard in _shards(name, index)]
    other = next((file for file in _OTHER_FRAMEWORKS if (folder / file).is_file()), None)
    remedy = f"; {other} is of another framework, save it with PyTorch" if other else ""
    raise CheckpointError(f"checkpoint {name}: the folder holds neither {_SAFETENSORS} nor {_PICKLE}{remedy}")


def _shards(name: str, index: Path) -> list[str]:
    try:
        shards = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
        return sorted({str(shard) for shard in shards})
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"checkpoint {name}: {index.name} names no shards: {said(error)}") from error


def _shard(name: str, folder: Path, shard: str) -> Path:
    if Path(shard).name != shard or not (folder / shard).is_file():
        raise CheckpointError(f"checkpoint {name}: the folder lacks the shard {shortened(shard)}")
    return folder / shard


def _read_file(name: str, path: Path) -> dict[str, Tensor]:
    with path.open("rb") as stream:
        if stream.read(len(_LFS_MARK)) == _LFS_MARK:
            raise CheckpointError(
                f"checkpoint {name}: {path.name} is a Git LFS pointer, not the weights; fetch them with `git lfs pull`"
            )
    try:
        if path.suffix == ".safetensors":
            return _tensors(name, path, load_file(path).items())
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"checkpoint {name}: {path.name} holds more than tensors, and nothing else is loaded; save the model's "
            f"state_dict() alone"
        ) from error
    except (OSError, ValueError, RuntimeError, EOFError, KeyError, SafetensorError) as error:
        reason = said(error)
        raise CheckpointError(f"checkpoint {name}: its weights cannot be read: {path.name}: {reason}") from error
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping):
        raise CheckpointError(f"checkpoint {name}: {path.name} holds a {type(content).__name__}, not a state dict")
    return _tensors(name, path, content.items())


def _tensors(name: str, path: Path, items: Iterable[tuple[object, object]]) -> dict[str, Tensor]:
    """Raises CheckpointError for entries that are no tensors."""
    tensors = {}
    for key, value in items:
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise CheckpointError(
                f"checkpoint {name}: {path.name} holds {shown(key)}, a {type(value).__name__}; only tensors by "
                f"name are loaded"
            )
        tensors[key] = value.detach()
    return tensors
