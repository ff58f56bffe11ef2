"""Several labels a text, in every form in which people write them."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from ortnas.nas.data import (
    Asked,
    DataError,
    DataSource,
    Sizes,
    Splits,
    guess_source,
    make_splits,
    read_splits,
    write_splits,
)
from ortnas.nas.run.configuration import ConfigurationError, check_configuration, read_configuration
from ortnas.nas.run.starter import write_starter

SIZES = Sizes(calibration=4, search=8)
NAMES = ("anger", "joy", "love")


def label_set(number: int) -> list[str]:
    return [name for place, name in enumerate(NAMES) if number >> place & 1]


def write_json(folder: Path, values: Any = label_set, dev: Any = label_set) -> None:
    for name, n, value_of in (("train", 64, values), ("dev", 16, dev)):
        rows = [json.dumps({"text": f"{name} number {row}", "labels": value_of(row)}) for row in range(n)]
        (folder / f"{name}.jsonl").write_text("\n".join(rows))


def write_csv(folder: Path, header: list[str], value_of: Any) -> None:
    for name, n in (("train", 64), ("dev", 16)):
        with (folder / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([header, *([f"{name} number {row}", *value_of(row)] for row in range(n))])


def sets_of(splits: Splits) -> list[list[str]]:
    """Label names of the dev set's texts, in the order of their numbers."""
    report = sorted(splits.report, key=lambda example: int(example.text.rpartition(" ")[2]))
    return [[splits.labels[number] for number in example.classes or ()] for example in report]


EXPECTED = [label_set(row) for row in range(16)]


def test_lists_and_lists_written_as_text_and_separated_texts_say_the_same(tmp_path: Path) -> None:
    write_json(tmp_path)
    by_list = make_splits(DataSource(str(tmp_path)), "multi-label", SIZES, seed=0)
    assert by_list.labels == NAMES
    assert sets_of(by_list) == EXPECTED
    # A text without a label is a text that has none of them.
    assert [] in EXPECTED
    written = [
        (lambda row: [repr(label_set(row))], ","),
        (lambda row: [json.dumps(label_set(row))], ","),
        (lambda row: [",".join(label_set(row))], ","),
        (lambda row: [" | ".join(label_set(row))], "|"),
    ]
    for number, (value_of, separator) in enumerate(written):
        folder = tmp_path / str(number)
        folder.mkdir()
        write_csv(folder, ["text", "labels"], value_of)
        source = DataSource(str(folder), separator=separator)
        assert sets_of(make_splits(source, "multi-label", SIZES, seed=0)) == EXPECTED


@pytest.mark.parametrize("yes", ["1", "1.0", "True"])
def test_columns_of_zeros_and_ones_are_labels_in_their_order(tmp_path: Path, yes: str) -> None:
    columns = ("love", "anger", "joy")

    def flags(row: int) -> list[str]:
        return [yes if name in label_set(row) else "0" for name in columns]

    write_csv(tmp_path, ["comment", *columns], flags)
    source = DataSource(str(tmp_path), text="comment", label=columns)
    splits = make_splits(source, "multi-label", SIZES, seed=0)
    assert splits.labels == columns
    assert [sorted(names) for names in sets_of(splits)] == EXPECTED


def test_splits_are_kept_and_every_part_has_the_rare_labels(tmp_path: Path) -> None:
    def value_of(row: int) -> list[str]:
        return ["common", "rare"] if row % 8 == 0 else ["common"]

    write_json(tmp_path, value_of, value_of)
    splits = make_splits(DataSource(str(tmp_path)), "multi-label", Sizes(8, 16), seed=3)
    rare = splits.labels.index("rare")
    counts = {name: Counter(rare in (example.classes or ()) for example in part) for name, part in splits.parts.items()}
    assert {name: count[True] for name, count in counts.items() if name != "report"} == {
        "training": 5,
        "calibration": 1,
        "search": 2,
    }
    write_splits(splits, tmp_path / "kept")
    again = read_splits(tmp_path / "kept")
    assert (again.digest, again.parts) == (splits.digest, splits.parts)


def test_a_label_that_is_named_twice_counts_once_and_is_told_of(tmp_path: Path) -> None:
    write_json(tmp_path, lambda row: ["joy", "joy"] if row == 5 else label_set(row))
    splits = make_splits(DataSource(str(tmp_path)), "multi-label", SIZES, seed=0)
    assert "1 of 64 rows name a label more than once, which counts once" in splits.notes
    examples = [example for part in splits.parts.values() for example in part if example.text == "train number 5"]
    assert [example.classes for example in examples] == [(1,)]


@pytest.mark.parametrize(
    ("values", "dev", "message"),
    [
        (label_set, lambda row: ["hate"], "report: the dev set has labels that training lacks: 'hate'"),
        (lambda row: [], lambda row: [], "training has no text with a label"),
        (lambda row: {"joy": 1}, label_set, r"column 'labels' holds .*joy.*, and a list of labels is needed"),
        (lambda row: [["joy"]], label_set, "column 'labels' holds .* as a label"),
        (lambda row: ["joy", ""], label_set, "train.jsonl: .* rows"),
        (lambda row: None, label_set, "has nothing in column 'labels'"),
    ],
)
def test_bad_label_lists_are_refused(tmp_path: Path, values: Any, dev: Any, message: str) -> None:
    write_json(tmp_path, values, dev)
    with pytest.raises(DataError, match=message):
        make_splits(DataSource(str(tmp_path)), "multi-label", SIZES, seed=0)


def test_columns_that_hold_no_flags_or_are_missing_are_refused(tmp_path: Path) -> None:
    write_csv(tmp_path, ["text", "joy", "love"], lambda row: ["1", "-1" if row == 7 else "0"])
    with pytest.raises(DataError, match=r"train.csv, line 9: column 'love' holds '-1', which says neither 0 nor 1"):
        make_splits(DataSource(str(tmp_path), label=("joy", "love")), "multi-label", SIZES, seed=0)
    with pytest.raises(DataError, match=r"no column 'hate', which data.label names; the columns are text, joy"):
        make_splits(DataSource(str(tmp_path), label=("joy", "hate")), "multi-label", SIZES, seed=0)
    with pytest.raises(DataError, match="classification has one column of labels"):
        make_splits(DataSource(str(tmp_path), label=("joy", "love")), "classification", SIZES, seed=0)


def test_lists_given_to_a_head_of_one_label_name_the_head_that_takes_them(tmp_path: Path) -> None:
    write_json(tmp_path)
    with pytest.raises(DataError, match="use head: multi-label, which takes several labels"):
        make_splits(DataSource(str(tmp_path)), "classification", SIZES, seed=0)


def jigsaw(row: int) -> list[str]:
    return [str(row % 2), str(row % 3 // 2), "0"]


@pytest.mark.parametrize(
    ("header", "value_of", "asked", "columns"),
    [
        (["text", "labels"], lambda row: [repr(label_set(row))], Asked(), {"text": "text", "label": "labels"}),
        (["text", "labels"], lambda row: ["2,27" if row % 5 == 0 else str(row % 28)], Asked(), {"label": "labels"}),
        (["text", "labels"], lambda row: ["|".join(label_set(row))], Asked(), {"label": "labels", "separator": "|"}),
        (["comment_text", "toxic", "obscene", "threat"], jigsaw, Asked(), {"label": ["toxic", "obscene", "threat"]}),
        (["text", "toxic"], lambda row: [str(row % 2)], Asked(head="multi-label"), {"label": "toxic"}),
    ],
)
def test_several_labels_a_text_are_recognised(
    tmp_path: Path, header: list[str], value_of: Any, asked: Asked, columns: dict[str, Any]
) -> None:
    write_csv(tmp_path, header, value_of)
    guess = guess_source(str(tmp_path), asked)
    assert guess.head == "multi-label"
    assert {"text": header[0]} | columns == dict(guess.columns)
    assert guess.assumed
    path = tmp_path / "run.yaml"
    write_starter(path, "x", str(tmp_path), asked, ("2x",), force=False)
    data = read_configuration(path, {}).data
    label = tuple(data.label) if isinstance(data.label, tuple) else data.label
    assert (data.text, label) == (header[0], tuple(columns["label"]) if label != columns["label"] else label)
    assert data.separator == columns.get("separator", ",")


@pytest.mark.parametrize(
    ("header", "value_of"),
    [
        (["text", "label"], lambda row: [str(row % 3)]),
        (["text", "label"], lambda row: [f"a, b number {row} of them, and c"]),
        (["text", "label", "is_long"], lambda row: ["yes" if row % 2 else "no", str(row % 2)]),
    ],
)
def test_one_label_a_text_is_no_list(tmp_path: Path, header: list[str], value_of: Any) -> None:
    write_csv(tmp_path, header, value_of)
    assert guess_source(str(tmp_path), Asked(text="text", label="label")).head == "classification"


def test_a_list_of_columns_fits_the_head_or_is_refused() -> None:
    document: dict[str, Any] = {"checkpoint": "x", "folder": "r", "data": {"source": "d", "label": ["a", "b"]}}
    assert check_configuration(document | {"head": "multi-label"}, "run.yaml").data.label == ("a", "b")
    with pytest.raises(ConfigurationError, match="several columns are for head 'multi-label', not 'classification'"):
        check_configuration(document | {"head": "classification"}, "run.yaml")
    for label, message in (([], "has 0 columns"), (["a", "a"], "'a' is named twice"), (5, "data.label = 5")):
        with pytest.raises(ConfigurationError, match=message):
            check_configuration(document | {"head": "multi-label", "data": {"source": "d", "label": label}}, "run.yaml")
