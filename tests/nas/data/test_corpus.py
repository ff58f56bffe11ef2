"""Packing and storage of a corpus, against cutting written out by hand over a vocabulary of numbered words."""

from __future__ import annotations

import gzip
import itertools
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ortnas.nas.data import DataError, PackedCorpus, Sizes, prepare_corpus, read_corpus
from ortnas.nas.data.packing import Tally, pack
from ortnas.nas.text import load_tokenizer

SIZES = Sizes(calibration=3, search=5, report=7)
WORDS = 300
Documents = Sequence[Sequence[Sequence[int]]]


def write_tokenizer(folder: Path, opening: str = "[CLS]", closing: str = "[SEP]", filler: int = 0) -> Path:
    """Word w7 has the id 7 + 5 + filler; unknown words have id 1."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    names = ["[PAD]", "[UNK]", opening, closing, "[MASK]", *(f"[unused{row}]" for row in range(filler))]
    vocabulary = {name: row for row, name in enumerate([*names, *(f"w{word}" for word in range(WORDS))])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{opening} $A {closing}", special_tokens=[(opening, 2), (closing, 3)]
    )
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tokenizer(tmp_path_factory.mktemp("tokenizer"))


def text_of(documents: Documents) -> str:
    return "\n\n".join("\n".join(" ".join(f"w{word}" for word in line) for line in lines) for lines in documents)


def expected_sequences(documents: Documents, max_length: int) -> list[list[int]]:
    sequences = []
    for lines in documents:
        tokens = [word + 5 for line in lines for word in line]
        while len(tokens) >= max_length - 2:
            sequences.append([2, *tokens[: max_length - 2], 3])
            tokens = tokens[max_length - 2 :]
        if len(tokens) >= 16:
            sequences.append([2, *tokens, 3])
    return sequences


def random_documents(count: int, seed: int = 0) -> list[list[list[int]]]:
    rng = np.random.default_rng(seed)
    return [
        [rng.integers(0, WORDS, rng.integers(1, 30)).tolist() for _ in range(rng.integers(1, 12))] for _ in range(count)
    ]


def all_rows(corpus: PackedCorpus) -> list[list[int]]:
    training = [corpus.training.ids(row).tolist() for row in range(len(corpus.training))]
    return training + [list(row) for part in (corpus.calibration, corpus.search, corpus.report) for row in part.ids]


LINES = st.lists(st.lists(st.integers(0, WORDS - 1), min_size=1, max_size=40), min_size=1, max_size=6)


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(documents=st.lists(LINES, max_size=8), max_length=st.integers(8, 40))
def test_packing_cuts_each_document_by_itself(tokenizer_folder: Path, documents: Documents, max_length: int) -> None:
    texts = [
        (number, " ".join(f"w{word}" for word in line)) for number, lines in enumerate(documents) for line in lines
    ]
    tally = Tally()
    packed = [row.tolist() for row in pack(texts, load_tokenizer(tokenizer_folder), max_length, tally)]
    expected = expected_sequences(documents, max_length)
    assert packed == expected
    assert tally.documents == len(documents)
    assert tally.tokens == sum(map(len, expected)) - 2 * len(expected)
    assert tally.tokens + tally.tokens_left_out == sum(len(line) for lines in documents for line in lines)


@pytest.mark.slow
def test_packing_reads_no_further_than_it_must(tokenizer_folder: Path) -> None:
    endless = ((number // 1000, "w1 w2 w3 w4") for number in itertools.count())
    sequences = pack(endless, load_tokenizer(tokenizer_folder), 32, Tally())
    assert next(sequences).tolist()[:3] == [2, 6, 7]
    assert next(endless)[0] < 200


def test_a_line_of_any_length_is_read_in_pieces(tokenizer_folder: Path) -> None:
    words = np.random.default_rng(0).integers(0, WORDS, 30_000).tolist()
    text = " ".join(f"w{word}" for word in words)
    packed = [row.tolist() for row in pack([(0, text)], load_tokenizer(tokenizer_folder), 64, Tally())]
    assert packed == expected_sequences([[words]], 64)


def test_a_prepared_corpus_holds_every_sequence_once(tmp_path: Path, tokenizer_folder: Path) -> None:
    documents = random_documents(60)
    (tmp_path / "books.txt.gz").write_bytes(gzip.compress(text_of(documents).encode()))
    progress: list[tuple[int, int, str]] = []
    corpus = prepare_corpus(
        str(tmp_path / "books.txt.gz"),
        tokenizer_folder,
        tmp_path / "corpus",
        32,
        SIZES,
        seed=4,
        report=lambda done, total, note: progress.append((done, total, note)),
    )
    expected = expected_sequences(documents, 32)
    assert sorted(all_rows(corpus)) == sorted(expected)
    assert [len(corpus.calibration), len(corpus.search), len(corpus.report)] == [3, 5, 7]
    tokens = sum(map(len, expected)) - 2 * len(expected)
    assert corpus.counts == {"documents": 60, "sequences": len(expected), "tokens": tokens}
    left_out = sum(len(line) for lines in documents for line in lines) - tokens
    assert f"{left_out} tokens beside {tokens:,}" in corpus.notes[0]
    assert progress[-1][2] == f"{tokens:,} tokens"
    # Training keeps the order of the corpus.
    chosen = [list(row) for part in (corpus.calibration, corpus.search, corpus.report) for row in part.ids]
    assert [corpus.training.ids(row).tolist() for row in range(len(corpus.training))] == [
        row for row in expected if row not in chosen
    ]
    assert sorted(path.name for path in (tmp_path / "corpus").iterdir()) == ["corpus.json", "sequences.arrow"]


def test_the_view_reads_like_encoded_examples(tmp_path: Path, tokenizer_folder: Path) -> None:
    (tmp_path / "books.txt").write_text(text_of(random_documents(60)))
    corpus = prepare_corpus(str(tmp_path / "books.txt"), tokenizer_folder, tmp_path / "corpus", 32, SIZES, 0)
    view = corpus.training
    rows = [5, 0, len(view) - 1, 5]
    feeds = view.feeds(rows)
    lengths = view.lengths[rows]
    assert feeds["input_ids"].shape == (4, lengths.max())
    assert {array.dtype for array in feeds.values()} == {np.dtype(np.int64)}
    for position, row in enumerate(rows):
        np.testing.assert_array_equal(feeds["input_ids"][position, : lengths[position]], view.ids(row))
        assert feeds["input_ids"][position, lengths[position] :].sum() == 0
    np.testing.assert_array_equal(feeds["attention_mask"].sum(1), lengths)
    assert feeds["token_type_ids"].sum() == 0
    assert view.lengths.dtype == np.int64
    np.testing.assert_array_equal(view.lengths, [len(view.ids(row)) for row in range(len(view))])
    assert view.label_array(rows) is None
    assert corpus.search.labels is None
    for row in (-1, len(view)):
        with pytest.raises(IndexError):
            view.ids(row)


def test_rows_of_many_record_batches_are_found(
    tmp_path: Path, tokenizer_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = random_documents(60)
    (tmp_path / "books.txt").write_text(text_of(documents))
    arguments = (str(tmp_path / "books.txt"), tokenizer_folder, tmp_path / "corpus", 24, SIZES, 0)
    whole = prepare_corpus(*arguments)
    rows = all_rows(whole)
    monkeypatch.setattr("ortnas.nas.data.corpus._BATCH_ROWS", 7)
    pieces = prepare_corpus(*arguments)
    assert all_rows(pieces) == rows
    np.testing.assert_array_equal(pieces.training.lengths, whole.training.lengths)


def test_the_digest_names_tokens_and_what_is_set_aside(tmp_path: Path, tokenizer_folder: Path) -> None:
    documents = random_documents(60)
    (tmp_path / "a.txt").write_text(text_of(documents))
    (tmp_path / "b.txt").write_text(text_of([*documents[:-1], random_documents(1, seed=9)[0]]))

    def prepared(name: str, max_length: int = 32, sizes: Sizes = SIZES, seed: int = 0) -> PackedCorpus:
        return prepare_corpus(str(tmp_path / name), tokenizer_folder, tmp_path / "corpus", max_length, sizes, seed)

    first = prepared("a.txt")
    again = read_corpus(tmp_path / "corpus")
    assert all_rows(first) == all_rows(again)
    assert (first.digest, first.counts, first.notes) == (again.digest, again.counts, again.notes)
    assert prepared("a.txt").digest == first.digest
    others = {
        prepared("b.txt").digest,
        prepared("a.txt", max_length=31).digest,
        prepared("a.txt", seed=1).digest,
        prepared("a.txt", sizes=Sizes(3, 5, 6)).digest,
        first.digest,
    }
    assert len(others) == 5
    assert len(first.digest) == 16
    assert len(prepared("a.txt", sizes=Sizes(3, 5, None)).report) == 5


@pytest.mark.slow
def test_other_tokenizers_bring_their_own_special_tokens(tmp_path: Path) -> None:
    folder = write_tokenizer(tmp_path / "roberta", "<s>", "</s>", filler=70_000)
    (tmp_path / "books.txt").write_text(text_of(random_documents(60)).upper())
    arguments = (str(tmp_path / "books.txt"), folder, tmp_path / "corpus", 32, SIZES, 0)
    upper = prepare_corpus(*arguments)
    assert {token for row in all_rows(upper) for token in row[1:-1]} == {1}
    assert {(row[0], row[-1]) for row in all_rows(upper)} == {(2, 3)}
    lower = prepare_corpus(*arguments, lower=True)
    # Ids beyond two bytes.
    assert min(token for row in all_rows(lower) for token in row[1:-1]) >= 70_005
    assert upper.counts == lower.counts


def test_real_bert_tokenizers_pack_what_they_encode(tmp_path: Path, bert_folder: Path, sentences: list[str]) -> None:
    (tmp_path / "corpus.txt").write_text("\n".join(sentences))
    corpus = prepare_corpus(str(tmp_path / "corpus.txt"), bert_folder, tmp_path / "corpus", 24, SIZES, 0)
    tokenizer = load_tokenizer(bert_folder)
    tokens = [token for text in sentences for token in tokenizer.encode(text, add_special_tokens=False).ids]
    opening, closing = (tokenizer.token_to_id(name) for name in ("[CLS]", "[SEP]"))
    whole = [[opening, *tokens[start : start + 22], closing] for start in range(0, len(tokens), 22)]
    assert sorted(all_rows(corpus)) == sorted(row for row in whole if len(row) >= 18)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "the corpus has no text of a sequence's length"),
        ("w1 w2 w3\n\nw4\n", "the corpus has no text of a sequence's length"),
        ("w1 " * 30 * 46, "the corpus has 46 sequences; 15 are set aside .* at least 32 more. Use a larger corpus"),
        (b"w1\n\xff", r"line 2: not UTF-8 text"),
    ],
)
def test_a_corpus_that_cannot_serve_leaves_nothing_behind(
    tmp_path: Path, tokenizer_folder: Path, content: str | bytes, message: str
) -> None:
    source, folder = tmp_path / "books.txt", tmp_path / "corpus"
    source.write_text(text_of(random_documents(60)))
    prepare_corpus(str(source), tokenizer_folder, folder, 32, SIZES, 0)
    source.write_bytes(content if isinstance(content, bytes) else content.encode())
    (folder / ".sequences.arrow.1.part").write_text("left by a kill")
    with pytest.raises(DataError, match=message):
        prepare_corpus(str(source), tokenizer_folder, folder, 32, SIZES, 0)
    assert list(folder.iterdir()) == []
    with pytest.raises(DataError, match=r"cannot be read.*remove the folder to make it anew"):
        read_corpus(folder)


def test_just_enough_sequences_are_enough(tmp_path: Path, tokenizer_folder: Path) -> None:
    (tmp_path / "books.txt").write_text("w1 " * 30 * 47)
    corpus = prepare_corpus(str(tmp_path / "books.txt"), tokenizer_folder, tmp_path / "corpus", 32, SIZES, 0)
    assert len(corpus.training) == 32


def test_damage_is_noticed(tmp_path: Path, tokenizer_folder: Path) -> None:
    (tmp_path / "books.txt").write_text(text_of(random_documents(60)))
    folder = tmp_path / "corpus"
    prepare_corpus(str(tmp_path / "books.txt"), tokenizer_folder, folder, 32, SIZES, 0)
    index, sequences = folder / "corpus.json", folder / "sequences.arrow"
    recorded, content = json.loads(index.read_text()), sequences.read_bytes()
    sequences.write_bytes(content[:-100])
    with pytest.raises(DataError, match="was changed; remove the folder"):
        read_corpus(folder)
    sequences.write_bytes(b"x" * len(content))
    with pytest.raises(DataError, match=r"cannot be read.*remove the folder"):
        read_corpus(folder)
    sequences.write_bytes(content)
    for changed, message in (({"format": 9}, "of another version"), ({"held_out": {"x": [1]}}, "cannot be read")):
        index.write_text(json.dumps(recorded | changed))
        with pytest.raises(DataError, match=message):
            read_corpus(folder)
