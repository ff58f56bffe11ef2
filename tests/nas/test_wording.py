from __future__ import annotations

from typing import Any

import pytest

from ortnas.nas.wording import listed, said, shortened, shown


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a b", "'a b'"),
        ("line\nbreak", r"'line\nbreak'"),
        ("\ud800", r"'\ud800'"),
        ("x" * 5000, f"'{'x' * 60}'… (5000 characters)"),
        (["a", 1], "['a', 1]"),
        (list(range(100)), f"{repr(list(range(100)))[:79]}…"),
        (nested(100_000), "a list that cannot be shown"),
    ],
    ids=["short", "two lines", "half a character", "long", "list", "long list", "nested"],
)
def test_values_are_shown_on_one_line(value: Any, text: str) -> None:
    assert shown(value) == text


def test_texts_are_shortened_to_a_length() -> None:
    assert shortened("x" * 80) == "x" * 80
    assert shortened("x" * 81) == f"{'x' * 79}…"
    assert shortened("abcdef", 4) == "abc…"


def test_lists_name_the_first_and_count_the_others() -> None:
    assert listed([]) == ""
    assert listed(["a", "b  c\n d"]) == "a, b c d"
    assert listed(map(str, range(1007))) == "0, 1, 2, 3, 4, 5 and 1,001 more"
    assert listed(["x" * 100, "y"]) == f"{'x' * 79}…, y"


def test_errors_are_said_on_one_line() -> None:
    assert said(ValueError("first\n  second\t third")) == "ValueError: first second third"
    assert len(said(ValueError("x" * 5000))) == len("ValueError: ") + 300
