from __future__ import annotations

import numpy as np
import pytest
import torch

from nas.importance import measure_importance, reorder
from nas.supernet import Supernet
from tests.networks import make_dimensions, make_space, random_feeds, random_subnets, random_tensors


def make_network(head: str, seed: int = 0) -> Supernet:
    dimensions = make_dimensions(head)
    return Supernet(
        {name: torch.from_numpy(value) for name, value in random_tensors(dimensions, seed).items()}, dimensions
    )


def make_batches(network: Supernet, n: int = 4) -> list[dict[str, torch.Tensor]]:
    batches = []
    for seed in range(n):
        feeds = random_feeds(network.dimensions, seed=seed)
        batch = {name: torch.from_numpy(array) for name, array in feeds.items()}
        batch["labels"] = torch.from_numpy(np.random.default_rng(seed).integers(0, 3, 3))
        batches.append(batch)
    return batches


@pytest.mark.parametrize("head", ["embedding", "classification"])
def test_reordering_does_not_change_the_full_network(head: str) -> None:
    network = make_network(head)
    batches = make_batches(network)
    reordered = reorder(network, measure_importance(network, batches, 0))
    full = network.dimensions.full_subnet
    with torch.no_grad():
        for batch in batches:
            torch.testing.assert_close(reordered(batch, full), network(batch, full), atol=1e-5, rtol=1e-5)
    assert any(not torch.equal(tensor, network.tensors[name]) for name, tensor in reordered.tensors.items()), (
        "nothing was reordered"
    )


def test_importance_descends_along_every_reordered_axis() -> None:
    network = make_network("classification")
    batches = make_batches(network)
    reordered = reorder(network, measure_importance(network, batches, 0))
    for name, values in measure_importance(reordered, batches, 0).items():
        steps = values.diff(dim=-1)
        assert (steps <= 1e-4 * values.max()).all(), name


@pytest.mark.parametrize("head", ["embedding", "classification"])
def test_units_that_do_nothing_come_last(head: str) -> None:
    network = make_network(head)
    with torch.no_grad():
        network.tensors["layers.1.ffn_out.weight"][:, 5] = 0
        network.tensors["layers.1.output.weight"][:, 2] = 0
    importance = measure_importance(network, make_batches(network), 0)
    assert importance["layers.1.ffn"].argmin() == 5
    assert importance["layers.1.heads"].argmin() == 2
    reordered = reorder(network, importance)
    assert (reordered.tensors["layers.1.ffn_out.weight"][:, -1] == 0).all()
    assert (reordered.tensors["layers.1.output.weight"][:, -1] == 0).all()


def test_slices_of_the_reordered_network_are_closer_to_the_full_one() -> None:
    """On average over random networks: a single one may be lucky without."""
    space = make_space(depth=(3,))
    gains = []
    for seed in range(6):
        network = make_network("embedding", seed)
        batches = make_batches(network, 8)
        reordered = reorder(network, measure_importance(network, batches, 0))
        full = network.dimensions.full_subnet
        with torch.no_grad():
            for subnet in random_subnets(space, 6, seed)[2:]:
                for batch in batches[:2]:
                    target = network(batch, full)
                    ours, plain = ((net(batch, subnet) * target).sum(1).mean() for net in (reordered, network))
                    gains.append(float(ours - plain))
    assert np.mean(gains) > 0.02
