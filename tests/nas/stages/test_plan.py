"""A run's minutes, shared out over its stages."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ortnas.nas.failures import TrainingError
from ortnas.nas.run.plan import PLAN_FILE, Steps, read_plan, usual_steps
from ortnas.nas.run.run import Run
from ortnas.nas.stages.commands import bench, train
from ortnas.nas.stages.plan import make_plan, planned_steps
from tests.e2e.heads import texts, write_head_run
from tests.nas.stages.small_runs import open_run

pytestmark = pytest.mark.slow


@pytest.fixture
def opened(trained: Path, tmp_path: Path) -> Iterator[Callable[..., Run]]:
    """Opens a run of which nothing is trained yet."""
    shutil.copytree(trained / "bert", tmp_path / "bert")
    document = yaml.safe_load((trained / "run.yaml").read_text())
    document |= {"folder": str(tmp_path / "run"), "checkpoint": str(tmp_path / "bert")}
    document["training"] = {"batch_size": 8, "importance_texts": 16, "probe_every": 0}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(document))
    runs: list[Run] = []

    def open_again(minutes: float | None, **changes: Any) -> Run:
        for run in runs:
            run.close()
        training = {"minutes": minutes} | changes.pop("training", {})
        runs.append(open_run(tmp_path, training=training, search={"candidates": 4}, **changes))
        return runs[-1]

    yield open_again
    for run in runs:
        run.close()


def steps_of(run: Run) -> Steps:
    return planned_steps(run.configuration, run.console, run.folder, run.texts, run.clock)


def test_without_minutes_steps_are_the_configured_or_the_usual_ones(opened: Callable[..., Run]) -> None:
    run = opened(None, refinement={"steps": 7})
    assert steps_of(run) == usual_steps(run.configuration) == Steps(1500, 0, 7)
    assert not (run.folder.path / PLAN_FILE).exists()


def test_the_plan_is_shown_first_and_kept(opened: Callable[..., Run], capsys: pytest.CaptureFixture[str]) -> None:
    run = opened(20)
    steps = steps_of(run)
    assert "Plan for 20 minutes" in capsys.readouterr().err
    plan = read_plan(run.folder.path)
    assert plan is not None
    # An embedding's checkpoint is its own teacher; winners get what is left.
    assert steps == Steps(0, 0, None)
    assert list(plan.seconds) == ["teacher", "supernet", "timing", "search", "winners", "export"]
    assert sum(plan.seconds.values()) == pytest.approx(20 * 60, abs=30)
    stamp = (run.folder.path / PLAN_FILE).stat().st_mtime_ns
    assert steps_of(opened(20)) == steps
    assert (run.folder.path / PLAN_FILE).stat().st_mtime_ns == stamp


@pytest.mark.parametrize(("minutes", "count", "most"), [(3, 3000, 3000), (40, 3000, 3000), (40, 240, 250)])
def test_a_teacher_gets_three_tenths_of_the_time_for_trainings(
    tmp_path: Path, minutes: int, count: int, most: int
) -> None:
    for name, rows in (("train", count), ("dev", 30)):
        written = [json.dumps({"text": text, "label": "the" in text.split()}) for text in texts(rows, rows)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(written))
    data = {"source": str(tmp_path), "text": "text", "label": "label", "calibration_size": 16, "search_size": 24}
    write_head_run(tmp_path, "bert", "classification", data)
    training = {"minutes": minutes, "teacher_steps": None, "steps": None, "batch_size": 8, "new_head": True}
    run = open_run(tmp_path, training=training, refinement={"steps": None})
    plan = make_plan(run.configuration, run.console, run.folder, run.texts, run.clock)
    run.close()
    assert plan is not None
    step_s = plan.seconds["teacher"] / plan.steps.teacher
    share_s = 0.3 * (plan.seconds["teacher"] + plan.seconds["winners"])
    # No more than 3,000 steps are ever planned, and none that show a text more than ten times.
    assert plan.seconds["teacher"] == pytest.approx(min(share_s, most * step_s), abs=2 * step_s)
    assert (plan.steps.teacher == most) == (minutes == 40)


def test_configured_steps_stay(opened: Callable[..., Run]) -> None:
    run = opened(20, training={"steps": 5}, refinement={"steps": 60})
    assert steps_of(run) == Steps(0, 5, 60)


def test_other_minutes_leave_what_is_trained(opened: Callable[..., Run]) -> None:
    run = opened(20)
    plan = make_plan(run.configuration, run.console, run.folder, run.texts, run.clock)
    assert plan is not None
    # As if fewer steps had been planned, so that they are soon done.
    file = run.folder.path / PLAN_FILE
    document = json.loads(file.read_text())
    document["steps"]["supernet"] = 3
    file.write_text(json.dumps(document))
    assert train(run)["steps"] == 3
    later = opened(40)
    assert steps_of(later).supernet == 3
    again = read_plan(later.folder.path)
    assert again is not None
    assert again.minutes == 40


def test_too_few_minutes_are_refused_with_how_many_are_needed(opened: Callable[..., Run]) -> None:
    with pytest.raises(TrainingError, match=r"training.minutes = 0.5 is too few: .* about \d+ are needed"):
        steps_of(opened(0.5))


def test_several_processes_do_not_measure_apart(opened: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    run = opened(20)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(TrainingError, match="plan in one process first"):
        steps_of(run)


def test_a_damaged_plan_is_made_again(opened: Callable[..., Run]) -> None:
    run = opened(20)
    steps_of(run)
    (run.folder.path / PLAN_FILE).write_text("{}")
    steps_of(run)
    assert read_plan(run.folder.path) is not None


def test_timing_ends_when_its_time_is_over(opened: Callable[..., Run]) -> None:
    run = opened(20, training={"steps": 0}, bench={"subnets": 120, "cap_s": 0.01})
    train(run)
    run.clock.file.write_text(json.dumps({"bench": 10**6}))
    result = bench(run)
    # No time is left, but a predictor needs some.
    assert result["measurements"] == 40
    assert "in the time that is planned" in result["ending"]
