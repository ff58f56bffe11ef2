from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from ortnas.nas.data import DataError, DataSource, Sizes, Splits, add_unlabelled, make_splits, read_splits, write_splits

SIZES = Sizes(calibration=8, search=8)
WORDS = ("alpha", "beta", "gamma")


def write_task(folder: Path, columns: str = "sentence\tlabel", pairs: bool = False) -> DataSource:
    for name, count in (("train", 60), ("dev", 20)):
        texts = [f"{name} text {number}" + (f"\tother {number}" if pairs else "") for number in range(count)]
        rows = [f"{text}\t{'ab'[number % 2]}" for number, text in enumerate(texts)]
        (folder / f"{name}.tsv").write_text("\n".join([columns, *rows]) + "\n")
    return DataSource(str(folder))


def write_texts(path: Path, texts: Sequence[str]) -> DataSource:
    path.write_text("".join(f"{text}\n" for text in texts))
    return DataSource(str(path))


def mixed(own: DataSource, *others: DataSource, head: str = "classification") -> Splits:
    weights = [1.0] * (1 + len(others))
    return add_unlabelled(make_splits(own, head, SIZES, seed=0), [own, *others], weights, head)


def test_texts_without_labels_come_behind_the_others_and_are_in_no_other_part(tmp_path: Path) -> None:
    own = write_task(tmp_path)
    fresh = [f"unlabelled {number}" for number in range(40)]
    others = write_texts(tmp_path / "more.txt", [*fresh, "dev text 3", "train text 5", fresh[0]])
    splits, plain = mixed(own, others), make_splits(own, "classification", SIZES, seed=0)
    count = len(plain.training)
    assert splits.training[:count] == plain.training
    assert [example.text for example in splits.training[count:]] == fresh
    assert not any(example.has_target for example in splits.training[count:])
    assert {name: part for name, part in splits.parts.items() if name != "training"} == {
        name: part for name, part in plain.parts.items() if name != "training"
    }
    assert splits.notes == ("more.txt: 2 of 42 texts repeat others or are in another part, and are left out",)
    assert splits.mixture is not None
    assert splits.mixture.names == (tmp_path.name, "more.txt")
    assert splits.mixture.counts == [count, 40]
    assert splits.mixture.report_parts == ()
    assert splits.digest != plain.digest


@pytest.mark.parametrize("head", ["classification", "multi-label", "regression"])
def test_what_lacks_labels_is_read_back_as_it_was(tmp_path: Path, head: str) -> None:
    own = write_task(tmp_path)
    if head == "regression":
        for path in tmp_path.glob("*.tsv"):
            path.write_text(path.read_text().replace("\ta\n", "\t0.5\n").replace("\tb\n", "\t2\n"))
    splits = mixed(own, write_texts(tmp_path / "more.txt", [f"more {number}" for number in range(40)]), head=head)
    write_splits(splits, tmp_path / "splits")
    assert read_splits(tmp_path / "splits") == splits
    assert splits.training[0].has_target
    assert not splits.training[-1].has_target


def test_words_of_plain_texts_lack_tags(tmp_path: Path) -> None:
    for name, count in (("train", 60), ("dev", 20)):
        sentences = [f"{name}{number} O\n{WORDS[number % 3]} B-X" for number in range(count)]
        (tmp_path / f"{name}.conll").write_text("\n\n".join(sentences) + "\n")
    others = write_texts(tmp_path / "more.txt", [f"a plain  text {number}" for number in range(40)])
    splits = mixed(DataSource(str(tmp_path)), others, head="token-classification")
    assert splits.training[-1].words == ("a", "plain", "text", "39")
    assert not splits.training[-1].has_target
    write_splits(splits, tmp_path / "splits")
    assert read_splits(tmp_path / "splits") == splits


def test_questions_of_unlabelled_contexts_lack_answers(tmp_path: Path) -> None:
    own = [
        {"question": f"q {n}", "context": f"the {n} is here", "answers": {"text": [str(n)], "answer_start": [4]}}
        for n in range(80)
    ]
    for name, rows in (("train", own[:60]), ("dev", own[60:])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pairs = [{"question": f"what {number}", "context": f"some context {number}"} for number in range(40)]
    # Another question about a context: of training it may be learned from, of the dev set it may not.
    plain = make_splits(DataSource(str(tmp_path)), "span", SIZES, seed=0)
    pairs += [{"question": "why", "context": part[0].pair} for part in (plain.training, plain.report, plain.search)]
    (tmp_path / "more.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs))
    splits = mixed(DataSource(str(tmp_path)), DataSource(str(tmp_path / "more.jsonl")), head="span")
    assert (splits.training[-2].pair, splits.training[-2].answers) == ("some context 39", None)
    assert [example.pair for example in splits.training if example.text == "why"] == [plain.training[0].pair]
    write_splits(splits, tmp_path / "splits")
    assert read_splits(tmp_path / "splits") == splits


def test_pairs_are_added_to_pairs_and_single_texts_to_single_ones(tmp_path: Path) -> None:
    own = write_task(tmp_path, "sentence1\tsentence2\tlabel", pairs=True)
    rows = [f"first {number}\tsecond {number}" for number in range(40)]
    table = write_texts(tmp_path / "more.tsv", ["premise\thypothesis", *rows])
    splits = mixed(own, table)
    assert (splits.training[-1].text, splits.training[-1].pair) == ("first 39", "second 39")
    named = write_texts(tmp_path / "named.tsv", ["a\tb", *rows])
    assert mixed(own, DataSource(named.source, text="a", pair="b")).training == splits.training
    with pytest.raises(DataError, match=r"'single.txt' has single texts, and this task's are pairs; give a table"):
        mixed(own, write_texts(tmp_path / "single.txt", [f"text {number}" for number in range(40)]))
    singles = tmp_path / "singles"
    singles.mkdir()
    own = write_task(singles)
    with pytest.raises(DataError, match=r"'more.tsv' has pairs of texts, and classification here reads single ones"):
        mixed(own, table)
    assert mixed(own, DataSource(table.source, text="premise")).training[-1].text == "first 39"


def test_a_source_without_a_text_is_refused_for_reasons_of_its_own(tmp_path: Path) -> None:
    own = write_task(tmp_path)
    splits = make_splits(own, "classification", SIZES, seed=0)
    others = write_texts(tmp_path / "more.tsv", ["sentence\tid", " \t1"])
    with pytest.raises(DataError) as error:
        add_unlabelled(replace(splits, notes=("of the first source",)), [own, others], [1, 1], "classification")
    assert "more.tsv: no rows that can be used" in str(error.value)
    assert "of the first source" not in str(error.value)


def test_a_source_with_nothing_new_is_refused(tmp_path: Path) -> None:
    own = write_task(tmp_path)
    with pytest.raises(DataError, match=r"'more.txt' has 3 texts that no other part has, and at least 32 are needed"):
        mixed(own, write_texts(tmp_path / "more.txt", [*(f"dev text {number}" for number in range(20)), "x", "y", "z"]))
