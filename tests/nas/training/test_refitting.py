from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from ortnas.nas.architecture.heads import HEADS
from ortnas.nas.architecture.subnet import Layer, Subnet
from ortnas.nas.data.mixture import Mixture
from ortnas.nas.text import EncodedExamples
from ortnas.nas.training.refitting import record_signals, refit, texts_to_fit
from ortnas.nas.training.supernet import Supernet
from tests.networks import (
    CHAIN,
    SHAPES,
    make_dimensions,
    random_feeds,
    random_subnets,
    random_tensors,
    space_of,
)

Batches = list[dict[str, torch.Tensor]]

SMALL = make_dimensions()


def make_network(shape: str = "bert", head: str = "embedding", **changes: Any) -> Supernet:
    dimensions = make_dimensions(head, **SHAPES[shape], **changes)
    return Supernet({name: torch.from_numpy(tensor) for name, tensor in random_tensors(dimensions).items()}, dimensions)


def make_batches(network: Supernet, seeds: range) -> Batches:
    return [
        {
            name: torch.from_numpy(feed)
            for name, feed in random_feeds(network.dimensions, 16, 4 + seed % 8, seed=seed).items()
        }
        for seed in seeds
    ]


@torch.no_grad()
def hidden_error(network: Supernet, subnet: Subnet, full: Supernet, batches: Batches) -> float:
    """Mean squared distance of last hidden states in the subnet's channels, padding aside."""
    errors = []
    for batch in batches:
        mask = batch["attention_mask"]
        ours, theirs = (
            each.encode(each.look_up(batch["input_ids"], batch["token_type_ids"]), mask, of).hidden
            for each, of in ((network, subnet), (full, full.dimensions.full_subnet))
        )
        errors.append((ours - theirs[..., : subnet.hidden_size])[mask == 1].square().mean())
    return float(torch.stack(errors).mean())


@pytest.mark.parametrize("shape", SHAPES)
def test_fitted_subnets_are_nearer_to_the_full_network_on_other_texts(shape: str) -> None:
    network = make_network(shape)
    fitting, other = make_batches(network, range(30)), make_batches(network, range(30, 36))
    signals = record_signals(network, fitting)
    for subnet in random_subnets(space_of(network.dimensions), 3)[1:]:
        fitted = refit(network, signals, subnet)
        before, after = (hidden_error(each, subnet, network, other) for each in (network, fitted))
        assert after < 0.9 * before, (subnet.describe(), before, after)


def test_subnets_whose_layers_lack_parts_are_fitted_to_what_comes_next() -> None:
    network = make_network()
    fitting, other = make_batches(network, range(30)), make_batches(network, range(30, 36))
    signals = record_signals(network, fitting)
    first, second, third = network.dimensions.full_subnet.layers
    layers = (replace(first, ffn_size=0), replace(second, num_heads=0, head_size=0), third)
    subnet = replace(network.dimensions.full_subnet, layers=layers)
    before, after = (hidden_error(each, subnet, network, other) for each in (network, refit(network, signals, subnet)))
    assert after < 0.5 * before, (before, after)


@pytest.mark.parametrize("head", HEADS)
def test_every_head_is_fitted_but_the_word_table(head: str) -> None:
    network = make_network(head=head)
    subnet = Subnet(16, (Layer(0, 2, 8, 32), Layer(2, 2, 8, 32)))
    fitted = refit(network, record_signals(network, make_batches(network, range(8))), subnet).tensors
    changed = {name for name, tensor in network.tensors.items() if not torch.equal(fitted[name], tensor)}
    assert "embeddings.word" not in changed
    of_head = {"head.projection.weight", "head.classifier.weight"} & set(network.tensors)
    assert of_head <= changed
    assert all(torch.isfinite(tensor).all() for tensor in fitted.values())


@pytest.mark.parametrize("pooling", [("mean",), ("weightedmean",), ("mean", "max"), ("lasttoken",)])
def test_poolings_and_modules_are_those_of_the_fitted_network_too(pooling: tuple[str, ...]) -> None:
    network = make_network(**{**CHAIN, "pooling": pooling})
    subnet = Subnet(24, (Layer(0, 3, 8, 48), Layer(1, 4, 8, 48), Layer(2, 3, 8, 48)))
    fitted = refit(network, record_signals(network, make_batches(network, range(30))), subnet)
    assert all(
        torch.equal(fitted.tensors[name], network.tensors[name]) for name in network.tensors if "modules" in name
    )
    errors = []
    with torch.no_grad():
        for batch in make_batches(network, range(30, 36)):
            expected = network(batch, network.dimensions.full_subnet)
            errors.append([float((each(batch, subnet) - expected).square().mean()) for each in (network, fitted)])
    before, after = np.mean(errors, axis=0)
    assert after < 0.9 * before


def test_the_full_network_stays_as_it_is() -> None:
    network = make_network()
    fitted = refit(network, record_signals(network, make_batches(network, range(30))), network.dimensions.full_subnet)
    for name, tensor in network.tensors.items():
        torch.testing.assert_close(fitted.tensors[name], tensor, atol=1e-3, rtol=1e-3)


def test_weights_outside_the_subnet_and_the_network_itself_are_not_touched() -> None:
    network = make_network()
    before = {name: tensor.detach().clone() for name, tensor in network.tensors.items()}
    subnet = Subnet(24, (Layer(1, 2, 8, 32),))
    fitted = refit(network, record_signals(network, make_batches(network, range(30))), subnet).tensors
    for name, tensor in network.tensors.items():
        assert torch.equal(tensor, before[name])
    assert torch.equal(fitted["layers.0.ffn_in.weight"], before["layers.0.ffn_in.weight"])
    assert torch.equal(fitted["layers.1.ffn_in.weight"][32:], before["layers.1.ffn_in.weight"][32:])
    assert not torch.equal(fitted["layers.1.ffn_in.weight"][:32, :24], before["layers.1.ffn_in.weight"][:32, :24])


def test_a_layer_before_left_out_ones_is_fitted_to_the_last_of_them() -> None:
    """Norms have the mean and spread of what they stand in for."""
    network = make_network()
    batches = make_batches(network, range(30))
    subnet = Subnet(32, (Layer(0, 4, 8, 64),))
    fitted = refit(network, record_signals(network, batches), subnet)

    def means(each: Supernet, of: Subnet) -> torch.Tensor:
        with torch.no_grad():
            tokens = [
                each.encode(
                    each.look_up(batch["input_ids"], batch["token_type_ids"]), batch["attention_mask"], of
                ).hidden[batch["attention_mask"] == 1]
                for batch in batches
            ]
        return torch.cat(tokens).mean(0)

    torch.testing.assert_close(
        means(fitted, subnet), means(network, network.dimensions.full_subnet), atol=1e-3, rtol=1e-3
    )


def test_padding_does_not_count() -> None:
    network = make_network()
    batches = make_batches(network, range(12))
    padded = [
        {name: torch.nn.functional.pad(tensor, (0, 5), value=0) for name, tensor in batch.items()} for batch in batches
    ]
    subnet = Subnet(24, (Layer(0, 2, 8, 32), Layer(2, 3, 8, 48)))
    ours, theirs = (refit(network, record_signals(network, each), subnet).tensors for each in (batches, padded))
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], atol=1e-3, rtol=1e-3)


def test_texts_are_taken_until_there_are_enough_tokens() -> None:
    lengths = np.random.default_rng(0).integers(5, 40, 3000)
    ids = [[2] * length for length in lengths.tolist()]
    examples = EncodedExamples(ids, [[0] * len(row) for row in ids], [0] * len(ids))
    batches = texts_to_fit(examples, SMALL, 0)
    assert 16_384 <= sum(int(batch["attention_mask"].sum()) for batch in batches) < 16_384 + 40
    assert all("labels" not in batch for batch in batches)
    base = replace(SMALL, num_layers=12, hidden_size=768)
    tokens = sum(int(batch["attention_mask"].sum()) for batch in texts_to_fit(examples, base, 0))
    assert 8_138 <= tokens < 8_138 + 40
    first, again, other = (texts_to_fit(examples, SMALL, seed)[0]["input_ids"] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    few = EncodedExamples(ids[:3], [[0] * len(row) for row in ids[:3]], [0] * 3)
    assert sum(int(batch["attention_mask"].sum()) for batch in texts_to_fit(few, SMALL, 0)) == lengths[:3].sum()


def test_texts_are_taken_by_the_shares_of_several_sources() -> None:
    ids = [[number] * 10 for number in range(2) for _ in range(3000)]
    examples = EncodedExamples(ids, [[0] * 10] * len(ids))
    mixture = Mixture(("a", "b"), (3.0, 1.0), ("report", "report_b"), tuple(row[0] for row in ids))
    tokens = torch.cat([batch["input_ids"].flatten() for batch in texts_to_fit(examples, SMALL, 0, mixture)])
    assert tokens.float().mean() == pytest.approx(0.25, abs=0.03)
