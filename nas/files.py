"""Writing files so that a kill or a full disk never leaves half of one under its final name; reading strict JSON."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ortnas.nas.wording import shown

# In a run folder: the configuration as it was used.
RESOLVED_FILE = "resolved.yaml"


def parse_json(text: str | bytes, takes_nan: bool = False) -> Any:
    """The value of a JSON document. Raises ValueError, with a short message, for anything that is none, and for what
    Python would take: a key that an object has twice and, unless ``takes_nan``, NaN and infinities."""

    def refuse(constant: str) -> Any:
        raise ValueError(f"{constant} is no number")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        entries = dict(pairs)
        if len(entries) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"the key {shown(twice)} is there twice in one object")
        return entries

    def finite(number: str) -> float:
        value = float(number)
        return value if math.isfinite(value) else refuse(number[:20])

    numbers: dict[str, Any] = {} if takes_nan else {"parse_constant": refuse, "parse_float": finite}
    try:
        return json.loads(text, object_pairs_hook=unique, **numbers)
    except RecursionError:
        raise ValueError("lists or objects are nested too deeply") from None
    except ValueError as error:
        if "digits" in str(error) and not isinstance(error, json.JSONDecodeError):
            raise ValueError("an integer has too many digits") from None
        raise


@contextmanager
def aside(path: Path) -> Iterator[Path]:
    """A temporary neighbour of ``path`` to write to; it takes the final name when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_aside(path: Path, content: str | bytes) -> None:
    with aside(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def write_json(path: Path, document: Any) -> None:
    write_aside(path, json.dumps(document, indent=2) + "\n")


def append_line(path: Path, document: Any) -> None:
    """Adds one JSON line and sees it to the disk; a line torn by an earlier kill is closed off first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as stream:
        if stream.tell():
            stream.seek(-1, os.SEEK_END)
            if stream.read(1) != b"\n":
                stream.write(b"\n")
        stream.write(json.dumps(document).encode() + b"\n")
        stream.flush()
        os.fsync(stream.fileno())


def read_lines(path: Path) -> list[Any]:
    """The JSON lines of a file; a line torn by a kill is passed over."""
    if not path.is_file():
        return []
    documents = []
    for line in path.read_bytes().splitlines():
        try:
            documents.append(json.loads(line))
        except ValueError:
            continue
    return documents


def digest(*parts: Any) -> str:
    """16 hexadecimal digits that name JSON-ready inputs."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]
