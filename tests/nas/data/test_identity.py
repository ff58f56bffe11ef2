from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ortnas.nas.data import DataError, source_identity


def edited(path: Path) -> None:
    facts = path.stat()
    path.write_text("two")
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))


CHANGES: dict[str, Callable[[Path], object]] = {
    "an edit of the same size and time": lambda folder: edited(folder / "train.txt"),
    "an edit in a linked folder": lambda folder: edited(folder / "linked" / "more.txt"),
    "another name": lambda folder: (folder / "train.txt").rename(folder / "dev.txt"),
    "one more file": lambda folder: (folder / "dev.txt").write_text(""),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("prefix", ["", "hub:"])
def test_the_identity_follows_the_content(tmp_path: Path, change: str, prefix: str) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (tmp_path / "elsewhere").mkdir()
    for path in (folder / "train.txt", tmp_path / "elsewhere" / "more.txt"):
        path.write_text("one")
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    before = source_identity(f"{prefix}{folder}")
    assert source_identity(f"{prefix}{folder}") == before
    os.utime(folder / "train.txt", ns=(1, 1))
    assert source_identity(f"{prefix}{folder}") == before, "copied or touched, it is the same"
    CHANGES[change](folder)
    assert source_identity(f"{prefix}{folder}") != before


def test_names_of_the_hub_are_their_own_identity_and_what_is_missing_is_refused(tmp_path: Path) -> None:
    assert source_identity("hub:imdb") == "hub:imdb"
    assert source_identity("python-docstrings") == "python-docstrings"
    for name in ("", "hub:"):
        with pytest.raises(DataError, match="no such"):
            source_identity(f"{name}{tmp_path / 'none'}")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="is a pipe"):
        source_identity(str(tmp_path / "pipe"))
