from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from ortnas.nas.architecture.heads import HEADS
from ortnas.nas.text import IGNORED
from ortnas.nas.training.importance import measure_importance, reorder
from ortnas.nas.training.supernet import Supernet
from tests.networks import CHAIN, SHAPES, make_dimensions, make_space, random_feeds, random_subnets, random_tensors


def make_network(head: str, seed: int = 0, **changes: Any) -> Supernet:
    dimensions = make_dimensions(head, **changes)
    return Supernet(
        {name: torch.from_numpy(value) for name, value in random_tensors(dimensions, seed).items()}, dimensions
    )


def make_labels(head: str, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if head == "regression":
        return rng.standard_normal(len(mask)).astype(np.float32)
    if head == "span":
        return np.sort(rng.integers(0, mask.sum(1)[:, None], (len(mask), 2)), axis=1)
    if head == "token-classification":
        return np.where((mask == 1) & (rng.random(mask.shape) < 0.6), rng.integers(0, 3, mask.shape), IGNORED)
    return rng.integers(0, 3, len(mask))


def make_batches(network: Supernet, n: int = 4) -> list[dict[str, torch.Tensor]]:
    batches = []
    for seed in range(n):
        feeds = random_feeds(network.dimensions, seed=seed)
        labels = make_labels(network.dimensions.head, feeds["attention_mask"], np.random.default_rng(seed))
        batches.append({name: torch.from_numpy(array) for name, array in (feeds | {"labels": labels}).items()})
    return batches


@pytest.mark.slow
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("shape", SHAPES)
def test_reordering_does_not_change_the_full_network(shape: str, head: str) -> None:
    network = make_network(head, **SHAPES[shape])
    batches = make_batches(network)
    reordered = reorder(network, measure_importance(network, batches, 0))
    full = network.dimensions.full_subnet
    with torch.no_grad():
        for batch in batches:
            torch.testing.assert_close(reordered(batch, full), network(batch, full), atol=1e-4, rtol=1e-4)
    changed = {name for name, tensor in reordered.tensors.items() if not torch.equal(tensor, network.tensors[name])}
    assert {"layers.0.query.weight", "layers.1.ffn_in.weight", "layers.2.ffn_norm.weight"} <= changed
    assert ("embeddings.word" in changed) == (network.dimensions.table_size == 0)
    assert ("embeddings.projection.weight" in changed) == (network.dimensions.table_size > 0)


def test_reordering_does_not_change_what_modules_make_of_the_full_network() -> None:
    network = make_network("embedding", **CHAIN)
    batches = make_batches(network)
    reordered, full = reorder(network, measure_importance(network, batches, 0)), network.dimensions.full_subnet
    with torch.no_grad():
        for batch in batches:
            torch.testing.assert_close(reordered(batch, full), network(batch, full), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("head", HEADS)
def test_every_head_measures_every_kind_of_unit(head: str) -> None:
    network = make_network(head)
    importance = measure_importance(network, make_batches(network), 0)
    assert ("pooled" in importance) == (head in ("classification", "regression"))
    for name, values in importance.items():
        assert torch.isfinite(values).all()
        assert values.max() > 0, name


def test_padding_and_unlabelled_tokens_have_no_weight() -> None:
    for head in ("token-classification", "span", "masked-lm"):
        network = make_network(head)
        (batch,) = make_batches(network, 1)
        probed = {name: value.clone() for name, value in batch.items()}
        padding = batch["attention_mask"] == 0
        assert padding.any()
        probed["input_ids"][padding] = 77
        first, second = (measure_importance(network, [item], 0) for item in (batch, probed))
        for name, values in first.items():
            torch.testing.assert_close(values, second[name], atol=1e-6, rtol=1e-4)
    network = make_network("token-classification")
    (batch,) = make_batches(network, 1)
    importance = measure_importance(network, [batch | {"labels": torch.full_like(batch["labels"], IGNORED)}], 0)
    assert all((values == 0).all() for values in importance.values())


def test_importance_descends_along_every_reordered_axis() -> None:
    network = make_network("classification")
    batches = make_batches(network)
    reordered = reorder(network, measure_importance(network, batches, 0))
    for name, values in measure_importance(reordered, batches, 0).items():
        steps = values.diff(dim=-1)
        assert (steps <= 1e-4 * values.max()).all(), name


@pytest.mark.parametrize("head", HEADS)
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


@pytest.mark.slow
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
