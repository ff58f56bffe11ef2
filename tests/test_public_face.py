"""``import ortnas``: light, complete, and undisturbed by what lies beside a user's script."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import ortnas

# What a user's own modules are called in the folder of the script.
_OWN = ("bench", "export", "nas", "predictors", "search")
_SCRIPT = """
import sys
import bench, export, nas, predictors, search
assert bench.OWN and export.OWN and search.OWN
import ortnas
for name in ortnas.__all__:
    getattr(ortnas, name)
host = ortnas.open_host("local")
assert host.hello()["fingerprint"]["cpu"]
host.close()
space = ortnas.SearchSpace.from_json(ortnas.SearchSpace(
    hidden_size=(8, 16), depth=(1, 2), num_heads=(1, 2), head_size=(8,), ffn_size=(16,), num_layers=2).to_json())
assert sys.modules["search"].OWN, "ours took the place of the user's"
print(space.largest.key)
"""


def run_here(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path.endswith("src"))}
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture
def surroundings(tmp_path: Path) -> Path:
    for name in _OWN[:1] + _OWN[2:]:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("OWN = True\n")
    (tmp_path / "export.py").write_text("OWN = True\n")
    (tmp_path / "script.py").write_text(_SCRIPT)
    return tmp_path


def test_every_name_is_there_and_documented() -> None:
    assert sorted(ortnas.__all__, key=lambda name: (not name[0].isupper(), name)) == ortnas.__all__
    assert set(ortnas.__all__) <= set(dir(ortnas))
    for name in ortnas.__all__:
        assert getattr(ortnas, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = ortnas.nothing  # type: ignore[attr-defined]


def test_the_import_loads_nothing_heavy(tmp_path: Path) -> None:
    code = "import sys; before = set(sys.modules); import ortnas; print(*sorted(set(sys.modules) - before))"
    loaded = set(run_here(tmp_path, "-c", code).stdout.split())
    assert "ortnas" in loaded
    # typing and importlib at most: the standard library's own.
    assert {name.split(".")[0] for name in loaded} - set(sys.stdlib_module_names) == {"ortnas"}
    assert not [name for name in loaded if name.startswith("ortnas.")]


@pytest.mark.slow
def test_a_script_beside_modules_of_our_names_uses_ours_undisturbed(surroundings: Path) -> None:
    done = run_here(surroundings, "script.py")
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_command_line_works_beside_modules_of_our_names(surroundings: Path) -> None:
    for arguments in (("--help",), ("doctor", "--host", "simulated", "--json")):
        done = run_here(surroundings, "-m", "ortnas", *arguments)
        assert done.returncode == 0, done.stderr
