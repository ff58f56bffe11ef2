"""Checkpoints by the names that a configuration has for them: where their files are, and what is in them."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

from ortnas.nas.run.configuration import ConfigurationError

_MODULE_FILES = ("*.json", "*.txt", "model*.safetensors", "pytorch_model*.bin")
_CONTENT = (".json", ".safetensors", ".bin", ".txt", ".model")


def checkpoint_folder(name: str, key: str = "checkpoint") -> str:
    """A folder or a hub name; ``package:NAME/FOLDER`` is resolved to the installed package.

    Raises ConfigurationError, naming the ``key``, where that package is not installed.
    """
    if not name.startswith("package:"):
        return name
    package, _, inside = name.removeprefix("package:").partition("/")
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, AttributeError, ValueError):  # of a package in a package that is not there
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise ConfigurationError(f"{key} = {name!r}: the Python package {package} is not installed")
    return str(Path(next(iter(spec.submodule_search_locations))) / inside)


def content_digest(checkpoint: str) -> str:
    """Content of a local checkpoint's files; a hub name stands for itself."""
    folder = Path(checkpoint).expanduser()
    if not folder.is_dir():
        return checkpoint
    content = hashlib.sha256()
    # Modules of sentence-transformers have folders of their own.
    modules = [path for name in _MODULE_FILES for path in folder.glob(f"[0-9]_*/{name}")]
    for path in sorted((*folder.iterdir(), *modules)):
        if path.is_file() and path.suffix in _CONTENT:
            content.update(path.relative_to(folder).as_posix().encode())
            with path.open("rb") as stream:
                while block := stream.read(1 << 20):
                    content.update(block)
    return content.hexdigest()[:16]
