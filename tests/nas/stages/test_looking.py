"""Commands that only look change nothing in the run folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from ortnas.nas.cli.commands import app
from ortnas.nas.stages.commands import bench, deliver, fit_predictor
from tests.nas.stages.small_runs import open_run


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
        ("inspect", str(package)),
        ("verify", str(package)),
    ]
    before = snapshot(trained)
    for command in commands:
        done = CliRunner().invoke(app, command)
        assert done.exit_code in ((0, 1, 3) if command[0] in ("verify", "doctor") else (0,)), (command, done.output)
        assert snapshot(trained) == before, command


def test_looking_at_a_run_that_was_never_made_leaves_no_trace(trained: Path, tmp_path: Path) -> None:
    for command in (("bench", "--list"), ("search", "--candidates", "3"), ("doctor",), ("bench", "--export", "a.csv")):
        name, *options = command
        done = (
            CliRunner().invoke(app, [name, str(trained / "run.yaml"), *options, "--set", f"folder={tmp_path / 'new'}"])
            if name != "doctor"
            else CliRunner().invoke(app, ["doctor", str(tmp_path / "new")])
        )
        assert done.exit_code == 1, done.output
        assert "error: " in done.output
        assert not (tmp_path / "new").exists()
