"""What names the content of a data source, so that parts are made anew when it changes."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ortnas.nas.data.docstrings import PYTHON_DOCSTRINGS
from ortnas.nas.data.hub import HUB_PREFIX, local_folder
from ortnas.nas.data.lines import check_regular, files_below
from ortnas.nas.data.packages import PYTHON_PACKAGES, packages_identity
from ortnas.nas.failures import DataError
from ortnas.nas.files import digest

# Larger files are told apart by size and time of change, since reading them would take seconds in every command.
_LARGEST_READ_BYTES = 64_000_000


def source_identity(source: str, key: str = "data.source") -> str:
    """The name of a dataset of the hub; of files a digest of their names, and of their contents but for large ones; of
    installed packages a digest of their versions.

    Raises DataError where the source, which ``key`` names, is missing.
    """
    if source == PYTHON_DOCSTRINGS:
        return source
    if source == PYTHON_PACKAGES:
        return packages_identity()
    if source.startswith(HUB_PREFIX):
        folder = local_folder(source)
        if folder is None:
            return source
    else:
        folder = Path(source).expanduser()
    if not folder.exists():
        raise DataError(f"{key} = {source!r}: no such file or folder")
    if not folder.is_dir():
        check_regular(folder)
        return digest([str(folder), _content(folder)])
    return digest([[str(path), _content(path)] for path in files_below(folder) if path.is_file()])


def _content(path: Path) -> list[int] | str:
    facts = path.stat()
    if facts.st_size > _LARGEST_READ_BYTES:
        return [facts.st_size, facts.st_mtime_ns]
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
