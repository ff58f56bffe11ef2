from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ortnas.export.build import Exporter
from ortnas.export.inference import load, run
from ortnas.export.int8.recipes import Recipe, recipe_named
from ortnas.export.weights import SupernetFolder
from ortnas.nas.training.fake_quantization import FakeQuantization
from ortnas.nas.training.objective import Objective
from ortnas.nas.training.steps import train_supernet
from ortnas.nas.training.supernet import Supernet
from tests.nas.training.courses import make_course, make_network
from tests.networks import HOST_RECIPE, make_space, random_feeds, random_subnets

HEADS = ["embedding", "classification", "token-classification", "span"]


def rounded_output(network: Supernet, quantization: FakeQuantization, feeds: dict[str, np.ndarray]) -> np.ndarray:
    batch = {name: torch.from_numpy(array) for name, array in feeds.items()}
    with torch.no_grad():
        quantization.prepare(network, 0)
        embedded = quantization.look_up(network, batch)
        hidden = network.encode(embedded, batch["attention_mask"], quantization.subnet, quantization.linear).hidden
        output = network.apply_head(hidden, batch["attention_mask"], quantization.subnet, linear=quantization.linear)
    return output.numpy()


@pytest.mark.slow
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize(
    "chosen",
    [
        HOST_RECIPE,
        recipe_named("avx2"),
        replace(HOST_RECIPE, embeddings=False, keep_float=("layers/*/ffn/*", "head/*")),
    ],
    ids=["host", "avx2", "mixed"],
)
def test_rounding_in_training_is_the_rounding_of_the_exported_model(head: str, chosen: Recipe) -> None:
    """Far nearer to ONNX Runtime's INT8 output than that is to the float output: the same scheme and ranges."""
    network = make_network(head)
    tensors = {name: tensor.detach().numpy() for name, tensor in network.tensors.items()}
    folder = SupernetFolder(Path(), network.dimensions, make_space(), tensors, (), {}, "")
    calibration = [random_feeds(network.dimensions, batch=8, sequence=20, seed=seed) for seed in range(4)]
    exporter = Exporter(folder, chosen, calibration)
    feeds = random_feeds(network.dimensions, batch=16, sequence=20, seed=99)
    shown = feeds["attention_mask"] == 1
    for subnet in random_subnets(make_space(), 2):
        batches = [{name: torch.from_numpy(array) for name, array in batch.items()} for batch in calibration]
        ours = rounded_output(network, FakeQuantization(chosen, batches, subnet, 10), feeds)
        theirs, exact = (run(load(exporter.build(subnet, kind)), feeds) for kind in ("int8", "fp32"))
        if ours.ndim == 3:
            ours, theirs, exact = ours[shown], theirs[shown], exact[shown]
        ours_to_theirs, theirs_to_exact = float(np.abs(ours - theirs).mean()), float(np.abs(theirs - exact).mean())
        assert ours_to_theirs < 0.35 * theirs_to_exact


def test_ranges_are_measured_again_when_due() -> None:
    network = make_network("classification")
    calibration = [{name: torch.from_numpy(array) for name, array in random_feeds(network.dimensions).items()}]
    quantization = FakeQuantization(HOST_RECIPE, calibration, make_space().smallest, 5)
    quantization.prepare(network, 0)
    first = dict(quantization._ranges)
    with torch.no_grad():
        for tensor in network.parameters():
            tensor.mul_(1.5)
    quantization.prepare(network, 4)
    assert quantization._ranges == first
    quantization.prepare(network, 5)
    assert quantization._ranges["head/pooler"] != first["head/pooler"]


@pytest.mark.slow
def test_quantization_aware_training_lowers_the_error_of_the_int8_model(tmp_path: Path) -> None:
    """Weights of few levels, so that rounding matters; measured on ONNX Runtime's model."""
    teacher = make_network("classification")
    network = make_network("classification")
    recipe = replace(recipe_named("avx2"), per_channel=False)
    subnet = teacher.dimensions.full_subnet
    calibration = [random_feeds(network.dimensions, batch=8, sequence=12, seed=seed) for seed in range(2)]
    batches = [{name: torch.from_numpy(array) for name, array in batch.items()} for batch in calibration]
    feeds = random_feeds(network.dimensions, batch=64, sequence=12, seed=50)
    expected = teacher({name: torch.from_numpy(array) for name, array in feeds.items()}, subnet).detach().numpy()

    def error() -> float:
        tensors = {name: tensor.detach().numpy().copy() for name, tensor in network.tensors.items()}
        folder = SupernetFolder(Path(), network.dimensions, make_space(), tensors, (), {}, "")
        model = Exporter(folder, recipe, calibration).build(subnet, "int8")
        return float(np.abs(run(load(model), feeds) - expected).mean())

    before = error()
    objective = Objective({"soft_labels": 1.0, "hidden": 1.0}, network.dimensions)
    course = make_course(tmp_path, 120, head="classification", learning_rate=3e-4, batch_size=32, texts=320)
    quantization = FakeQuantization(recipe, batches, subnet, 20)
    train_supernet(network, teacher, objective, [[subnet]] * 120, course, quantization)
    after = error()
    assert after < 0.9 * before
