from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from export.build import Exporter
from export.recipes import recipe_named
from export.weights import SupernetFolder
from search.size import model_bytes
from tests.networks import SHAPES, make_dimensions, make_space, random_feeds, random_subnets, random_tensors

RECIPE = recipe_named("avx512_vnni")


@pytest.mark.parametrize("head", ["embedding", "classification", "token-classification", "span", "masked-lm"])
@pytest.mark.parametrize(
    "recipe",
    [
        None,
        RECIPE,
        replace(RECIPE, per_channel=False),
        replace(RECIPE, embeddings=False, keep_float=("layers/1/ffn/*",)),
    ],
    ids=["fp32", "int8", "per tensor", "mixed"],
)
def test_sizes_are_those_of_the_exported_files(head: str, recipe: object) -> None:
    # Large enough that weights, not names, are most of the file.
    dimensions = make_dimensions(head, vocab_size=800, hidden_size=64, head_size=16, ffn_size=256)
    space = make_space(hidden_size=(32, 48, 64), head_size=(8, 16), ffn_size=(64, 128, 256))
    folder = SupernetFolder(None, dimensions, space, random_tensors(dimensions), (), {}, "")  # type: ignore[arg-type]
    exporter = Exporter(folder, recipe or RECIPE, [random_feeds(dimensions, batch=4)])  # type: ignore[arg-type]
    subnets = random_subnets(space, 3)
    population = space.expand(np.stack([space.encode(subnet) for subnet in subnets]))
    expected = model_bytes(dimensions, population, recipe)  # type: ignore[arg-type]
    precision = "fp32" if recipe is None else "int8"
    actual = [len(exporter.build(subnet, precision)) for subnet in subnets]  # type: ignore[arg-type]
    # Names and nodes are known to a few KB.
    np.testing.assert_allclose(expected, actual, atol=6000)
    assert np.argsort(expected).tolist() == np.argsort(actual).tolist()


def test_factorised_tables_keep_their_width() -> None:
    dimensions = make_dimensions(**SHAPES["electra"], vocab_size=2000)
    space = make_space()
    narrow, wide = (
        model_bytes(dimensions, space.expand(space.encode(subnet)[None]), None)[0]
        for subnet in (space.smallest, space.largest)
    )
    assert narrow > 4 * 2000 * 20
    assert wide - narrow < 4 * 3 * (4 * 32 * 32 + 2 * 32 * 64) * 1.5
