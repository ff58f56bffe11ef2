"""Tagged words: files with a word a line, its tag in the last column (CoNLL-2003), and CoNLL-U."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ortnas.nas.data.annotations import TAGS_COLUMNS, WORDS_COLUMNS
from ortnas.nas.data.lines import numbered_lines
from ortnas.nas.data.tables import Table
from ortnas.nas.failures import DataError
from ortnas.nas.wording import shown

# Columns of CoNLL-U (universaldependencies.org/format.html), and which of them are read.
_CONLLU_COLUMNS, _FORM, _UPOS = 10, 1, 3
_WORD_NUMBER = re.compile(r"[0-9]+(?:[-.][0-9]+)?")
# Numbers of words that are written as one, and of words that are not written.
_NO_WORD_NUMBER = re.compile(r"[0-9]+[-.][0-9]+")
_PREFIXED_TAG = re.compile(r"[BIESLUWM][-_].+", re.IGNORECASE)
# A file of so many tags for so few words holds texts.
_WORDS_PER_TAG = 2
# Of so many words no two in one sentence: there are blank lines between all of them.
_LONE_WORDS = 20


class _Form(NamedTuple):
    """How a file is written: the columns of its words, what parts them, and which column holds what."""

    columns: int
    by_tabs: bool
    tags: frozenset[str]
    is_conllu: bool

    def fields(self, line: str) -> list[str]:
        if not self.by_tabs:
            return _by_spaces(line)
        return [field.strip() for field in line.rstrip().split("\t")]

    def is_comment(self, line: str) -> bool:
        """Of a line where a sentence may start: whether it begins with # and is no word with its tag."""
        if not line.startswith("#"):
            return False
        fields = self.fields(line)
        is_tag = fields[-1] in self.tags or _PREFIXED_TAG.fullmatch(fields[-1]) is not None
        return len(fields) != self.columns or not is_tag


def _by_spaces(line: str) -> list[str]:
    """Spaces and tabs alone part columns: words may hold the other kinds of white space."""
    return re.split(r"[ \t]+", line.strip(" \t"))


def open_conll(path: Path, notes: list[str]) -> Table:
    """Sentences of a file with a word a line; a blank line ends a sentence.

    The word is in the first and the tag in the last column; in CoNLL-U they are FORM and UPOS, with a note. Columns are
    parted by tabs where every word's line has one, else by white space. Comments stand before a sentence and begin with
    #. Raises DataError for a word without a tag, and for files whose words have different numbers of columns.
    """
    words, tags = WORDS_COLUMNS[0], TAGS_COLUMNS[0]

    def rows() -> Iterator[tuple[str, Mapping[str, Any]]]:
        form = _read_form(path)
        if form.is_conllu:
            notes.append(f"{path.name} is CoNLL-U: the tags are universal parts of speech (UPOS)")
        for number, sentence in _sentences(path, form):
            yield f"line {number}", {words: [word for word, _ in sentence], tags: [tag for _, tag in sentence]}

    return Table(path.name, (words, tags), rows())


def is_tagged(path: Path) -> bool:
    """Whether a text file has a word and its tag a line. Raises DataError where it cannot be read."""
    lines = [line.split() for number, line in numbered_lines(path) if line.strip() and not line.startswith("#")]
    widths = {len(fields) for fields in lines if fields[0] != "-DOCSTART-"}
    return len(widths) == 1 and min(widths) > 1 and len({fields[-1] for fields in lines}) * _WORDS_PER_TAG <= len(lines)


def _sentences(path: Path, form: _Form) -> Iterator[tuple[int, list[tuple[str, str]]]]:
    """Words with their tags, and the number of the line where their sentence begins."""
    first = 0
    sentence: list[tuple[str, str]] = []
    for number, line in numbered_lines(path):
        if _parts_sentences(line):
            if sentence:
                yield first, sentence
            sentence = []
        elif not sentence and form.is_comment(line):
            continue
        elif word := _word(f"{path}, line {number}", form.fields(line), form):
            first = first if sentence else number
            sentence.append(word)
    if sentence:
        yield first, sentence


def _word(place: str, fields: list[str], form: _Form) -> tuple[str, str] | None:
    """A word and its tag; None for lines of CoNLL-U that stand for no word."""
    if len(fields) == 1:
        raise DataError(f"{place}: expected a word and its tag, not {shown(fields[0])} alone")
    if len(fields) != form.columns:
        raise DataError(
            f"{place}: {len(fields)} columns where most words of the file have {form.columns}; words with spaces in "
            f"them need tabs between the columns"
        )
    if form.is_conllu and _NO_WORD_NUMBER.fullmatch(fields[0]):
        return None
    word, tag = (fields[_FORM], fields[_UPOS]) if form.is_conllu else (fields[0], fields[-1])
    if not word:
        raise DataError(f"{place}: there is no word before the tag {shown(tag)}")
    if not tag or (form.is_conllu and tag == "_"):
        raise DataError(f"{place}: the word {shown(word)} has no tag")
    return word, tag


def _parts_sentences(line: str) -> bool:
    fields = line.split(maxsplit=1)
    return not fields or fields[0] == "-DOCSTART-"


def _read_form(path: Path) -> _Form:
    """Looks through the whole file. Raises DataError where its words are numbered and it is no CoNLL-U, and where all
    stand alone."""
    widths: Counter[tuple[int, int]] = Counter()
    tags: set[str] = set()
    sentences = 0
    starts_sentence = by_tabs = is_numbered = True
    for _, line in numbered_lines(path):
        if _parts_sentences(line):
            starts_sentence = True
        elif line.startswith("#begin document"):
            raise DataError(f"{path} is written as CoNLL-2012 (OntoNotes); write a word and its tag a line")
        elif not (starts_sentence and line.startswith("#")):
            fields, by_tab = _by_spaces(line), line.rstrip().split("\t")
            widths[len(fields), len(by_tab)] += 1
            tags.add(fields[-1])
            sentences += starts_sentence
            by_tabs = by_tabs and len(by_tab) > 1
            is_first = starts_sentence and (fields[0] == "1" or _NO_WORD_NUMBER.fullmatch(fields[0]) is not None)
            is_later = not starts_sentence and _WORD_NUMBER.fullmatch(fields[0]) is not None
            is_numbered = is_numbered and (is_first or is_later)
            starts_sentence = False
    if sentences == widths.total() >= _LONE_WORDS:
        raise DataError(f"{path}: every sentence has one word; blank lines may stand between sentences only")
    by_width: Counter[int] = Counter()
    for width, count in widths.items():
        by_width[width[by_tabs]] += count
    columns = max(by_width, key=lambda width: (by_width[width], width), default=0)
    is_conllu = by_tabs and columns == _CONLLU_COLUMNS and is_numbered
    if is_numbered and columns > 2 and not is_conllu:
        raise DataError(
            f"{path}: the first column numbers the words; the word has to be in the first column, its tag in the last"
        )
    return _Form(columns, by_tabs, frozenset(tags), is_conllu)
