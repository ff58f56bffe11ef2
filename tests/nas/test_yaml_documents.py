"""A document means one thing, or is refused with its line."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest
import yaml

from ortnas.nas.yaml_documents import YamlError, parse_yaml, read_yaml

_BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]\n" for level in range(1, 10)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", "line 3, column 1: the key 'a' occurs twice; line 1 has it already"),
        ("a:\n  b: 1\n  c: 2\n  b: 1", "line 4, column 3: the key 'b' occurs twice; line 2"),
        ("x: {b: 1, 'b': 2}", "the key 'b' occurs twice"),
        ("x:\n- {b: 1, b: 2}", "line 2, column 10: the key 'b' occurs twice"),
        ("b: &b {c: 1, c: 2}\nd: {<<: *b}", "line 1, column 14: the key 'c' occurs twice"),
        ("d:\n  <<: {c: 1, c: 2}", "line 2, column 14: the key 'c' occurs twice"),
        ("d:\n  <<: [{a: 1}, {c: 1, c: 2}]", "line 2, column 23: the key 'c' occurs twice"),
        ("b: &b {c: 1}\nd: {<<: *b, <<: *b}", "the key '<<' occurs twice"),
        ("a: {<<: 3}", "for merging, but found scalar"),
        ("5: a", "'5' is no text and cannot be a key"),
        ("a: {no: 1}", "'no' is no text and cannot be a key"),
        ("? [a]\n: 2", "a list or section is no text and cannot be a key"),
        ("a:\n\tb: 1", "line 2, column 1: a tab where YAML needs spaces"),
        ("a: [", "line 1, column 5: expected the node content"),
        ("a: 1\n---\nb: 2", "line 2, column 1: expected a single document"),
        ("a: *b", "undefined alias"),
        ("a: \ud800", "line 1: the character U\\+D800 is not allowed"),
        ("a: b\nc: \x00", "line 2: the character U\\+0000 is not allowed"),
        (_BOMB, "more than 20000 values, those that aliases repeat included"),
        ("a: &x [*x]", "the alias 'x' is inside what it stands for"),
        ("a: &x {<<: *x}", "the alias 'x' is inside what it stands for"),
        ("[" * 50_000, "more than 20 levels of nesting"),
        ("{a: " * 5000, "more than 20 levels of nesting"),
        ("a: 010", "'010' is no decimal number"),
        ("a: 0x1f", "'0x1f' is no decimal number"),
        ("a: 1:30", "'1:30' is no decimal number"),
        ("a: 1:30.5", "'1:30.5' is no decimal number"),
        (f"a: {'9' * 5000}", "a number of 5000 digits"),
        ("a: !!int x", "'x' is no decimal number"),
        ("a: !!float ''", "'' is no decimal number"),
        ("a: !!bool x", "'x' is neither true nor false"),
        ("a: !!int [1]", "expected a scalar node"),
        ("a: !!binary aGk=", "the tag '!!binary' is not used here"),
        ("a: !!python/object/apply:os.system [ls]", "the tag '!!python/object/apply:os.system' is not used"),
    ],
)
def test_what_has_no_one_meaning_is_refused_in_one_sentence(text: str, message: str) -> None:
    with pytest.raises(YamlError, match=message) as caught:
        parse_yaml(text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: 2024-13-45", {"a": "2024-13-45"}),
        ("a: =", {"a": "="}),
        ("b: &b {c: 1, d: 2}\ne: {<<: *b, c: 3}", {"b": {"c": 1, "d": 2}, "e": {"c": 3, "d": 2}}),
        ("a: [1, -1_000, +2, 0, 1.5, -2.e+3, .5, -.inf, yes, Off, ~, null, x]", None),
        ("", None),
    ],
)
def test_what_is_read_is_what_yaml_says_but_for_dates(text: str, value: object) -> None:
    assert parse_yaml(text) == (yaml.safe_load(text) if value is None else value)
    assert math.isnan(parse_yaml("a: .NaN")["a"])


def test_what_an_alias_repeats_is_not_shared() -> None:
    document = parse_yaml("a: &a {b: [1]}\nc: *a")
    document["c"]["b"].append(2)
    assert document == {"a": {"b": [1]}, "c": {"b": [1, 2]}}


def test_files_that_cannot_be_documents_are_refused_at_once(tmp_path: Path) -> None:
    pipe, large, latin, wide = (tmp_path / name for name in ("pipe", "large", "latin", "wide"))
    os.mkfifo(pipe)
    large.write_text("# " + "x" * 300_000)
    latin.write_bytes("a: 1\nb: ä\n".encode("latin-1"))
    wide.write_bytes("a: 1\n".encode("utf-16"))
    for path, message in (
        (tmp_path, "is a folder"),
        (pipe, "is no regular file"),
        (Path(os.devnull), "is no regular file"),
        (large, "has 300002 bytes; a configuration has at most 262144"),
        (latin, r"line 2 is not UTF-8 \(byte 0xe4\)"),
        (wide, r"line 1 is not UTF-8 \(byte 0xff\)"),
    ):
        with pytest.raises(YamlError, match=message):
            read_yaml(path)
    latin.write_bytes(b"\xef\xbb\xbfa: 1\r\nb: 2\r\n")
    assert read_yaml(latin) == {"a": 1, "b": 2}
