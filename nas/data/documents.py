"""Documents of a corpus, streamed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from ortnas.nas.data.lines import check_regular, files_below, kind_of, numbered_lines
from ortnas.nas.data.tables import json_lines
from ortnas.nas.failures import DataError
from ortnas.nas.wording import listed

CORPUS_KINDS = ("txt", "jsonl")

Texts = Iterator[tuple[int, str]]


def corpus_files(source: Path) -> list[Path]:
    """The file, or all text and JSON Lines files below the folder, sorted.

    Raises DataError where there is none, where one is no regular file, and where one is there plain and as .gz too.
    """
    if not source.is_dir():
        if not source.exists():
            raise DataError(f"{source}: no such file or folder")
        check_regular(source)
        return [source]
    files = [path for path in files_below(source) if kind_of(path) in CORPUS_KINDS]
    if not files:
        raise DataError(f"{source}: the folder holds no .txt or .jsonl files, plain or .gz")
    for path in files:
        check_regular(path)
        if path.suffix != ".gz" and path.with_name(f"{path.name}.gz") in files:
            raise DataError(f"{path} is there as .gz too, and a corpus is all files of its folder; remove one of them")
    return files


def documents(source: Path, text_field: str = "text", position: Callable[[int], None] | None = None) -> Texts:
    """Non-empty lines of a corpus, each with the number of its document from 0.

    A line of JSON Lines is a document, and so is a text file of a folder; in a single text file blank lines part
    documents. ``position`` is told now and then how many bytes of all files have been read. Raises DataError for files
    that are missing or cannot be read and for JSON lines without text.
    """
    number, finished = 0, 0
    for path in corpus_files(source):
        before = finished
        report = None if position is None else lambda done, before=before: position(before + done)
        if kind_of(path) == "jsonl":
            texts = _json_documents(path, text_field, report)
        else:
            texts = _text_documents(path, not source.is_dir(), report)
        last = number - 1
        for inside, text in texts:
            last = number + inside
            yield last, text
        number = last + 1
        finished += path.stat().st_size


def _text_documents(path: Path, blank_parts: bool, position: Callable[[int], None] | None) -> Texts:
    document, ended = -1, True
    for _, line in numbered_lines(path, position):
        if text := line.strip():
            document += ended
            ended = False
            yield document, text
        else:
            ended = ended or blank_parts


def _json_documents(path: Path, text_field: str, position: Callable[[int], None] | None) -> Texts:
    for document, (number, record) in enumerate(json_lines(path, position)):
        if text_field not in record:
            fields = listed(record) or "none"
            raise DataError(
                f"{path}, line {number}: no field {text_field!r}; the fields are {fields}. "
                f"Name the right one as data.text"
            )
        text = record[text_field]
        if not isinstance(text, str):
            raise DataError(f"{path}, line {number}: field {text_field!r} holds {type(text).__name__}, not text")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise DataError(f"{path}, line {number}: field {text_field!r} holds half a character") from None
        for line in text.splitlines():
            if line.strip():
                yield document, line.strip()
