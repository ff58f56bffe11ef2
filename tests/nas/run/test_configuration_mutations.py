"""A valid ``run.yaml`` with some change works, or is refused in one sentence."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from ortnas.nas.run.configuration import Configuration, ConfigurationError, check_configuration, read_configuration

_DOCUMENT = check_configuration(
    {
        "checkpoint": "a/b",
        "head": "classification",
        "data": {"source": "texts", "text": "sentence", "label": "label"},
        "training": {"losses": {"labels": 0.5, "hidden": 1.0}},
        "target": {"workloads": [{"batch": 1, "sequence": 16, "weight": 0.5}, {"batch": 8}], "affinity": [0, 1]},
        "search": {"budgets": ["2x", "6.5"], "targets": [{"predictor": "folder", "budget_ms": 3.0}]},
    },
    "run.yaml",
).model_dump(mode="json", exclude_none=True)
_ODD_VALUES = (
    None, True, False, 0, -1, 1, 3, 2**31, 2**64, 10**30, -(10**30), 0.5, -0.5, 1e300, float("nan"), float("inf"),
    -float("inf"), "", " ", "no", "nan", "inf", "-1", "1e9", "3%", "nan%", "2x", "-2x", "0x", "x" * 50_000, "a\nb",
    "a\tb", "\u00e4", "\u2028", "\ud800", "..", "/", "~", "package:", "package:../x", "package:a/../b", "hub:",
    "stored:", "ray:", "ssh -o 'x", "-x", "*", "&", "!", "#", "{", "2024-01-01", "1:30",
    [], [[]], [None], [1, 1], ["x"], [1.5], [True], {}, {"a": 1},
    {"a": {"b": {"c": []}}}, ["x"] * 5000, [{"batch": 1}], [{"x": 1}],
)  # fmt: skip
_ODD_TEXT = (
    "\t", "\x00", "\ufeff", "\u2028", "\ud800", "&a ", "*a ", "!!python/name:os.system ", "!!binary ", "!!set ",
    "? ", "- ", ": ", "<<: ",
    "{" * 3000, "[" * 3000, "---\n", "...\n", "%YAML 3.0\n", "'", '"', "#", "| ", "> ",
    "0x10", "010", "1:30", "9" * 5000, "seed: 1\n",
    "head: span\n", "checkpoint: [\n", "a: &a [*a]\n", "\r", "\x85", "no: yes\n", "5: 6\n", "`", "@", "=",
)  # fmt: skip
_ENCODINGS = ("utf-16", "utf-32", "latin-1", "utf-8-sig", "cp037")


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (dictionary or list, key or index) of a document."""
    keys = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    return [place for key in keys for place in [(value, key), *places(value[key])]]


def retype(document: Any, draw: random.Random) -> None:
    section, key = draw.choice(places(document))
    section[key] = copy.deepcopy(draw.choice(_ODD_VALUES))


def drop(document: Any, draw: random.Random) -> None:
    section, key = draw.choice(places(document))
    del section[key]


def nest(document: Any, draw: random.Random) -> None:
    section, key = draw.choice(places(document))
    for _ in range(draw.choice((1, 3, 30))):
        section[key] = draw.choice(([section[key]], {"data": section[key]}, {"x": section[key]}))


def misspell(document: Any, draw: random.Random) -> None:
    section, key = draw.choice([place for place in places(document) if isinstance(place[0], dict)])
    name = str(key)
    place = draw.randrange(len(name) + 1)
    changes = (name[:place] + name[place + 1 :], f"{name}s", name.upper(), name * 9000, f"{name}\n", 5, None, "\ud800")
    section[draw.choice(changes)] = section.pop(key)


def move(document: Any, draw: random.Random) -> None:
    (section, key), (other, other_key) = draw.sample(places(document), 2)
    section[key], other[other_key] = copy.deepcopy(other[other_key]), copy.deepcopy(section[key])


def scale(document: Any, draw: random.Random) -> None:
    numbers = [place for place in places(document) if isinstance(place[0][place[1]], int | float)]
    section, key = draw.choice(numbers or [({"": 0}, "")])
    section[key] = section[key] * draw.choice((-1, 0, 0.5, 10**3, 10**12, 10**40))


def of_text(content: bytes, draw: random.Random) -> bytes:
    """The written document with a line twice, odd text somewhere, bytes changed, cut, or in another encoding."""
    lines = content.decode("utf-8", "surrogatepass").splitlines(keepends=True)
    place = draw.randrange(len(lines) + 1)
    match draw.randrange(6):
        case 0:
            lines.insert(place, draw.choice(lines))
        case 1:
            lines.insert(place, draw.choice(_ODD_TEXT) + "\n")
        case 2:
            text, column = "".join(lines), draw.randrange(len(content) + 1)
            return (text[:column] + draw.choice(_ODD_TEXT) + text[column:]).encode("utf-8", "surrogatepass")
        case 3:
            changed = bytearray(content)
            changed[draw.randrange(len(changed))] = draw.randrange(256)
            return bytes(changed)
        case 4:
            return content[: draw.randrange(len(content))]
        case _:
            return "".join(lines).encode(draw.choice(_ENCODINGS), "replace")
    return "".join(lines).encode("utf-8", "surrogatepass")


CHANGES: tuple[Callable[[Any, random.Random], None], ...] = (retype, retype, retype, drop, nest, misspell, move, scale)


def mutated(seed: int) -> tuple[Any, bytes]:
    """A changed document, and bytes that hold it or what became of it."""
    draw = random.Random(seed)
    document = copy.deepcopy(_DOCUMENT)
    for _ in range(draw.choice((1, 1, 1, 2, 5))):
        draw.choice(CHANGES)(document, draw)
    content = yaml.safe_dump(document, sort_keys=False, allow_unicode=draw.random() < 0.5)
    written = content.encode("utf-8", "surrogatepass")
    return document, of_text(written, draw) if draw.random() < 0.5 else written


def check(read: Callable[[], Configuration]) -> bool:
    """Whether it worked; anything but a result and one sentence is an error."""
    try:
        configuration = read()
    except ConfigurationError as error:
        sentence = str(error)
    else:
        # What was taken can be written down and read again.
        assert check_configuration(configuration.model_dump(mode="json"), "again") == configuration
        return True
    assert sentence.isprintable()
    assert 0 < len(sentence) < 1000
    return False


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100))
def test_a_changed_document_works_or_is_refused_in_one_sentence(seed: int, tmp_path: Path) -> None:
    document, content = mutated(seed)
    path = tmp_path / "run.yaml"
    path.write_bytes(content)
    check(lambda: read_configuration(path, {}))
    check(lambda: check_configuration(document, "run.yaml"))


@pytest.mark.slow
def test_some_changes_are_harmless_and_some_are_not(tmp_path: Path) -> None:
    path, worked = tmp_path / "run.yaml", []
    for seed in range(60):
        path.write_bytes(mutated(seed)[1])
        worked.append(check(lambda: read_configuration(path, {})))
    assert any(worked)
    assert not all(worked)
