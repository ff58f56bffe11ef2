from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ortnas.export.build import Exporter, ExportError
from ortnas.export.graph.encoder import weight_products
from ortnas.export.int8.recipes import Recipe, recipe_named
from ortnas.export.size import SIZE_ERROR_BYTES, model_bytes, subnet_bytes
from ortnas.export.weights import SupernetFolder
from tests.networks import SHAPES, make_dimensions, make_space, random_feeds, random_subnets, random_tensors, space_of

RECIPE = recipe_named("avx512_vnni")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "head"),
    [
        *(("bert", head) for head in ("embedding", "classification", "token-classification", "span", "masked-lm")),
        ("deberta-v2", "classification"),
    ],
)
@pytest.mark.parametrize(
    "recipe",
    [
        None,
        RECIPE,
        replace(RECIPE, per_channel=False),
        replace(RECIPE, embeddings=False, keep_float=("layers/1/ffn/*",)),
        replace(RECIPE, attention="integer"),
    ],
    ids=["fp32", "int8", "per tensor", "mixed", "attention"],
)
def test_sizes_are_those_of_the_exported_files(shape: str, head: str, recipe: object) -> None:
    # Large enough that weights, not names, are most of the file.
    sizes = {"vocab_size": 800, "hidden_size": 64, "head_size": 16, "ffn_size": 256}
    dimensions = make_dimensions(head, **SHAPES[shape], **sizes)
    space = make_space(hidden_size=(32, 48, 64), head_size=(8, 16), ffn_size=(64, 128, 256))
    folder = SupernetFolder(None, dimensions, space, random_tensors(dimensions), (), {}, "")  # type: ignore[arg-type]
    exporter = Exporter(folder, recipe or RECIPE, [random_feeds(dimensions, batch=4)])  # type: ignore[arg-type]
    space = space.of_absent_parts
    subnets = [*random_subnets(space.of_whole_layers, 3), *random_subnets(space, 3)]
    if recipe is not None:
        products = [name for name in weight_products(dimensions) if name.startswith("layers/")]
        space = space.of_whole_layers.leaving_float(products)
        subnets += random_subnets(space, 3)
    space = space.of_absent_parts
    population = space.expand(np.stack([space.encode(subnet) for subnet in subnets]))
    expected = model_bytes(dimensions, population, recipe)  # type: ignore[arg-type]
    precision = "fp32" if recipe is None else "int8"
    actual = [len(exporter.build(subnet, precision)) for subnet in subnets]  # type: ignore[arg-type]
    # Names and nodes are known to a few KB.
    np.testing.assert_allclose(expected, actual, atol=6000)
    assert np.argsort(expected[:6]).tolist() == np.argsort(actual[:6]).tolist()


@pytest.mark.slow
@pytest.mark.parametrize("recipe", [None, RECIPE], ids=["fp32", "int8"])
@pytest.mark.parametrize("shape", SHAPES)
def test_sizes_of_every_kind_of_network_are_those_of_the_files(shape: str, recipe: Recipe | None) -> None:
    # MPNet's places of buckets are counted for a network of the usual length.
    dimensions = make_dimensions(**SHAPES[shape], max_positions=512, hidden_size=64, head_size=16, ffn_size=256)
    dimensions = replace(dimensions, embedding_size=64)
    space = space_of(dimensions, head_size=(16,), hidden_size=(32, 64), ffn_size=(64, 256))
    folder = SupernetFolder(None, dimensions, space, random_tensors(dimensions), (), {}, "")  # type: ignore[arg-type]
    content = Exporter(folder, RECIPE, [random_feeds(dimensions, batch=4)]).build(
        space.largest, "int8" if recipe else "fp32"
    )
    assert abs(subnet_bytes(dimensions, space.largest, recipe) - len(content)) < SIZE_ERROR_BYTES


def test_factorised_tables_keep_their_width() -> None:
    dimensions = make_dimensions(**SHAPES["electra"], vocab_size=2000)
    space = make_space()
    narrow, wide = (
        model_bytes(dimensions, space.expand(space.encode(subnet)[None]), None)[0]
        for subnet in (space.smallest, space.largest)
    )
    assert narrow > 4 * 2000 * 20
    assert wide - narrow < 4 * 3 * (4 * 32 * 32 + 2 * 32 * 64) * 1.5


def test_one_subnet_has_the_size_that_it_has_among_many() -> None:
    dimensions, space = make_dimensions("span"), make_space()
    subnets = random_subnets(space, 6)
    many = model_bytes(dimensions, space.expand(np.stack([space.encode(subnet) for subnet in subnets])), RECIPE)
    assert [subnet_bytes(dimensions, subnet, RECIPE) for subnet in subnets] == many.astype(int).tolist()


def test_what_no_file_can_hold_is_refused_from_its_sizes_alone() -> None:
    # XLM-RoBERTa's large form; nothing is allocated.
    large = make_dimensions(
        "classification",
        vocab_size=250_002,
        max_positions=514,
        hidden_size=1024,
        num_layers=24,
        num_heads=16,
        head_size=64,
        ffn_size=4096,
    )
    folder = SupernetFolder(None, large, make_space(), {}, (), {}, "")  # type: ignore[arg-type]
    exporter = Exporter(folder, RECIPE, [])
    with pytest.raises(ExportError, match=r"the FP32 model would have 2\.24 GB, .* 2\.15 GB; take precision int8 or a"):
        exporter.build(large.full_subnet, "fp32")
    exporter.check_size(large.full_subnet, "int8")
    larger = replace(large, vocab_size=2_500_020)
    with pytest.raises(ExportError, match=r"the INT8 model would have 2\.\d\d GB, .* a smaller space"):
        Exporter(replace(folder, dimensions=larger), RECIPE, []).sliced(large.full_subnet)
