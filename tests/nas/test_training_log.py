from __future__ import annotations

from pathlib import Path

import pytest

from nas.files import read_lines
from nas.training_log import TrainingLog


class Listener:
    """Keeps what a log shows."""

    def __init__(self) -> None:
        self.rows: list[str] = []
        self.notes: list[str] = []

    def report(self, done: int, total: int, note: str) -> None:
        self.notes.append(f"{done}/{total} {note}")


def write(folder: Path, steps: range, listener: Listener, every: int = 25) -> list[dict]:
    log = TrainingLog(
        folder / "curve.jsonl", 50, listener.report, listener.rows.append, lambda: {"largest": 0.5, "half": 0.25}, every
    )
    for step in steps:
        log(step, [("a", 1.0), ("b", 3.0), ("c", 5.0)], ["largest", "smallest", "random"])
    log.close()
    return read_lines(folder / "curve.jsonl")


def test_losses_are_averaged_by_kind_and_probes_shown_as_a_table(tmp_path: Path) -> None:
    listener = Listener()
    lines = write(tmp_path, range(1, 51), listener)
    assert [line["step"] for line in lines if "loss" in line] == [20, 40, 50]
    assert lines[0]["loss"] == {"largest": 1.0, "smallest": 3.0, "random": 5.0}
    assert [line for line in lines if "score" in line] == [
        {"step": 25, "score": {"largest": 0.5, "half": 0.25}},
        {"step": 50, "score": {"largest": 0.5, "half": 0.25}},
    ]
    assert listener.rows[0].split() == ["step", "loss", "largest", "half"]
    assert listener.rows[1].split() == ["25", "3.000", "0.5000", "0.2500"]
    assert listener.notes[-1] == "50/50 loss 3.0000"


def test_steps_that_are_computed_again_are_not_recorded_twice(tmp_path: Path) -> None:
    write(tmp_path, range(1, 46), Listener())
    lines = write(tmp_path, range(31, 51), Listener())
    assert [line["step"] for line in lines if "loss" in line] == [20, 40, 50]
    assert [line["step"] for line in lines if "score" in line] == [25, 50]


@pytest.mark.parametrize("every", [0, 10**6])
def test_probes_run_at_the_end_unless_turned_off(tmp_path: Path, every: int) -> None:
    lines = write(tmp_path, range(1, 51), Listener(), every)
    assert len([line for line in lines if "score" in line]) == (1 if every else 0)


def test_tensorboard_can_read_the_curve(tmp_path: Path) -> None:
    write(tmp_path, range(1, 51), Listener())
    (events,) = (tmp_path / "curve").glob("events.out.tfevents.*")
    content = events.read_bytes()
    for name in (b"loss/largest", b"score/half"):
        assert name in content
