"""``verify.pyz``: the modules of ortnas that check a package, as one file that Python runs, to travel with the package.

The modules are those of ``ortnas verify``, as they are; which ones is read from their import statements.
"""

from __future__ import annotations

import ast
import io
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import ortnas

ARCHIVE_FILE = "verify.pyz"
_COMMAND = "ortnas.export.package.verify_command"
_ROOT = "ortnas"
# The earliest that a zip file can name: equal modules make equal files.
_DATE = (1980, 1, 1, 0, 0, 0)


def write_archive(folder: Path) -> None:
    (folder / ARCHIVE_FILE).write_bytes(_archive())


def archived_modules() -> dict[str, Path]:
    """The module of the command and all of ortnas that it imports, by name with their files. Imports for
    type checkers alone do not count."""
    modules: dict[str, Path] = {}
    waiting = [_COMMAND]
    while waiting:
        name = waiting.pop()
        file = _file(name)
        if file is None or name in (_ROOT, *modules):
            continue
        modules[name] = file
        is_package = file.name == "__init__.py"
        waiting += [*_packages(name), *_imports(ast.parse(file.read_bytes()), name if is_package else _parent(name))]
    return dict(sorted(modules.items()))


@cache
def _archive() -> bytes:
    # ortnas' own __init__ is about all of it.
    contents = {"__main__.py": Path(__file__).with_name("verify_main.py").read_bytes(), f"{_ROOT}/__init__.py": b""}
    for name, file in archived_modules().items():
        path = name.replace(".", "/")
        contents[f"{path}/__init__.py" if file.name == "__init__.py" else f"{path}.py"] = file.read_bytes()
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for path, content in contents.items():
            archive.writestr(zipfile.ZipInfo(path, _DATE), content, zipfile.ZIP_DEFLATED)
    return stream.getvalue()


def _file(name: str) -> Path | None:
    """Of a module of ortnas, which is not imported; None where there is none of that name."""
    path = Path(ortnas.__path__[0]).joinpath(*name.split(".")[1:])
    return next((file for file in (path / "__init__.py", path.with_name(f"{path.name}.py")) if file.is_file()), None)


def _parent(name: str) -> str:
    return name.rpartition(".")[0]


def _packages(name: str) -> list[str]:
    """The packages that a module lies in."""
    parts = name.split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts))]


def _imports(tree: ast.AST, package: str) -> Iterator[str]:
    """Names that may be modules of ortnas, from every import statement in a module of ``package``, in functions too."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")[: 1 - node.level or None] if node.level else []
            module = ".".join([*parts, *filter(None, [node.module])])
            names = [module, *(f"{module}.{alias.name}" for alias in node.names)]
        else:
            if not isinstance(node, ast.expr):
                yield from _imports(node, package)
            continue
        yield from (name for name in names if name.partition(".")[0] == _ROOT)
