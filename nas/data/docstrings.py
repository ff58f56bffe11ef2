"""Docstrings of Python sources: those of the standard library, of installed packages, or of a folder."""

from __future__ import annotations

import inspect
import re
import sysconfig
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, distributions
from itertools import chain
from pathlib import Path, PurePath

from ortnas.nas.data.prose import SENTENCE_END, is_prose, prose_paragraphs, prose_sentences

PYTHON_DOCSTRINGS = "python-docstrings"
# Folders that hold tests, or copies of other packages.
_SKIPPED_FOLDERS = {
    "site-packages", "dist-packages", "test", "tests", "idlelib", "ensurepip", "__pycache__", "lib2to3", "_vendor",
    "vendor", "_vendored",
}  # fmt: skip
# A text in quotes that is the first statement after a colon at a line's end, or of the file. Parsing would take ten
# times as long, and would tell apart a few texts in a thousand.
_DOCSTRING = re.compile(
    r"""(?:\A|(?P<colon>:)[ \t]*(?:\#[^\n]*)?\n)(?:[ \t]*(?:\#[^\n]*)?\n)*"""
    r"""[ \t]*[rRuU]?(?:\"\"\"(?P<double>.*?)\"\"\"|'''(?P<single>.*?)'''|"(?P<line>[^"\\\n]+)"[ \t]*\n)""",
    re.DOTALL,
)
_LEAST_BODY_WORDS = 12


def python_files(root: Path | None = None) -> list[Path]:
    """The Python files below a folder, by default of the standard library; tests and bundled packages are left out."""
    root = root or Path(sysconfig.get_path("stdlib"))
    return sorted(path for path in root.rglob("*.py") if is_documented(path.relative_to(root)))


def is_documented(path: PurePath) -> bool:
    """Whether a Python file is none of tests, nor of a copy of another package."""
    return path.suffix == ".py" and _SKIPPED_FOLDERS.isdisjoint(path.parts)


def package_files() -> list[Path]:
    """The Python files of all installed distributions, by the names of the distributions, likewise."""
    paths: dict[Path, None] = {}
    for distribution in installed_distributions():
        for file in sorted(distribution.files or ()):
            if is_documented(file):
                paths[Path(str(distribution.locate_file(file)))] = None
    return list(paths)


def installed_distributions() -> list[Distribution]:
    """What is installed beside the standard library, sorted by name, each name once."""
    named = {distribution.name.lower(): distribution for distribution in distributions() if distribution.name}
    return [named[name] for name in sorted(named)]


def docstrings(paths: Iterable[Path], with_modules: bool = True) -> Iterator[str]:
    """Docstrings in the order of the files and in them, without their indentation; files that cannot be read are
    passed over."""
    for path in paths:
        try:
            source = path.read_text(encoding="utf-8", errors="ignore")
        except OSError:
            continue
        for match in _DOCSTRING.finditer(source):
            if with_modules or match["colon"]:
                yield inspect.cleandoc(match["double"] or match["single"] or match["line"] or "")


def docstring_sentences(root: Path | None = None) -> list[str]:
    """English sentences from the docstrings of the installed Python standard library, sorted, without repeats.

    ``root`` is a folder of Python sources in place of the running interpreter's own.
    """
    return sorted({sentence for text in docstrings(python_files(root)) for sentence in prose_sentences(text)})


def docstring_pairs(root: Path | None = None) -> list[tuple[str, str]]:
    """What functions and classes do, in a sentence, and the prose that says more: (summary, body), in order.

    A summary has 5 to 60 words, a body at least 12, and no text is in two pairs. ``root`` is a folder of Python sources
    in place of the standard library and all installed packages.
    """
    paths = python_files(root) if root else [*python_files(), *package_files()]
    pairs, seen = [], set[str]()
    for text in docstrings(paths, with_modules=False):
        paragraphs = list(prose_paragraphs(text))
        if not paragraphs:
            continue
        summary, *further = SENTENCE_END.split(paragraphs[0])
        body = " ".join(filter(is_prose, chain(further, *map(SENTENCE_END.split, paragraphs[1:]))))
        if is_prose(summary) and len(body.split()) >= _LEAST_BODY_WORDS and seen.isdisjoint((summary, body)):
            seen |= {summary, body}
            pairs.append((summary, body))
    return pairs
