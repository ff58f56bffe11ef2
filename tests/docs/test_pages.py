"""What the manual names is there: files, links, functions, configuration keys; its configurations can be read."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

import pytest
import yaml
from pydantic import BaseModel

from ortnas.nas.run.configuration import Configuration, check_configuration
from tests.docs.pages import ROOT, blocks, find_page, read_pages, spans

_PACKAGES = ("ortnas",)
# A dotted name of one of the packages or of a section of the configuration, whatever stands around it.
_DOTTED = re.compile(r"(?<![\w./])(\w+)((?:\.[A-Za-z_]\w*)+)")
_FILE_TYPES = {"md", "py", "json", "jsonl", "sqlite", "yaml", "onnx", "html", "zip"}
# Keys of ortnas.json, which has sections of the same names.
_RECORD_KEYS = {"target.fingerprint.isa"}
_FILE = re.compile(r"\b(?:docs|examples|tests)/[\w./-]+\.(?:py|yaml|md|svg)\b")


def _keys(section: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every key of the configuration with its default."""
    for name, field in section.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _keys(kind, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", None if field.is_required() else field.default


KEYS = dict(_keys(Configuration))
SECTIONS = {key.partition(".")[0] for key in KEYS if "." in key}


def test_relative_links_and_pictures_lead_to_files_and_headings() -> None:
    anchors = {page.path: page.anchors for page in read_pages()}
    broken, seen = [], 0
    for page in read_pages():
        for link in page.links:
            if re.match(r"[a-z]+:", link.text):
                continue
            name, _, anchor = unquote(link.text).partition("#")
            path = (page.path.parent / name).resolve() if name else page.path
            seen += 1
            if not path.exists() or (anchor and anchor not in anchors[path]):
                broken.append(f"{link}: {link.text}")
    assert seen > 20
    assert not broken


def test_files_of_the_repository_that_are_named_exist() -> None:
    named = {(str(piece), name) for piece in (*spans(), *blocks("bash", "text")) for name in _FILE.findall(piece.text)}
    assert len(named) > 10
    assert not [f"{where}: {name}" for where, name in named if not (ROOT / name).exists()]


def test_configurations_can_be_read() -> None:
    """A block that lacks what every run needs is read as a part of one."""
    seen = 0
    for block in blocks("yaml"):
        document = yaml.safe_load(block.text)
        usual: dict[str, Any] = {"checkpoint": "x", "data": {"source": "x"}}
        if not isinstance(document.get("data"), dict) or "task" not in document["data"]:
            usual["head"] = "classification"
        merged = usual | document
        merged["data"] = usual["data"] | document.get("data", {})
        check_configuration(merged, str(block))
        seen += 1
    assert seen > 5


@pytest.mark.parametrize("path", sorted(ROOT.glob("examples/*.yaml")), ids=lambda path: path.name)
def test_examples_can_be_read(path: Any) -> None:
    check_configuration(yaml.safe_load(path.read_text(encoding="utf-8")), path.name)


def test_the_reference_lists_every_key_with_its_default() -> None:
    documented: dict[str, str] = {}
    for cells in find_page("configuration.md").rows:
        names = [child.content for child in cells[0].children or () if child.type == "code_inline"]
        section = names[0].rpartition(".")[0] if names else ""
        keys = [name if "." in name or not section else f"{section}.{name}" for name in names]
        # One default for each, or one for all.
        defaults = cells[1].content.split(", ")
        documented |= zip(keys, defaults if len(defaults) == len(keys) else [cells[1].content] * len(keys), strict=True)
    assert documented.keys() == KEYS.keys()
    wrong = []
    for key, default in KEYS.items():
        # The head is the task's or has to be named; a default of None stands for what the text says.
        if key == "head" or default is None:
            continue
        written = documented[key].strip("`")
        plain = [getattr(item, "name", item) for item in default] if isinstance(default, tuple) else default
        if written != plain and yaml.safe_load(written) != plain:
            wrong.append(f"{key}: {default!r}, documented as {written}")
    assert not wrong


def test_dotted_names_are_keys_or_objects() -> None:
    unknown, seen = [], 0
    for span in spans():
        for match in _DOTTED.finditer(span.text):
            name = match.group()
            if match[1] not in {*_PACKAGES, *SECTIONS} or name.rpartition(".")[2] in _FILE_TYPES:
                continue
            seen += 1
            if name not in KEYS and name not in _RECORD_KEYS and not _exists(name):
                unknown.append(f"{span}: {name}")
    assert seen > 100
    assert not unknown


def test_names_in_the_examples_exist() -> None:
    missing, seen = [], 0
    for block in blocks("python"):
        for node in ast.walk(ast.parse(block.text)):
            names = []
            if isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] in _PACKAGES:
                names = [f"{node.module}.{item.name}" for item in node.names]
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in _PACKAGES:
                names = [f"{node.value.id}.{node.attr}"]
            seen += len(names)
            missing += [f"{block}: {name}" for name in names if not _exists(name)]
    assert seen > 20
    assert not missing


def _exists(name: str) -> bool:
    """Whether a module, or something in one, has this dotted name; fields without a default count."""
    parts = name.split(".")
    if parts[0] not in _PACKAGES:
        return False
    for length in range(len(parts), 0, -1):
        try:
            owner: Any = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            if part in getattr(owner, "__annotations__", {}) and not hasattr(owner, part):
                return True
            if not hasattr(owner, part):
                return False
            owner = getattr(owner, part)
        return True
    return False
