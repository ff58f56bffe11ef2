from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ortnas.nas.training.batches import Batch, Batches, Schedule
from ortnas.nas.training.kept_signals import KeptSignals, can_be_kept, signal_bytes
from ortnas.nas.training.loss_names import choose_losses
from ortnas.nas.training.objective import Objective, Signals
from ortnas.nas.training.step_subnets import Sampler
from ortnas.nas.training.steps import Course, train_supernet
from ortnas.nas.training.supernet import Supernet
from tests.nas.training.courses import KilledError, make_course, make_examples, make_network
from tests.networks import make_space

ROOM = 10**9
HEADS = ["embedding", "classification", "regression", "token-classification", "span"]


class Teaching:
    """A teacher's signals, and how many texts they were computed for."""

    def __init__(self, head: str, losses: dict[str, float] | None = None) -> None:
        self.network = make_network(head)
        self.objective = Objective(choose_losses(head, losses), self.network.dimensions)
        self.examples = make_examples(head)
        self.batches = Batches(self.examples, Schedule(10, 8, 1e-3, seed=3))
        self.texts = 0

    def compute(self, batch: Batch) -> Signals:
        self.texts += len(batch["input_ids"])
        full = self.network.dimensions.full_subnet
        with torch.no_grad():
            embedded = self.network.look_up(batch["input_ids"], batch["token_type_ids"])
            return self.objective.signals(self.network, embedded, batch, full, is_teacher=True)

    def keep(self, folder: Path, inputs: str = "x", limit_bytes: int = ROOM, rank: int = 0) -> KeptSignals:
        return KeptSignals(folder, inputs, self.objective, self.examples, limit_bytes, rank)


@pytest.mark.parametrize("head", HEADS)
def test_what_is_read_is_what_was_computed(tmp_path: Path, head: str) -> None:
    teaching = Teaching(head)
    kept = teaching.keep(tmp_path)
    first = [kept.signals(teaching.batches[step][0], teaching.compute) for step in range(5)]
    assert teaching.texts == 40
    for step in range(5):
        batch = teaching.batches[step][0]
        again = kept.signals(batch, teaching.compute)
        exact = teaching.compute(batch)
        teaching.texts -= 8
        for name in ("output", "projected"):
            ours, before, theirs = getattr(again, name), getattr(first[step], name), getattr(exact, name)
            assert torch.equal(ours, before)
            mask = batch["attention_mask"].bool()
            shown = mask if theirs.shape[:2] == mask.shape else ...
            torch.testing.assert_close(ours.float()[shown], theirs[shown], atol=1e-5, rtol=1e-3)
    assert teaching.texts == 40


def test_batches_of_other_texts_compute_what_is_missing_alone(tmp_path: Path) -> None:
    teaching = Teaching("embedding")
    kept = teaching.keep(tmp_path)
    first, second = teaching.batches[0][0], teaching.batches[1][0]
    kept.signals(first, teaching.compute)
    length = max(first["input_ids"].shape[1], second["input_ids"].shape[1])
    both = {
        name: torch.cat(
            [
                torch.nn.functional.pad(
                    batch[name][:4], (0, length - batch[name].shape[1] if batch[name].ndim > 1 else 0)
                )
                for batch in (first, second)
            ]
        )
        for name in first
    }
    mixed = kept.signals(both, teaching.compute)
    assert teaching.texts == 8 + 4
    torch.testing.assert_close(mixed.output, teaching.compute(both).output, atol=1e-5, rtol=0)


def test_a_later_start_reads_what_was_flushed_and_computes_the_others_again(tmp_path: Path) -> None:
    teaching = Teaching("embedding")
    kept = teaching.keep(tmp_path)
    before = kept.signals(teaching.batches[0][0], teaching.compute)
    kept.flush()
    kept.signals(teaching.batches[1][0], teaching.compute)  # and the process is killed
    teaching.texts = 0
    later = teaching.keep(tmp_path)
    read = later.signals(teaching.batches[0][0], teaching.compute)
    assert teaching.texts == 0
    assert torch.equal(read.projected, before.projected)
    later.signals(teaching.batches[1][0], teaching.compute)
    assert teaching.texts == 8


def test_signals_of_other_inputs_or_losses_are_removed(tmp_path: Path) -> None:
    teaching = Teaching("embedding")
    kept = teaching.keep(tmp_path)
    kept.signals(teaching.batches[0][0], teaching.compute)
    kept.flush()
    assert teaching.keep(tmp_path).kept_bytes > 0
    assert teaching.keep(tmp_path, "of another teacher").kept_bytes == 0
    assert len(list(tmp_path.iterdir())) == 1
    teaching.keep(tmp_path)
    other = Teaching("embedding", {"embedding": 1.0})
    assert other.keep(tmp_path).kept_bytes == 0


@pytest.mark.parametrize("damage", ["cut", "marks", "gone"])
def test_damaged_files_are_filled_anew(tmp_path: Path, damage: str) -> None:
    teaching = Teaching("embedding")
    kept = teaching.keep(tmp_path)
    expected = kept.signals(teaching.batches[0][0], teaching.compute)
    kept.flush()
    (folder,) = tmp_path.iterdir()
    if damage == "cut":
        (folder / "projected").write_bytes(b"\x01" * 100)
    elif damage == "marks":
        (folder / "seen-0.npy").write_bytes(b"\x01" * 100)
    else:
        (folder / "output").unlink()
    teaching.texts = 0
    read = teaching.keep(tmp_path).signals(teaching.batches[0][0], teaching.compute)
    assert teaching.texts == 8
    assert torch.equal(read.projected, expected.projected)


def test_marks_of_lost_signals_are_lost_too(tmp_path: Path) -> None:
    teaching = Teaching("embedding")
    kept = teaching.keep(tmp_path, rank=1)
    kept.signals(teaching.batches[0][0], teaching.compute)
    kept.flush()
    (folder,) = tmp_path.iterdir()
    (folder / "projected").unlink()
    for _ in range(2):
        assert teaching.keep(tmp_path).kept_bytes == 0


def test_beyond_the_limit_texts_are_computed_every_time(tmp_path: Path) -> None:
    teaching = Teaching("embedding")
    whole = signal_bytes(teaching.objective, teaching.examples)
    kept = teaching.keep(tmp_path, limit_bytes=whole // 2)
    before = [kept.signals(teaching.batches[step][0], teaching.compute) for step in range(5)]
    kept.flush()
    assert 0.3 * whole < kept.kept_bytes <= whole // 2
    teaching.texts = 0
    after = [kept.signals(teaching.batches[step][0], teaching.compute) for step in range(5)]
    assert 16 <= teaching.texts <= 28
    for ours, theirs in zip(after, before, strict=True):
        torch.testing.assert_close(ours.projected, theirs.projected, atol=1e-3, rtol=1e-2)
    assert teaching.keep(tmp_path, limit_bytes=whole // 2).kept_bytes == kept.kept_bytes


def test_processes_read_what_the_others_have_kept(tmp_path: Path) -> None:
    teaching = Teaching("classification")
    for rank in (0, 1):
        kept = teaching.keep(tmp_path, rank=rank)
        kept.signals(teaching.batches[rank][0], teaching.compute)
        kept.flush()
    teaching.texts = 0
    later = teaching.keep(tmp_path)
    for step in (0, 1):
        later.signals(teaching.batches[step][0], teaching.compute)
    assert teaching.texts == 0


def test_what_cannot_be_kept_is_told() -> None:
    assert can_be_kept(Teaching("span").objective)
    assert not can_be_kept(Teaching("classification", {"labels": 1.0}).objective)
    assert not can_be_kept(Teaching("classification", {"relations": 1.0, "hidden": 1.0}).objective)
    masked = Objective(choose_losses("masked-lm", None), make_network("masked-lm").dimensions)
    assert not can_be_kept(masked)
    embedding = Teaching("embedding")
    tokens = sum(len(ids) for ids in embedding.examples.ids)
    dimensions = embedding.network.dimensions
    assert signal_bytes(embedding.objective, embedding.examples) == dimensions.embedding_size * (4 * 40 + 2 * tokens)


def train(folder: Path, kept_folder: Path | None, stop: int | None = None) -> Supernet:
    teaching = Teaching("embedding")
    network, space = make_network("embedding", seed=1), make_space()
    course = make_course(folder, 12, stop)
    kept = None if kept_folder is None else teaching.keep(kept_folder)
    course = Course(course.accelerator, course.batches, course.states, course.after_step, kept)
    sampler = Sampler(space, "sandwich", 1, 12, 0, None)
    train_supernet(network, teaching.network, teaching.objective, sampler, course)
    return network


def test_training_with_kept_signals_is_training_without(tmp_path: Path) -> None:
    """Beyond an epoch of five steps, so that signals are read."""
    kept, computed = train(tmp_path / "a", tmp_path / "kept"), train(tmp_path / "b", None)
    for name, tensor in computed.tensors.items():
        np.testing.assert_allclose(kept.tensors[name].detach(), tensor.detach(), atol=2e-3, err_msg=name)


def test_a_killed_training_with_kept_signals_ends_as_an_uninterrupted_one(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", tmp_path / "kept")
    with pytest.raises(KilledError):
        train(tmp_path / "killed", tmp_path / "other", 7)
    resumed = train(tmp_path / "killed", tmp_path / "other")
    assert all(torch.equal(whole.tensors[name], tensor) for name, tensor in resumed.tensors.items())
