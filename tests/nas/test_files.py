from __future__ import annotations

from pathlib import Path

import pytest

from ortnas.nas.files import append_line, aside, parse_json, read_lines, write_json


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


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1, "b": {"c": 1, "c": 2}}', "the key 'c' is there twice in one object"),
        ("NaN", "NaN is no number"),
        ("[-Infinity]", "-Infinity is no number"),
        ("1e999", "1e999 is no number"),
        ("[" * 50_000 + "]" * 50_000, "lists or objects are nested too deeply"),
        ('{"a": ', "Expecting value"),
    ],
    ids=["twice", "nan", "infinity", "overflow", "nested", "cut off"],
)
def test_what_is_no_strict_json_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as failure:
        parse_json(text)
    assert len(str(failure.value)) < 100


def test_numbers_that_are_none_are_taken_where_asked_for() -> None:
    assert parse_json('{"a": [NaN, 1.5]}', takes_nan=True)["a"][1] == 1.5
    with pytest.raises(ValueError, match="twice"):
        parse_json('{"a": NaN, "a": 1}', takes_nan=True)
