from __future__ import annotations

from pathlib import Path

import pytest

from ortnas.nas.files import read_lines
from ortnas.nas.training.log import TrainingLog


class Listener:
    """Keeps what a log shows."""

    def __init__(self) -> None:
        self.rows: list[str] = []
        self.notes: list[str] = []
        self.probed: list[int] = []
        self.step = 0

    def report(self, done: int, total: int, note: str) -> None:
        self.notes.append(f"{done}/{total} {note}")


def write(
    folder: Path, steps: range, listener: Listener, every: int = 25, state_every: int = 10, inputs: str = "a"
) -> list[dict]:
    def probe() -> dict[str, float]:
        listener.probed.append(listener.step)
        return {"largest": 0.5, "half": 0.25}

    curve = folder / "curve.jsonl"
    log = TrainingLog(curve, 50, listener.report, listener.rows.append, probe, every, state_every, inputs)
    for step in steps:
        listener.step = step
        log(step, [("a", 1.0 + step), ("b", 3.0), ("c", 5.0)], ["largest", "smallest", "random"])
    log.close()
    return read_lines(folder / "curve.jsonl")


def test_losses_are_averaged_by_kind_and_probes_shown_as_a_table(tmp_path: Path) -> None:
    listener = Listener()
    lines = write(tmp_path, range(1, 51), listener)
    assert [line["step"] for line in lines if "loss" in line] == [10, 20, 30, 40, 50]
    assert lines[0]["loss"] == {"largest": 6.5, "smallest": 3.0, "random": 5.0}
    assert [line for line in lines if "score" in line] == [
        {"step": 25, "score": {"largest": 0.5, "half": 0.25}, "inputs": "a"},
        {"step": 50, "score": {"largest": 0.5, "half": 0.25}, "inputs": "a"},
    ]
    assert listener.rows[0].split() == ["step", "loss", "largest", "half"]
    assert listener.rows[1].split()[0::2] == ["25", "0.5000"]
    assert listener.notes[-1].startswith("50/50 loss 9.")


def test_lines_are_every_20_steps_and_where_a_state_is_saved(tmp_path: Path) -> None:
    lines = write(tmp_path, range(1, 51), Listener(), state_every=15)
    assert [line["step"] for line in lines if "loss" in line] == [15, 20, 30, 40, 45, 50]


@pytest.mark.slow
@pytest.mark.parametrize("killed_after", range(1, 51))
def test_a_training_that_goes_on_writes_the_curve_of_one_that_was_left_alone(tmp_path: Path, killed_after: int) -> None:
    alone = write(tmp_path / "alone", range(1, 51), Listener())
    first, second = Listener(), Listener()
    write(tmp_path / "killed", range(1, killed_after + 1), first)
    # States are saved every 10 steps, and the last one may not have been.
    went_on_from = max(0, (killed_after - 1) // 10 * 10)
    lines = write(tmp_path / "killed", range(went_on_from + 1, 51), second)
    assert lines == alone
    assert sorted(first.probed + second.probed) == [25, 50]
    # What is not probed again is shown again where it is computed again.
    shown = [row.split()[0] for row in second.rows[1:]]
    assert shown == [str(step) for step in (25, 50) if step > went_on_from]


def test_the_curve_of_another_training_is_dropped(tmp_path: Path) -> None:
    write(tmp_path, range(1, 51), Listener(), inputs="other")
    lines = write(tmp_path, range(1, 21), Listener())
    assert {line["inputs"] for line in lines} == {"a"}
    assert [line["step"] for line in lines] == [10, 20]


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


def test_tensorboard_gets_no_point_twice(tmp_path: Path) -> None:
    write(tmp_path, range(1, 31), Listener())
    (events,) = (tmp_path / "curve").iterdir()
    events.rename(f"{events}.first")  # two of the same second have one name
    write(tmp_path, range(21, 51), Listener())
    content = b"".join(path.read_bytes() for path in (tmp_path / "curve").glob("events.out.tfevents.*"))
    assert content.count(b"score/half") == 2
    assert content.count(b"loss/largest") == 5
