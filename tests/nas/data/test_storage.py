from __future__ import annotations

import json
from pathlib import Path

import pytest

from ortnas.nas.data import DataError, Splits, read_splits, write_splits
from ortnas.nas.text import Example

EXAMPLES = {
    "plain": [Example("sentence \u00e4 1"), Example("two\nlines")],
    "classes": [Example("a", None, 1), Example("b", None, 0)],
    "pairs": [Example("a", "b", 2), Example("c", "", 0)],
    "values": [Example("a", "b", 2.5), Example("c", "d", 0.0)],
    "tags": [Example("", words=("Ulm", "lies"), tags=(3, 0)), Example("", words=("x",), tags=(0,))],
    "unanswerable": [Example("q", "context", answers=()), Example("r", "other", answers=((1, "t"),))],
    "spans": [Example("q", "context", answers=((0, "con"), (3, "text"))), Example("r", "other", answers=((1, "t"),))],
}


@pytest.mark.parametrize("kind", EXAMPLES)
def test_splits_of_every_kind_round_trip(tmp_path: Path, kind: str) -> None:
    examples = EXAMPLES[kind]
    parts = {
        "training": examples,
        "calibration": examples[:1],
        "search": examples[1:],
        "report": [],
        "report_other": examples,
    }
    splits = Splits(parts, ("x", "y", "z"), ("a note",))
    write_splits(splits, tmp_path / "data")
    read = read_splits(tmp_path / "data")
    assert read == splits
    assert read.digest == splits.digest
    assert list(read.parts) == list(parts)
    assert [type(example.label) for example in read.training] == [type(example.label) for example in examples]


def test_writing_again_replaces_all_parts_and_leaves_other_files(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text("{}")
    write_splits(Splits({"training": [Example("a")], "report_other": [Example("b")]}), tmp_path)
    write_splits(Splits({"training": [Example("c")]}), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.json", "splits.json", "training.arrow"]
    assert read_splits(tmp_path).training == [Example("c")]


def test_damage_is_noticed_and_says_what_to_do(tmp_path: Path) -> None:
    splits = Splits({"training": [Example(f"text {row}") for row in range(50)], "search": [Example("other")]})
    with pytest.raises(DataError, match=r"cannot be read.*remove the folder to make them anew"):
        read_splits(tmp_path / "none")
    write_splits(splits, tmp_path / "data")
    part, index = tmp_path / "data" / "training.arrow", tmp_path / "data" / "splits.json"
    content = part.read_bytes()
    part.write_bytes(content.replace(b"text 1", b"next 1", 1))
    with pytest.raises(DataError, match="were changed; remove the folder to make them anew"):
        read_splits(tmp_path / "data")
    for damaged in (content[: len(content) // 2], b"", b"no arrow at all"):
        part.write_bytes(damaged)
        with pytest.raises(DataError, match="remove the folder to make them anew"):
            read_splits(tmp_path / "data")
    part.write_bytes(content)
    assert read_splits(tmp_path / "data") == splits
    index.write_text(json.dumps(json.loads(index.read_text()) | {"labels": ["new"]}))
    with pytest.raises(DataError, match="were changed"):
        read_splits(tmp_path / "data")
    index.write_text(json.dumps(json.loads(index.read_text()) | {"format": 99}))
    with pytest.raises(DataError, match="of another version"):
        read_splits(tmp_path / "data")
    index.write_text("{")
    with pytest.raises(DataError, match="cannot be read"):
        read_splits(tmp_path / "data")


def test_parts_of_several_batches_round_trip(tmp_path: Path) -> None:
    splits = Splits({"training": [Example(f"sentence {row}", f"{row}", row % 3) for row in range(9_000)]})
    write_splits(splits, tmp_path)
    assert read_splits(tmp_path) == splits
