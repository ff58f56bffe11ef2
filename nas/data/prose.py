"""English prose out of documentation: code, tables, lists of fields and markup are left out."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator

_FEWEST_WORDS, _MOST_WORDS = 5, 60
_LEAST_LETTERS = 0.8
SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
_CODE_BLOCK = re.compile(r"^[ \t]*```.*?^[ \t]*```", re.DOTALL | re.MULTILINE)
_BLANK = re.compile(r"\n\s*\n")
# What reStructuredText and Markdown write around words, with the words that stay.
_MARKUP = (
    (re.compile(r"!\[[^\]]*\]\([^)]*\)"), ""),
    (re.compile(r"\[([^\]]+)\](?:\([^)]*\)|\[[^\]]*\])"), r"\1"),
    (re.compile(r":[a-z:]+:(?=`)"), ""),
    (re.compile(r"`~?\.?([^`<]*?)\s*(?:<[^`]*>)?`_*"), r"\1"),
    (re.compile(r"`|</?[A-Za-z][^<>]*>|(?<!\w)\*+(?=\w)|(?<=[\w.,:])\*+(?!\w)"), ""),
)
# A paragraph that begins or goes on like that is a title, a list, a table, a directive, a doctest or a field.
_NO_PROSE_START = re.compile(r"\s*(?:[-*+|#=>:@$<!~^]|\.\. |\d+[.)]|\[!|```)")
_NO_PROSE = re.compile(r">>>|://|\\|^[-=~^*#+|\s]{3,}$", re.MULTILINE)


def prose_paragraphs(text: str) -> Iterator[str]:
    """Paragraphs of prose, each on one line. Those that go on indented, as lists of parameters do, are left out."""
    for paragraph in _BLANK.split(textwrap.dedent(_CODE_BLOCK.sub("", text))):
        if _NO_PROSE.search(paragraph) or _NO_PROSE_START.match(paragraph):
            continue
        if any(line.startswith((" ", "\t")) for line in paragraph.strip("\n").splitlines()[1:]):
            continue
        for pattern, replacement in _MARKUP:
            paragraph = pattern.sub(replacement, paragraph)
        if paragraph := " ".join(paragraph.split()):
            yield paragraph


def is_prose(sentence: str) -> bool:
    """Whether it has 5 to 60 words, and mostly letters."""
    letters = sum(character.isalpha() or character == " " for character in sentence)
    return _FEWEST_WORDS <= len(sentence.split()) <= _MOST_WORDS and letters >= _LEAST_LETTERS * len(sentence)


def prose_sentences(text: str) -> Iterator[str]:
    """Sentences of 5 to 60 words."""
    for paragraph in prose_paragraphs(text):
        yield from filter(is_prose, SENTENCE_END.split(paragraph))
