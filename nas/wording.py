"""Values, lists and errors as messages hold them: on one line, and no longer than there is room for."""

from __future__ import annotations

from collections.abc import Iterable

_LONGEST, _LONGEST_TEXT, _LONGEST_ERROR = 80, 60, 300
_MOST_LISTED = 6


def shown(value: object) -> str:
    """A value that somebody wrote, as Python writes it. Of a long text the beginning, with its number of characters."""
    if isinstance(value, str | bytes) and len(value) > _LONGEST_TEXT:
        return f"{value[:_LONGEST_TEXT]!r}… ({len(value)} characters)"
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # nested too deep; a number of too many digits
        text = f"a {type(value).__name__} that cannot be shown"
    return shortened(text)


def shortened(text: str, longest: int = _LONGEST) -> str:
    """The text, with its end left out where it has more characters than ``longest``."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def listed(items: Iterable[str]) -> str:
    """The first of the items, each shortened, and how many there are beside them."""
    entries = [shortened(" ".join(item.split())) for item in items]
    more = f" and {len(entries) - _MOST_LISTED:,} more" if len(entries) > _MOST_LISTED else ""
    return ", ".join(entries[:_MOST_LISTED]) + more


def said(error: BaseException) -> str:
    """What a library says of an error, after the error's name."""
    text = "".join(character if character.isprintable() else " " for character in str(error)[:_LONGEST_ERROR])
    return f"{type(error).__name__}: {' '.join(text.split())}"
