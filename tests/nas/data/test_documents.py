from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from ortnas.nas.data import DataError
from ortnas.nas.data.documents import documents


def test_blank_lines_part_the_documents_of_one_file(tmp_path: Path) -> None:
    path = tmp_path / "books.txt"
    path.write_text("\n\none\n two \n\n \n\nthree\n\nfour")
    expected = [(0, "one"), (0, "two"), (1, "three"), (2, "four")]
    assert list(documents(path)) == expected
    (tmp_path / "books.gz").write_bytes(gzip.compress(path.read_bytes()))
    assert list(documents(tmp_path / "books.gz")) == expected


def test_every_file_of_a_folder_is_a_document(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "1.txt").write_text("one\n\ntwo\n")
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"zero\n"))
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "read.me").write_text("no text of the corpus")
    (tmp_path / "c.jsonl").write_text('{"text": "three"}\n{"text": "four"}\n')
    expected = [(0, "zero"), (1, "one"), (1, "two"), (2, "three"), (3, "four")]
    assert list(documents(tmp_path)) == expected


def test_every_json_line_is_a_document(tmp_path: Path) -> None:
    path = tmp_path / "wiki.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"body": "one\\n\\n two", "id": 1}\n{"body": "three"}\n'))
    assert list(documents(path, "body")) == [(0, "one"), (0, "two"), (1, "three")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"text": "x"}\n{"title": "y", "url": 1}\n', "line 2: no field 'text'; the fields are title, url"),
        ("a.jsonl", b'{"text": 5}\n', "line 1: field 'text' holds int, not text"),
        ("a.jsonl", b'{"text": "x"}\n{"te', r"a.jsonl, line 2: no JSON"),
        ("a.txt", b"x\n\xff\n", r"a.txt, line 2: not UTF-8 text; convert the file to UTF-8"),
        ("a.txt.gz", b"x\n", r"a.txt.gz: cannot be read: Not a gzipped file"),
    ],
)
def test_broken_files_get_a_sentence(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    for source in (tmp_path / name, tmp_path):
        with pytest.raises(DataError, match=message):
            list(documents(source))


def test_missing_files_get_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none.txt: no such file or folder"):
        list(documents(tmp_path / "none.txt"))
    with pytest.raises(DataError, match=r"holds no .txt or .jsonl files"):
        list(documents(tmp_path))


def test_the_position_counts_bytes_on_the_disk(tmp_path: Path) -> None:
    for name in ("a.txt.gz", "b.txt.gz"):
        (tmp_path / name).write_bytes(gzip.compress(b"".join(b"line %d\n" % row for row in range(5000))))
    total = sum(path.stat().st_size for path in tmp_path.iterdir())
    seen: list[int] = []
    list(documents(tmp_path, position=seen.append))
    assert len(seen) == 10
    assert seen == sorted(seen)
    assert seen[-1] == total
    assert seen[4] == (tmp_path / "a.txt.gz").stat().st_size


def test_links_to_folders_are_followed_once(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.txt").write_text("one\n")
    folder = tmp_path / "books"
    folder.mkdir()
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "again").symlink_to(folder)
    assert list(documents(folder)) == [(0, "one")]


def test_a_file_beside_its_own_gz_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n")
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"one\n"))
    with pytest.raises(DataError, match=r"a.txt is there as .gz too"):
        list(documents(tmp_path))


def test_half_characters_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n{"text": "\\ud800"}\n')
    with pytest.raises(DataError, match=r"a.jsonl, line 2: field 'text' holds half a character"):
        list(documents(tmp_path))
