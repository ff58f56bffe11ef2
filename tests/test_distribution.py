"""What wheels hold, told without building one: hatchling packs the named folders whole, less what git ignores."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def test_wheels_hold_every_package_with_its_data_and_no_tests() -> None:
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has no reader of TOML")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["only-include"] == list(wheel["sources"])
    packages = set(wheel["sources"]) - {"src/ortnas"}
    assert packages == {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests"}
    assert packages == {path.name for path in (ROOT / "src" / "ortnas").iterdir() if path.is_symlink()}
    files = [path for name in packages for path in (ROOT / name).rglob("*") if path.is_file()]
    data = [path for path in files if path.suffix not in (".py", ".pyc")]
    assert {path.name for path in data} >= {"page.html", "page.css", "page.js"}
    assert (ROOT / "src" / "ortnas" / "py.typed").is_file()
    if not (ROOT / ".git").exists():
        pytest.skip("git, which knows what is ignored, is needed for the rest")
    asked = "\n".join(map(str, [*data, ROOT / "export" / "package" / "predict.py"]))
    command = ["git", "check-ignore", "--no-index", "--stdin"]
    ignored = subprocess.run(command, cwd=ROOT, input=asked, capture_output=True, text=True, check=False)
    # 1: none of them is ignored.
    assert (ignored.returncode, ignored.stdout) == (1, "")
