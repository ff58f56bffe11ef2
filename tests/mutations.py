"""What becomes of files on their way from one machine to another, and what may be said about it."""

from __future__ import annotations

import copy
import json
import os
import random
from collections.abc import Callable, Iterator
from typing import Any

LONGEST_SENTENCE = 1000
# Values that stand where others belong. Nesting is deeper than what Python's parser follows.
_DEEP = "DEEP"
_ODD_VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1.5,
    10**30,
    float("nan"),
    float("inf"),
    "",
    " ",
    "12",
    "two\nlines",
    "half \ud800 of a pair",
    "nul \0",
    "x" * 5000,
    [],
    {},
    [[]],
    [None],
    {"": 0},
    _DEEP,
)


def seeds() -> range:
    """A hundred, or as many as ORTNAS_MUTATIONS says."""
    return range(int(os.environ.get("ORTNAS_MUTATIONS", "100")))


def assert_sentence(error: BaseException | str) -> None:
    """One sentence that a terminal shows whole."""
    message = str(error)
    assert message.strip(), repr(error)
    assert "\n" not in message, repr(message)
    assert len(message) < LONGEST_SENTENCE, len(message)


def mutated(document: Any, rng: random.Random) -> bytes:
    """A JSON document with one to three changes, in its values or in the file's bytes."""
    changed = copy.deepcopy(document)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        places = list(_places(changed))
        if places and rng.random() < 0.75:
            parent, key = rng.choice(places)
            rng.choice(_IN_VALUES)(parent, key, rng)
    content = _written(changed, rng)
    if rng.random() < 0.35 or changed == document:
        content = rng.choice(_IN_BYTES)(content, rng)
    return content


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Any file with one change in its bytes."""
    return rng.choice(_DAMAGES)(content, rng)


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every entry of every object and list, with what holds it."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, entry in entries:
        yield value, key
        yield from _places(entry)


def _drop(parent: Any, key: Any, rng: random.Random) -> None:
    del parent[key]


def _replace(parent: Any, key: Any, rng: random.Random) -> None:
    parent[key] = copy.deepcopy(rng.choice(_ODD_VALUES))


def _as_text(parent: Any, key: Any, rng: random.Random) -> None:
    parent[key] = str(parent[key])


def _wrap(parent: Any, key: Any, rng: random.Random) -> None:
    parent[key] = rng.choice([[parent[key]], {"value": parent[key]}])


def _unwrap(parent: Any, key: Any, rng: random.Random) -> None:
    value = parent[key]
    if isinstance(value, list | dict) and value:
        parent[key] = next(iter(value.values() if isinstance(value, dict) else value))


def _repeat(parent: Any, key: Any, rng: random.Random) -> None:
    if isinstance(parent, list):
        parent.insert(rng.randrange(len(parent) + 1), copy.deepcopy(parent[key]))
    else:
        parent[f"{key}2"] = copy.deepcopy(parent[key])


def _shift(parent: Any, key: Any, rng: random.Random) -> None:
    value = parent[key]
    if isinstance(value, int | float):
        parent[key] = value + rng.choice((-1, 1, 0.5, 10**6))
    elif isinstance(value, str):
        parent[key] = value[rng.randrange(len(value) + 1) :]
    elif isinstance(value, list):
        value.reverse()


def _rename(parent: Any, key: Any, rng: random.Random) -> None:
    if isinstance(parent, dict):
        parent[rng.choice((key.upper(), f"{key} ", f"_{key}", "\ud800"))] = parent.pop(key)


_IN_VALUES: tuple[Callable[[Any, Any, random.Random], None], ...] = (
    _drop,
    _replace,
    _replace,
    _as_text,
    _wrap,
    _unwrap,
    _repeat,
    _shift,
    _rename,
)


def _written(document: Any, rng: random.Random) -> bytes:
    text = json.dumps(
        document,
        ensure_ascii=rng.random() < 0.5,
        indent=rng.choice((None, None, 1)),
        sort_keys=rng.random() < 0.3,
    )
    text = text.replace(f'"{_DEEP}"', "[" * 2000 + "]" * 2000)
    return text.encode("utf-8", "surrogatepass")


def _cut(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content) + 1)]


def _flip(content: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(content))
    return content[:place] + bytes([rng.randrange(256)]) + content[place + 1 :]


def _lose(content: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(content))
    return content[:start] + content[start + rng.randrange(1, 30) :]


def _append(content: bytes, rng: random.Random) -> bytes:
    return content + rng.choice((b"\n", b"\n\n{}", b"\0", b"}", b"\xff", content))


def _zero(content: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(content))
    end = min(len(content), start + rng.randrange(1, 4096))
    return content[:start] + bytes(end - start) + content[end:]


def _twice(content: bytes, rng: random.Random) -> bytes:
    """Each object's first key a second time, in one place."""
    starts = [place for place in range(len(content) - 1) if content[place : place + 2] == b'{"']
    if not starts:
        return content
    place = rng.choice(starts)
    name = content[place + 1 : content.index(b'"', place + 2) + 1]
    return content[: place + 1] + name + b": " + rng.choice((b"0", b"[]", b'"x"')) + b", " + content[place + 1 :]


def _encoded(content: bytes, rng: random.Random) -> bytes:
    text = content.decode("utf-8", "replace")
    return text.encode(rng.choice(("utf-16", "utf-8-sig", "latin-1", "utf-32", "cp1252")), "replace")


def _line_ends(content: bytes, rng: random.Random) -> bytes:
    return content.replace(b", ", b",\r\n")


def _digits(content: bytes, rng: random.Random) -> bytes:
    """A number that no memory holds, where a digit was."""
    places = [place for place in range(len(content)) if content[place : place + 1].isdigit()]
    if not places:
        return content
    place = rng.choice(places)
    return content[:place] + rng.choice((b"9" * 5000, b"1e999", b"-1", b"0x1", b"NaN", b"1.0")) + content[place + 1 :]


_DAMAGES: tuple[Callable[[bytes, random.Random], bytes], ...] = (_cut, _flip, _lose, _append, _zero)
_IN_BYTES = (*_DAMAGES, _twice, _encoded, _line_ends, _digits)
