from __future__ import annotations

from pathlib import Path

import pytest

from ortnas.nas.data import docstring_pairs, docstring_sentences
from ortnas.nas.data.docstrings import docstrings, python_files


def test_docstrings_give_prose_and_leave_code_out(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text(
        '"""Opens a file and returns its lines. It raises an error where there is none.\n\n'
        '>>> open_file("x") this is code and not a sentence\n\n"""\n'
        'def f():\n    """Too short."""\n'
    )
    (tmp_path / "broken.py").write_text("def (")
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "skipped.py").write_text('"""A sentence of the tests that nobody should ever see."""')
    assert docstring_sentences(tmp_path) == [
        "It raises an error where there is none.",
        "Opens a file and returns its lines.",
    ]


@pytest.mark.parametrize(
    ("source", "texts"),
    [
        ('"""of a module"""\n', ["of a module"]),
        ("# comment\n\n'''of a\nmodule'''\n", ["of a\nmodule"]),
        ('class A:\n    r"""of a class\n\n    indented"""\n', ["of a class\n\nindented"]),
        ('async def f(\n    a: int,  # none\n) -> None:  # none\n    "on one line"\n', ["on one line"]),
        ('x = """no docstring"""\nf("""nor that""")\n', []),
    ],
)
def test_a_docstring_is_the_first_statement(tmp_path: Path, source: str, texts: list[str]) -> None:
    (tmp_path / "module.py").write_text(source)
    assert list(docstrings(python_files(tmp_path))) == texts


def test_pairs_are_summaries_with_bodies_of_functions_and_classes(tmp_path: Path) -> None:
    summary = "Return the lines of a file."
    body = "Lines are read one by one, and their ends are left out, so that large files need little memory."
    (tmp_path / "module.py").write_text(
        f'"""Return what this module is about.\n\n{body}"""\n'
        f'def f():\n    """{summary}\n\n    {body}\n\n    Parameters\n    ----------\n    a : int\n        A."""\n'
        f'def again():\n    """{summary}\n\n    Another body, {body}"""\n'
        f'def g():\n    """Return all of the other lines. {body[:40]} and then {body[40:]}"""\n'
        'def h():\n    """Return the lines of nothing.\n\n    Too short a body."""\n'
    )
    assert docstring_pairs(tmp_path) == [
        (summary, body),
        ("Return all of the other lines.", f"{body[:40]} and then {body[40:]}"),
    ]
