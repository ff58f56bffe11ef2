"""One line for people about what is wrong in a document, from what pydantic found."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from ortnas.nas.wording import shown

_MOST_SHOWN = 3
_LONGEST_KEY, _LONGEST_START, _LONGEST_SENTENCE = 60, 150, 280


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """Each wrong key with its value and what is allowed, on one line; the first few where there are many."""
    sentences: dict[str, str] = {}
    for item in error.errors(include_url=False):
        # Of a key that may be one of several kinds, each kind says what it misses.
        location = tuple(part for part in item["loc"] if not _is_kind(part))
        key = ".".join(str(part) if len(str(part)) <= _LONGEST_KEY else shown(part) for part in location)
        sentence = _sentence(item, location, key, model)
        if key in sentences:
            sentences[key] = f"{sentences[key]}, or {_message(item)}"
        else:
            sentences[key] = sentence
    first = [_one_line(sentence) for sentence in sentences.values()][:_MOST_SHOWN]
    more = len(sentences) - len(first)
    return "; ".join(first) + (f"; and {more} more" if more else "")


def _sentence(item: Any, location: Sequence[Any], key: str, model: type[BaseModel]) -> str:
    if item["type"] == "extra_forbidden":
        names = list(_section(model, location[:-1]).model_fields)
        close = difflib.get_close_matches(str(location[-1])[:100], names, 1)
        hint = f"did you mean {close[0]!r}?" if close else f"known keys are {', '.join(names)}"
        return f"unknown key '{key}'; {hint}"
    if item["type"] == "missing":
        return f"the key {key!r} is missing"
    if item["type"] == "value_error" and isinstance(item["input"], dict | BaseModel):
        return f"{key}: {_message(item)}" if key else _message(item)
    if item["type"] in ("model_type", "dict_type") and item["input"] is None:
        return f"{key}: the section is empty; give it keys, or leave it out"
    return f"{key} = {shown(item['input'])}: {_message(item)}"


def _message(item: Any) -> str:
    message = item["msg"].removeprefix("Value error, ").replace("valid tuple", "list")
    hint = "; put it in quotes" if item["type"] == "string_type" and isinstance(item["input"], int | float) else ""
    return str(message[0].lower() + message[1:] + hint)


def _one_line(sentence: str) -> str:
    """What is wrong comes first, what is allowed last: what is too long is cut in between."""
    plain = "".join(character if character.isprintable() else " " for character in sentence)
    excess = len(plain) - _LONGEST_SENTENCE
    return plain if excess <= 0 else f"{plain[:_LONGEST_START]} ... {plain[_LONGEST_START + excess :]}"


def _is_kind(part: int | str) -> bool:
    """Pydantic's name of one kind among several, such as ``tuple[int, ...]``."""
    return isinstance(part, str) and "[" in part and part.endswith("]")


def _section(model: type[BaseModel], location: Sequence[Any]) -> type[BaseModel]:
    """The section that a location leads to, through lists of sections too."""
    for part in location:
        if not isinstance(part, int):
            model = next(_sections(model.model_fields[part].annotation))
    return model


def _sections(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _sections(inner)
