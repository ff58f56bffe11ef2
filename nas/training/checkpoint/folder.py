"""Where a checkpoint's files are: a local folder, or the hub's copy of one."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ortnas.nas.failures import CheckpointError
from ortnas.nas.wording import said, shown

CONFIG_FILE = "config.json"
MODULES_FILE = "modules.json"
ADAPTER_FILE = "adapter_config.json"
_SMALL_FILES = ("*.json", "*.txt", "*.model", "*.metadata", "*/config.json")
# Those of the modules of sentence-transformers, a folder each.
_MODULE_WEIGHTS = ("[0-9]_*/model.safetensors", "[0-9]_*/pytorch_model.bin")
_WEIGHTS = ("model*.safetensors", "pytorch_model*.bin")


def is_folder_name(name: str) -> bool:
    """Whether a checkpoint's name is meant as a path."""
    return name.startswith((".", "~", os.sep)) or name.count("/") > 1 or Path(name).expanduser().exists()


def find_folder(name: str, weights: bool = False) -> Path:
    """The checkpoint's folder; of a hub name the local copy, without its weights unless they are asked for.

    Raises CheckpointError.
    """
    if not is_folder_name(name):
        return _download(name, weights)
    folder = Path(name).expanduser()
    if not folder.is_dir():
        raise CheckpointError(f"checkpoint {name}: no such folder")
    _check_adapter(name, folder)
    if not (encoder_folder(name, folder) / CONFIG_FILE).is_file():
        raise CheckpointError(
            f"checkpoint {name}: the folder holds no {CONFIG_FILE}, so it is no transformers checkpoint"
        )
    return folder


def _check_adapter(name: str, folder: Path) -> None:
    """Raises CheckpointError for an adapter, alone or beside what it changes: loaders would add it to the weights."""
    if (encoder_folder(name, folder) / ADAPTER_FILE).is_file():
        document = read_file(name, encoder_folder(name, folder), ADAPTER_FILE)
        raise CheckpointError(f"checkpoint {name}: {merging_advice(document.get('base_model_name_or_path'))}")


def merging_advice(base: object = None) -> str:
    """What to do with an adapter."""
    of = f" of {shown(base)}" if isinstance(base, str) else ""
    return (
        f"it is an adapter{of} that is not merged into the weights; load it with peft, and save what "
        f"merge_and_unload() returns together with the tokenizer"
    )


def encoder_folder(name: str, folder: Path) -> Path:
    """Where the encoder's configuration, weights and tokenizer are: in the folder itself, or where early releases of
    sentence-transformers put them, beside its other modules. Raises CheckpointError."""
    if (folder / CONFIG_FILE).is_file() or not (folder / MODULES_FILE).is_file():
        return folder
    first = next(iter(read_file(name, folder, MODULES_FILE, list)), None)
    path = first.get("path") if isinstance(first, dict) else None
    return folder / path if isinstance(path, str) and Path(path).name == path else folder


def _download(name: str, weights: bool) -> Path:
    """Weights of the first kind that the hub has; nothing is fetched that is here already."""
    import huggingface_hub

    try:
        folder = Path(huggingface_hub.snapshot_download(name, allow_patterns=[*_SMALL_FILES]))
        for pattern in _WEIGHTS if weights else ():
            wanted = [*_SMALL_FILES, *_MODULE_WEIGHTS, pattern]
            folder = Path(huggingface_hub.snapshot_download(name, allow_patterns=wanted))
            if next(folder.glob(pattern), None):
                break
    except Exception as error:  # the library raises what the network and its own checks raise
        raise CheckpointError(
            f"checkpoint {name}: not a folder here, and the hub did not serve it ({type(error).__name__}); "
            f"give a local folder, or check the name and the network"
        ) from error
    _check_adapter(name, folder)
    if not (encoder_folder(name, folder) / CONFIG_FILE).is_file():
        raise CheckpointError(f"checkpoint {name}: the hub has no {CONFIG_FILE} of that name")
    return folder


def read_file(name: str, folder: Path, file: str, kind: type[Any] = dict) -> Any:
    """The object, or the list, that a JSON file of a checkpoint's folder holds. Raises CheckpointError."""
    try:
        document = json.loads((folder / file).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"checkpoint {name}: {file} is not JSON: {said(error)}") from error
    if not isinstance(document, kind):
        what = "list" if kind is list else "object with keys and values"
        raise CheckpointError(f"checkpoint {name}: {file} holds no {what}")
    return document
