"""Texts of all installed Python packages: a broader corpus than the standard library's, wherever Python is."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

from ortnas.nas.data.docstrings import (
    PYTHON_DOCSTRINGS,
    docstring_sentences,
    docstrings,
    installed_distributions,
    package_files,
    python_files,
)
from ortnas.nas.data.prose import prose_sentences
from ortnas.nas.files import digest

PYTHON_PACKAGES = "python-packages"


def package_sentences() -> list[str]:
    """English sentences from the docstrings of the standard library and of all installed packages, and from the
    packages' descriptions; sorted, without repeats."""
    texts = (*docstrings(python_files()), *docstrings(package_files()), *_descriptions())
    return sorted({sentence for text in texts for sentence in prose_sentences(text)})


def packages_identity() -> str:
    """Names what is installed, without reading it."""
    installed = [[distribution.name, distribution.version] for distribution in installed_distributions()]
    return digest(sys.version, installed)


def _descriptions() -> Iterator[str]:
    """What distributions say of themselves."""
    for distribution in installed_distributions():
        yield str(distribution.metadata.json.get("description", ""))


# Sources that are there wherever Python is.
PYTHON_TEXTS: dict[str, Callable[[], list[str]]] = {
    PYTHON_DOCSTRINGS: docstring_sentences,
    PYTHON_PACKAGES: package_sentences,
}
