from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from nas.failures import TrainingError
from nas.losses import classification_loss, embedding_loss
from nas.supernet import Supernet
from nas.text import EncodedExamples
from nas.training import Batches, Schedule, fine_tune, outputs, train_supernet
from tests.networks import make_dimensions, make_space, random_tensors


class KilledError(Exception):
    """Stands for a kill between two steps."""


def make_network(head: str = "embedding", seed: int = 0) -> Supernet:
    dimensions = make_dimensions(head)
    tensors = {name: torch.from_numpy(value) for name, value in random_tensors(dimensions, seed).items()}
    return Supernet(tensors, dimensions)


def make_examples(n: int = 40) -> EncodedExamples:
    rng = np.random.default_rng(0)
    ids = [rng.integers(0, 120, rng.integers(3, 12)).tolist() for _ in range(n)]
    return EncodedExamples(ids, [[0] * len(row) for row in ids])


def make_schedule(steps: int, learning_rate: float = 1e-3, checkpoint_every: int = 4) -> Schedule:
    return Schedule(steps, 8, learning_rate, seed=3, checkpoint_every=checkpoint_every)


def ignore(done: int, total: int, note: str) -> None:
    pass


def test_batches_are_a_function_of_seed_and_step() -> None:
    first, second = (Batches(make_examples(), None, make_schedule(20)) for _ in range(2))
    for step in (13, 2, 7, 13):
        torch.testing.assert_close(first[step]["input_ids"], second[step]["input_ids"])


def test_an_epoch_shows_every_text_once() -> None:
    examples = make_examples()
    batches = Batches(examples, list(range(40)), make_schedule(5))
    seen = torch.cat([batches[step]["labels"] for step in range(batches.per_epoch)])
    assert sorted(seen.tolist()) == list(range(40))


@pytest.mark.parametrize("stop_after", [5, 8, 11])
def test_resumed_training_ends_with_the_same_weights(tmp_path: Path, stop_after: int) -> None:
    space, teacher = make_space(), make_network()
    batches = Batches(make_examples(), None, make_schedule(12))

    def train(state: Path, stop: int | None = None) -> Supernet:
        def report(done: int, total: int, note: str) -> None:
            if done == stop:
                raise KilledError

        network = make_network()
        train_supernet(network, teacher, space, batches, 2, state, "inputs", report)
        return network

    whole = train(tmp_path / "whole.safetensors")
    with pytest.raises(KilledError):
        train(tmp_path / "killed.safetensors", stop_after)
    resumed = train(tmp_path / "killed.safetensors")
    for name, tensor in whole.tensors.items():
        assert torch.equal(tensor, resumed.tensors[name]), name
        assert name == "embeddings.position" or not torch.equal(tensor, teacher.tensors[name]), f"{name} never moved"


def test_state_of_other_inputs_is_not_resumed(tmp_path: Path) -> None:
    network, done = make_network("classification"), []
    labels = [row % 3 for row in range(40)]
    batches = Batches(make_examples(), labels, make_schedule(4))
    state = tmp_path / "state.safetensors"
    fine_tune(network, batches, state, "one", lambda step, total, note: done.append(step))
    fine_tune(network, batches, state, "one", lambda step, total, note: done.append(step))
    assert done == [1, 2, 3, 4]
    fine_tune(network, batches, state, "another", lambda step, total, note: done.append(step))
    assert done == [1, 2, 3, 4, 1, 2, 3, 4]


def test_a_damaged_state_file_starts_afresh(tmp_path: Path) -> None:
    state = tmp_path / "state.safetensors"
    state.write_bytes(b"\x10" * 40)
    done: list[int] = []
    batches = Batches(make_examples(), [row % 3 for row in range(40)], make_schedule(3))
    fine_tune(make_network("classification"), batches, state, "x", lambda step, total, note: done.append(step))
    assert done == [1, 2, 3]


@pytest.mark.parametrize("head", ["embedding", "classification"])
def test_training_brings_small_subnets_closer_to_the_teacher(tmp_path: Path, head: str) -> None:
    teacher, student, space = make_network(head), make_network(head), make_space()
    examples = make_examples()
    target = outputs(teacher, examples, teacher.dimensions.full_subnet)
    labels = target.argmax(1).tolist() if head == "classification" else None

    def distance() -> float:
        found = outputs(student, examples, space.smallest)
        return float(
            embedding_loss(found, target) if labels is None else classification_loss(found, target, target.argmax(1))
        )

    before = distance()
    batches = Batches(examples, labels, make_schedule(60, learning_rate=3e-3))
    train_supernet(student, teacher, space, batches, 1, tmp_path / "state", "x", ignore)
    assert distance() < 0.8 * before


def test_a_loss_that_is_not_finite_stops_and_names_the_subnet(tmp_path: Path) -> None:
    network, teacher, space = make_network(), make_network(), make_space()
    with torch.no_grad():
        network.tensors["layers.0.ffn_in.bias"][0] = torch.nan
    batches = Batches(make_examples(), None, make_schedule(4))
    with pytest.raises(TrainingError, match=r"step 0 for the subnet hidden 32.*learning_rate"):
        train_supernet(network, teacher, space, batches, 1, tmp_path / "state", "x", ignore)


def test_outputs_keep_the_order_of_the_examples() -> None:
    network, examples = make_network(), make_examples(9)
    full = network.dimensions.full_subnet
    together = outputs(network, examples, full, batch_size=4)
    for row in range(9):
        alone = outputs(network, EncodedExamples([examples.ids[row]], [examples.type_ids[row]]), full)
        torch.testing.assert_close(together[row], alone[0], atol=1e-5, rtol=1e-5)


def test_learning_rate_warms_up_and_falls() -> None:
    rates = [make_schedule(100).rate(step) for step in range(100)]
    assert rates[0] == pytest.approx(1e-4)
    assert max(rates) == pytest.approx(1e-3)
    assert rates.index(max(rates)) == pytest.approx(9, abs=1)
    assert rates[99] < 2e-5
