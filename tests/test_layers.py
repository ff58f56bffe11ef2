"""The import contracts catch what they are there for."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).resolve().parents[1]
_PARTS = ("bench", "export", "nas", "predictors", "search")
# A module and an import that does not belong there.
_PLANTED = {
    "predictors/prior.py": "from ortnas.nas.report.page import write_page",
    "bench/visits.py": "from ortnas.nas.files import digest",
    "search/front.py": "import torch",
    "nas/training/losses.py": "from ortnas.nas.stages.train import train",
    "nas/data/tasks.py": "from ortnas.search.evolution import Evolution",
    "nas/architecture/space.py": "from ortnas.export.weights import read_supernet",
}


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's code and contracts elsewhere."""
    folder = tmp_path_factory.mktemp("project")
    for part in _PARTS:
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "src", folder / "src", symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "tests").mkdir()
    for name in ("pyproject.toml", "tests/allow_list.py"):
        shutil.copy(ROOT / name, folder / name)
    return folder


def check_imports(folder: Path) -> tuple[int, str]:
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(folder / "src"), str(folder)])}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
def test_planted_violations_are_caught_by_name(copied: Path) -> None:
    status, output = check_imports(copied)
    assert status == 0, output
    for name, line in _PLANTED.items():
        path = copied / name
        path.write_text(f"{path.read_text()}\n{line}\n")
    status, output = check_imports(copied)
    assert status == 1
    for name in _PLANTED:
        module = "ortnas." + name.removesuffix(".py").replace("/", ".")
        assert module in output, (module, output)


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph = grimp.build_graph("ortnas", cache_dir=None)
    # The public face names modules for type checkers alone.
    modules = sorted(graph.modules - {"ortnas"})
    imports = {module: graph.find_modules_directly_imported_by(module) - {"ortnas"} for module in modules}
    TopologicalSorter(imports).prepare()
