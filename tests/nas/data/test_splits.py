from __future__ import annotations

import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ortnas.nas.data import DataError, DataSource, Sizes, Splits, make_splits
from ortnas.nas.text import Example

SIZES = Sizes(calibration=10, search=20, report=30)


def write_tsv(path: Path, header: str, rows: Sequence[Sequence[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [header, *("\t".join(map(str, row)) for row in rows)]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def write_task(folder: Path, training: Sequence[Sequence[object]], dev: Sequence[Sequence[object]]) -> DataSource:
    write_tsv(folder / "train.tsv", "sentence\tlabel", training)
    write_tsv(folder / "dev.tsv", "sentence\tlabel", dev)
    return DataSource(str(folder))


def write_squad(path: Path, contexts: Sequence[tuple[str, Sequence[tuple[str, list[tuple[int, str]]]]]]) -> None:
    paragraphs = [
        {
            "context": context,
            "qas": [
                {
                    "id": f"{place}-{number}",
                    "question": question,
                    "answers": [{"answer_start": start, "text": text} for start, text in answers],
                }
                for number, (question, answers) in enumerate(questions)
            ],
        }
        for place, (context, questions) in enumerate(contexts)
    ]
    path.write_text(json.dumps({"version": "1.1", "data": [{"title": "t", "paragraphs": paragraphs}]}))


def assert_disjoint(splits: Splits) -> None:
    parts = [{(example.text, example.pair, example.words) for example in part} for part in splits.parts.values()]
    assert sum(map(len, parts)) == len(set().union(*parts))


def test_sentences_are_cut_into_disjoint_parts_fixed_by_seed(tmp_path: Path) -> None:
    (tmp_path / "corpus.txt").write_text("".join(f"sentence {number}\nsentence 0\n" for number in range(200)))
    source = DataSource(str(tmp_path / "corpus.txt"))
    splits = make_splits(source, "embedding", SIZES, seed=1)
    assert_disjoint(splits)
    assert {name: len(part) for name, part in splits.parts.items()} == {
        "training": 140,
        "calibration": 10,
        "search": 20,
        "report": 30,
    }
    assert splits.labels == ()
    assert splits == make_splits(source, "embedding", SIZES, seed=1)
    assert splits.digest != make_splits(source, "embedding", SIZES, seed=2).digest
    assert len(make_splits(source, "embedding", Sizes(10, 20, None), 0).report) == 20


@pytest.mark.parametrize("count", [1, 91])
def test_a_corpus_too_small_says_what_is_needed(tmp_path: Path, count: int) -> None:
    (tmp_path / "corpus.txt").write_text("".join(f"{number}\n" for number in range(count)))
    with pytest.raises(DataError, match=f"has {count} distinct sentences; 60 are set aside .* smaller data"):
        make_splits(DataSource(str(tmp_path / "corpus.txt")), "embedding", SIZES, 0)


def test_a_named_report_file_serves_sentences_too(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("".join(f"sentence {number}\n" for number in range(200)))
    (tmp_path / "held_out.txt").write_text("sentence 3\nanother\n")
    source = DataSource(str(tmp_path), report_file="held_out.txt")
    splits = make_splits(source, "embedding", SIZES, 0)
    assert [example.text for example in splits.report] == ["sentence 3", "another"]
    assert_disjoint(splits)
    assert len(splits.training) == 169


def test_classes_keep_their_shares_and_dev_texts_leave_training(tmp_path: Path) -> None:
    training = [(f"text {number}", "yes" if number % 4 else "no") for number in range(400)]
    training += [("text 1", "yes"), ("dev 3", "no")]
    random.Random(0).shuffle(training)
    source = write_task(tmp_path, training, [(f"dev {number}", "no") for number in range(10)])
    splits = make_splits(source, "classification", SIZES, seed=0)
    assert_disjoint(splits)
    assert splits.labels == ("no", "yes")
    assert [example.text for example in splits.report] == [f"dev {number}" for number in range(10)]
    assert len(splits.search) == 20
    assert sum(example.label == 0 for example in splits.search) in (4, 5, 6)
    assert sum(example.label == 0 for example in splits.training) in (92, 93)
    expected = {text: splits.labels.index(name) for text, name in training}
    assert all(example.label == expected[example.text] for example in splits.training)
    assert splits.notes == ("training: 2 of 402 rows repeat others or the dev set and are left out",)


def write_pairs(
    folder: Path, training: Sequence[tuple[str, str, str]], dev: Sequence[tuple[str, str, str]]
) -> DataSource:
    write_tsv(folder / "train.tsv", "sentence1\tsentence2\tlabel", training)
    write_tsv(folder / "dev.tsv", "sentence1\tsentence2\tlabel", dev)
    return DataSource(str(folder), text="sentence1", pair="sentence2")


def pairs_of_premises(sizes: Sequence[int]) -> list[tuple[str, str, str]]:
    """So many hypotheses for each premise, of three labels by turns."""
    pairs = [(premise, number) for premise, size in enumerate(sizes) for number in range(size)]
    return [
        (f"premise {premise}", f"hypothesis {premise}-{number}", "abc"[place % 3])
        for place, (premise, number) in enumerate(pairs)
    ]


PAIR_SIZES = Sizes(calibration=10, search=20)
NEW_PREMISE = [("another", "one", "a")]


@given(sizes=st.lists(st.integers(1, 10), min_size=60, max_size=90), seed=st.integers(0, 9))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_premise_is_in_two_parts(tmp_path: Path, sizes: list[int], seed: int) -> None:
    training = pairs_of_premises([*sizes, *[3] * 20])
    splits = make_splits(write_pairs(tmp_path, training, NEW_PREMISE), "classification", PAIR_SIZES, seed)
    assert_disjoint(splits)
    assert (len(splits.calibration), len(splits.search)) == (10, 20)
    premises = [{example.text for example in part} for part in splits.parts.values()]
    assert sum(map(len, premises)) == len(set().union(*premises))
    # A quarter of a part is the most that one premise fills.
    assert max(Counter(example.text for example in splits.search).values()) <= 5
    left_out = len(training) + 1 - sum(map(len, splits.parts.values()))
    expected = "the first text of others that are set aside, and are left out"
    rows = "row has" if left_out == 1 else "rows have"
    assert splits.notes == ((f"training: {left_out} {rows} {expected}",) if left_out else ())


def test_parts_of_whole_premises_have_all_labels(tmp_path: Path) -> None:
    source = write_pairs(tmp_path, pairs_of_premises([3] * 40), NEW_PREMISE)
    splits = make_splits(source, "classification", PAIR_SIZES, 0)
    assert sorted(Counter(example.label for example in splits.search).values()) == [6, 7, 7]
    assert len({example.text for example in splits.search}) == 7


def test_questions_that_very_many_pairs_have_are_in_all_parts(tmp_path: Path) -> None:
    training = [(f"question {number % 4}", f"text {number}", "ab"[number // 4 % 2]) for number in range(200)]
    splits = make_splits(write_pairs(tmp_path, training, NEW_PREMISE), "classification", PAIR_SIZES, 0)
    assert {name: len(part) for name, part in splits.parts.items()} == {
        "training": 170,
        "calibration": 10,
        "search": 20,
        "report": 1,
    }
    assert splits.notes == ("4 first texts have more than 10 pairs each, and may be in several parts",)


def test_how_much_a_dev_set_shares_with_training_is_said(tmp_path: Path) -> None:
    dev = [("premise 3", "something new", "a"), ("premise of its own", "another", "b")]
    splits = make_splits(write_pairs(tmp_path, pairs_of_premises([1] * 100), dev), "classification", PAIR_SIZES, 3)
    assert "premise 3" in {example.text for example in splits.training}
    assert splits.notes == ("report: 1 of 2 pairs have the first text of a pair to learn from",)


def test_a_task_that_whole_premises_leave_too_little_of_is_refused(tmp_path: Path) -> None:
    source = write_pairs(tmp_path, pairs_of_premises([10] * 7), NEW_PREMISE)
    with pytest.raises(DataError, match=r"of a first text are kept .* 30 are set aside, and \d+ are left .* fewer"):
        make_splits(source, "classification", PAIR_SIZES, 0)


def test_a_class_of_one_stays_in_training(tmp_path: Path) -> None:
    training = [(f"text {number}", "rare" if number == 7 else "common") for number in range(100)]
    source = write_task(tmp_path, training, [("dev", "common")])
    for seed in range(10):
        splits = make_splits(source, "classification", Sizes(10, 20, None), seed)
        assert [example.text for example in splits.training if example.label == 1] == ["text 7"]


@pytest.mark.parametrize(
    ("training", "dev", "message"),
    [
        ([("a", "x"), ("b", "y")], [("dev", "z")], "labels that training lacks: 'z'; training has 'x', 'y'"),
        ([("a", "x"), ("b", "x")], [("dev", "x")], "one label only: 'x'"),
        ([(f"{row}", "xy"[row % 2]) for row in range(40)], [("dev", "x")], "40 distinct rows .* 30 are set aside"),
    ],
)
def test_label_and_size_errors_say_what_to_change(
    tmp_path: Path, training: list[tuple[str, str]], dev: list[tuple[str, str]], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        make_splits(write_task(tmp_path, training, dev), "classification", SIZES, 0)


def test_a_label_that_only_training_has_is_fine(tmp_path: Path) -> None:
    training = [(f"text {number}", "abc"[number % 3]) for number in range(90)]
    splits = make_splits(write_task(tmp_path, training, [("dev", "b")]), "classification", SIZES, 0)
    assert splits.labels == ("a", "b", "c")
    assert splits.report == [Example("dev", None, 1)]


def test_a_smaller_report_is_a_stratified_part_of_the_dev_set(tmp_path: Path) -> None:
    training = [(f"text {number}", "xy"[number % 2]) for number in range(100)]
    dev = [(f"dev {number}", "x" if number < 50 else "y") for number in range(100)]
    splits = make_splits(write_task(tmp_path, training, dev), "classification", Sizes(10, 20, 40), 0)
    assert len(splits.report) == 40
    assert Counter(example.label for example in splits.report) == {0: 20, 1: 20}


def test_values_of_a_regression_are_spread_over_the_parts(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [(f"text {number}", round(float(value), 3)) for number, value in enumerate(rng.exponential(size=2000))]
    splits = make_splits(write_task(tmp_path, rows, [("dev", 2)]), "regression", Sizes(100, 100, None), 0)
    everything = np.array([value for _, value in rows])
    for part in (splits.calibration, splits.search):
        values = np.array([example.label for example in part], float)
        below = [(values <= np.quantile(everything, share)).sum() for share in (0.1, 0.5, 0.9)]
        assert np.abs(np.array(below) - [10, 50, 90]).max() <= 2
    assert splits.labels == ()
    assert splits.report == [Example("dev", None, 2.0)]
    assert isinstance(splits.report[0].label, float)


def test_no_number_is_a_sentence_with_its_line(tmp_path: Path) -> None:
    source = write_task(tmp_path, [("a", 1.5), ("b", "much")], [("dev", 2)])
    with pytest.raises(DataError, match=r"train.tsv, line 3: 'much' in column 'label' is no number"):
        make_splits(source, "regression", SIZES, 0)
    source = write_task(tmp_path, [("a", "nan")], [("dev", 2)])
    with pytest.raises(DataError, match="'nan' in column 'label' is no number"):
        make_splits(source, "regression", SIZES, 0)


def test_tags_have_ids_with_outside_first(tmp_path: Path) -> None:
    sentences = ["-DOCSTART- -X- O O\n\n"]
    sentences += [f"Anna{row} NNP B-NP B-PER\nis VBZ B-VP O\nhere RB B-ADVP O\n\n" for row in range(80)]
    (tmp_path / "train.txt").write_text("".join(sentences))
    (tmp_path / "dev.conll").write_text("Berlin B-LOC\nsleeps O")
    with pytest.raises(DataError, match=r"labels that training lacks: 'B-LOC'"):
        make_splits(DataSource(str(tmp_path)), "token-classification", SIZES, 0)
    (tmp_path / "dev.conll").write_text("Berlin B-PER\nsleeps O")
    splits = make_splits(DataSource(str(tmp_path)), "token-classification", SIZES, 0)
    assert splits.labels == ("O", "B-PER")
    assert splits.report == [Example("", words=("Berlin", "sleeps"), tags=(1, 0))]
    assert splits.search[0].words[1:] == ("is", "here")
    assert splits.search[0].tags == (1, 0, 0)
    assert_disjoint(splits)
    assert len(splits.training) == 50


def test_no_context_of_spans_is_in_two_parts(tmp_path: Path) -> None:
    contexts = [
        (
            f"Town {place} lies at river {place}.",
            [(f"Where is {place}, asked {n}?", [(0, f"Town {place}")]) for n in range(5)],
        )
        for place in range(40)
    ]
    write_squad(tmp_path / "train-v1.1.json", contexts)
    dev = ("Town 3 lies at river 3.", [("What lies where?", [(0, "Town"), (15, "river 3"), (0, "Town")])])
    write_squad(tmp_path / "dev-v1.1.json", [dev])
    splits = make_splits(DataSource(str(tmp_path), task="squad"), "span", Sizes(7, 12, None), 0)
    seen = [{example.pair for example in part} for part in splits.parts.values()]
    assert sum(map(len, seen)) == len(set().union(*seen)) == 40
    assert [len(splits.calibration), len(splits.search)] == [7, 12]
    assert len(splits.training) == 5 * (39 - 2 - 3)
    assert splits.report[0].answers == ((0, "Town"), (15, "river 3"))
    write_squad(tmp_path / "train-v1.1.json", contexts[:2])
    with pytest.raises(DataError, match=r"2 distinct contexts .* keep calibration, search and training apart"):
        make_splits(DataSource(str(tmp_path), task="squad"), "span", Sizes(1, 1, None), 0)


def write_versions(
    folder: Path, unanswerable: int, names: Sequence[str] = ("train-v2.0.json", "dev-v2.0.json")
) -> None:
    """SQuAD 2.0 files of a question for each of 60 contexts; the first so many in random order have no answer."""
    order = random.Random(0).sample(range(60), 60)
    for name in names:
        start = name.partition("-")[0]
        contexts = [(f"{start} {place} lies.", [(f"Where is {place}?", [(0, start)])]) for place in range(60)]
        write_squad(folder / name, contexts)
        document = json.loads((folder / name).read_text())
        for place, paragraph in enumerate(document["data"][0]["paragraphs"]):
            (question,) = paragraph["qas"]
            question["is_impossible"] = order[place] < unanswerable
            if question["is_impossible"]:
                question |= {"answers": [], "plausible_answers": question["answers"]}
        (folder / name).write_text(json.dumps(document))


def test_unanswerable_questions_are_part_of_squad_2(tmp_path: Path) -> None:
    write_versions(tmp_path, 20)
    for source in (DataSource(str(tmp_path), task="squad_v2"), DataSource(str(tmp_path))):
        splits = make_splits(source, "span", Sizes(5, 15, None), 0)
        assert [len(part) for part in splits.parts.values()] == [40, 5, 15, 60]
        counts = [sum(example.is_unanswerable for example in part) for part in splits.parts.values()]
        assert sum(counts[:3]) == counts[3] == 20
        assert counts[2] > 0
        assert splits.notes == ("40 of 120 questions have no answer in their context, and are kept",)


def test_versions_of_squad_are_not_mixed_up(tmp_path: Path) -> None:
    write_versions(tmp_path, 20)
    with pytest.raises(DataError, match=r"no file like train-v1.1.json"):
        make_splits(DataSource(str(tmp_path), task="squad"), "span", Sizes(5, 15, None), 0)
    write_versions(tmp_path, 0, ("train-v1.1.json", "dev-v1.1.json"))
    with pytest.raises(DataError, match=r"holds train-v1.1.json and train-v2.0.json; name .* as data.train_file"):
        make_splits(DataSource(str(tmp_path)), "span", Sizes(5, 15, None), 0)
    with pytest.raises(DataError, match=r"holds dev-v1.1.json and dev-v2.0.json; name .* as data.report_file"):
        make_splits(DataSource(str(tmp_path), train_file="train-v2.0.json"), "span", Sizes(5, 15, None), 0)
    for task, expected in (("squad", 0), ("squad_v2", 20)):
        splits = make_splits(DataSource(str(tmp_path), task=task), "span", Sizes(5, 15, None), 0)
        assert sum(example.is_unanswerable for example in splits.report) == expected
    mixed = DataSource(str(tmp_path), train_file="train-v1.1.json", report_file="dev-v2.0.json")
    with pytest.raises(DataError, match=r"the search part, .* has no such question; train on data that has some"):
        make_splits(mixed, "span", Sizes(5, 15, None), 0)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), seed=st.integers(0, 5), head=st.sampled_from(["classification", "regression"]))
def test_parts_are_disjoint_and_fixed_by_seed_whatever_repeats(
    tmp_path: Path, data: st.DataObject, seed: int, head: str
) -> None:
    texts, labels = st.integers(0, 120).map(lambda number: f"t{number}"), st.sampled_from(["1", "2", "3"])
    base = [(f"t{number}", "12"[number % 2]) for number in range(40)]
    training = base + data.draw(st.lists(st.tuples(texts, labels), max_size=60))
    dev = data.draw(
        st.lists(
            st.tuples(texts.map(lambda text: text.replace("t1", "d1")), st.sampled_from(["1", "2"])),
            min_size=1,
            max_size=5,
        )
    )
    sizes = Sizes(data.draw(st.integers(1, 5)), data.draw(st.integers(1, 5)), None)
    splits = make_splits(write_task(tmp_path, training, dev), head, sizes, seed)
    contents = [{example.text for example in part} for part in splits.parts.values()]
    assert sum(len(splits.parts[name]) for name in ("training", "calibration", "search")) + len(contents[3]) == len(
        set().union(*contents)
    )
    assert set().union(*contents) == {text for text, _ in training + dev}
    assert [len(splits.calibration), len(splits.search), len(splits.report)] == [
        sizes.calibration,
        sizes.search,
        len(dev),
    ]
    again = make_splits(DataSource(str(tmp_path)), head, sizes, seed)
    assert again == splits
    assert again.digest == splits.digest


def test_the_digest_names_parts_labels_and_order() -> None:
    part = [Example("a", label=0), Example("b", label=1)]
    digests = {
        Splits({"training": part}).digest,
        Splits({"training": part}, ("x", "y")).digest,
        Splits({"training": part[::-1]}).digest,
        Splits({"search": part}).digest,
        Splits({"training": part[:1], "search": part[1:]}).digest,
        Splits({"training": [Example("a", label=0), Example("b", label=1.0)]}).digest,
        Splits({"training": [Example("a", "", 0), Example("b", label=1)]}).digest,
    }
    assert len(digests) == 7
    assert Splits({"training": part}, notes=("one",)).digest in digests
    assert all(len(digest) == 16 and int(digest, 16) >= 0 for digest in digests)


def test_importing_the_package_loads_no_heavy_library() -> None:
    check = "import sys, nas.data; print({'torch', 'datasets', 'pandas', 'pyarrow', 'tokenizers'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
