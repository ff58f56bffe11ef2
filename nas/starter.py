"""The configuration that ``ortnas init`` writes."""

from __future__ import annotations

import json
import math
from pathlib import Path

import yaml

from nas.configuration import ConfigurationError, check_configuration
from nas.data import PYTHON_DOCSTRINGS, find_task
from nas.files import write_aside
from nas.yaml_documents import YamlError, parse_yaml

_TEXT_COLUMNS = ("sentence", "sentence1", "text", "question", "premise")
_PAIR_COLUMNS = ("sentence2", "hypothesis", "question2")
_LABEL_COLUMNS = ("label", "gold_label", "target", "class")


def write_starter(
    path: Path,
    checkpoint: str,
    data: str,
    head: str | None,
    budgets: tuple[str, ...],
    force: bool,
    task: str | None = None,
) -> None:
    """Writes a commented ``run.yaml``. Raises ConfigurationError where it would overwrite one or lacks something."""
    if path.exists() and not force:
        raise ConfigurationError(f"{path} exists; --force overwrites it")
    if not checkpoint or not data:
        missing = " and ".join(name for name, value in (("--checkpoint", checkpoint), ("--data", data)) if not value)
        raise ConfigurationError(
            f"{missing} missing: name a BERT checkpoint, and a text file with a sentence a line, {PYTHON_DOCSTRINGS}, "
            f"or a folder with train.tsv and dev.tsv"
        )
    if task is not None:
        columns = {"task": find_task(task).name}
        head = head or find_task(task).head
    else:
        columns = _guess_columns(Path(data) / "train.tsv")
        head = head or ("classification" if Path(data).is_dir() else "embedding")
    text = _STARTER.format(
        checkpoint=_scalar(checkpoint),
        head=_scalar(head),
        folder=_scalar(f"runs/{path.stem}"),
        source=_scalar(data),
        columns="".join(f"  {key}: {_scalar(column)}\n" for key, column in columns.items()),
        budgets=", ".join(map(json.dumps, budgets)),
    )
    try:
        check_configuration(parse_yaml(text), str(path))
    except YamlError as error:
        raise ConfigurationError(f"{path} would not be YAML: {error}") from None
    write_aside(path, text)


def _scalar(value: str) -> str:
    """Text as YAML reads it back, in quotes where it needs them."""
    return yaml.safe_dump(value, allow_unicode=True, width=math.inf).removesuffix("\n").removesuffix("\n...")


def _guess_columns(table: Path) -> dict[str, str]:
    """Columns of a table by the names that are usual, where it has them."""
    if not table.is_file():
        return {}
    with table.open(encoding="utf-8", errors="replace") as stream:  # the data stage says what is wrong with it
        header = stream.readline().rstrip("\n").split("\t")
    found = {}
    for key, usual in (("text", _TEXT_COLUMNS), ("pair", _PAIR_COLUMNS), ("label", _LABEL_COLUMNS)):
        if column := next((name for name in usual if name in header), None):
            found[key] = column
    return found


_STARTER = """\
checkpoint: {checkpoint}   # folder, hub name, or package:NAME/FOLDER
head: {head}   # embedding, classification, regression, token-classification, span or masked-lm
folder: {folder}
seed: 0
precision: int8

data:
  source: {source}
{columns}  max_length: 128

space:
  preset: default   # or autotinybert-kd, autotinybert-mlm, bigger-and-faster; choices below replace its own
  # hidden_size: [256, 320, 384]
  # ffn_size: [512, 1024, 1536]
  # uniform: [num_heads, ffn_size]

training:
  steps: 2000
  learning_rate: 0.0005

target:   # how the package will be run
  threads: 1
  batch: 1
  sequence: 128

bench:
  subnets: 120

search:
  budgets: [{budgets}]   # ms as 6.5, or a speed-up over the full model as 2x
  candidates: 100
"""
