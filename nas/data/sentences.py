"""Plain sentences: lines of text files, and the docstrings of the Python standard library."""

from __future__ import annotations

import ast
import re
import sysconfig
import textwrap
from collections.abc import Iterator
from pathlib import Path

from ortnas.nas.data.lines import numbered_lines
from ortnas.nas.data.tables import Table

PYTHON_DOCSTRINGS = "python-docstrings"
# Directories of the standard library that hold tests or bundled third-party code.
_SKIPPED = {"site-packages", "dist-packages", "test", "tests", "idlelib", "ensurepip", "__pycache__", "lib2to3"}


def docstring_sentences(root: Path | None = None) -> list[str]:
    """English sentences from the docstrings of the installed Python standard library, sorted, without repeats.

    ``root`` is a folder of Python sources; by default the running interpreter's own.
    """
    root = root or Path(sysconfig.get_path("stdlib"))
    sentences: set[str] = set()
    for path in sorted(root.rglob("*.py")):
        if _SKIPPED.isdisjoint(path.relative_to(root).parts):
            try:
                tree = ast.parse(path.read_text(encoding="utf-8", errors="ignore"))
            except (SyntaxError, ValueError):
                continue
            for node in ast.walk(tree):
                if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                    sentences.update(_sentences(ast.get_docstring(node) or ""))
    return sorted(sentences)


def _sentences(text: str) -> Iterator[str]:
    """Prose sentences of 5 to 60 words; code samples, tables and markup are left out."""
    for paragraph in re.split(r"\n\s*\n", textwrap.dedent(text)):
        if ">>>" in paragraph or any(line.startswith((" ", "\t")) for line in paragraph.splitlines()[1:]):
            continue
        for sentence in re.split(r"(?<=[.!?])\s+(?=[A-Z])", " ".join(paragraph.split())):
            letters = sum(character.isalpha() or character == " " for character in sentence)
            if 5 <= len(sentence.split()) <= 60 and letters >= 0.8 * len(sentence):
                yield sentence


def read_sentences(path: Path) -> list[str]:
    """The distinct non-empty lines of a text file or its .gz, in order. Raises DataError where it cannot be read."""
    return list(dict.fromkeys(text for _, line in numbered_lines(path) if (text := line.strip())))


def open_sentences(path: Path) -> Table:
    """The distinct non-empty lines of a text file as a table of one column."""
    rows = ((f"sentence {number}", {"sentence": text}) for number, text in enumerate(read_sentences(path), start=1))
    return Table(path.name, ("sentence",), rows)
