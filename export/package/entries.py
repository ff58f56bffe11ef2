"""Entries of a package's record by dotted paths, each of the kind that it has to be."""

from __future__ import annotations

from typing import Any

NUMBER = (int, float)
NUMBER_OR_NONE = (int, float, type(None))
TEXT_OR_NONE = (str, type(None))
_MISSING: Any = object()


class DamagedError(ValueError):
    """An entry that is missing or of another kind."""

    def __init__(self, path: str) -> None:
        super().__init__(f"{path} is missing or damaged; export it again")


def entry_of(document: Any, path: str, kind: type | tuple[type, ...], default: Any = _MISSING) -> Any:
    """The value at a dotted path. Raises DamagedError where it is of another kind, or missing without a default."""
    value = document
    for key in path.split("."):
        value = value.get(key, _MISSING) if isinstance(value, dict) else _MISSING
    if value is _MISSING and default is not _MISSING:
        return default
    if not isinstance(value, kind):
        raise DamagedError(path)
    return value


def part_of(document: Any, name: str, read: Any, default: Any = _MISSING) -> Any:
    """What ``read`` makes of an object; ``default`` where it is missing."""
    part = entry_of(document, name, dict, default)
    if part is default:
        return default
    try:
        return read(part)
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise DamagedError(name) from error


def texts_of(document: Any, path: str) -> list[str]:
    texts: list[str] = entry_of(document, path, list)
    if not all(isinstance(text, str) for text in texts):
        raise DamagedError(path)
    return texts


def numbers_of(document: Any, path: str) -> dict[str, float]:
    numbers: dict[str, float] = entry_of(document, path, dict, {})
    if not all(isinstance(number, NUMBER) for number in numbers.values()):
        raise DamagedError(path)
    return numbers
