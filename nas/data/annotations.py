"""Annotated texts: CoNLL files of tagged words and SQuAD 1.1 files of questions with answers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nas.data.failures import DataError
from nas.data.lines import numbered_lines
from nas.data.tables import Table

# Usual columns of such tables, also where they come as JSON Lines or from the hub.
WORDS_COLUMNS, TAGS_COLUMNS = ("tokens", "words"), ("ner_tags", "tags", "labels", "pos_tags")
QUESTION_COLUMN, CONTEXT_COLUMN, ANSWERS_COLUMN = "question", "context", "answers"


def open_conll(path: Path) -> Table:
    """Sentences of a CoNLL-2003 style file: a word a line with its tag in the last column, as given; a blank line
    ends a sentence. Raises DataError for a word without a tag."""
    words, tags = WORDS_COLUMNS[0], TAGS_COLUMNS[0]

    def rows() -> Iterator[tuple[str, Mapping[str, Any]]]:
        first = 0
        sentence: list[tuple[str, str]] = []
        for number, line in numbered_lines(path):
            fields = line.split()
            if not fields or fields[0] == "-DOCSTART-":
                if sentence:
                    yield _sentence(first, sentence)
                sentence = []
            elif len(fields) == 1:
                raise DataError(f"{path}, line {number}: expected a word and its tag, not {fields[0]!r} alone")
            else:
                first = first if sentence else number
                sentence.append((fields[0], fields[-1]))
        if sentence:
            yield _sentence(first, sentence)

    def _sentence(line: int, sentence: list[tuple[str, str]]) -> tuple[str, Mapping[str, Any]]:
        return f"line {line}", {words: [word for word, _ in sentence], tags: [tag for _, tag in sentence]}

    return Table(path.name, (words, tags), rows())


def open_squad(path: Path) -> Table:
    """Questions of a SQuAD 1.1 file with their contexts and answers (Rajpurkar et al. 2016).

    Raises DataError for a file of another form.
    """

    def rows() -> Iterator[tuple[str, Mapping[str, Any]]]:
        place = "the document"
        try:
            document = json.loads("\n".join(line for _, line in numbered_lines(path)))
            for article in document["data"]:
                for paragraph in article["paragraphs"]:
                    for entry in paragraph["qas"]:
                        place = f"question {entry['id']}"
                        answers = {
                            name: [answer[name] for answer in entry["answers"]] for name in ("answer_start", "text")
                        }
                        yield (
                            place,
                            {
                                QUESTION_COLUMN: entry["question"],
                                CONTEXT_COLUMN: paragraph["context"],
                                ANSWERS_COLUMN: answers,
                            },
                        )
        except json.JSONDecodeError as error:
            raise DataError(f"{path}: no JSON: {error}") from None
        except (KeyError, TypeError) as error:
            raise DataError(f"{path}, at or after {place}: not the form of SQuAD 1.1: {error}") from None

    return Table(path.name, (QUESTION_COLUMN, CONTEXT_COLUMN, ANSWERS_COLUMN), rows())
