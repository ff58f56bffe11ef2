"""What a new configuration says about data, without being told."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from ortnas.nas.data import Asked, DataError, DataSource, guess_source
from ortnas.nas.data.source import read_source

QNLI = ["index\tquestion\tsentence\tlabel", "0\tWhere is Ulm?\tIt is at the Danube.\tentailment"]


def lines(rows: list[dict[str, Any]]) -> str:
    return "\n".join(map(json.dumps, rows))


def boolq(row: int) -> dict[str, Any]:
    return {"question": f"is it {row}", "passage": f"it is {row}", "idx": row, "label": row % 2 == 0}


SOURCES = {
    "qnli": ("train.tsv", "\n".join(QNLI), "classification", "question", "sentence", "label"),
    "boolq": ("train.jsonl", lines([boolq(row) for row in range(9)]), "classification", "question", "passage", "label"),
    "mrpc": (
        "train.tsv",
        "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\r\n1\t1\t2\tthe one\tthe other\r\n",
        "classification",
        "#1 String",
        "#2 String",
        "Quality",
    ),
    "qqp": (
        "train.tsv",
        "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n0\t1\t2\tis it so\tis it\t0\n",
        "classification",
        "question1",
        "question2",
        "is_duplicate",
    ),
    "sts-b": (
        "train.tsv",
        "index\tsource1\tsentence1\tsentence2\tscore\n0\tx\ta cat\ta dog\t2.250\n1\tx\ta b\tb a\t5.000\n",
        "regression",
        "sentence1",
        "sentence2",
        "score",
    ),
    "stars": ("train.csv", 'text,score\n"one, two",4\n"two, one",5\n', "classification", "text", None, "score"),
    "reviews": (
        "train.csv",
        "review,stars\n" + "".join(f"a film of {row},{row % 5}\n" for row in range(20)),
        "classification",
        "review",
        None,
        "stars",
    ),
    "two texts": (
        "train.csv",
        "claim,proof,verdict\n" + "".join(f"so it is {row},for {row} reasons,{row % 2}\n" for row in range(20)),
        "classification",
        "claim",
        "proof",
        "verdict",
    ),
    "latin": ("train.tsv", "text\tlabel\nça va bien\t1\n", "classification", "text", None, "label"),
}


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("packed", [False, True])
def test_tables_tell_head_and_columns_and_are_read_with_them(tmp_path: Path, name: str, packed: bool) -> None:
    file, content, head, text, pair, label = SOURCES[name]
    for stem in ("train", "dev"):
        path = tmp_path / (file.replace("train", stem) + ".gz" * packed)
        path.write_bytes(gzip.compress(content.encode()) if packed else content.encode())
    guess = guess_source(str(tmp_path), Asked())
    expected = {"text": text, "pair": pair, "label": label}
    assert (guess.head, dict(guess.columns)) == (head, {key: value for key, value in expected.items() if value})
    assert any(head in sentence for sentence in guess.assumed)
    rows = read_source(DataSource(str(tmp_path), **guess.columns), guess.head, []).training
    assert bool(rows[0].example.pair) == (pair is not None)


@pytest.mark.parametrize(
    ("file", "content", "head"),
    [
        ("train.txt", "EU B-ORG\nrejects O\n\nEU B-ORG\nrejects O\n", "token-classification"),
        ("train.conllu", "1\ta\tb\tDET\t_\t_\t0\tx\t_\t_\n", "token-classification"),
        ("train.jsonl", '{"tokens": ["a"], "ner_tags": ["O"]}', "token-classification"),
        ("train.jsonl", '{"id": "1", "question": "q", "context": "c", "answers": {}}', "span"),
        ("train-v1.1.json", "{}", "span"),
        ("train.txt", "a text of words\nanother\n", "embedding"),
    ],
)
def test_other_formats_tell_the_head(tmp_path: Path, file: str, content: str, head: str) -> None:
    (tmp_path / file).write_text(content)
    assert guess_source(str(tmp_path), Asked())[:2] == (head, {})


def test_one_file_is_for_embeddings(tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text("sentence1,sentence2\na cat,a dog\n")
    guess = guess_source(str(tmp_path / "pairs.csv"), Asked())
    assert guess[:2] == ("embedding", {"text": "sentence1"})
    assert guess.assumed == (
        "texts are those of 'sentence1', not of 'sentence2'",
        "one file: head embedding is assumed",
    )
    with pytest.raises(DataError, match="classification needs a folder"):
        guess_source(str(tmp_path / "pairs.csv"), Asked("classification"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text\ttitle\tlabel\na b\tc d\t1\n", "texts may be in 'text', 'title', labels in 'label'"),
        ("a\tb\tc\ty\nx y\tx y\tx y\t1\nx y\tx y\tx y\t1\n", "it is not clear which columns are text and label"),
        ("sentence1\tsentence2\tpremise\thypothesis\tlabel\na\tb\tc\td\t1\n", "several columns may be the text"),
        ("text\tlabel\tscore\na b\t1\t2\n", r"several columns may be the label \('label', 'score'\)"),
        ("text\tnumber\na b\t1\nb c\t2\n", "labels in none, of the columns text, number"),
        ("a great film\t1\na bad one\t0\n", "seems to have no header: its first line reads 'a great film', '1'"),
        ("a great film\tgood\na bad one\tbad\na fine one\tgood\n", "seems to have no header"),
        ("text\ttext\tlabel\na\tb\t1\n", "several columns are called 'text'"),
    ],
)
def test_in_doubt_the_columns_are_asked_for(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "train.tsv").write_text(content)
    with pytest.raises(DataError, match=message) as failure:
        guess_source(str(tmp_path), Asked())
    assert len(str(failure.value).splitlines()) == 1


def test_named_columns_settle_it(tmp_path: Path) -> None:
    (tmp_path / "train.tsv").write_text("text\ttitle\tlabel\tkind\na b\tc d\t1\tx\nb c\td c\t0\ty\n")
    guess = guess_source(str(tmp_path), Asked(None, "title", "text", "kind"))
    assert dict(guess.columns) == {"text": "title", "pair": "text", "label": "kind"}
    assert guess_source(str(tmp_path), Asked(text="text")).columns == {"text": "text", "label": "label"}
    with pytest.raises(DataError, match="no column 'body'; the columns are text, title, label, kind"):
        guess_source(str(tmp_path), Asked(text="body"))


def test_what_is_not_there_is_taken_on_trust_and_the_hub_needs_a_head(tmp_path: Path) -> None:
    guess = guess_source(str(tmp_path / "texts.txt"), Asked())
    assert guess.head == "embedding"
    assert guess.assumed[0].endswith("is not there yet; head embedding is assumed")
    with pytest.raises(DataError, match="--head is missing: what hub:imdb is for"):
        guess_source("hub:imdb", Asked())
    assert guess_source("hub:imdb", Asked("classification", label="y")) == ("classification", {"label": "y"}, ())


def test_an_unknown_head_is_refused_with_those_that_there_are(tmp_path: Path) -> None:
    (tmp_path / "train.tsv").write_text("text\tlabel\n" + "a b\tx\n" * 9)
    for source in (str(tmp_path), "hub:imdb"):
        with pytest.raises(DataError, match="no head 'ranking'; heads are embedding, classification, "):
            guess_source(source, Asked("ranking"))


def test_a_table_of_pairs_is_read_whole_and_judges_embeddings(tmp_path: Path) -> None:
    rows = "".join(f"what is number {row}\tnumber {row} is that\n" for row in range(40))
    (tmp_path / "faq.tsv").write_text(f"question\tanswer\n{rows}")
    guess = guess_source(str(tmp_path / "faq.tsv"), Asked("embedding"))
    assert guess == (
        "embedding",
        {},
        ("texts are those of 'question' and 'answer', and as pairs they judge the embeddings",),
    )
    assert guess_source(str(tmp_path / "faq.tsv"), Asked("embedding", text="answer")).columns == {"text": "answer"}
