from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ortnas.nas.architecture.subnet import Subnet
from ortnas.nas.training.alone import cut_out, train_subnet
from ortnas.nas.training.fake_quantization import FakeQuantization
from ortnas.nas.training.loss_names import choose_losses
from ortnas.nas.training.objective import Objective
from ortnas.nas.training.steps import Course, train_supernet
from ortnas.nas.training.supernet import Supernet
from tests.nas.training.courses import KilledError, make_batches, make_course, make_network
from tests.networks import HOST_RECIPE, make_space, random_feeds, random_subnets


def small_subnet() -> Subnet:
    subnet = random_subnets(make_space(depth=(2,)), 1)[0]
    first, last = subnet.layers
    return replace(subnet, layers=(replace(first, num_heads=0, head_size=0), last))


def train(folder: Path, alone: bool, head: str = "classification", stop: int | None = None) -> Supernet:
    network, teacher, subnet = make_network(head), make_network(head), small_subnet()
    objective = Objective(choose_losses(head, None), network.dimensions)
    course = make_course(folder, 6, stop, head=head)
    if alone:
        train_subnet(network, subnet, teacher, objective, course)
    else:
        train_supernet(network, teacher, objective, [[subnet]] * 6, course)
    return network


@pytest.mark.parametrize("head", ["embedding", "classification"])
def test_a_subnet_alone_learns_what_it_learns_inside_the_network(tmp_path: Path, head: str) -> None:
    """Of its own tensors; what it does not use, and only the decay of weights moved before, stays as it was."""
    inside, alone, untrained = train(tmp_path / "a", False, head), train(tmp_path / "b", True, head), make_network(head)
    batch, subnet = make_batches(head, 1)[0][0], small_subnet()
    with torch.no_grad():
        torch.testing.assert_close(alone(batch, subnet), inside(batch, subnet), atol=2e-4, rtol=1e-3)
        assert not torch.allclose(alone(batch, subnet), untrained(batch, subnet), atol=1e-3)
    kept = ({0, 1, 2} - {layer.source for layer in subnet.layers}).pop()
    name = f"layers.{kept}.ffn_in.weight"
    assert torch.equal(alone.tensors[name], untrained.tensors[name])
    assert torch.equal(
        alone.tensors["embeddings.word"][:, subnet.hidden_size :],
        untrained.tensors["embeddings.word"][:, subnet.hidden_size :],
    )


def test_a_network_that_is_cut_holds_contiguous_tensors_of_the_subnet_alone() -> None:
    network, subnet = make_network("embedding"), small_subnet()
    batch = make_batches("embedding", 1)[0][0]
    with torch.no_grad():
        expected = network(batch, subnet)
        before = {name: tensor.clone() for name, tensor in network.tensors.items()}
        with cut_out(network, subnet):
            assert all(tensor.is_contiguous() for tensor in network.parameters())
            assert network.tensors["embeddings.word"].shape[1] == subnet.hidden_size
            layers = {name.split(".")[1] for name in network.tensors if name.startswith("layers.")}
            assert layers == {str(layer.source) for layer in subnet.layers}
            torch.testing.assert_close(network(batch, subnet), expected)
    assert all(torch.equal(before[name], tensor) for name, tensor in network.tensors.items())


def test_a_killed_training_leaves_the_network_as_it_was_and_goes_on_from_its_state(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", True)
    network, subnet = make_network("classification"), small_subnet()
    objective = Objective(choose_losses("classification", None), network.dimensions)
    course = make_course(tmp_path / "killed", 6, 5, head="classification")
    with pytest.raises(KilledError):
        train_subnet(network, subnet, make_network("classification"), objective, course)
    untrained = make_network("classification")
    assert all(torch.equal(untrained.tensors[name], tensor) for name, tensor in network.tensors.items())
    resumed = train(tmp_path / "killed", True)
    assert all(torch.equal(whole.tensors[name], tensor) for name, tensor in resumed.tensors.items())


def test_probes_see_the_subnet_that_is_trained(tmp_path: Path) -> None:
    network, subnet = make_network("classification"), small_subnet()
    batch = make_batches("classification", 1)[0][0]
    outputs: list[np.ndarray] = []

    def after_step(_step: int, _losses: list[tuple[str, float]]) -> None:
        outputs.append(network(batch, subnet).detach().numpy())

    course = make_course(tmp_path, 3, head="classification")
    listening = Course(course.accelerator, course.batches, course.states, after_step)
    objective = Objective({"labels": 1.0}, network.dimensions)
    train_subnet(network, subnet, None, objective, listening)
    assert not np.allclose(outputs[0], outputs[2])
    np.testing.assert_allclose(network(batch, subnet).detach().numpy(), outputs[2], atol=1e-6)


def test_quantization_aware_training_works_on_a_cut_subnet(tmp_path: Path) -> None:
    network, subnet = make_network("classification"), small_subnet()
    calibration = [
        {name: torch.from_numpy(array) for name, array in random_feeds(network.dimensions, seed=seed).items()}
        for seed in range(2)
    ]
    quantization = FakeQuantization(HOST_RECIPE, calibration, subnet, 2)
    objective = Objective(choose_losses("classification", None), network.dimensions)
    course = make_course(tmp_path, 4, head="classification")
    train_subnet(network, subnet, make_network("classification"), objective, course, quantization)
    moved = make_network("classification").tensors["layers.0.ffn_in.weight"] - network.tensors["layers.0.ffn_in.weight"]
    assert (moved.abs().max() > 0) == (0 in {layer.source for layer in subnet.layers})
