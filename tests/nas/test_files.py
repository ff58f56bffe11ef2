from __future__ import annotations

from pathlib import Path

import pytest

from ortnas.nas.files import append_line, aside, read_lines, write_json


def test_a_failed_write_leaves_the_old_file_and_no_rubbish(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    write_json(path, {"old": 1})
    before = path.read_bytes()

    def fill_the_disk() -> None:
        with aside(path) as temporary:
            temporary.write_text("half")
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        fill_the_disk()
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_lines_survive_a_torn_one(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    append_line(path, {"n": 1})
    with path.open("ab") as stream:
        stream.write(b'{"n": 2, "torn')
    append_line(path, {"n": 3})
    assert read_lines(path) == [{"n": 1}, {"n": 3}]
    assert read_lines(tmp_path / "none") == []
