"""Annotated texts: the columns of tagged words, and SQuAD files of questions with answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ortnas.nas.data.lines import numbered_lines
from ortnas.nas.data.tables import Table
from ortnas.nas.failures import DataError
from ortnas.nas.files import parse_json
from ortnas.nas.wording import shown

# Usual columns of such tables, also where they come as JSON Lines or from the hub.
WORDS_COLUMNS, TAGS_COLUMNS = ("tokens", "words"), ("ner_tags", "tags", "labels", "pos_tags")
QUESTION_COLUMN, CONTEXT_COLUMN, ANSWERS_COLUMN = "question", "context", "answers"
# Of SQuAD 2.0: true where the context has no answer.
IMPOSSIBLE_COLUMN = "is_impossible"


def open_squad(path: Path) -> Table:
    """Questions of a SQuAD file with their contexts and answers (Rajpurkar et al. 2016, 2018).

    Of version 2.0, ``is_impossible`` is a column; its plausible answers, which are none, are passed over. Raises
    DataError for a file of another form.
    """

    def rows() -> Iterator[tuple[str, Mapping[str, Any]]]:
        place = "the document"
        try:
            for article in _list(_document(path), "data"):
                for paragraph in _list(article, "paragraphs"):
                    for entry in _list(paragraph, "qas"):
                        place = "question " + shown(entry["id"]).strip("'")
                        yield place, _question(entry, paragraph["context"])
        except (KeyError, TypeError) as error:
            raise DataError(f"{path}, at or after {place}: not the form of SQuAD 1.1 or 2.0: {error}") from None

    return Table(path.name, (QUESTION_COLUMN, CONTEXT_COLUMN, ANSWERS_COLUMN), rows())


def _document(path: Path) -> Any:
    try:
        return parse_json("\n".join(line for _, line in numbered_lines(path)))
    except DataError:
        raise
    except ValueError as error:
        raise DataError(f"{path}: no JSON: {error}") from None


def _list(parent: Any, name: str) -> list[Any]:
    """Raises KeyError or TypeError where the parent has no list of that name."""
    if not isinstance(parent, dict) or not isinstance(parent[name], list):
        raise TypeError(f"{name!r} is no list in an object")
    return list(parent[name])


def _question(entry: Mapping[str, Any], context: Any) -> Mapping[str, Any]:
    answers = _list(entry, "answers")
    record = {
        QUESTION_COLUMN: entry["question"],
        CONTEXT_COLUMN: context,
        ANSWERS_COLUMN: {name: [answer[name] for answer in answers] for name in ("answer_start", "text")},
    }
    return record | {name: entry[name] for name in (IMPOSSIBLE_COLUMN,) if name in entry}
