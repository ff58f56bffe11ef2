"""Annotated texts: the columns of tagged words, and SQuAD 1.1 files of questions with answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nas.data.failures import DataError
from nas.data.json_text import parse_json
from nas.data.lines import numbered_lines
from nas.data.tables import Table

# Usual columns of such tables, also where they come as JSON Lines or from the hub.
WORDS_COLUMNS, TAGS_COLUMNS = ("tokens", "words"), ("ner_tags", "tags", "labels", "pos_tags")
QUESTION_COLUMN, CONTEXT_COLUMN, ANSWERS_COLUMN = "question", "context", "answers"


def open_squad(path: Path) -> Table:
    """Questions of a SQuAD 1.1 file with their contexts and answers (Rajpurkar et al. 2016).

    Raises DataError for a file of another form.
    """

    def rows() -> Iterator[tuple[str, Mapping[str, Any]]]:
        place = "the document"
        try:
            document = parse_json("\n".join(line for _, line in numbered_lines(path)), str(path))
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
        except (KeyError, TypeError) as error:
            raise DataError(f"{path}, at or after {place}: not the form of SQuAD 1.1: {error}") from None

    return Table(path.name, (QUESTION_COLUMN, CONTEXT_COLUMN, ANSWERS_COLUMN), rows())
