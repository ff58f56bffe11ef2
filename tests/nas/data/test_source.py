"""Which rows of which files become examples."""

from __future__ import annotations

import gzip
import json
import os
import sys
from pathlib import Path

import pytest

from ortnas.nas.data import DataError, DataSource
from ortnas.nas.data.documents import corpus_files
from ortnas.nas.data.lines import numbered_lines
from ortnas.nas.data.source import read_source
from ortnas.nas.text import Example

ROWS = [(Example("one"), "0"), (Example("two"), "1")]


def read(source: DataSource, head: str = "classification") -> list[tuple[Example, str]]:
    return [(row.example, *row.names) for row in read_source(source, head, []).training]


def write_pair_of_files(folder: Path, name: str, content: str) -> DataSource:
    for stem in ("train", "dev"):
        path = folder / f"{stem}.{name}"
        path.write_bytes(gzip.compress(content.encode()) if name.endswith(".gz") else content.encode())
    return DataSource(str(folder))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tsv", "sentence\tlabel\none\t0\ntwo \t1\n"),
        ("tsv", "\ufefflabel\tid\tsentence\r\n0\t7\tone\r\n1\t8\ttwo\r\n\r\n"),
        ("csv", 'text,label\n"one",0\ntwo,1\n'),
        ("jsonl", '{"text": "one", "label": 0}\n\n{"label": "1", "text": "two"}\n'),
        ("jsonl.gz", '{"gold_label": "0", "sentence": "one"}\n{"gold_label": 1, "sentence": "two"}'),
        ("tsv.gz", "text\tlabel\none\t0\ntwo\t1"),
    ],
)
def test_tables_of_all_formats_read_alike(tmp_path: Path, name: str, content: str) -> None:
    assert read(write_pair_of_files(tmp_path, name, content)) == ROWS


def test_tsv_has_no_quoting_and_csv_has(tmp_path: Path) -> None:
    tsv = write_pair_of_files(tmp_path, "tsv", 'sentence\tlabel\nan "open quote\t1\n"quoted"\t0\n')
    assert read(tsv) == [(Example('an "open quote'), "1"), (Example('"quoted"'), "0")]
    (tmp_path / "train.csv").write_text('a,b,y\n"one, two","line\nbreak",p\n')
    (tmp_path / "dev.csv").write_text("a,b,y\nx,z,p\n")
    source = DataSource(str(tmp_path), None, "train.csv", "dev.csv", text="a", pair="b", label="y")
    assert read(source) == [(Example("one, two", "line\nbreak"), "p")]
    (tmp_path / "train.csv").write_text('a,b,y\n1,2,3\n"never closed,b,y\n')
    with pytest.raises(DataError, match=r"train.csv, line 3: unexpected end of data"):
        read(source)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("sentence1\tsentence2\tlabel", Example("a", "b")),
        ("premise\thypothesis\tlabel", Example("a", "b")),
        ("question\tsentence\tlabel", Example("a", "b")),
        ("sentence\tother\tlabel", Example("a")),
    ],
)
def test_usual_columns_are_found(tmp_path: Path, header: str, expected: Example) -> None:
    assert read(write_pair_of_files(tmp_path, "tsv", f"{header}\na\tb\tx\n")) == [(expected, "x")]


def test_named_columns_win_over_usual_ones(tmp_path: Path) -> None:
    write_pair_of_files(tmp_path, "tsv", "sentence1\tsentence2\tlabel\tkind\na\tb\tx\tk\n")
    assert read(DataSource(str(tmp_path), text="sentence2", label="kind")) == [(Example("b"), "k")]
    assert read(DataSource(str(tmp_path), text="sentence2", pair="sentence1")) == [(Example("b", "a"), "x")]
    with pytest.raises(DataError, match=r"no column 'body'; the columns are sentence1, sentence2, label, kind"):
        read(DataSource(str(tmp_path), text="body"))


def test_missing_columns_are_named_beside_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train.tsv: no column 'label'; the columns are sentence, stars"):
        read(write_pair_of_files(tmp_path, "tsv", "sentence\tstars\na\t1\n"))
    (tmp_path / "train.tsv").write_text("label\n1\n")
    with pytest.raises(DataError, match="no column 'sentence1', 'sentence2'; the columns are label"):
        read(DataSource(str(tmp_path), task="sts-b"), "regression")


def test_rows_without_text_or_label_are_left_out_with_a_count(tmp_path: Path) -> None:
    content = "sentence1\tsentence2\tgold_label\na\tb\tx\n \tb\tx\na\t\tx\na\tb\t-\na\tc\ty\nd\tb\t\n"
    notes: list[str] = []
    source_rows = read_source(write_pair_of_files(tmp_path, "tsv", content), "classification", notes)
    assert [row.example for row in source_rows.training] == [Example("a", "b"), Example("a", "c")]
    assert notes[0] == "train.tsv: 4 rows of 6 left out, the first because line 3 has no text in column 'sentence1'"
    assert notes[1].startswith("dev.tsv: 4 rows of 6")


def test_a_hyphen_is_a_label_in_other_columns(tmp_path: Path) -> None:
    assert read(write_pair_of_files(tmp_path, "tsv", "text\tlabel\na\t-\n")) == [(Example("a"), "-")]


def test_few_ragged_rows_are_left_out_and_many_are_an_error(tmp_path: Path) -> None:
    good = "".join(f"text {number}\t{number % 2}\n" for number in range(500))
    notes: list[str] = []
    source = write_pair_of_files(tmp_path, "tsv", f"text\tlabel\n{good}a\tb\t1\n")
    assert len(read_source(source, "classification", notes).training) == 500
    assert notes[0] == "train.tsv: 1 row of 501 left out: line 502 has 3 fields where the header has 2"
    source = write_pair_of_files(tmp_path, "tsv", f"text\tlabel\n{good}" + "a\n" * 5)
    assert len(read(source)) == 500
    source = write_pair_of_files(tmp_path, "tsv", f"text\tlabel\n{good}" + "a\n" * 6)
    with pytest.raises(
        DataError, match=r"train.tsv: 6 rows of 506 cannot be read, the first because line 502 has 1 field"
    ):
        read(source)
    source = write_pair_of_files(tmp_path, "tsv", "text\tlabel\nx\t1\na\na\na\n")
    assert len(read(source)) == 1
    for stem in ("train", "dev"):
        (tmp_path / f"{stem}.tsv").unlink()
    source = write_pair_of_files(tmp_path, "jsonl", '{"text": "a", "label": 1}\n' * 2 + '{"text": "a"}\n' * 4)
    with pytest.raises(DataError, match="4 rows of 6 cannot be read, the first because line 3 lacks 'label'"):
        read(source)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tsv", b"", "train.tsv: the file is empty"),
        ("jsonl", b"\n", "train.jsonl: the file is empty"),
        ("tsv", b"text\tlabel\n", "train.tsv: no rows that can be used"),
        ("tsv", b"text\tlabel\n \t1\n", "no rows that can be used; train.tsv: 1 row of 1 left out: line 2 has no text"),
        ("tsv", b"text\tlabel\na\t1\n\xff\t2\n", "train.tsv, line 3: not UTF-8 text"),
        ("csv", "text,label\ncaf\u00e9,1\n".encode("latin-1"), "train.csv, line 2: not UTF-8 text"),
        ("jsonl", b'{"text": 1\n', "train.jsonl, line 1: no JSON"),
        ("jsonl", b"[1]\n", "train.jsonl, line 1: expected a JSON object, not list"),
        (
            "jsonl",
            b'{"text": [1], "label": 1}\n',
            r"train.jsonl, line 1: column 'text' holds \[1\], and text is needed",
        ),
        (
            "tsv.gz",
            gzip.compress(b"text\tlabel\na\t1\n" * 99, mtime=0)[:40],
            "train.tsv.gz: cannot be read: Compressed file ended",
        ),
        ("tsv.gz", b"text\tlabel\n", "train.tsv.gz: cannot be read: Not a gzipped file"),
    ],
)
def test_broken_tables_get_a_sentence(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / f"train.{name}").write_bytes(content)
    (tmp_path / "dev.tsv").write_text("text\tlabel\na\t1\n")
    with pytest.raises(DataError, match=message):
        read(DataSource(str(tmp_path)))


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (
            '{"text": "a", "label": ["a", "b"]}',
            r"column 'label' holds \['a', 'b'\] as a label; write one, or use head: multi-label",
        ),
        ('{"text": "a", "label": {"a": 1}}', "column 'label' holds {'a': 1} as a label"),
        ('{"text": "a", "label": [[["a"]]]}', r"holds \[\[\['a'\]\]\] as a label"),
        ('{"text": "a", "label": "[\'a\', \'b\']"}', "write one, or use head: multi-label, which takes several labels"),
        ('{"text": "a", "label": Infinity}', "column 'label' holds an infinite number"),
        ('{"text": {"a": 1}, "label": 1}', "column 'text' holds {'a': 1}, and text is needed"),
        ('{"text": true, "label": 1}', "column 'text' holds True, and text is needed"),
        ('{"text": "a", "text": "b", "label": 1}', "line 1: no JSON: the key 'text' is there twice in one object"),
        ('{"text": "a", "label": 1, "x": {"y": 1, "y": 2}}', "the key 'y' is there twice in one object"),
        (
            '{"text": "a", "label": ' + "[" * 50_000 + "]" * 50_000 + "}",
            "line 1: no JSON: lists or objects are nested too deeply",
        ),
    ],
)
def test_values_that_are_no_text_or_label_are_refused(tmp_path: Path, record: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as failure:
        read(write_pair_of_files(tmp_path, "jsonl", record))
    assert len(str(failure.value)) < 1000
    assert "\n" not in str(failure.value)


def test_integers_of_thousands_of_digits_are_refused_or_names(tmp_path: Path) -> None:
    record = f'{{"text": "a", "label": {"7" * 5000}}}'
    if hasattr(sys, "get_int_max_str_digits"):
        with pytest.raises(DataError, match="line 1: no JSON: an integer has too many digits"):
            read(write_pair_of_files(tmp_path, "jsonl", record))
    with pytest.raises(DataError, match="is no number, and one is needed") as failure:
        read(write_pair_of_files(tmp_path, "jsonl", record.replace("7" * 5000, "7" * 4000)), "regression")
    assert len(str(failure.value)) < 1000


@pytest.mark.parametrize(
    "record",
    [
        '{"text": "a", "label": null}',
        '{"text": "a", "label": NaN}',
        '{"text": NaN, "label": 1}',
        '{"text": null, "label": 1}',
        '{"text": "a \\ud800", "label": 1}',
        '{"text": "a", "label": "\\udfff"}',
    ],
)
def test_rows_without_a_usable_value_are_left_out(tmp_path: Path, record: str) -> None:
    good = '{"text": "one", "label": 0}\n{"text": "two", "label": 1}\n'
    notes: list[str] = []
    rows = read_source(write_pair_of_files(tmp_path, "jsonl", good + record), "classification", notes).training
    assert [(row.example, *row.names) for row in rows] == ROWS
    assert notes[0].startswith("train.jsonl: 1 row of 3 left out: line 3 has ")


@pytest.mark.parametrize(
    ("words", "tags", "message"),
    [
        ('["a", {"b": 1}]', '["O", "O"]', "column 'tokens' holds {'b': 1} among its words"),
        ('["a", true]', '["O", "O"]', "column 'tokens' holds True among its words"),
        ('["a", "b"]', '["O", ["O"]]', r"column 'ner_tags' holds \['O'\] as a label"),
    ],
)
def test_words_and_tags_are_texts_or_numbers(tmp_path: Path, words: str, tags: str, message: str) -> None:
    source = write_pair_of_files(tmp_path, "jsonl", f'{{"tokens": {words}, "ner_tags": {tags}}}')
    with pytest.raises(DataError, match=message):
        read(source, "token-classification")


@pytest.mark.parametrize(("words", "tags"), [('["a", null]', "[1, 0]"), ('["a", ""]', "[1, 0]"), ("null", "[1]")])
def test_sentences_without_some_word_are_left_out(tmp_path: Path, words: str, tags: str) -> None:
    good = '{"tokens": ["in", 1984], "ner_tags": [0, 1]}\n'
    bad = f'{{"tokens": {words}, "ner_tags": {tags}}}\n{{"tokens": ["a"], "ner_tags": [null]}}\n'
    notes: list[str] = []
    rows = read_source(write_pair_of_files(tmp_path, "jsonl", good + bad), "token-classification", notes).training
    assert [(row.example.words, row.names) for row in rows] == [(("in", "1984"), ("0", "1"))]
    assert notes[0].startswith("train.jsonl: 2 rows of 3 left out, the first because line 2 has ")


def test_pipes_and_devices_are_refused_and_not_waited_for(tmp_path: Path) -> None:
    source = write_pair_of_files(tmp_path, "tsv", "text\tlabel\none\t0\ntwo\t1\n")
    (tmp_path / "dev.tsv").unlink()
    os.mkfifo(tmp_path / "dev.tsv")
    with pytest.raises(DataError, match=r"dev.tsv: is a pipe, a device or a socket"):
        read(source)
    with pytest.raises(DataError, match="is a pipe, a device or a socket"):
        read(DataSource("/dev/zero"), "embedding")
    os.mkfifo(tmp_path / "books.txt")
    with pytest.raises(DataError, match=r"books.txt: is a pipe"):
        corpus_files(tmp_path)
    with pytest.raises(DataError, match=r"books.txt: is a pipe"):
        read(DataSource(f"hub:{tmp_path}"))
    with pytest.raises(DataError, match=r"is a folder, and a file is needed"):
        list(numbered_lines(tmp_path))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1"])
def test_other_encodings_get_a_sentence(tmp_path: Path, encoding: str) -> None:
    for stem in ("train", "dev"):
        (tmp_path / f"{stem}.tsv").write_bytes("text\tlabel\nça va\t1\n".encode(encoding))
    with pytest.raises(DataError, match=r"train.tsv, line [12]: not UTF-8 text"):
        read(DataSource(str(tmp_path)))


def test_missing_files_say_which_to_give(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no file like train.tsv.*name the right one as data.train_file"):
        read(DataSource(str(tmp_path)))
    (tmp_path / "train.tsv").write_text("text\tlabel\na\t1\n")
    with pytest.raises(DataError, match=r"no file like dev.tsv.*name the right one as data.report_file"):
        read(DataSource(str(tmp_path)))
    with pytest.raises(DataError, match=r"no file like dev_matched.tsv"):
        read(DataSource(str(tmp_path), task="mnli"))
    with pytest.raises(DataError, match=r"no such file other.tsv; name the right one as data.report_file"):
        read(DataSource(str(tmp_path), report_file="other.tsv"))
    with pytest.raises(
        DataError, match=r"classification needs a folder with a training file and a dev file; texts without"
    ):
        read(DataSource(str(tmp_path / "train.tsv")))
    with pytest.raises(DataError, match=r"none.txt: no such file"):
        read(DataSource(str(tmp_path / "none.txt")), "embedding")


@pytest.mark.parametrize("second", ["train.tsv.gz", "train.csv", "train.jsonl.gz"])
def test_files_that_may_both_be_meant_are_named(tmp_path: Path, second: str) -> None:
    write_pair_of_files(tmp_path, "tsv", "text\tlabel\none\t0\ntwo\t1\n")
    content = b'{"text": "a", "label": 1}' if "jsonl" in second else b"text,label\na,1\n"
    (tmp_path / second).write_bytes(gzip.compress(content) if second.endswith(".gz") else content)
    with pytest.raises(
        DataError, match=rf"train.tsv, {second} may all be meant; name the right one as data.train_file"
    ):
        read(DataSource(str(tmp_path)))
    assert read(DataSource(str(tmp_path), train_file="train.tsv")) == ROWS


def test_a_tasks_own_file_goes_before_others(tmp_path: Path) -> None:
    write_pair_of_files(tmp_path, "tsv", "sentence\tlabel\none\t0\ntwo\t1\n")
    (tmp_path / "train.csv").write_text("sentence,label\nx,1\n")
    assert read(DataSource(str(tmp_path), task="sst-2")) == ROWS
    (tmp_path / "dev.tsv.gz").write_bytes(gzip.compress(b"sentence\tlabel\nx\t1\n"))
    with pytest.raises(
        DataError, match=r"dev.tsv, dev.tsv.gz may all be meant; name the right one as data.report_file"
    ):
        read(DataSource(str(tmp_path), task="sst-2"))


@pytest.mark.parametrize(
    ("training", "dev", "missing"),
    [
        ("sentence\tlabel\na\tx\n", "sentence1\tsentence2\tlabel\na\tb\tx\n", "'sentence'"),
        ("sentence1\tsentence2\tlabel\na\tb\tx\n", "sentence\tlabel\na\tx\n", "'sentence1', 'sentence2'"),
        ("text\tlabel\na\tx\n", "text\tgold_label\na\tx\n", "'label'"),
    ],
)
def test_dev_sets_have_the_columns_that_are_trained_with(tmp_path: Path, training: str, dev: str, missing: str) -> None:
    (tmp_path / "train.tsv").write_text(training)
    (tmp_path / "dev.tsv").write_text(dev)
    with pytest.raises(DataError, match=f"dev.tsv: no column {missing}, which train.tsv has and is trained with"):
        read(DataSource(str(tmp_path)))


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("text\ttext\tlabel", "several columns are called 'text'; give each its own name"),
        ("sentence1\tsentence2\tpremise\thypothesis\tlabel", r"several columns may be the text .*; name data.text"),
        ("sentence\ttext\tlabel", r"may be the text \('sentence', 'text'\)"),
        ("text\tlabel\tgold_label", r"several columns may be the label \('gold_label', 'label'\); name data.label"),
        ("a great film\t1", r"train.tsv seems to have no header: its first line reads 'a great film', '1'"),
        ("a film so long that it has no end\tbad", "seems to have no header"),
    ],
)
def test_headers_that_leave_doubts_are_refused(tmp_path: Path, header: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(
            write_pair_of_files(tmp_path, "tsv", f"{header}\n" + "\t".join("abcdefg"[: header.count("\t") + 1]) + "\n")
        )


def test_messages_stay_short(tmp_path: Path) -> None:
    names = "\t".join(f"{'x' * 900} {number}" for number in range(300))
    for header in (names, names.replace("x", "word "), "\t".join(["same" * 300] * 2)):
        with pytest.raises(DataError) as failure:
            read(write_pair_of_files(tmp_path, "tsv", f"{header}\n"))
        assert len(str(failure.value)) < 1000


def test_cola_with_a_header_is_read_by_it(tmp_path: Path) -> None:
    write_pair_of_files(tmp_path, "tsv", "sentence\tsource\tlabel\none\tx\t0\ntwo\ty\t1\n")
    assert read(DataSource(str(tmp_path), task="cola")) == ROWS


def test_heads_and_tasks_have_to_fit(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="task sts-b is for the head regression, not classification"):
        read(DataSource(str(tmp_path), task="STSB"))
    with pytest.raises(DataError, match="no parts for the head 'masked-lm'"):
        read(DataSource(str(tmp_path)), "masked-lm")
    with pytest.raises(DataError, match="python-docstrings has no labels"):
        read(DataSource("python-docstrings"))


def test_sentences_come_from_text_files_tables_and_folders(tmp_path: Path) -> None:
    (tmp_path / "some.txt").write_text("one \n\n two\none\n")
    (tmp_path / "train.csv").write_text("id,sentence1,sentence2\n1,one,x\n2,two,y\n")
    (tmp_path / "texts.jsonl.gz").write_bytes(gzip.compress(b'{"text": "one"}\n{"text": "two"}\n'))
    expected = [(Example("one"),), (Example("two"),)]
    for name in ("some.txt", "train.csv", "texts.jsonl.gz", ""):
        assert read(DataSource(str(tmp_path / name)), "embedding") == expected


def test_further_reports_are_parts_of_their_own(tmp_path: Path) -> None:
    header = "sentence1\tsentence2\tgold_label\n"
    (tmp_path / "train.tsv").write_text(f"{header}a\tb\tx\nc\td\ty\n")
    (tmp_path / "dev_matched.tsv").write_text(f"{header}e\tf\tx\n")
    notes: list[str] = []
    source = DataSource(str(tmp_path), task="MNLI")
    assert list(read_source(source, "classification", notes).reports) == ["report"]
    assert "no dev_mismatched.tsv, so that there is no report_mismatched part" in notes[0]
    (tmp_path / "dev_mismatched.tsv").write_text(f"{header}g\th\ty\n")
    reports = read_source(source, "classification", []).reports
    assert {name: rows[0].example.text for name, rows in reports.items()} == {"report": "e", "report_mismatched": "g"}


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"tokens": ["a"], "ner_tags": ["O", "O"]}, "train.jsonl, line 2: 1 words but 2 tags"),
        ({"tokens": "a b", "ner_tags": ["O", "O"]}, "line 2: column 'tokens' holds no list"),
    ],
)
def test_words_need_a_tag_each(tmp_path: Path, record: dict[str, object], message: str) -> None:
    good = {"tokens": ["a", "b"], "ner_tags": ["O", "B"]}
    source = write_pair_of_files(tmp_path, "jsonl", f"{json.dumps(good)}\n{json.dumps(record)}\n")
    with pytest.raises(DataError, match=message):
        read(source, "token-classification")
