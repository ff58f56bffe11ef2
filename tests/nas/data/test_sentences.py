from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from ortnas.nas.data import DataError, read_sentences


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
