"""Files that were spoilt in many ways: they are read rightly, or refused in one short sentence with nothing written.

``ORTNAS_MUTATIONS`` says how many seeds are tried of every kind; 100 without it.
"""

from __future__ import annotations

import gzip
import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from ortnas.nas.data import DataError, Sizes, Splits, prepare_corpus
from ortnas.nas.data.documents import documents
from ortnas.nas.run.configuration import ConfigurationError, check_configuration
from ortnas.nas.run.task_data import prepare
from ortnas.nas.text import Example
from tests.nas.data.test_corpus import write_tokenizer

SEEDS = range(int(os.environ.get("ORTNAS_MUTATIONS", "100")))
ROWS = 60
LABELS = ("good", "bad", "10", "9")
TAGS = ("O", "B-PER", "I-PER", "B-LOC")
# A text, as read from the file, and its label or tags.
Rows = Counter[tuple[object, object]]
# The bytes of a changed file, and how many of its rows may read otherwise than before.
Spoilt = tuple[bytes, int]
Mutation = Callable[[bytes, Random], Spoilt]


def lines_of(content: bytes) -> list[bytes]:
    return content.splitlines(keepends=True)


def cut_off(content: bytes, rng: Random) -> Spoilt:
    return content[: rng.randrange(len(content))], 1


def without_a_stretch(content: bytes, rng: Random) -> Spoilt:
    start = rng.randrange(len(content))
    return content[:start] + content[start + rng.randrange(1, 80) :], 2


def line_twice(content: bytes, rng: Random) -> Spoilt:
    lines = lines_of(content)
    place = rng.randrange(len(lines))
    return b"".join([*lines[: place + 1], *lines[place:]]), 1


def without_a_line(content: bytes, rng: Random) -> Spoilt:
    lines = lines_of(content)
    del lines[rng.randrange(len(lines))]
    return b"".join(lines), 2


def other_order(content: bytes, rng: Random) -> Spoilt:
    first, *lines = lines_of(content)
    rng.shuffle(lines)
    return first + b"".join(line.rstrip(b"\n") + b"\n" for line in lines), 0


def other_line_ends(content: bytes, rng: Random) -> Spoilt:
    return content.replace(b"\n", rng.choice([b"\r\n", b"\r", b"\n\n", b" \n"])), 0


def other_encoding(content: bytes, rng: Random) -> Spoilt:
    name = rng.choice(["utf-16", "utf-16-le", "utf-32", "latin-1", "cp500", "utf-8-sig"])
    return content.decode().encode(name, errors="replace"), 0


def packed(content: bytes, rng: Random) -> Spoilt:
    return gzip.compress(content)[: rng.choice([None, 40, 400])], 0


def other_bytes(content: bytes, rng: Random) -> Spoilt:
    place = rng.randrange(len(content))
    piece = rng.choice(
        [b"\0", b"\xff", b"\xef\xbb\xbf", b"\t", b"\n", b'"', b",", b"#", b"{", b"\\", b"NaN", b"9" * 5000]
    )
    return content[:place] + piece + content[place:], 2


def nothing_much(content: bytes, rng: Random) -> Spoilt:
    return rng.choice([b"", b"\n", b" ", b"\n" * 99, content[:1], lines_of(content)[0]]), 1


ANY: tuple[Mutation, ...] = (
    cut_off, without_a_stretch, line_twice, without_a_line, other_line_ends,
    other_encoding, packed, other_bytes, nothing_much,
)  # fmt: skip


def other_values(content: bytes, rng: Random) -> Spoilt:
    """One field of a JSON line of another type."""
    lines = lines_of(content)
    place = rng.randrange(len(lines))
    record = json.loads(lines[place])
    key = rng.choice(list(record))
    value = rng.choice(
        ["null", "NaN", "Infinity", "true", "[]", "{}", "[[1]]", '["a", 1]', "1e999", "7" * 5000, '"\\ud800"', '""',
         '" "', "[" * 3000 + "]" * 3000, '{"a": 1, "a": 2}', "1.0", "-0", '"\\u0000"', '"' + "x" * 9000 + '"']
    )  # fmt: skip
    written = [f"{json.dumps(name)}: {value if name == key else json.dumps(own)}" for name, own in record.items()]
    lines[place] = ("{" + ", ".join(written) + "}\n").encode()
    return b"".join(lines), 1


def other_keys(content: bytes, rng: Random) -> Spoilt:
    lines = lines_of(content)
    place = rng.randrange(len(lines))
    record = json.loads(lines[place])
    if rng.random() < 0.5:
        record.pop(rng.choice(list(record)))
        lines[place] = json.dumps(record).encode() + b"\n"
    else:
        lines[place] = lines[place].replace(b"{", b'{"label": "other", ', 1)
    return b"".join(lines), 1


def other_columns(content: bytes, rng: Random) -> Spoilt:
    """Columns of a TSV or CSV moved, named otherwise, twice, or without their header."""
    separator = b"\t" if b"\t" in content else b","
    first, *lines = lines_of(content)
    kind = rng.randrange(4)
    if kind == 0:
        return b"".join(lines), 1
    if kind == 1:
        names = first.strip().split(separator)
        rng.shuffle(names)
        rows = [line.rstrip(b"\n").split(separator) for line in (first, *lines)]
        old = rows[0]
        return b"".join(separator.join(row[old.index(name)] for name in names) + b"\n" for row in rows), 0
    if kind == 2:
        return b"".join(
            line.rstrip(b"\n") + separator + line.split(separator)[0].strip() + b"\n" for line in (first, *lines)
        ), 0
    return first.replace(b"label", rng.choice([b"", b"text", b"x", b"Label", b"label "])) + b"".join(lines), 0


def comment_lines(content: bytes, rng: Random) -> Spoilt:
    lines = lines_of(content)
    place = rng.choice([0, *(number + 1 for number, line in enumerate(lines) if line == b"\n")])
    comment = rng.choice([b"# id 0000\tdomain=en\n", b"# text = a b\n", b"#\n", b"# a\n", b"-DOCSTART- -X- O O\n\n"])
    return b"".join([*lines[:place], comment, *lines[place:]]), 0


def other_layout(content: bytes, rng: Random) -> Spoilt:
    """The words of another standard: more columns, other separators, their numbers first."""
    layouts: tuple[Callable[[bytes, int], bytes], ...] = (
        lambda line, _: line.replace(b" ", b"\t"),
        lambda line, _: line.replace(b" ", b" NN -X- "),
        lambda line, number: b"%d\t%s" % (number, line.replace(b" ", b"\t")),
        lambda line, _: line + b" ",
        lambda line, number: line.replace(b" ", b" x y ") if number % 2 else line,
        lambda line, number: b"%d\t%s\t_\t%s\t_\t_\t0\t_\t_\t_" % (number, *line.split()),
    )
    chosen, number, lines = rng.choice(layouts), 0, []
    for line in content.split(b"\n"):
        number = number + 1 if line else 0
        lines.append(chosen(line, number) if line else line)
    return b"\n".join(lines), 0


def table(kind: str) -> bytes:
    rows = [(f"text {row} is thé {row % 7}th", LABELS[row % 4], str(row)) for row in range(ROWS)]
    if kind == "jsonl":
        records = [{"text": text, "label": label, "id": int(number)} for text, label, number in rows]
        return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode()
    separator = "\t" if kind == "tsv" else ","
    return "".join(separator.join(row) + "\n" for row in [("text", "label", "id"), *rows]).encode()


def tagged() -> bytes:
    sentences = [
        "\n".join(f"wörd{row}x{word} {TAGS[(row + word) % 4]}" for word in range(1 + row % 5)) for row in range(ROWS)
    ]
    return ("\n\n".join(sentences) + "\n").encode()


KINDS: dict[str, tuple[str, bytes, tuple[Mutation, ...]]] = {
    "tsv": ("classification", table("tsv"), (*ANY, other_order, other_columns)),
    "csv": ("classification", table("csv"), (*ANY, other_order, other_columns)),
    "jsonl": ("classification", table("jsonl"), (*ANY, other_order, other_values, other_keys)),
    "conll": ("token-classification", tagged(), (*ANY, comment_lines, other_layout)),
}


def rows_of(content: Splits) -> Rows:
    return Counter(
        _row(example, content.labels) for name, part in content.parts.items() if name != "report" for example in part
    )


def _row(example: Example, labels: tuple[str, ...]) -> tuple[object, object]:
    if example.words:
        return example.words, tuple(labels[tag] for tag in example.tags)
    assert isinstance(example.label, int)
    return example.text, labels[example.label]


def read(folder: Path, kind: str, head: str, content: bytes, original: bytes, tokenizer: Path) -> Rows:
    """What training data of that content becomes, by the way that commands go."""
    data = folder / "data"
    data.mkdir(parents=True)
    (data / f"train.{kind}").write_bytes(content)
    (data / f"dev.{kind}").write_bytes(b"\n".join(original.split(b"\n")[:9]) + b"\n")
    sizes = {"source": str(data), "calibration_size": 2, "search_size": 4, "max_length": 16}
    configuration = check_configuration({"checkpoint": "x", "head": head, "data": sizes}, "test")
    prepared = prepare(configuration, folder / "run", lambda: tokenizer, lambda *_: None, lambda: 16).content
    assert isinstance(prepared, Splits)
    return rows_of(prepared)


def check_refusal(failure: Exception, written: Path) -> None:
    sentence = str(failure)
    assert "\n" not in sentence
    assert len(sentence) < 1000
    assert sentence.isprintable()
    assert not list(written.rglob("*.json")), "nothing is recorded"
    assert not list(written.rglob("*.arrow")), "nothing is half written"


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_spoilt_tables_are_read_rightly_or_refused(tmp_path: Path, tokenizer: Path, kind: str) -> None:
    head, original, mutations = KINDS[kind]
    whole = read(tmp_path / "whole", kind, head, original, original, tokenizer)
    assert len(whole) >= ROWS - 9
    outcomes: Counter[bool] = Counter()
    for seed in SEEDS:
        rng = Random(f"{kind} {seed}")
        content, touched = rng.choice(mutations)(original, rng)
        folder = tmp_path / str(seed)
        try:
            rows = read(folder, kind, head, content, original, tokenizer)
        except (DataError, ConfigurationError) as failure:
            check_refusal(failure, folder / "run")
            outcomes[False] += 1
            continue
        strange = rows - whole
        assert len(strange) <= touched, f"seed {seed}: {list(strange)[:3]}"
        outcomes[True] += 1
    assert len(outcomes) == 2, "some are read and some are refused"


CORPORA: dict[str, tuple[bytes, tuple[Mutation, ...]]] = {
    "txt": ("".join(f"w{row} " * 20 + "ü\n" * (row % 3 + 1) for row in range(99)).encode(), (*ANY, other_order)),
    "jsonl": (
        "".join(
            json.dumps({"text": f"w{row} " * 20 + "ü", "id": row}, ensure_ascii=False) + "\n" for row in range(99)
        ).encode(),
        (*ANY, other_order, other_values, other_keys),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", CORPORA)
def test_spoilt_corpora_are_read_rightly_or_refused(tmp_path: Path, tokenizer: Path, kind: str) -> None:
    original, mutations = CORPORA[kind]
    whole_file = tmp_path / f"whole.{kind}"
    whole_file.write_bytes(original)
    whole = {text for _, text in documents(whole_file)}
    outcomes: Counter[bool] = Counter()
    for seed in SEEDS:
        rng = Random(f"{kind} {seed}")
        content, touched = rng.choice(mutations)(original, rng)
        path = tmp_path / f"{seed}.{kind}"
        path.write_bytes(content)
        try:
            corpus = prepare_corpus(str(path), tokenizer, tmp_path / "run", 16, Sizes(2, 3, 4), 0)
            texts = {text for _, text in documents(path)}
        except DataError as failure:
            check_refusal(failure, tmp_path / "run")
            outcomes[False] += 1
            continue
        assert len(texts - whole) <= touched, f"seed {seed}"
        assert corpus.counts["sequences"] > 9
        outcomes[True] += 1
    assert len(outcomes) == 2, "some are read and some are refused"
