from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from ortnas.nas.data import DataError, DataSource, Sizes, Splits, make_splits, mix_sources, read_splits, write_splits
from ortnas.nas.data.beir import read_beir
from ortnas.nas.data.judged_parts import cut_pairs
from ortnas.nas.data.pairs import TextPair, plain_pairs, read_pair_table
from ortnas.nas.data.prose import SENTENCE_END
from tests.nas.data.test_splits import write_tsv

SIZES = Sizes(calibration=10, search=30, report=40)
PARTS = ("search_pairs", "report_pairs")


@pytest.fixture
def corpus(tmp_path: Path) -> DataSource:
    path = tmp_path / "corpus.txt"
    path.write_text("".join(f"a plain sentence {number}\n" for number in range(300)) + "document 3\nquery 5\n")
    return DataSource(str(path))


def write_pairs(path: Path, rows: Sequence[Mapping[str, Any]]) -> str:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return str(path)


def queries(count: int) -> list[dict[str, str]]:
    return [{"query": f"query {number}", "document": f"document {number}"} for number in range(count)]


def texts_of(splits: Splits, part: str) -> list[str]:
    return [example.text for example in splits.parts[part]]


def looked_for(splits: Splits, part: str) -> dict[str, set[str]]:
    """The documents of each query."""
    texts, judgements = texts_of(splits, part), splits.judgements[part]
    pairs: dict[str, set[str]] = {}
    for query, document in zip(judgements.first, judgements.second, strict=True):
        pairs.setdefault(texts[query], set()).add(texts[document])
    return pairs


def test_pairs_without_a_score_become_queries_among_the_same_documents(tmp_path: Path, corpus: DataSource) -> None:
    pairs = write_pairs(tmp_path / "pairs.jsonl", queries(200))
    splits = make_splits(corpus, "embedding", SIZES, 0, pairs)
    search, report = looked_for(splits, "search_pairs"), looked_for(splits, "report_pairs")
    assert (len(search), len(report)) == (30, 40)
    assert search.keys().isdisjoint(report)
    assert all(own == {query.replace("query", "document")} for query, own in (search | report).items())
    for part in ("search_pairs", "report_pairs"):
        documents = {texts_of(splits, part)[row] for row in splits.judgements[part].documents}
        assert len(documents) == 160
        assert documents >= set().union(*search.values(), *report.values())
    judged = {*texts_of(splits, "search_pairs"), *texts_of(splits, "report_pairs")}
    assert judged.isdisjoint(texts_of(splits, "training"))
    assert {"search", "report"} < splits.parts.keys()
    assert "pairs of pairs.jsonl: 30 queries among 160 documents for the search, 40 queries among 160 documents" in str(
        splits.notes
    )
    assert splits == make_splits(corpus, "embedding", SIZES, 0, pairs)
    assert splits.digest != make_splits(corpus, "embedding", SIZES, 1, pairs).digest
    write_splits(splits, tmp_path / "splits")
    assert read_splits(tmp_path / "splits") == splits


def test_fewer_pairs_are_halved_and_sentences_of_documents_are_not_trained_on(tmp_path: Path) -> None:
    rows = [
        {"question": f"what is {number}", "answer": f"It is {number}. So they say {number}."} for number in range(50)
    ]
    (tmp_path / "corpus.txt").write_text(
        "".join(f"So they say {number}.\nit is not {number}\n" for number in range(200))
    )
    pairs = write_pairs(tmp_path / "faq.jsonl", rows)
    splits = make_splits(DataSource(str(tmp_path / "corpus.txt")), "embedding", SIZES, 0, pairs)
    assert [judgements.size for judgements in splits.judgements.values()] == [25, 25]
    used = {text for part in ("training", "calibration", "search", "report") for text in texts_of(splits, part)}
    assert {text for text in used if text.startswith("So")} == {f"So they say {number}." for number in range(50, 200)}


def test_scored_pairs_share_no_text_between_parts(tmp_path: Path, corpus: DataSource) -> None:
    rows = [(f"first {number // 2}", f"second {number}", number % 5) for number in range(150)]
    write_tsv(tmp_path / "scored.tsv", "sentence1\tsentence2\tscore", rows)
    splits = make_splits(corpus, "embedding", SIZES, 0, str(tmp_path / "scored.tsv"))
    assert set(texts_of(splits, "search_pairs")).isdisjoint(texts_of(splits, "report_pairs"))
    for part, size in (("search_pairs", 30), ("report_pairs", 40)):
        texts, judgements = texts_of(splits, part), splits.judgements[part]
        assert judgements.are_scored
        assert judgements.size == size
        for first, second, grade in zip(judgements.first, judgements.second, judgements.grades, strict=True):
            number = int(texts[second].split()[1])
            assert (texts[first], grade) == (f"first {number // 2}", number % 5)


def write_beir(folder: Path, qrels: Sequence[tuple[str, str, object]], suffix: str = "") -> Path:
    (folder / "qrels").mkdir(parents=True)
    documents = [{"_id": f"d{number}", "title": f"title {number}", "text": f"body {number}"} for number in range(500)]
    asked = [{"_id": f"q{number}", "text": f"query {number}"} for number in range(100)]
    lines = ["query-id\tcorpus-id\tscore", *("\t".join(map(str, row)) for row in qrels)]
    for name, content in (
        ("corpus.jsonl", [json.dumps(row) for row in documents]),
        ("queries.jsonl", [json.dumps(row) for row in asked]),
        ("qrels/test.tsv", lines),
    ):
        data = "".join(f"{line}\n" for line in content).encode()
        (folder / f"{name}{suffix}").write_bytes(gzip.compress(data) if suffix else data)
    return folder


QRELS = [(f"q{number}", f"d{number + shift}", 2 - shift) for number in range(80) for shift in (0, 1, 2)]


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_beir_folder_is_judged_by_its_grades(tmp_path: Path, corpus: DataSource, suffix: str) -> None:
    folder = write_beir(tmp_path / "beir", QRELS, suffix)
    splits = make_splits(corpus, "embedding", SIZES, 0, str(folder))
    for part, size in (("search_pairs", 30), ("report_pairs", 40)):
        texts, judgements = texts_of(splits, part), splits.judgements[part]
        assert judgements.size == size
        assert len(judgements.documents) >= 160
        documents = {texts[row] for row in judgements.documents}
        for query, second, grade in zip(judgements.first, judgements.second, judgements.grades, strict=True):
            number = int(texts[query].split()[1])
            place = number + {2.0: 0, 1.0: 1}[grade]
            assert texts[second] == f"title {place} body {place}"
            # What was judged to be of no use has to be told apart.
            assert f"title {number + 2} body {number + 2}" in documents


@pytest.mark.parametrize(
    ("qrels", "message"),
    [
        ([*QRELS, ("q99", "d900", 1)], r"1 of 241 rows name an id that corpus.jsonl has not, the first 'd900'"),
        ([*QRELS, ("q700", "d1", 1)], r"1 of 241 rows name an id that queries.jsonl has not, the first 'q700'"),
        ([*QRELS, ("q9", "d1", "good")], r"test.tsv, line 242: the score 'good' is no number"),
        (QRELS[:60], r"10 queries with a document are there for the search and 10 for reports, .* at least 20"),
    ],
)
def test_bad_qrels_are_refused_in_a_sentence(
    tmp_path: Path, corpus: DataSource, qrels: Sequence[tuple[str, str, object]], message: str
) -> None:
    folder = write_beir(tmp_path / "beir", qrels)
    with pytest.raises(DataError, match=message):
        make_splits(corpus, "embedding", SIZES, 0, str(folder))


@pytest.mark.parametrize("name", ["corpus.jsonl", "queries.jsonl", "qrels/test.tsv"])
def test_a_folder_that_lacks_a_file_says_what_it_needs(tmp_path: Path, name: str) -> None:
    folder = write_beir(tmp_path / "beir", QRELS)
    (folder / name).unlink()
    with pytest.raises(
        DataError, match=f"no {name}; a folder of pairs holds corpus.jsonl, queries.jsonl, qrels/test.tsv"
    ):
        read_beir(folder, 10, 0, [])


def test_qrels_without_a_header_are_refused(tmp_path: Path) -> None:
    folder = write_beir(tmp_path / "beir", QRELS)
    (folder / "qrels" / "test.tsv").write_text("q1\t0\td1\t1\nq2\t0\td2\t1\n")
    with pytest.raises(DataError, match="no column 'query-id', 'corpus-id', 'score'; its first line has to read"):
        read_beir(folder, 10, 0, [])


SCORED = [{"sentence1": f"a {number}", "sentence2": f"b {number}", "score": number % 3} for number in range(100)]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([row | {"score": 1} for row in SCORED], r"the scores of \d+ pairs are all 1, so that they rank nothing"),
        ([*SCORED, SCORED[0] | {"score": "high"}], r"line 101: 'high' in column 'score' is no number"),
        ([row | {"label": 1} for row in SCORED], r"several columns may be the score \('score', 'label'\)"),
        ([row | {"query": "q", "text": "t"} for row in SCORED], r"several columns may be the pair \('sentence1' with"),
        ([{"left": "a b", "right": "c d"}], r"no columns of pairs; the columns are left, right\. Call them query and"),
        (SCORED[:30], r"15 scored pairs that share no text are there for the search and 15 for reports"),
    ],
)
def test_bad_pairs_are_refused_in_a_sentence(
    tmp_path: Path, corpus: DataSource, rows: Sequence[Mapping[str, Any]], message: str
) -> None:
    pairs = write_pairs(tmp_path / "pairs.jsonl", rows)
    with pytest.raises(DataError, match=message):
        make_splits(corpus, "embedding", SIZES, 0, pairs)


def test_other_files_are_no_pairs(tmp_path: Path, corpus: DataSource) -> None:
    with pytest.raises(DataError, match="pairs are read from tsv, csv, jsonl files, or from a folder as BEIR has them"):
        make_splits(corpus, "embedding", SIZES, 0, corpus.source)
    with pytest.raises(DataError, match="no such file"):
        make_splits(corpus, "embedding", SIZES, 0, str(tmp_path / "missing.tsv"))


def test_pairs_that_say_nothing_are_left_out_with_a_note(tmp_path: Path) -> None:
    rows = [*queries(3), {"query": "same", "document": "same"}, {"query": "", "document": "alone"}, queries(1)[0]]
    notes: list[str] = []
    pairs = read_pair_table(Path(write_pairs(tmp_path / "pairs.jsonl", rows)), notes)
    assert pairs.pairs == tuple(TextPair(row["query"], row["document"]) for row in queries(3))
    assert "line 5 has no text in column 'query'" in notes[0]
    assert "2 rows of 5 left out, the first because pair 4 has one text, 'same', on both sides" in notes[1]


def test_late_interaction_is_judged_by_queries_that_are_no_documents(tmp_path: Path, corpus: DataSource) -> None:
    rows = [*queries(60), {"query": queries(1)[0]["document"], "document": "something else"}]
    splits = make_splits(corpus, "late-interaction", SIZES, 0, write_pairs(tmp_path / "pairs.jsonl", rows))
    asked, documents = set[str](), set[str]()
    for part, judgements in splits.judgements.items():
        texts = texts_of(splits, part)
        asked |= {texts[row] for row in judgements.queries}
        documents |= {texts[row] for row in judgements.documents}
    assert asked.isdisjoint(documents)
    assert any("is a query too" in note for note in splits.notes)
    scored = [{"sentence1": f"a {n}", "sentence2": f"b {n}", "score": n} for n in range(60)]
    with pytest.raises(DataError, match="late-interaction is judged by queries that look for documents"):
        make_splits(corpus, "late-interaction", SIZES, 0, write_pairs(tmp_path / "scored.jsonl", scored))


def test_a_query_has_all_its_documents_and_repeats_of_texts_are_one_row() -> None:
    pairs = plain_pairs("a test", [TextPair(f"q{number // 2}", f"d{number % 30}") for number in range(120)], [])
    parts = cut_pairs(pairs, 25, 25, 0)
    for part in (parts.search, parts.report):
        assert len(set(part.texts)) == len(part.texts)
        assert part.judgements.size == 25
        assert len(part.judgements.first) == 50
        assert len(part.judgements.documents) == 30


@pytest.mark.parametrize("columns", [("title", "text"), ("question", "answer"), ("query", "passage")])
def test_tables_whose_texts_are_pairs_bring_their_own(tmp_path: Path, columns: tuple[str, str]) -> None:
    rows = [{columns[0]: f"name {number}", columns[1]: f"what {number} is"} for number in range(400)]
    source = DataSource(write_pairs(tmp_path / "texts.jsonl", rows))
    splits = make_splits(source, "embedding", SIZES, 0)
    assert [splits.judgements[part].size for part in PARTS] == [25, 25]
    assert {len(splits.judgements[part].documents) for part in PARTS} == {100}
    note = next(note for note in splits.notes if note.startswith("pairs found"))
    assert note.startswith(f"pairs found in texts.jsonl, {columns[0]} and {columns[1]}: 25 queries among 100 documents")
    training = texts_of(splits, "training")
    assert {text.split()[0] for text in training} == {"name", "what"}
    assert set(training).isdisjoint(texts_of(splits, "search_pairs"))
    without = make_splits(source, "embedding", SIZES, 0, "none")
    assert without.judgements == {}
    assert list(without.parts) == ["training", "calibration", "search", "report"]


@pytest.mark.parametrize("are_scored", [False, True])
def test_other_pairs_are_learned_from_and_no_text_of_them_is_in_another_part(
    tmp_path: Path, corpus: DataSource, are_scored: bool
) -> None:
    rows = [{**row, **({"score": number % 6} if are_scored else {})} for number, row in enumerate(queries(300))]
    # These repeat texts of the corpus, which may be in any part.
    rows += [{**rows[0], "query": f"a plain sentence {number}", "document": f"more {number}"} for number in range(300)]
    pairs = write_pairs(tmp_path / "pairs.jsonl", rows)
    for splits in (
        make_splits(corpus, "embedding", SIZES, 0, pairs),
        mix_sources([corpus, DataSource("python-docstrings")], [1, 1], "embedding", SIZES, 0, pairs),
    ):
        learned, texts = splits.judgements["training"], texts_of(splits, "training")
        assert learned.are_scored == are_scored
        assert len(learned.first) > 100
        number_of = {(row["query"], row["document"]): number for number, row in enumerate(rows)}
        for first, second, grade in zip(learned.first, learned.second, learned.grades, strict=True):
            number = number_of[texts[first], texts[second]]
            assert grade == (rows[number].get("score", 1))
        assert len(set(texts)) == len(texts)
        for part in set(splits.parts) - {"training"}:
            assert set(texts).isdisjoint(texts_of(splits, part)), part
        assert any(note.endswith("other pairs can be learned from (loss pairs)") for note in splits.notes)
        write_splits(splits, tmp_path / "splits")
        assert read_splits(tmp_path / "splits").judgements == splits.judgements
        if splits.mixture is not None:
            assert len(splits.mixture.origins) == len(texts)
    assert "training" not in make_splits(corpus, "sparse", SIZES, 0, pairs).judgements


def test_few_pairs_in_the_texts_are_left_for_training(tmp_path: Path) -> None:
    rows = [{"title": f"name {number}", "text": f"what {number} is"} for number in range(200)]
    splits = make_splits(DataSource(write_pairs(tmp_path / "texts.jsonl", rows)), "embedding", SIZES, 0)
    assert splits.judgements == {}
    assert splits.notes == (
        "texts.jsonl, title and text: 200 pairs of texts, too few to judge by and train on the others",
    )


def test_several_sources_are_judged_by_the_first_that_brings_pairs(tmp_path: Path, corpus: DataSource) -> None:
    rows = [{"title": f"name {number}", "text": f"what {number} is"} for number in range(400)]
    table = DataSource(write_pairs(tmp_path / "texts.jsonl", rows))
    splits = mix_sources([corpus, table], [1, 1], "embedding", SIZES, 0)
    assert list(splits.judgements) == ["search_pairs", "report_pairs", "training"]
    assert set(texts_of(splits, "training")).isdisjoint(texts_of(splits, "report_pairs"))
    assert mix_sources([corpus, table], [1, 1], "embedding", SIZES, 0, "none").judgements == {}


def test_sts_b_trains_embeddings_on_its_sentences_and_judges_them_by_its_scores(tmp_path: Path) -> None:
    header = "index\tsentence1\tsentence2\tscore"
    for name, shared in (("train", 5), ("dev", 0)):
        rows = [(number, f"{name} a {number}", f"{name} b {number}", number % 6) for number in range(120)]
        rows[:shared] = [(number, f"dev a {number}", f"train b {number}", 1) for number in range(shared)]
        write_tsv(tmp_path / f"{name}.tsv", header, rows)
    source = DataSource(str(tmp_path), task="sts-b")
    splits = make_splits(source, "embedding", Sizes(10, 30, None), 0)
    assert [splits.judgements[part].size for part in PARTS] == [30, 120]
    assert set(texts_of(splits, "report_pairs")) == {f"dev {side} {number}" for side in "ab" for number in range(120)}
    training = texts_of(splits, "training")
    assert {text.split()[1] for text in training} == {"a", "b"}
    assert all(text.startswith("train") for text in [*training, *texts_of(splits, "search_pairs")])
    # As a regression it is as ever.
    assert make_splits(source, "regression", Sizes(10, 30, None), 0).judgements == {}


@pytest.mark.slow
def test_docstrings_bring_summaries_that_look_for_what_follows_them() -> None:
    splits = make_splits(DataSource("python-docstrings"), "embedding", SIZES, 0)
    for part, size in (("search_pairs", 30), ("report_pairs", 40)):
        assert splits.judgements[part].size == size
        assert len(splits.judgements[part].documents) == 160
    trained = set(texts_of(splits, "training"))
    for part in PARTS:
        for query, documents in looked_for(splits, part).items():
            assert query not in trained
            assert trained.isdisjoint(SENTENCE_END.split(next(iter(documents))))
    assert any(note.startswith("pairs found in docstrings, a summary and what follows it") for note in splits.notes)
