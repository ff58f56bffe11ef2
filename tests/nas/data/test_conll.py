from __future__ import annotations

from pathlib import Path

import pytest

from ortnas.nas.data import DataError
from ortnas.nas.data.conll import is_tagged, open_conll

Tagged = list[tuple[str, str]]


def sentences(path: Path, content: str, notes: list[str] | None = None) -> list[Tagged]:
    path.write_bytes(content.encode())
    rows = [record for _, record in open_conll(path, [] if notes is None else notes).rows]
    return [list(zip(row["tokens"], row["ner_tags"], strict=True)) for row in rows]


EU = [("EU", "B-ORG"), ("rejects", "O")]


@pytest.mark.parametrize(
    "content",
    [
        "EU B-ORG\nrejects O\n",
        "\n\nEU B-ORG\nrejects O\n \n\t\n\n",
        "\ufeffEU B-ORG\r\nrejects O\r\n",
        "EU\tB-ORG\nrejects\tO",
        "EU B-ORG  \nrejects\tO \n",
        "EU NNP B-NP B-ORG\nrejects VBZ B-VP O\n",
        "-DOCSTART- -X- -X- O\n\nEU -X- _ B-ORG\nrejects -X- _ O\n\n-DOCSTART- O\n",
        "# id 0000\tdomain=en\nEU _ _ B-ORG\nrejects _ _ O\n",
        "# id c4b1\n# source x y\n#\nEU B-ORG\nrejects O\n\n# end\n",
        "# note\nEU B-ORG\nrejects O\n",
    ],
)
def test_a_sentence_reads_alike_however_its_file_is_laid_out(tmp_path: Path, content: str) -> None:
    assert sentences(tmp_path / "train.txt", content) == [EU]


def test_sentences_end_at_blank_lines_and_document_marks(tmp_path: Path) -> None:
    content = "EU B-ORG\nrejects O\n-DOCSTART- O\nUlm B-LOC\n\n\nEU B-ORG\nrejects O"
    assert sentences(tmp_path / "train.txt", content) == [EU, [("Ulm", "B-LOC")], EU]


def test_a_hash_with_a_tag_is_a_word_wherever_it_stands(tmp_path: Path) -> None:
    content = "# O\nbrexit B-TOPIC\n\n#nhs B-TOPIC\n# O\n# O\n\n# note here\n#x B-NEW\n\n# comment\nat O\n"
    assert sentences(tmp_path / "train.txt", content) == [
        [("#", "O"), ("brexit", "B-TOPIC")],
        [("#nhs", "B-TOPIC"), ("#", "O"), ("#", "O")],
        [("#x", "B-NEW")],
        [("at", "O")],
    ]


def test_words_may_hold_spaces_where_tabs_part_the_columns(tmp_path: Path) -> None:
    content = "New York\tB-LOC\n10 000\tO\n\u00a0\tO\n"
    tagged = [("New York", "B-LOC"), ("10 000", "O")]
    assert sentences(tmp_path / "train.txt", content.replace("\u00a0\tO\n", "")) == [tagged]
    assert sentences(tmp_path / "train.txt", "a\u00a0b O\nc O\n") == [[("a\u00a0b", "O"), ("c", "O")]]


CONLLU = """\
# sent_id = 1
# text = Vámonos al mar
1-2\tVámonos\t_\t_\t_\t_\t_\t_\t_\t_
1\tVamos\tir\tVERB\t_\t_\t0\troot\t_\t_
2\tnos\tnosotros\tPRON\t_\t_\t1\tobj\t_\t_
2.1\tya\tya\tADV\t_\t_\t_\t_\t1:x\t_
3\tNew York\tmar\tNOUN\tNN\t_\t1\tobl\t_\tSpaceAfter=No

# text = #
1\t#\t#\tSYM\t_\t_\t0\troot\t_\t_
"""


def test_conllu_gives_forms_and_universal_parts_of_speech(tmp_path: Path) -> None:
    notes: list[str] = []
    expected = [[("Vamos", "VERB"), ("nos", "PRON"), ("New York", "NOUN")], [("#", "SYM")]]
    assert sentences(tmp_path / "train.conllu", CONLLU, notes) == expected
    assert notes == ["train.conllu is CoNLL-U: the tags are universal parts of speech (UPOS)"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("EU B-ORG\nrejects\n", "line 2: expected a word and its tag, not 'rejects' alone"),
        ("EU B-ORG\nNew York B-LOC\nx O\n", "line 2: 3 columns where most words of the file have 2; words with spaces"),
        ("EU\tB-ORG\nx\ty\tO\nz\tO\n", "line 2: 3 columns where most"),
        ("EU\tB-ORG\n\tO\nx\tO\n", "line 2: there is no word before the tag 'O'"),
        ("EU\t \tB-ORG\n \tx\tO\n", "line 2: there is no word"),
        ("1\tEU\tB-ORG\tO\n2\tx\tO\tO\n\n1\ty\tO\tO\n", "the first column numbers the words"),
        ("#begin document (x); part 000\nx 0 0 EU NNP *\n", "is written as CoNLL-2012"),
        (CONLLU.replace("\tSYM\t", "\t_\t"), "line 10: the word '#' has no tag"),
        ("EU O\n\n" * 20, "every sentence has one word"),
        ("EU B-ORG\rx O\r", "carriage returns alone"),
        ("E\0U\0 \0B\0\n\0", "holds zero bytes"),
    ],
)
def test_what_cannot_be_read_is_named_by_line(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as failure:
        sentences(tmp_path / "train.txt", content)
    assert str(failure.value).startswith(str(tmp_path / "train.txt"))


def test_a_word_a_line_is_told_from_texts(tmp_path: Path) -> None:
    path = tmp_path / "train.txt"
    for content, tagged in (
        ("EU B-ORG\nrejects O\nit O\n\n# x\nEU B-ORG\n" * 2, True),
        ("a text of words\nanother one\n", False),
        ("two words\nin all\nof its\nlines here\n", False),
        ("word\nwords\n", False),
        ("", False),
    ):
        path.write_text(content)
        assert is_tagged(path) == tagged
