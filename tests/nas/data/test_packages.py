from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ortnas.nas.data import docstring_sentences, package_sentences, source_identity


def install(folder: Path, name: str, version: str, module: str, description: str) -> None:
    """As an installer leaves a distribution behind."""
    (folder / name).mkdir(parents=True)
    (folder / name / "__init__.py").write_text(module)
    (folder / name / "tests").mkdir()
    (folder / name / "tests" / "test_it.py").write_text('"""A sentence of the tests that nobody should ever see."""')
    about = folder / f"{name}-{version}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\n{description}\n")
    (about / "RECORD").write_text(f"{name}/__init__.py,,\n{name}/tests/test_it.py,,\n{name}/gone.py,,\n")


def test_installed_packages_give_docstrings_and_descriptions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "b", "1.0", '"""It counts the stars of the sky."""\n', "# b\n\nA package that counts many stars.")
    install(tmp_path, "a", "1.0", '"""It counts the stars of the sky."""\n', "Another package that counts nothing.")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert set(package_sentences()) - set(docstring_sentences()) == {
        "A package that counts many stars.",
        "Another package that counts nothing.",
        "It counts the stars of the sky.",
    }
    before = source_identity("python-packages")
    assert source_identity("python-packages") == before
    install(tmp_path, "c", "1.0", "", "")
    assert source_identity("python-packages") != before


@pytest.mark.slow
def test_what_is_installed_here_is_broader_than_the_standard_library() -> None:
    sentences = package_sentences()
    assert sentences == sorted(set(sentences))
    assert set(docstring_sentences()) < set(sentences)
    assert len(sentences) > 50_000
