"""Local folders stand for the hub: the same library reads them in the same way."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from ortnas.nas.data import DataError, DataSource, Sizes, add_unlabelled, make_splits, source_identity
from ortnas.nas.text import Example


@pytest.fixture(autouse=True)
def _cache_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()


def test_a_folder_of_json_lines_is_a_dataset(tmp_path: Path) -> None:
    folder = tmp_path / "reviews"
    folder.mkdir()
    for split, count in (("train", 80), ("validation", 7)):
        records = [{"text": f"{split} {row}", "label": row % 3} for row in range(count)]
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, records)))
    splits = make_splits(DataSource(f"hub:{folder}"), "classification", Sizes(10, 20, None), 0)
    assert splits.labels == ("0", "1", "2")
    assert splits.report == [Example(f"validation {row}", None, row % 3) for row in range(7)]
    with pytest.raises(DataError, match="no split 'test'; the splits are train, validation"):
        make_splits(DataSource(f"hub:{folder}", report_file="test"), "classification", Sizes(10, 20, None), 0)


def test_an_edited_folder_is_read_anew_also_with_the_same_size_and_time(tmp_path: Path) -> None:
    folder = tmp_path / "reviews"
    folder.mkdir()
    identities = set()
    for letter in "ab":
        for split in ("train", "validation"):
            records = [{"text": f"{letter} {split} {row}", "label": row % 2} for row in range(80)]
            (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, records)))
            os.utime(folder / f"{split}.jsonl", ns=(10**18, 10**18))
        splits = make_splits(DataSource(f"hub:{folder}"), "classification", Sizes(10, 20, None), 0)
        assert {example.text[0] for part in splits.parts.values() for example in part} == {letter}
        identities.add(source_identity(f"hub:{folder}"))
    assert len(identities) == 2


def save(folder: Path, features: dict[str, object], splits: dict[str, list[dict[str, object]]]) -> str:
    from datasets import Dataset, DatasetDict, Features

    tables = {name: Dataset.from_list(rows, features=Features(features)) for name, rows in splits.items()}
    DatasetDict(tables).save_to_disk(str(folder))
    return f"hub:{folder}"


def test_class_labels_have_the_names_and_the_order_of_the_dataset(tmp_path: Path) -> None:
    from datasets import ClassLabel, Value

    features = {
        "premise": Value("string"),
        "hypothesis": Value("string"),
        "label": ClassLabel(names=["yes", "maybe", "no"]),
    }
    rows = [{"premise": f"p{row}", "hypothesis": f"h{row}", "label": row % 3} for row in range(80)]
    dev = [{"premise": "a", "hypothesis": "b", "label": 2}, {"premise": "c", "hypothesis": "d", "label": -1}]
    source = save(
        tmp_path / "nli", features, {"train": rows, "validation_matched": dev, "validation_mismatched": dev[:1]}
    )
    splits = make_splits(DataSource(source, task="mnli"), "classification", Sizes(10, 20, None), 0)
    assert splits.labels == ("yes", "maybe", "no")
    assert splits.report == splits.parts["report_mismatched"] == [Example("a", "b", 2)]
    assert "validation_matched: 1 row of 2 left out: row 2 has no label in column 'label'" in splits.notes[0]


def test_words_and_spans_come_from_the_hub_too(tmp_path: Path) -> None:
    import datasets
    from datasets import ClassLabel, Value

    # Before version 4 of the library a list was a sequence.
    make_list = datasets.List if hasattr(datasets, "List") else datasets.Sequence
    names = ["O", "B-PER", "I-PER"]
    features = {"tokens": make_list(Value("string")), "ner_tags": make_list(ClassLabel(names=names))}
    rows = [{"tokens": [f"Anna{row}", "x"], "ner_tags": [1, 0]} for row in range(80)]
    source = save(tmp_path / "ner", features, {"train": rows, "test": [{"tokens": ["A"], "ner_tags": [2]}]})
    splits = make_splits(DataSource(source), "token-classification", Sizes(10, 20, None), 0)
    assert splits.labels == tuple(names)
    assert splits.report == [Example("", words=("A",), tags=(2,))]

    answers = {"text": make_list(Value("string")), "answer_start": make_list(Value("int32"))}
    features = {"id": Value("string"), "question": Value("string"), "context": Value("string"), "answers": answers}
    rows = [
        {"id": "i", "question": f"q{row}", "context": f"c {row}", "answers": {"text": [f"{row}"], "answer_start": [2]}}
        for row in range(80)
    ]
    source = save(tmp_path / "squad", features, {"train": rows[1:], "validation": rows[:1]})
    splits = make_splits(DataSource(source, task="squad"), "span", Sizes(10, 20, None), 0)
    assert splits.report == [Example("q0", "c 0", answers=((2, "0"),))]
    assert len(splits.training) == 49
    for row in rows[::2]:
        row["answers"] = {"text": [], "answer_start": []}
    source = save(tmp_path / "squad_v2", features, {"train": rows[1:], "validation": rows[:1]})
    splits = make_splits(DataSource(source, task="squad_v2"), "span", Sizes(10, 20, None), 0)
    assert splits.report == [Example("q0", "c 0", answers=())]
    assert len(splits.training) == 49


def test_what_cannot_be_loaded_gets_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"hub:.*empty: cannot be loaded"):
        make_splits(DataSource(f"hub:{tmp_path / 'empty'}"), "classification", Sizes(10, 20, None), 0)
    with pytest.raises(DataError, match=r"hub:./none: no such folder"):
        make_splits(DataSource("hub:./none"), "classification", Sizes(10, 20, None), 0)


def test_pairs_without_labels_stand_beside_those_with_some(tmp_path: Path) -> None:
    for name, splits in (("own", {"train": 80, "validation": 7}), ("more", {"train": 40})):
        (tmp_path / name).mkdir()
        for split, count in splits.items():
            records = [
                {"premise": f"{name} {split} {row}", "hypothesis": f"other {row}", "label": row % 2}
                for row in range(count)
            ]
            (tmp_path / name / f"{split}.jsonl").write_text("\n".join(map(json.dumps, records)))
    own, more = DataSource(f"hub:{tmp_path / 'own'}"), DataSource(f"hub:{tmp_path / 'more'}")
    splits = make_splits(own, "classification", Sizes(10, 20, None), 0)
    both = add_unlabelled(splits, [own, more], [1, 1], "classification")
    assert both.training[len(splits.training) :] == [Example(f"more train {row}", f"other {row}") for row in range(40)]
    with pytest.raises(DataError, match="no column 'premis'; the columns are premise, hypothesis, label"):
        add_unlabelled(splits, [own, DataSource(more.source, text="premis")], [1, 1], "classification")
