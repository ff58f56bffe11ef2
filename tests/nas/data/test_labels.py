from __future__ import annotations

import json
from pathlib import Path

import pytest

from ortnas.nas.data import DataError, DataSource, Sizes, Splits, make_splits


def splits_of(folder: Path, labels: list[object], dev: list[object] | None = None) -> Splits:
    """Texts with these labels in turn, as JSON Lines."""
    for name, values, count in (("train", labels, 120), ("dev", dev or labels, 2 * len(dev or labels))):
        rows = [{"text": f"{name} {row}", "label": values[row % len(values)]} for row in range(count)]
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return make_splits(DataSource(str(folder)), "classification", Sizes(8, 16), 0)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (list(range(11)), [str(number) for number in range(11)]),
        (["10", "9", "-1"], ["-1", "9", "10"]),
        (["10.0", "9.0", "1.5"], ["1.5", "9.0", "10.0"]),
        ([f"LABEL_{number}" for number in range(12)], [f"LABEL_{number}" for number in range(12)]),
        (["class 2", "class 10"], ["class 2", "class 10"]),
        (["b10", "a2", "a10"], ["a10", "a2", "b10"]),
        ([False, True], ["False", "True"]),
        (["no", "2", "10"], ["10", "2", "no"]),
    ],
)
def test_classes_that_are_numbered_are_in_the_order_of_their_numbers(
    tmp_path: Path, labels: list[object], expected: list[str]
) -> None:
    splits = splits_of(tmp_path, labels)
    assert splits.labels == tuple(expected)
    assert splits.notes == ()
    first = splits.report[: len(labels)]
    assert [splits.labels[int(example.label or 0)] for example in first] == [str(label) for label in labels]


@pytest.mark.parametrize(
    ("labels", "expected", "note"),
    [
        ([0, "1", "0.0", 1.0], ("0", "1"), "'0.0' is taken as '0', '1.0' is taken as '1'"),
        (["1.50", 1.5, "+2"], ("1.5", "2"), "'1.50' is taken as '1.5'"),
        (["true", True, "FALSE", "false"], ("False", "True"), "'FALSE' is taken as 'False'"),
        (["01", 1, "other"], ("1", "other"), "'01' is taken as '1'"),
    ],
)
def test_equal_labels_are_one_class_with_a_note(
    tmp_path: Path, labels: list[object], expected: tuple[str, ...], note: str
) -> None:
    splits = splits_of(tmp_path, labels)
    assert splits.labels == expected
    assert note in splits.notes[0]


def test_the_dev_sets_spelling_counts_too(tmp_path: Path) -> None:
    splits = splits_of(tmp_path, [0, 1], ["1.0", "0.0"])
    assert splits.labels == ("0", "1")
    assert [example.label for example in splits.report] == [1, 0, 1, 0]


def test_truth_values_among_numbers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"mix truth values and numbers \(True, 0, 1\)"):
        splits_of(tmp_path, [True, 0, 1])


def test_tags_that_are_integers_are_in_numeric_order_and_o_is_first(tmp_path: Path) -> None:
    for names, expected in (
        (list(range(12)), tuple(map(str, range(12)))),
        (["X10", "X9", "O"], ("O", "X9", "X10")),
    ):
        for name, count in (("train", 120), ("dev", 20)):
            rows = [
                {"tokens": [f"{name}{row}", "b"], "ner_tags": [names[row % len(names)]] * 2} for row in range(count)
            ]
            (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
        assert make_splits(DataSource(str(tmp_path)), "token-classification", Sizes(8, 16), 0).labels == expected


def test_long_lists_of_labels_are_cut(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"and 94 more; training has 'a', 'b'$") as failure:
        splits_of(tmp_path, ["a", "b"], [f"unknown {'x' * 500} {number}" for number in range(100)])
    assert len(str(failure.value)) < 1000
