from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ortnas.nas.run.clock import Clock


def test_time_adds_up_over_stages_and_starts(tmp_path: Path) -> None:
    file = tmp_path / "clock.json"
    file.write_text('{"train": 100.0}')
    clock = Clock(file)
    with clock.stage("train"), pytest.raises(ZeroDivisionError), clock.stage("bench"):
        _ = 1 / 0
    assert clock.seconds().keys() == {"train", "bench"}
    assert clock.seconds()["train"] > 100
    assert Clock(file).total_seconds == pytest.approx(sum(clock.seconds().values()))


def test_a_stage_that_is_at_work_counts(tmp_path: Path) -> None:
    clock = Clock(tmp_path / "clock.json")
    with clock.stage("refine"):
        first = clock.total_seconds
        assert clock.total_seconds > first >= 0


def test_what_a_killed_command_had_worked_is_not_lost(tmp_path: Path) -> None:
    program = """
import os, sys, time
from pathlib import Path
from ortnas.nas.run import clock
clock._EVERY_S = 0.01
file = Path(sys.argv[1])
with clock.Clock(file).stage("train"):
    while not file.exists() or clock.Clock(file).seconds()["train"] < 0.05:
        time.sleep(0.01)
    os._exit(9)
"""
    file = tmp_path / "clock.json"
    assert subprocess.run([sys.executable, "-c", program, str(file)], check=False).returncode == 9
    assert Clock(file).seconds()["train"] >= 0.05


@pytest.mark.parametrize("content", ["", "[]", '{"train": null}', "not JSON"])
def test_a_damaged_file_counts_as_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / "clock.json").write_text(content)
    assert Clock(tmp_path / "clock.json").seconds() == {}
