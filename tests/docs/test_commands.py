"""Command lines of the manual have sub-commands and options that exist; nothing is executed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from itertools import pairwise
from pathlib import PurePath
from typing import Any

import typer

from ortnas.nas.cli import app
from tests.docs.pages import ROOT, blocks, spans

_SEPARATORS = {"&&", "||", "|", ";", ">", "<"}


def _group() -> Any:
    return typer.main.get_command(app)


def _options(command: Any) -> set[str]:
    return {"--help"}.union(*(parameter.opts for parameter in command.params))


def _command_lines(text: str) -> Iterator[list[str]]:
    """The arguments of every ``ortnas`` in a block, also as ``python -m ortnas``."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line.removeprefix("$ "), comments=True)
        for position, word in enumerate(words):
            is_first = position == 0 or words[position - 1] in _SEPARATORS
            is_module = word == "ortnas" and position > 0 and words[position - 1] == "-m"
            if is_module or (is_first and PurePath(word).name == "ortnas"):
                arguments = words[position + 1 :]
                end = next((place for place, item in enumerate(arguments) if item in _SEPARATORS), len(arguments))
                yield arguments[:end]


def test_command_lines_in_blocks_parse() -> None:
    group, wrong, seen = _group(), [], 0
    for block in blocks("bash", "sh"):
        for words in _command_lines(block.text):
            seen += 1
            if not words or words[0].startswith("-"):
                wrong += [f"{block}: {word}" for word in words if word not in _options(group)]
                continue
            name, *arguments = words
            if name not in group.commands:
                wrong.append(f"{block}: no command {name}")
                continue
            try:
                group.commands[name].make_context(name, [word for word in arguments if word != "--help"])
            except Exception as error:  # typer may carry a click of its own
                wrong.append(f"{block}: {shlex.join(words)}: {error}")
    assert seen > 20
    assert not wrong


def test_commands_and_options_in_the_text_exist() -> None:
    """A span may leave out arguments, and join several commands by a bar."""
    group, wrong, seen = _group(), [], 0
    for span in spans():
        words = span.text.split()
        if words[:1] != ["ortnas"] or len(words) < 2:
            continue
        seen += 1
        names = [words[1], *(after for word, after in pairwise(words) if word == "|")]
        commands = [name for name in names if re.fullmatch(r"[a-z]+", name)]
        named = [group.commands[name] for name in commands if name in group.commands]
        options = _options(group).union(*map(_options, named))
        wrong += [f"{span}: no command {name}" for name in commands if name not in group.commands]
        wrong += [
            f"{span}: {word}" for word in words if word.startswith("--") and word.partition("=")[0] not in options
        ]
    assert seen > 50
    assert not wrong


def test_options_named_alone_belong_to_a_command_or_a_script() -> None:
    """Options of other tools are written with the tool's name before them, or have underscores."""
    group = _group()
    options = _options(group).union(*(_options(command) for command in group.commands.values()))
    files = [path for folder in ("performance", "gpu") for path in ROOT.glob(f"tests/{folder}/*.py")]
    scripts = "".join(path.read_text(encoding="utf-8") for path in files)
    unknown = []
    for span in spans():
        option = span.text.split()[0].partition("=")[0] if span.text.strip() else ""
        if re.fullmatch(r"--[a-z-]+", option) and option not in options and f'"{option}"' not in scripts:
            unknown.append(f"{span}: {option}")
    assert not unknown
