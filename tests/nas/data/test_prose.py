from __future__ import annotations

import pytest

from ortnas.nas.data.prose import prose_sentences


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One sentence is here now. Another one follows\nit at once.", 2),
        ("Too short.", 0),
        ("See :class:`~a.b.Name` and ``code`` for **more** of `the same <target>`_ thing.", 1),
        ("A [link](elsewhere) and ![a picture](there) in the middle of it.", 1),
        ("Read it at https://example.org and nowhere else at all.", 0),
        ("Parameters of it are these\n    an indented text of many words", 0),
        ("- An item of a list is no prose at all.", 0),
        ("A title of some five words\n==========================", 0),
        ("```\nthis is code that goes on\n\nand on it goes after that\n```", 0),
        ("a | table | of | words | b\n--- | --- | ---", 0),
        ("1 + 2 + 3 + 4 + 5 = 15 and so on", 0),
        ("word " * 61, 0),
    ],
)
def test_prose_is_told_from_what_is_none(text: str, sentences: int) -> None:
    assert len(list(prose_sentences(text))) == sentences


def test_markup_goes_and_words_stay() -> None:
    text = "See :class:`~a.b.Name`, ``code`` and **more** of `the same <target>`_ thing in a [link](elsewhere)."
    assert list(prose_sentences(text)) == ["See a.b.Name, code and more of the same thing in a link."]
