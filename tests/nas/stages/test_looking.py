"""Commands that only look change nothing in the run folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from ortnas.nas.cli.commands import app
from ortnas.nas.stages.commands import bench, deliver, fit_predictor
from tests.nas.stages.small_runs import open_run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def package(trained: Path) -> Path:
    run = open_run(trained, bench={"subnets": 24})
    try:
        bench(run)
        fit_predictor(run)
        (packaged,) = deliver(run, [run.models.supernet.space.smallest.key])["packages"]
        return Path(packaged)
    finally:
        run.close()


def snapshot(folder: Path) -> dict[Path, tuple[int, bytes]]:
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}


def test_commands_that_look_change_nothing(trained: Path, package: Path, tmp_path: Path) -> None:
    own, folder = str(trained / "run.yaml"), str(trained / "run")
    commands = [
        ("report", folder, "--out", str(tmp_path / "report.html")),
        ("report", own, "--out", str(tmp_path / "report.html")),
        ("bench", folder, "--list"),
        ("bench", own, "--export", str(tmp_path / "timings.csv")),
        ("search", folder, "--candidates", "3", "--set", "search.budgets=[1.1x]"),
        ("doctor", folder),
        ("doctor", own, "--threads", "1"),
        ("inspect", str(package), "--sequence", "16"),
        ("verify", str(package)),
    ]
    before = snapshot(trained)
    for command in commands:
        done = CliRunner().invoke(app, command)
        assert done.exit_code in ((0, 1, 3) if command[0] in ("verify", "doctor") else (0,)), (command, done.output)
        assert snapshot(trained) == before, command


def test_looking_at_a_run_that_was_never_made_leaves_no_trace(trained: Path, tmp_path: Path) -> None:
    document = yaml.safe_load((trained / "run.yaml").read_text()) | {"folder": str(tmp_path / "new")}
    own = tmp_path / "run.yaml"
    own.write_text(yaml.safe_dump(document))
    looks = (("bench", "--list"), ("bench", "--export", "a.csv"), ("search", "--candidates", "3"), ("doctor",))
    for name, *options in (*looks, ("report",)):
        done = CliRunner().invoke(app, [name, str(own), *options])
        assert (done.exit_code, "error: " in done.output) == (1, True), (name, done.output)
        assert not (tmp_path / "new").exists()
