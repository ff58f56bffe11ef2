"""Naming a run: by a ``run.yaml``, or by its folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ortnas.nas.files import RESOLVED_FILE
from ortnas.nas.run.configuration import Configuration, ConfigurationError, read_configuration

_OWN_FILE = "run.yaml"


def configuration_of(name: Path, overrides: Mapping[str, Any]) -> Configuration:
    """The configuration of the run that ``name`` stands for, with overrides given as dotted keys.

    A folder stands for the user's own ``run.yaml`` in it, else for its ``resolved.yaml``, whose run is the one in that
    folder, wherever it was made. Raises ConfigurationError.
    """
    file = _file_of(name)
    in_folder = {"folder": str(file.parent)} if file.name == RESOLVED_FILE else {}
    return read_configuration(file, {**in_folder, **overrides})


def folder_of(name: Path) -> Path:
    """The folder of the run that ``name`` stands for, as of ``configuration_of``. Raises ConfigurationError."""
    if (name / RESOLVED_FILE).is_file():
        return name
    return Path(configuration_of(name, {}).folder)


def _file_of(name: Path) -> Path:
    if not name.is_dir():
        return name
    for file in (name / _OWN_FILE, name / RESOLVED_FILE):
        if file.is_file():
            return file
    raise ConfigurationError(
        f"{name} is no run folder: it holds neither {_OWN_FILE} nor {RESOLVED_FILE}; name a {_OWN_FILE}, or a folder "
        f"that `ortnas run` made"
    )
