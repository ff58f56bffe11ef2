"""The configuration that ``ortnas init`` writes."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from ortnas.nas.architecture.heads import HEAD_CHOICES, HEADS
from ortnas.nas.data import PYTHON_DOCSTRINGS, Asked, Guess, find_task, guess_source
from ortnas.nas.files import write_aside
from ortnas.nas.run.configuration import ConfigurationError, check_configuration
from ortnas.nas.yaml_documents import YamlError, parse_yaml


def write_starter(
    path: Path,
    checkpoint: str,
    data: str,
    asked: Asked,
    budgets: tuple[str, ...],
    force: bool,
    task: str | None = None,
    further: Sequence[str] = (),
) -> tuple[str, ...]:
    """Writes a commented ``run.yaml``; returns sentences about what was assumed. ``further`` are sources beside the
    first one.

    Raises ConfigurationError where it would overwrite one or lacks something, and DataError where the data may be read
    in several ways.
    """
    if path.exists() and not force:
        raise ConfigurationError(f"{path} exists; --force overwrites it")
    if not checkpoint or not data:
        missing = " and ".join(name for name, value in (("--checkpoint", checkpoint), ("--data", data)) if not value)
        raise ConfigurationError(
            f"{missing} missing: name a BERT checkpoint, and a text file with a sentence a line, {PYTHON_DOCSTRINGS}, "
            f"or a folder with train.tsv and dev.tsv"
        )
    if task is None:
        guess = guess_source(data, asked)
        columns = dict(guess.columns)
    else:
        named = find_task(task)
        guess = Guess(asked.head or named.head, {})
        columns = {"task": named.name, **asked.columns}
    values = {"checkpoint": checkpoint, "head": guess.head, "folder": f"runs/{path.stem}"}
    assumed = list(guess.assumed)
    sources = [_further_source(source, guess.head, assumed) for source in further]
    text = _STARTER.format(
        **{key: _scalar(value) for key, value in values.items()},
        heads=HEAD_CHOICES,
        source=_listed([{"source": data}, *sources]) if sources else f" {_scalar(data)}",
        columns="".join(f"  {key}: {_value(column)}\n" for key, column in columns.items()),
        budgets=", ".join(_scalar(budget, style='"') for budget in budgets),
    )
    try:
        document = parse_yaml(text)
    except YamlError as error:
        raise ConfigurationError(f"{path} would not be YAML: {error}") from None
    check_configuration(document, str(path))
    source = [entry | {"weight": 1} for entry in ({"source": data}, *sources)] if sources else data
    expected = values | {"data": {"source": source, **columns}, "search": document["search"] | {"budgets": [*budgets]}}
    if any(document[key] != value for key, value in expected.items()):
        raise ConfigurationError(f"{path}: a name cannot be written as YAML; use names without control characters")
    write_aside(path, text)
    return tuple(assumed)


def _value(value: str | list[str]) -> str:
    """A text, or a list of them on one line."""
    if isinstance(value, str):
        return _scalar(value)
    return "[" + ", ".join(_scalar(part, style='"') for part in value) + "]"


def _further_source(source: str, head: str, assumed: list[str]) -> dict[str, str]:
    """The entry of a source in the list, with the column of its texts where it is a table."""
    if HEADS[head].labels != "none":
        return {"source": source}  # texts alone, whose columns are found when they are read
    guess = guess_source(source, Asked(head))
    assumed += guess.assumed
    return {"source": source, **guess.columns}


def _listed(sources: Sequence[Mapping[str, str]]) -> str:
    """Entries as a YAML list, one a line."""
    lines = (", ".join(_entry(key, value) for key, value in source.items()) for source in sources)
    return "".join(f"\n    - {{{line}, weight: 1}}" for line in lines)


def _entry(key: str, value: str) -> str:
    return f"{key}: " + _scalar(value, style='"')


def _scalar(value: str, style: str | None = None) -> str:
    """A text as YAML on one line, which reads back as that text. Raises ConfigurationError for one that is no text."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ConfigurationError(f"{value!a} is no UTF-8 text; rename it") from None
    # Whatever needs more than one line has control characters, and double quotes escape those.
    for attempt in (style, '"'):
        lines: list[str] = yaml.safe_dump(
            value, default_style=attempt, allow_unicode=True, width=sys.maxsize
        ).splitlines()
        if len(lines) == 1 or lines[1:] == ["..."]:
            break
    return lines[0]


_STARTER = """\
checkpoint: {checkpoint}   # folder, hub name, or package:NAME/FOLDER
head: {head}   # {heads}
folder: {folder}
seed: 0
precision: int8

data:
  source:{source}
{columns}  # max_length: 128

space:
  preset: default   # or autotinybert-kd, autotinybert-mlm, bigger-and-faster; choices below replace its own
  # hidden_size: [256, 320, 384]
  # ffn_size: [512, 1024, 1536]
  # uniform: [num_heads, ffn_size]

training:
  minutes: 60   # of all stages together; a plan is shown first

target:   # how the package will be run
  threads: 1
  batch: 1
  sequence: 128

bench:
  subnets: 120

search:
  budgets: [{budgets}]   # ms as 6.5, a speed-up over the full model as 2x, requests a second as 400/s
  candidates: 100
"""
