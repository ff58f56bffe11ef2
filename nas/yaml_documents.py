"""Reading YAML so that a document means one thing: keys once, plain values, and a size that a person could write."""

from __future__ import annotations

import re
import stat
from pathlib import Path
from typing import Any

import yaml

from ortnas.nas.failures import OrtnasError
from ortnas.nas.wording import shown

_LARGEST_BYTES = 256 * 1024
_DEEPEST = 20
_MOST_VALUES = 20_000
_DECIMAL = re.compile(r"[-+]?(0|[1-9][0-9_]*)")
_DECIMAL_FRACTION = re.compile(r"[-+]?([0-9][0-9_]*)?(\.[0-9_]*)?([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|nan)", re.IGNORECASE)
_MOST_DIGITS = 400
_PLAIN = tuple(f"tag:yaml.org,2002:{kind}" for kind in ("null", "bool", "int", "float", "str", "seq", "map"))
_MERGE = "tag:yaml.org,2002:merge"


class YamlError(OrtnasError, ValueError):
    """A document that cannot be read, or not in one way only; the message is one sentence with the line."""


def read_yaml(path: Path) -> Any:
    """The document of a file in UTF-8. Raises YamlError, and OSError where the file cannot be read."""
    state = path.stat()
    if stat.S_ISDIR(state.st_mode):
        raise YamlError("is a folder; a YAML file is needed")
    if not stat.S_ISREG(state.st_mode):
        raise YamlError("is no regular file; a YAML file is needed")  # reading a named pipe would wait for ever
    if state.st_size > _LARGEST_BYTES:
        raise YamlError(f"has {state.st_size} bytes; a configuration has at most {_LARGEST_BYTES}")
    content = path.read_bytes()
    try:
        return parse_yaml(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise YamlError(
            f"line {line} is not UTF-8 (byte {content[error.start]:#04x}); save the file as UTF-8"
        ) from None


def parse_yaml(text: str) -> Any:
    """The document's value: dictionaries with text as keys, lists, text, numbers, booleans and None. No two parts of
    it are one object. Raises YamlError."""
    loader = None
    try:
        loader = _Loader(text)
        return _unshared(loader.get_single_data())
    except yaml.MarkedYAMLError as error:
        raise YamlError(_sentence(error)) from None
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        raise YamlError(
            f"line {line}: the character U+{ord(text[error.position]):04X} is not allowed in YAML"
        ) from None
    finally:
        if loader is not None:
            loader.dispose()


def _sentence(error: yaml.MarkedYAMLError) -> str:
    """YAML's own messages have several lines and quote the document."""
    mark = error.problem_mark or error.context_mark
    problem = " ".join(str(error.problem or error.context).split())
    if problem.startswith("but "):
        problem = f"{error.context}, {problem}"
    if "'\\t'" in problem:
        problem = "a tab where YAML needs spaces; indent with spaces"
    return problem if mark is None else f"line {mark.line + 1}, column {mark.column + 1}: {problem}"


def _unshared(value: Any) -> Any:
    """A copy in which what an alias repeats is repeated."""
    if isinstance(value, dict):
        return {key: _unshared(item) for key, item in value.items()}
    return [_unshared(item) for item in value] if isinstance(value, list) else value


class _Loader(yaml.SafeLoader):
    """Dates and ``=`` stay text, keys are text and occur once, numbers are decimal, aliases end."""

    yaml_implicit_resolvers = {  # noqa: RUF012 as in the base class
        first: [(tag, pattern) for tag, pattern in resolvers if tag in _PLAIN or tag == _MERGE]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._open: list[str | None] = []  # anchors of the nodes around the one that is composed, outermost first
        self._sizes: dict[int, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if len(self._open) == _DEEPEST:
            raise _problem(f"more than {_DEEPEST} levels of nesting", event)
        if isinstance(event, yaml.AliasEvent) and event.anchor in self._open:
            raise _problem(f"the alias {str(event.anchor)[:40]!r} is inside what it stands for", event)
        self._open.append(None if isinstance(event, yaml.AliasEvent) else event.anchor)
        node = super().compose_node(parent, index)
        self._open.pop()
        if node is not None and self._count(node) > _MOST_VALUES:
            raise _problem(f"more than {_MOST_VALUES} values, those that aliases repeat included", node)
        return node

    def _count(self, node: yaml.Node) -> int:
        """Values in a complete node, with aliases written out."""
        if isinstance(node, yaml.ScalarNode):
            return 1
        if id(node) not in self._sizes:
            self._sizes[id(node)] = 1 + sum(map(self._count, _children(node)))
        return self._sizes[id(node)]

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        if node.tag not in _PLAIN:
            raise _problem(f"the tag {node.tag.replace('tag:yaml.org,2002:', '!!')[:40]!r} is not used here", node)
        return super().construct_object(node, deep=deep)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        if isinstance(node, yaml.MappingNode):
            _check_keys(node)
        return super().construct_mapping(node, deep=deep)

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """What a merge key (``<<``) takes in is a mapping too."""
        for key, value in node.value:
            if key.tag == _MERGE:
                for merged in [value] if isinstance(value, yaml.MappingNode) else value.value:
                    if isinstance(merged, yaml.MappingNode):
                        _check_keys(merged)
        super().flatten_mapping(node)


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value)


def _check_keys(node: yaml.MappingNode) -> None:
    lines: dict[str, int] = {}
    for key, _ in node.value:
        line = key.start_mark.line + 1
        if key.tag not in ("tag:yaml.org,2002:str", _MERGE):
            written = shown(key.value) if isinstance(key, yaml.ScalarNode) else "a list or section"
            raise _problem(f"{written} is no text and cannot be a key; put it in quotes if it is meant", key)
        if key.value in lines:
            raise _problem(f"the key {shown(key.value)} occurs twice; line {lines[key.value]} has it already", key)
        lines[key.value] = line


def _construct_int(loader: _Loader, node: yaml.ScalarNode) -> int:
    """YAML 1.1 reads 010 as eight and 1:30 as ninety."""
    text = loader.construct_scalar(node)
    if not _DECIMAL.fullmatch(text):
        raise _problem(f"{shown(text)} is no decimal number; put it in quotes if text is meant", node)
    if len(text) > _MOST_DIGITS:
        raise _problem(f"a number of {len(text)} digits", node)
    return int(text.replace("_", ""))


def _construct_float(loader: _Loader, node: yaml.ScalarNode) -> float:
    text = loader.construct_scalar(node)
    if _NOT_FINITE.fullmatch(text):
        return float(text.replace(".", ""))
    try:
        return float(_DECIMAL_FRACTION.fullmatch(text)[0].replace("_", ""))  # type: ignore[index]
    except (TypeError, ValueError):
        raise _problem(f"{shown(text)} is no decimal number; put it in quotes if text is meant", node) from None


def _construct_bool(loader: _Loader, node: yaml.ScalarNode) -> bool:
    text = loader.construct_scalar(node)
    if text.lower() not in yaml.SafeLoader.bool_values:
        raise _problem(f"{shown(text)} is neither true nor false", node)
    return yaml.SafeLoader.bool_values[text.lower()]


_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)
_Loader.add_constructor("tag:yaml.org,2002:float", _construct_float)
_Loader.add_constructor("tag:yaml.org,2002:bool", _construct_bool)


def _problem(text: str, place: Any) -> yaml.constructor.ConstructorError:
    """``place``: a node or an event."""
    return yaml.constructor.ConstructorError(None, None, text, place.start_mark)
