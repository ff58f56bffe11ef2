"""Plain sentences: the lines of text files."""

from __future__ import annotations

from pathlib import Path

from ortnas.nas.data.lines import numbered_lines
from ortnas.nas.data.tables import Table


def read_sentences(path: Path) -> list[str]:
    """The distinct non-empty lines of a text file or its .gz, in order. Raises DataError where it cannot be read."""
    return list(dict.fromkeys(text for _, line in numbered_lines(path) if (text := line.strip())))


def open_sentences(path: Path) -> Table:
    """The distinct non-empty lines of a text file as a table of one column."""
    rows = ((f"sentence {number}", {"sentence": text}) for number, text in enumerate(read_sentences(path), start=1))
    return Table(path.name, ("sentence",), rows)
