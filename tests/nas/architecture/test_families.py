from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from ortnas.export.graph.model import float_model
from ortnas.export.graph.reference import reference_output
from ortnas.export.inference import load, run
from ortnas.nas.architecture.blocks import counted_layer
from ortnas.nas.architecture.dimensions import Dimensions
from ortnas.nas.architecture.families import FAMILIES
from ortnas.nas.architecture.families.refused import REFUSED
from ortnas.nas.architecture.heads import HEADS
from ortnas.nas.architecture.layout import tensor_axes, tensor_shape
from ortnas.nas.architecture.spelling import checkpoint_names, take_apart
from ortnas.nas.training.supernet import Supernet
from tests.networks import SHAPES, make_dimensions, random_feeds

# Some families count positions from it.
PADDING = 1
# Of families whose configurations choose.
ALL_BIASES = {
    name: dict.fromkeys(family.bias_settings.values(), True)
    for name, family in FAMILIES.items()
    if family.bias_settings
}
CASES = [(family, head) for family in FAMILIES for head in HEADS]


def dimensions_of(family: str, head: str) -> Dimensions:
    own = FAMILIES[family]
    own_shape: dict[str, Any] = next((shape for shape in SHAPES.values() if shape.get("family") == family), {})
    sizes = {
        "family": family,
        "num_layers": 2,
        "table_size": 20 if own.factorises_tables else 0,
        "token_types": 2 if own.has_token_types else 1,
        "head_activation": own.head_activation,
    }
    return make_dimensions(head, **own_shape | sizes | {"padding_id": PADDING})


def random_model(family: str, head: str, **changes: Any) -> Any:
    """The family's class in transformers with random weights everywhere, biases and layer norms included."""
    own, dimensions = FAMILIES[family], dimensions_of(family, head)
    settings = {
        "vocab_size": dimensions.vocab_size,
        "hidden_size": dimensions.hidden_size,
        "num_hidden_layers": dimensions.num_layers,
        "num_attention_heads": dimensions.num_heads,
        "intermediate_size": dimensions.ffn_size,
        "max_position_embeddings": dimensions.max_positions + (PADDING + 1 if own.positions_follow_padding else 0),
        "type_vocab_size": dimensions.token_types,
        "layer_norm_eps": dimensions.layer_norm_epsilon,
        "pad_token_id": PADDING,
        "num_labels": dimensions.num_labels or 3,
    }
    if own.factorises_tables:
        settings["embedding_size"] = 20
    settings |= own.spell_own(dimensions, dimensions.full_subnet) | changes
    config = transformers.AutoConfig.for_model(family, **own.spell_settings(settings))
    torch.manual_seed(1)
    model = getattr(transformers, own.class_name(head))(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def canonical_tensors(model: Any, dimensions: Dimensions) -> dict[str, np.ndarray]:
    names = checkpoint_names(dimensions)
    state = take_apart(model.state_dict(), FAMILIES[dimensions.family])
    tensors = {"head.projection.weight": np.eye(dimensions.hidden_size, dtype=np.float32)}
    for name, axes in tensor_axes(dimensions).items():
        shape = tensor_shape(axes, dimensions)
        if names.get(name) in state:
            tensor = state[names[name]].numpy()
            # The first rows of a table of positions may be nobody's.
            tensors[name] = tensor[-shape[0] :] if name == "embeddings.position" else tensor.reshape(shape)
        elif name == "head.dense.weight":
            tensors[name] = np.eye(*shape, dtype=np.float32)
        elif name != "head.projection.weight":
            tensors[name] = np.zeros(shape, np.float32)
    return tensors


def expected_output(model: Any, dimensions: Dimensions, feeds: dict[str, np.ndarray]) -> np.ndarray:
    batch = {name: torch.from_numpy(values) for name, values in feeds.items()}
    if not FAMILIES[dimensions.family].has_token_types:
        del batch["token_type_ids"]
    with torch.no_grad():
        output = model(**batch)
    if dimensions.head == "span":
        return torch.stack([output.start_logits, output.end_logits], -1).numpy()
    if dimensions.head == "sparse":
        counted = torch.from_numpy(feeds["attention_mask"])[..., None]
        return (torch.log1p(output.logits.relu()) * counted).amax(1).numpy()
    if dimensions.head == "late-interaction":
        # Without a Dense layer, as ``canonical_tensors`` has it.
        vectors = output.last_hidden_state[..., : dimensions.embedding_size]
        return torch.nn.functional.normalize(vectors, dim=-1).numpy()
    if dimensions.head != "embedding":
        return output.logits.numpy()
    hidden, mask = output.last_hidden_state.numpy(), feeds["attention_mask"][..., None]
    mean = (hidden * mask).sum(1) / mask.sum(1)
    return mean / np.linalg.norm(mean, axis=-1, keepdims=True)


@pytest.mark.parametrize(("family", "head"), CASES)
def test_torch_numpy_and_onnx_compute_what_transformers_computes(family: str, head: str) -> None:
    check_agreement(dimensions_of(family, head), random_model(family, head))


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("family", ALL_BIASES)
def test_all_biases_and_poolings_of_a_configuration_are_computed(family: str, pooling: str) -> None:
    dimensions = replace(dimensions_of(family, "classification"), classifier_pooling=pooling)
    check_agreement(
        dimensions, random_model(family, "classification", classifier_pooling=pooling, **ALL_BIASES[family])
    )


def check_agreement(dimensions: Dimensions, model: Any) -> None:
    head = dimensions.head
    tensors, full = canonical_tensors(model, dimensions), dimensions.full_subnet
    feeds = random_feeds(dimensions)
    feeds["input_ids"] = np.where(feeds["attention_mask"] == 1, feeds["input_ids"], PADDING)
    network = Supernet({name: torch.from_numpy(values) for name, values in tensors.items()}, dimensions)
    with torch.no_grad():
        computed = {"torch": network({name: torch.from_numpy(array) for name, array in feeds.items()}, full).numpy()}
    computed["numpy"] = reference_output(tensors, dimensions, full, feeds)
    computed["onnx"] = run(load(float_model(tensors, dimensions, full).SerializeToString()), feeds)
    expected = expected_output(model, dimensions, feeds)
    seen = feeds["attention_mask"] == 1 if HEADS[head].is_token_level else slice(None)
    assert expected.std() > 0.05
    for carrier, output in computed.items():
        np.testing.assert_allclose(output[seen], expected[seen], atol=1e-4, rtol=0, err_msg=carrier)


def test_layers_have_the_axes_that_spaces_and_predictors_count() -> None:
    """Where a family has other products, multiply-adds of subnets and latency terms have to learn of them."""
    for family in FAMILIES.values():
        counted = counted_layer(family.network.is_gated)
        for source in range(2):
            layer = family.network.layer_at(source)
            assert layer.products == counted.products
            for product in layer.products:
                assert layer.tensors[product.weight] == counted.tensors[product.weight]


@pytest.mark.parametrize(("family", "head"), CASES)
def test_names_cover_the_transformers_model_and_can_be_inverted(family: str, head: str) -> None:
    names = checkpoint_names(dimensions_of(family, head))
    shared = {ours for ours in names if ours.split(".", 2)[-1] in FAMILIES[family].shared}
    assert len(set(names.values())) == len(names) - max(0, len(shared) - len(FAMILIES[family].shared))
    state = take_apart(random_model(family, head, **ALL_BIASES.get(family, {})).state_dict(), FAMILIES[family])
    left = set(state) - set(names.values())
    # The decoder is tied, its bias stored twice; the pooler serves no head here but BERT's classifiers.
    assert {key for key in left if "decoder" not in key and "pooler" not in key} <= {FAMILIES[family].decoder}
    assert set(names.values()) <= set(state)


@pytest.mark.parametrize(("family", "head"), CASES)
def test_every_canonical_tensor_has_a_name_or_a_constant_value(family: str, head: str) -> None:
    dimensions = dimensions_of(family, head)
    nameless = set(tensor_axes(dimensions)) - set(checkpoint_names(dimensions))
    projection = {"head.projection.weight"} if head == "embedding" else set()
    if head == "late-interaction":
        projection = {"head.dense.weight", "head.dense.bias"}
    has_constant = "embeddings.token_type" in tensor_axes(dimensions) and not FAMILIES[family].has_token_types
    assert nameless == projection | ({"embeddings.token_type"} if has_constant else set())


@pytest.mark.parametrize("family", FAMILIES)
def test_the_decoder_is_tied_to_the_word_table(family: str) -> None:
    state = random_model(family, "masked-lm").state_dict()
    words = checkpoint_names(dimensions_of(family, "masked-lm"))["embeddings.word"]
    assert torch.equal(state[FAMILIES[family].decoder], state[words])


@pytest.mark.parametrize("family", FAMILIES)
def test_settings_are_spelled_so_that_transformers_reads_them_back(family: str) -> None:
    settings = {
        "hidden_size": 36,
        "num_hidden_layers": 5,
        "num_attention_heads": 6,
        "intermediate_size": 70,
        "hidden_act": "relu",
        "layer_norm_eps": 0.125,
        "type_vocab_size": 3,
    }
    config = transformers.AutoConfig.for_model(family, **FAMILIES[family].spell_settings(settings))
    read = {key: FAMILIES[family].read_setting(config, key) for key in settings}
    assert read == settings | FAMILIES[family].fixed
    assert config.hidden_size == 36


def test_refused_families_are_none_of_the_supported_ones_and_name_some() -> None:
    assert not REFUSED.keys() & FAMILIES.keys()
    for reason in REFUSED.values():
        assert any(family in reason for family in FAMILIES) or "transformers" in reason
