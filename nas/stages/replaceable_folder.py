"""Folders that a package may be written to: new ones, empty ones, and earlier packages of the same command."""

from __future__ import annotations

from pathlib import Path

from ortnas.export.package.record import RECORD_FILE, PackageError, read_record
from ortnas.nas.run.configuration import ConfigurationError
from ortnas.nas.wording import listed


def check_replaceable(folder: Path, command: str) -> None:
    """``command`` is what a package's provenance names. Raises ConfigurationError for a folder that holds other things:
    writing a package replaces all of it."""
    try:
        content = {path.name for path in folder.iterdir()}
    except FileNotFoundError:
        return
    except NotADirectoryError:
        raise ConfigurationError(f"{folder} is a file; name a new folder") from None
    if not content:
        return
    try:
        record = read_record(folder)
    except PackageError:
        raise ConfigurationError(f"{folder} is not empty, and no package; name a new folder") from None
    if (record.provenance or {}).get("command") != command:
        raise ConfigurationError(f"{folder} is a package of another command; name a new folder")
    own = {name.partition("/")[0] for name in record.file_digests} | {RECORD_FILE, "__pycache__"}
    if strange := sorted(content - own):
        raise ConfigurationError(f"{folder} is an earlier package, and holds {listed(strange)} too; name a new folder")
