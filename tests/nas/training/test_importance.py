from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from ortnas.nas.architecture.heads import HEADS
from ortnas.nas.architecture.layout import cut_layers, head_of, network_of, whole_top
from ortnas.nas.architecture.ops import RelativeTable
from ortnas.nas.text import IGNORED
from ortnas.nas.training.importance import LOSSES, measure_importance, reorder
from ortnas.nas.training.supernet import Supernet
from ortnas.nas.training.torch_ops import TorchOps
from tests.networks import (
    CHAIN,
    SHAPES,
    make_dimensions,
    random_feeds,
    random_subnets,
    random_tensors,
    space_of,
)


def make_network(head: str, seed: int = 0, **changes: Any) -> Supernet:
    dimensions = make_dimensions(head, **changes)
    return Supernet(
        {name: torch.from_numpy(value) for name, value in random_tensors(dimensions, seed).items()}, dimensions
    )


def make_labels(head: str, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if head == "regression":
        return rng.standard_normal(len(mask)).astype(np.float32)
    if HEADS[head].takes_label_sets:
        return np.where(rng.random((len(mask), 3)) < 0.5, np.arange(3), IGNORED)
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
    assert ("pooled" in importance) == any("pooled" in axes for axes in HEADS[head].tensors.values())
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


@pytest.mark.parametrize("shape", ["bert", "modernbert"])
def test_importance_descends_along_every_reordered_axis(shape: str) -> None:
    network = make_network("classification", **SHAPES[shape])
    batches = make_batches(network)
    reordered = reorder(network, measure_importance(network, batches, 0))
    for name, values in measure_importance(reordered, batches, 0).items():
        steps = values.diff(dim=-1)
        assert (steps <= 1e-4 * values.max()).all(), name


class GatedOps(TorchOps):
    """With a gate on every channel of the residual stream wherever a block writes it or a norm hands it on."""

    def __init__(self, batch: dict[str, torch.Tensor], width: int, is_pre_norm: bool) -> None:
        super().__init__(batch)
        self.width, self.is_pre_norm = width, is_pre_norm
        self.gates: dict[str, torch.Tensor] = {}

    def gated(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return x * self.gates.setdefault(name, torch.ones(self.width, requires_grad=True))

    def layer_norm(self, name: str, x: torch.Tensor, *rest: Any) -> torch.Tensor:
        normed = super().layer_norm(name, x, *rest)
        return normed if name.startswith("head/") else self.gated(name, normed)

    def linear(self, name: str, x: torch.Tensor, *rest: Any, **options: Any) -> torch.Tensor:
        output = super().linear(name, x, *rest, **options)
        is_written = self.is_pre_norm and name.endswith(("attention/output", "ffn/out"))
        return self.gated(name, output) if is_written else output

    def heads(self, name: str, x: torch.Tensor, *rest: Any, **options: Any) -> torch.Tensor:
        is_read = self.is_pre_norm and name.startswith("layers/0/")
        return super().heads(name, self.gated("layers/0/read", x) if is_read else x, *rest, **options)

    def position_heads(self, name: str, table: RelativeTable[torch.Tensor], *rest: Any) -> torch.Tensor:
        weight, bias = (
            replace(norm, values=self.gated("positions/norm", norm.values))
            for norm in (table.norm_weight, table.norm_bias)
        )
        return super().position_heads(name, replace(table, norm_weight=weight, norm_bias=bias), *rest)


@pytest.mark.parametrize(("shape", "gates"), [("bert", 7), ("mpnet", 7), ("modernbert", 14), ("deberta-v2", 8)])
def test_importance_of_channels_is_the_gradient_of_gates_on_the_residual_stream(shape: str, gates: int) -> None:
    network = make_network("classification", **SHAPES[shape])
    (batch,) = make_batches(network, 1)
    dimensions, architecture = network.dimensions, network_of(network.dimensions)
    ops = GatedOps(batch, dimensions.hidden_size, shape == "modernbert")
    top, layers = (
        whole_top(network.tensors, dimensions),
        cut_layers(network.tensors, dimensions.full_subnet, dimensions),
    )
    hidden = architecture.encode(ops, architecture.look_up(ops, top), top, layers, dimensions)
    LOSSES["class"](head_of(dimensions).apply(ops, hidden, top, dimensions), batch).backward()
    expected = torch.stack([gate.grad.abs() for gate in ops.gates.values()]).sum(0)
    assert len(ops.gates) == gates
    torch.testing.assert_close(measure_importance(network, [batch], 0)["hidden"], expected, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("shape", ["bert", "modernbert"])
def test_units_that_do_nothing_come_last(shape: str, head: str) -> None:
    network = make_network(head, **SHAPES[shape])
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
@pytest.mark.parametrize("shape", ["bert", "modernbert", "deberta-v2"])
def test_slices_of_the_reordered_network_are_closer_to_the_full_one(shape: str) -> None:
    """On average over random networks: a single one may be lucky without."""
    space = space_of(make_dimensions(**SHAPES[shape]), depth=(3,))
    gains = []
    for seed in range(6):
        network = make_network("embedding", seed, **SHAPES[shape])
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
