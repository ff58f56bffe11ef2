from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from ortnas.nas.data import DataError, docstring_sentences, read_sentences


def test_sentences_are_distinct_and_stripped(tmp_path: Path) -> None:
    (tmp_path / "corpus.txt").write_bytes(b"\xef\xbb\xbfone \n\n two\none\n")
    assert read_sentences(tmp_path / "corpus.txt") == ["one", "two"]
    (tmp_path / "corpus.txt.gz").write_bytes(gzip.compress("\u00e4\nb\n".encode()))
    assert read_sentences(tmp_path / "corpus.txt.gz") == ["\u00e4", "b"]


def test_missing_and_binary_files_get_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_sentences(tmp_path / "none.txt")
    (tmp_path / "binary.txt").write_bytes(b"text\n\xff\xfe\x00")
    with pytest.raises(DataError, match=r"binary.txt, line 2: not UTF-8 text"):
        read_sentences(tmp_path / "binary.txt")


def test_docstrings_give_prose_and_leave_code_out(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text(
        '"""Opens a file and returns its lines. It raises an error where there is none.\n\n'
        '>>> open_file("x") this is code and not a sentence\n\n"""\n'
        'def f():\n    """Too short."""\n'
    )
    (tmp_path / "broken.py").write_text("def (")
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "skipped.py").write_text('"""A sentence of the tests that nobody should ever see."""')
    assert docstring_sentences(tmp_path) == [
        "It raises an error where there is none.",
        "Opens a file and returns its lines.",
    ]
