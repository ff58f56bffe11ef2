"""Every table of the project that is kept by head, or by kind of labels, against the rows of the heads."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from fnmatch import fnmatchcase
from typing import Any

import pytest

from ortnas.export.metrics import METRICS
from ortnas.export.package.predict import DESCRIPTIONS
from ortnas.nas.architecture.dimensions import Dimensions
from ortnas.nas.architecture.families import FAMILIES
from ortnas.nas.architecture.heads import HEADS, LABEL_KINDS, Head
from ortnas.nas.architecture.sentence_modules import NORMALIZE
from ortnas.nas.architecture.subnet import SpaceError
from ortnas.nas.data.columns import USUAL_COLUMNS
from ortnas.nas.data.rows import READERS
from ortnas.nas.data.source import FORMATS
from ortnas.nas.data.splits import WITH_IDS
from ortnas.nas.training.importance import LOSSES as IMPORTANCE_LOSSES
from ortnas.nas.training.loss_names import LOSSES, choose_losses
from ortnas.nas.training.losses import LOSSES_OF_LABELS, LOSSES_OF_SOFT_LABELS
from ortnas.nas.training.objective import COMPARISONS
from tests.networks import CHAIN, make_dimensions

# Tables of functions and the like by kind of labels, and of which heads' labels they have to be.
BY_LABELS: dict[str, tuple[Collection[str], Callable[[Head], bool]]] = {
    "nas.data.columns.USUAL_COLUMNS": (USUAL_COLUMNS, lambda head: not head.fills_masks),
    "nas.data.rows.READERS": (READERS, lambda head: not head.fills_masks),
    "nas.data.source.FORMATS": (FORMATS, lambda head: not head.fills_masks),
    "nas.data.splits.WITH_IDS": (WITH_IDS, lambda head: head.has_label_names),
    "nas.training.importance.LOSSES": (IMPORTANCE_LOSSES, lambda head: head.has_labels and not head.fills_masks),
    "nas.training.losses.LOSSES_OF_LABELS": (LOSSES_OF_LABELS, lambda head: head.has_labels),
    "nas.training.losses.LOSSES_OF_SOFT_LABELS": (LOSSES_OF_SOFT_LABELS, lambda head: head.has_labels),
}
BY_HEAD: dict[str, tuple[Collection[str], Callable[[Head], bool]]] = {
    "export.package.predict.DESCRIPTIONS": (DESCRIPTIONS, lambda head: True),
    **{
        f"nas.architecture.families.FAMILIES[{name!r}].heads": (
            family.heads,
            lambda head: not head.is_bare_encoder and not head.spelled_as,
        )
        for name, family in FAMILIES.items()
    },
}


@pytest.mark.parametrize("table", BY_LABELS)
def test_every_kind_of_labels_has_what_it_needs(table: str) -> None:
    entries, is_served = BY_LABELS[table]
    assert set(entries) == {head.labels for head in HEADS.values() if is_served(head)}


@pytest.mark.parametrize("table", BY_HEAD)
def test_every_head_has_what_it_needs(table: str) -> None:
    entries, is_served = BY_HEAD[table]
    assert set(entries) == {name for name, head in HEADS.items() if is_served(head)}


def test_every_kind_of_labels_is_some_heads() -> None:
    assert {head.labels for head in HEADS.values()} == set(LABEL_KINDS)


def test_every_metric_is_some_heads() -> None:
    of_heads = {name for head in HEADS.values() for name in (*head.metrics, *head.judged_metrics, head.ranking) if name}
    assert of_heads == set(METRICS)
    assert all(len(set(head.metrics)) == len(head.metrics) > 0 for head in HEADS.values())
    assert all(set(head.metrics).isdisjoint(head.judged_metrics) for head in HEADS.values())


def test_every_loss_has_its_function() -> None:
    assert {"labels", "soft_labels", "pairs", *COMPARISONS} == set(LOSSES)


@pytest.mark.parametrize("head", HEADS)
def test_the_usual_losses_serve_their_head(head: str) -> None:
    assert choose_losses(head, dict(HEADS[head].losses)) == HEADS[head].losses
    assert set(HEADS[head].losses) <= set(LOSSES)


@pytest.mark.parametrize("head", HEADS)
def test_axes_have_sizes_and_outputs_are_told_apart(head: str) -> None:
    row, sizes = HEADS[head], make_dimensions(head).sizes
    assert {label for axes in row.tensors.values() for label in axes} <= set(sizes)
    for output in row.outputs:
        assert output.axes[0] == "batch"
        assert set(output.axes) - {"batch", "sequence"} <= {name for name, size in sizes.items() if size}
        assert ("sequence" in output.axes) == row.is_token_level
    assert len({output.name for output in row.outputs}) == len(row.outputs)


@pytest.mark.parametrize("head", HEADS)
def test_every_matrix_of_a_head_belongs_to_one_product(head: str) -> None:
    row = HEADS[head]
    matrices = {name for name, axes in row.tensors.items() if len(axes) == 2}
    # The decoder's is the word table.
    if row.has_decoder:
        matrices |= {"head.decoder.weight"}
    # Patterns are of products that a network's modules bring along.
    products = [*row.products, *(name for name in row.float_products if "*" not in name)]
    assert sorted(product.replace("/", ".") + ".weight" for product in products) == sorted(matrices)


def test_modules_of_embeddings_have_tensors_axes_and_products() -> None:
    dimensions = make_dimensions("embedding", **CHAIN)
    row, sizes = HEADS["embedding"], dimensions.sizes
    tensors = row.tensors_of(dimensions)
    shapes = {name: tuple(sizes[label] for label in axes) for name, axes in tensors.items() if "modules" in name}
    assert shapes == {
        "head.modules.0.weight": (64,),
        "head.modules.0.bias": (64,),
        "head.modules.1.weight": (24, 64),
        "head.modules.1.bias": (24,),
    }
    assert any(fnmatchcase("head/modules/1", pattern) for pattern in row.float_products)
    assert HEADS["masked-lm"].tensors_of(make_dimensions("masked-lm")) == HEADS["masked-lm"].tensors


def test_dimensions_survive_json_and_those_of_earlier_releases_are_read() -> None:
    for dimensions in (make_dimensions("embedding", **CHAIN), make_dimensions("span")):
        assert Dimensions.from_json(json.loads(json.dumps(dimensions.to_json()))) == dimensions
    document = make_dimensions("embedding").to_json() | {"pooling": "cls"}
    del document["modules"]
    earlier = Dimensions.from_json(document)
    assert (earlier.pooling, earlier.modules, earlier.makes_unit_vectors) == (("cls",), (NORMALIZE,), True)
    assert not make_dimensions("embedding", **CHAIN).makes_unit_vectors
    assert not make_dimensions("embedding", modules=()).makes_unit_vectors


@pytest.mark.parametrize(
    "changes",
    [
        {"pooling": ["mode"]},
        {"pooling": []},
        {"modules": [{"kind": "lstm"}]},
        {"modules": [{"kind": "dense"}]},
        {"modules": [{"kind": "normalize", "size": 3}]},
        {"modules": [{"kind": "dense", "size": "3"}]},
        {"modules": [{"name": "dense"}]},
        {"modules": [3]},
    ],
)
def test_poolings_and_modules_that_do_not_exist_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(SpaceError, match=r"^dimensions: "):
        Dimensions.from_json(make_dimensions("embedding").to_json() | changes)
