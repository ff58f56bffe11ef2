"""Lines of text files, plain or compressed by gzip."""

from __future__ import annotations

import gzip
import io
import os
import stat
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from ortnas.nas.failures import DataError

_LINES_PER_REPORT = 1000


def numbered_lines(path: Path, position: Callable[[int], None] | None = None) -> Iterator[tuple[int, str]]:
    """The lines of a UTF-8 file without their ends, numbered from 1; a byte-order mark is passed over.

    ``position`` is told now and then how many bytes of the file, as it is on disk, have been read. Raises DataError
    for a file that is missing, is no regular file, is no UTF-8 or is a damaged .gz.
    """
    check_regular(path)
    try:
        with path.open("rb") as file:
            stream = io.BufferedReader(gzip.GzipFile(fileobj=file)) if path.suffix == ".gz" else file
            for number, line in enumerate(stream, start=1):
                try:
                    text = line.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError:
                    raise DataError(f"{path}, line {number}: not UTF-8 text; convert the file to UTF-8") from None
                text = text.rstrip("\r\n")
                if number == 1:
                    _check_first(path, text)
                if position is not None and number % _LINES_PER_REPORT == 0:
                    position(file.tell())
                yield number, text
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error


def check_regular(path: Path) -> None:
    """Raises DataError where there is no file, or one that may never end: a pipe, a device or a socket."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from None
    if stat.S_ISDIR(mode):
        raise DataError(f"{path}: is a folder, and a file is needed")
    if not stat.S_ISREG(mode):
        raise DataError(f"{path}: is a pipe, a device or a socket; write what it gives to a file")


def files_below(folder: Path) -> list[Path]:
    """Everything in a folder and its subfolders but folders, sorted; links to folders are followed, once each."""
    files, seen = [], set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        seen.add(os.path.realpath(parent))
        folders[:] = [name for name in folders if os.path.realpath(os.path.join(parent, name)) not in seen]
        files += [Path(parent, name) for name in names]
    return sorted(files)


def _check_first(path: Path, line: str) -> None:
    """Raises DataError where the first line shows that the file's text is written in some other way."""
    if "\0" in line:
        raise DataError(f"{path}, line 1: not UTF-8 text, since it holds zero bytes; convert the file to UTF-8")
    if "\r" in line:
        raise DataError(f"{path}: lines end in carriage returns alone; convert the line ends to newlines")


def kind_of(path: Path) -> str:
    """The suffix that tells a file's format, in lower case, without the .gz."""
    name = path.name.lower().removesuffix(".gz")
    return name.rpartition(".")[2] if "." in name else ""
