"""Tag schemes: which words of a sentence make an entity, by what the names of the tags say."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# (type, first word, word after the last)
Entity = tuple[str, int, int]
# Letter, of IOBES, and type.
Piece = tuple[str, str]

_OUTSIDE: Piece = ("O", "")
# What letters of other schemes are in IOBES; no scheme has both.
_IN_IOBES = {"L": "E", "U": "S", "W": "S", "M": "I"}
_PREFIXED = re.compile(r"(?P<letter>[BIESLUWM])(?:[-_](?P<kind>.+))?", re.IGNORECASE | re.DOTALL)
_SUFFIXED = re.compile(r"(?P<kind>.+)[-_](?P<letter>[BIESLUWM])", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True)
class TagScheme:
    """How tags make entities. ``pieces`` has every tag but those outside of entities.

    By conlleval (Tjong Kim Sang & Buchholz 2000) an entity is a run of words of one type that no tag ends, so that any
    sequence of tags has its entities. Where ``strict`` only runs of the right form count, as in seqeval's strict mode.
    """

    name: str
    pieces: Mapping[str, Piece]
    strict: bool = False

    def entities(self, tags: Sequence[str | None]) -> set[Entity]:
        """The entities of a sentence; None stands for a word that was not tagged."""
        result = set()
        start, opening, previous = 0, "O", _OUTSIDE
        for position, tag in enumerate([*tags, None]):
            piece = _OUTSIDE if tag is None else self.pieces.get(tag, _OUTSIDE)
            if previous[0] in "BI" and piece[0] in "IE" and piece[1] == previous[1]:
                previous = piece
                continue
            is_whole = previous[0] == "S" or (opening, previous[0]) == ("B", "E")
            if previous != _OUTSIDE and (is_whole or not self.strict):
                result.add((previous[1], start, position))
            start, opening, previous = position, piece[0], piece
        return result


def find_scheme(labels: Sequence[str]) -> TagScheme | None:
    """The scheme that the names of all tags follow; None where they are no tags of entities."""
    inside = [label for label in labels if label not in ("O", "o")]
    has_outside = len(inside) < len(labels)
    if (pieces := _pieces(inside, _PREFIXED)) and _fit_together(pieces, has_outside):
        return _lettered(pieces)
    if (pieces := _pieces(inside, _SUFFIXED)) and _fit_together(pieces, has_outside) and _has_inner_words(pieces):
        return _lettered(pieces)
    if not has_outside or not inside or _stray_prefixes(inside) or not all(map(_is_type, inside)):
        return None
    return TagScheme("IO", {label: ("I", label) for label in inside})


def describe_scheme(labels: Sequence[str]) -> str:
    """A sentence about the scheme of the tags and what it means for scores."""
    scheme = find_scheme(labels)
    if scheme is not None and scheme.name == "IO":
        return "the tags are types without a prefix (IO): equal tags side by side are one entity in entity_f1"
    if scheme is not None:
        rule = "as in seqeval's strict mode" if scheme.strict else "as conlleval does"
        return f"the tags follow the scheme {scheme.name}: entity_f1 scores whole entities {rule}"
    if stray := _stray_prefixes(labels):
        reason = f"{stray[0]!r} has a prefix, and not all tags have one"
    elif labels and all(re.fullmatch(r"[-+]?\d+", label) for label in labels):
        reason = "they are integers, whose names the data does not tell"
    else:
        reason = "they do not mark which words belong together"
    return f"the tags follow no scheme of entities ({reason}): token_accuracy is the metric, and there is no entity_f1"


def _pieces(labels: Sequence[str], form: re.Pattern[str]) -> dict[str, Piece]:
    """Letter and type of every label; empty where one of them has another form."""
    matches = {label: match for label in labels if (match := form.fullmatch(label))}
    if len(matches) < len(set(labels)):
        return {}
    return {label: (match["letter"].upper(), match["kind"] or "") for label, match in matches.items()}


def _fit_together(pieces: Mapping[str, Piece], has_outside: bool) -> bool:
    """Whether the letters are of one scheme. Letters alone may also be parts of speech, unless B or I is there."""
    letters = {letter for letter, _ in pieces.values()}
    is_typed = all(kind for _, kind in pieces.values())
    is_marked = "B" in letters or (has_outside and (is_typed or "I" in letters))
    return is_marked and len({_IN_IOBES.get(letter, letter) for letter in letters}) == len(letters)


def _has_inner_words(pieces: Mapping[str, Piece]) -> bool:
    """Whether some type comes with several letters, one of them for words inside: ``PER-B`` and ``PER-I``, unlike
    ``VITAMIN_B`` and ``VITAMIN_E``."""
    letters = defaultdict(set)
    for letter, kind in pieces.values():
        letters[kind].add(letter)
    return any(len(own) > 1 and own & set("IM") for own in letters.values())


def _lettered(pieces: Mapping[str, Piece]) -> TagScheme:
    letters = {letter for letter, _ in pieces.values()}
    strict = bool(letters & set("LUMW"))
    if strict:
        name = "BILOU" if letters & set("LU") else "BMEWO"
    elif "E" in letters or "S" in letters:
        name = "IOBES" if letters & set("BS") else "IOE"
    else:
        name = "IOB"
    in_iobes = {label: (_IN_IOBES.get(letter, letter), kind) for label, (letter, kind) in pieces.items()}
    return TagScheme(name, in_iobes, strict)


def _stray_prefixes(labels: Sequence[str]) -> list[str]:
    """Labels such as ``B-PER``."""
    return [label for label in labels if (match := _PREFIXED.fullmatch(label)) and match["kind"] and label[0] in "BIbi"]


def _is_type(label: str) -> bool:
    """Not a punctuation mark, which stands for itself in sets of parts of speech."""
    return any(character.isalnum() for character in label)
