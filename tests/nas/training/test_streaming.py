"""A training takes as much memory at its end as after its first steps."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest

from ortnas.nas.training.kept_signals import KeptSignals
from ortnas.nas.training.log import TrainingLog
from ortnas.nas.training.loss_names import choose_losses
from ortnas.nas.training.objective import Objective
from ortnas.nas.training.step_subnets import Sampler, multiply_adds
from ortnas.nas.training.steps import Course, train_supernet
from tests.nas.training.courses import make_course, make_examples, make_network
from tests.networks import make_space

_FIRST, _LAST = 60, 180


@pytest.mark.slow
@pytest.mark.parametrize("head", ["classification", "masked-lm"])
def test_steps_leave_no_objects_behind(tmp_path: Path, head: str) -> None:
    """Batches, signals, losses and lines of the log: one of any kind that stayed after each step would be counted."""
    network, teacher, space = make_network(head), make_network(head), make_space()
    objective = Objective(choose_losses(head, None), network.dimensions)
    made = make_course(tmp_path, _LAST, head=head)
    kept = None if head == "masked-lm" else KeptSignals(tmp_path / "kept", "x", objective, make_examples(head), 10**9)
    log = TrainingLog(tmp_path / "curve.jsonl", _LAST, lambda *_: None, lambda _: None, dict, 50)
    counts: dict[int, int] = {}

    def after_step(step: int, losses: list[tuple[str, float]]) -> None:
        log(step, losses, ["largest", "smallest", "random"][: len(losses)])
        if step in (_FIRST, _LAST):
            gc.collect()
            counts[step] = len(gc.get_objects())

    course = Course(made.accelerator, made.batches, made.states, after_step, kept)
    train_supernet(network, teacher, objective, Sampler(space, "sandwich", 1, _LAST, 0, multiply_adds(space)), course)
    log.close()
    assert counts[_LAST] - counts[_FIRST] < (_LAST - _FIRST) // 2
