from __future__ import annotations

from pathlib import Path

import pytest

from nas.data import (
    DataError,
    Splits,
    docstring_sentences,
    read_sentences,
    read_splits,
    read_table,
    split_corpus,
    split_task,
    write_splits,
)
from nas.text import Example

SIZES = {"calibration": 10, "search": 20, "report": 30}


def texts_of(splits: Splits) -> list[set[str]]:
    parts = (splits.training, splits.calibration, splits.search, splits.report)
    return [{example.text for example in part} for part in parts]


def assert_disjoint(splits: Splits) -> None:
    parts = texts_of(splits)
    assert sum(map(len, parts)) == len(set().union(*parts))


def test_corpus_parts_are_disjoint_complete_and_fixed_by_seed() -> None:
    sentences = [f"sentence number {number}" for number in range(200)]
    splits = split_corpus(sentences, SIZES, seed=1)
    assert_disjoint(splits)
    assert [len(part) for part in texts_of(splits)] == [140, 10, 20, 30]
    assert splits == split_corpus(sentences, SIZES, seed=1)
    assert splits.digest != split_corpus(sentences, SIZES, seed=2).digest


@pytest.mark.parametrize("count", [0, 1, 91])
def test_a_corpus_too_small_says_what_is_needed(count: int) -> None:
    with pytest.raises(DataError, match=f"the corpus has {count} distinct sentences; 60 are set aside"):
        split_corpus([str(number) for number in range(count)], SIZES, 0)


def test_task_parts_are_disjoint_and_stratified() -> None:
    training = [(Example(f"text {number}"), "yes" if number % 4 else "no") for number in range(400)]
    training += [(Example("text 1"), "yes"), (Example("dev 3"), "no")]
    report = [(Example(f"dev {number}"), "no") for number in range(10)]
    splits = split_task(training, report, SIZES, seed=0)
    assert_disjoint(splits)
    assert splits.labels == ("no", "yes")
    assert len(splits.report) == 10
    assert len(splits.search) == 20
    assert sum(example.label == 0 for example in splits.search) == 5


def test_task_errors_name_the_labels() -> None:
    training = [(Example(f"text {number}"), "ab"[number % 2]) for number in range(200)]
    with pytest.raises(DataError, match=r"labels that training lacks: \['c'\]"):
        split_task(training, [(Example("dev"), "c")], SIZES, 0)
    with pytest.raises(DataError, match="one label only"):
        split_task([(Example("x"), "a")], [(Example("dev"), "a")], SIZES, 0)
    with pytest.raises(DataError, match="40 distinct rows"):
        split_task(training[:40], [(Example("dev"), "a")], SIZES, 0)


def test_tables_are_read_without_quoting(tmp_path: Path) -> None:
    path = tmp_path / "train.tsv"
    path.write_text('sentence\tlabel\nan "open quote\t1\n  \t0\nplain\t0\n')
    assert read_table(path, "sentence", "label") == [(Example('an "open quote'), "1"), (Example("plain"), "0")]


def test_csv_and_pairs(tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    path.write_text('a,b,y\n"one, two",three,p\n')
    assert read_table(path, "a", "y", "b") == [(Example("one, two", "three"), "p")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("sentence\tlabel\na\tb\tc\n", "line 2: 3 fields where the header has 2"),
        ("text\tlabel\na\t1\n", "no column 'sentence'; the columns are text, label"),
        ("", "no column 'sentence', 'label'; the columns are none"),
        ("sentence\tlabel\n", "no rows with text"),
    ],
)
def test_broken_tables_get_a_sentence(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "train.tsv"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        read_table(path, "sentence", "label")


def test_missing_and_binary_files_get_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_sentences(tmp_path / "none.txt")
    with pytest.raises(DataError, match="no such file"):
        read_table(tmp_path / "none.tsv", "a", "b")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="UTF-8"):
        read_sentences(tmp_path / "binary.txt")


def test_sentences_are_distinct_and_stripped(tmp_path: Path) -> None:
    path = tmp_path / "corpus.txt"
    path.write_text("one \n\n two\none\n")
    assert read_sentences(path) == ["one", "two"]


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


def test_recorded_splits_round_trip_and_notice_changes(tmp_path: Path) -> None:
    splits = split_corpus([f"sentence ä {number}" for number in range(120)], SIZES, 0)
    write_splits(splits, tmp_path)
    assert read_splits(tmp_path) == splits
    lines = (tmp_path / "search.jsonl").read_text().splitlines()
    (tmp_path / "search.jsonl").write_text("\n".join(lines[:-1]))
    with pytest.raises(DataError, match="were changed"):
        read_splits(tmp_path)
    (tmp_path / "search.jsonl").unlink()
    with pytest.raises(DataError, match="cannot be read"):
        read_splits(tmp_path)
