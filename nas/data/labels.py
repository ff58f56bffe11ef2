"""Names of classes and tags: one spelling for each, and their order."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from decimal import Decimal

from ortnas.nas.failures import DataError
from ortnas.nas.wording import listed

_NUMBER = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]{1,3})?")
_NUMBERED = re.compile(r"(?P<stem>.*?)(?P<number>[0-9]+)", re.DOTALL)
_OUTSIDE = ("O", "o")


def one_spelling(names: Iterable[str], notes: list[str]) -> dict[str, str]:
    """By name the one to use, for numbers and truth values that are written in several ways; a note tells of them.

    Raises DataError where truth values and numbers are mixed.
    """
    distinct = sorted(set(names))
    numbers = [name for name in distinct if _NUMBER.fullmatch(name)]
    truths = [name for name in distinct if name.lower() in ("true", "false")]
    if numbers and truths:
        raise DataError(
            f"the labels mix truth values and numbers ({listed([*truths, *numbers])}); write them in one way, since it "
            f"is not said whether {truths[0]!r} is {numbers[0]!r}"
        )
    by_value: defaultdict[Decimal | str, list[str]] = defaultdict(list)
    for name in (*numbers, *truths):
        by_value[name.capitalize() if truths else Decimal(name)].append(name)
    if all(len(spellings) == 1 for spellings in by_value.values()):
        return {}
    spelling = {name: _plainest(value, same) for value, same in by_value.items() for name in same}
    changed = [name for name, plain in spelling.items() if name != plain]
    notes.append(
        f"labels are written in several ways: {listed(f'{name!r} is taken as {spelling[name]!r}' for name in changed)}"
    )
    return spelling


def _plainest(value: Decimal | str, spellings: list[str]) -> str:
    if isinstance(value, str):
        return value
    if value == value.to_integral_value() and value.adjusted() < 20:
        return str(int(value))
    return min(spellings, key=lambda spelling: (len(spelling), spelling))


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """The tag O first; the others by number where all are numbers or numbered names such as LABEL_10, else sorted."""
    distinct = sorted(set(names))
    outside = [name for name in distinct if name in _OUTSIDE]
    others = [name for name in distinct if name not in _OUTSIDE]
    return (*outside, *_by_number(others))


def _by_number(names: list[str]) -> list[str]:
    if all(map(_NUMBER.fullmatch, names)):
        return sorted(names, key=Decimal)
    numbered: Mapping[str, re.Match[str]] = {name: match for name in names if (match := _NUMBERED.fullmatch(name))}
    if len(numbered) == len(names) and len({match["stem"] for match in numbered.values()}) == 1:
        return sorted(names, key=lambda name: Decimal(numbered[name]["number"]))
    return names
