"""A subnet as a plain transformers checkpoint where its shape allows, embedding ones for sentence-transformers too."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from ortnas.export.graph.reference import matrix
from ortnas.export.sentence_files import truncated_size, write_extracted, write_usage
from ortnas.export.weights import SupernetFolder
from ortnas.nas.architecture.dimensions import Dimensions
from ortnas.nas.architecture.families import FAMILIES
from ortnas.nas.architecture.heads import HEADS
from ortnas.nas.architecture.layout import cut_layers, cut_top
from ortnas.nas.architecture.ops import Weight
from ortnas.nas.architecture.spelling import checkpoint_config, checkpoint_names, join
from ortnas.nas.architecture.subnet import SpaceError, Subnet
from ortnas.nas.arrays import Array
from ortnas.nas.files import write_json

_NOT_TOKENIZER = {"model.safetensors", "supernet.json", "outputs.safetensors"}


def obstacles(dimensions: Dimensions, subnet: Subnet) -> list[str]:
    """Why transformers cannot express the subnet; empty where it can."""
    reasons = []
    if absent := [
        f"layer {layer.source} has no {'FFN' if layer.num_heads else 'attention'}"
        for layer in subnet.layers
        if not layer.num_heads or not layer.ffn_size
    ]:
        return [f"{', '.join(absent)}, in transformers every layer has both"]
    for name, plain in (("num_heads", "heads"), ("head_size", "head size"), ("ffn_size", "FFN size")):
        values = [getattr(layer, name) for layer in subnet.layers]
        if len(set(values)) > 1:
            reasons.append(
                f"its layers differ in {plain} ({', '.join(map(str, values))}), transformers has one for all"
            )
    widths = {layer.num_heads * layer.head_size for layer in subnet.layers}
    if widths != {subnet.hidden_size}:
        shown = ", ".join(map(str, sorted(widths)))
        reasons.append(
            f"its query, key and value are {shown} wide (heads x head size), transformers needs the hidden size "
            f"{subnet.hidden_size}"
        )
    if FAMILIES[dimensions.family].network.first_layer is not None and subnet.layers[0].source != 0:
        reasons.append(
            f"its first layer is the checkpoint's layer {subnet.layers[0].source}, which begins with a layer norm, and "
            f"the first of a {dimensions.family} does not"
        )
    if dimensions.token_types > 1 and not FAMILIES[dimensions.family].has_token_types:
        reasons.append(f"{dimensions.family} has no token types")
    return reasons


def extract(supernet: SupernetFolder, subnet: Subnet, folder: Path, max_length: int) -> None:
    """Writes config, weights and tokenizer for ``AutoModel...from_pretrained``.

    An embedding model gets the files of sentence-transformers too: its projection, poolings and modules. Raises
    SpaceError with every reason where transformers has no such shape.
    """
    dimensions = supernet.dimensions
    dimensions.check(subnet)
    if HEADS[dimensions.head].makes_token_vectors:
        raise SpaceError(
            f"transformers has no model of the head {dimensions.head}, whose Dense layer is PyLate's: the package's "
            f"model.onnx is to be served"
        )
    if reasons := obstacles(dimensions, subnet) + _differences(supernet, subnet):
        raise SpaceError(f"{subnet.describe()} is no transformers model: {'; '.join(reasons)}")
    folder.mkdir(parents=True, exist_ok=True)
    tensors, switches = _tensors(supernet, subnet)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    for path in supernet.path.iterdir():
        if path.is_file() and path.name not in _NOT_TOKENIZER:
            shutil.copyfile(path, folder / path.name)
    if HEADS[dimensions.head].makes_embeddings:
        write_extracted(folder, dimensions, supernet.tensors, subnet.hidden_size, max_length)
        usage = (supernet.provenance.get(key) for key in ("prompts", "default_prompt", "similarity"))
        prompts, default_prompt, similarity = usage
        write_usage(folder, prompts or {}, default_prompt, similarity, truncated_size(dimensions))
    activation = supernet.provenance.get("activation")
    config = checkpoint_config(dimensions, subnet, supernet.labels, activation)
    write_json(folder / "config.json", config | switches)


def _differences(supernet: SupernetFolder, subnet: Subnet) -> list[str]:
    """What layers should have in common and do not."""
    dimensions = supernet.dimensions
    reasons = []
    for ours, theirs in FAMILIES[dimensions.family].shared.items():
        layers = _ordered_layers(supernet, subnet)
        first = next(layers)[ours].values
        if not all(np.array_equal(layer[ours].values, first) for layer in layers):
            reasons.append(
                f"its layers, whose heads were chosen and trained one by one, have one {theirs} each, transformers has "
                f"one for all"
            )
    return reasons


def _tensors(supernet: SupernetFolder, subnet: Subnet) -> tuple[dict[str, Array], dict[str, bool]]:
    """The subnet's weights under transformers' names, and the settings that say which biases there are: those that are
    all zero are left out."""
    dimensions = supernet.dimensions
    weights = cut_top(supernet.tensors, subnet, dimensions)
    for position, of_layer in enumerate(_ordered_layers(supernet, subnet)):
        weights.update({f"layers.{position}.{name}": weight for name, weight in of_layer.items()})
    # Heads and their entries are one axis in transformers.
    own = {name: matrix(weight) for name, weight in weights.items()}
    names = checkpoint_names(dimensions)
    if "embeddings.position" in own:
        if "embeddings.token_type" not in names:
            own["embeddings.position"] = own["embeddings.position"] + own["embeddings.token_type"][0]
        config = checkpoint_config(dimensions, subnet, supernet.labels)
        unused = config["max_position_embeddings"] - dimensions.max_positions
        own["embeddings.position"] = np.pad(own["embeddings.position"], ((unused, 0), (0, 0)))
    family, switches = FAMILIES[dimensions.family], dict[str, bool]()
    for name, tensor in own.items():
        if setting := family.bias_setting(name):
            switches[setting] = switches.get(setting, False) or bool(tensor.any())
    named = {
        names[name]: np.array(tensor, np.float32, order="C")
        for name, tensor in own.items()
        if name in names and switches.get(family.bias_setting(name) or "", True)
    }
    return join(named, family), switches


def _ordered_layers(supernet: SupernetFolder, subnet: Subnet) -> Iterator[dict[str, Weight[Array]]]:
    """The layers' tensors. Where layers share something by heads there, heads are in the order of what they have in it:
    layers that have the same heads, in whatever order, share it then."""
    shared = FAMILIES[supernet.dimensions.family].shared
    for _, weights in cut_layers(supernet.tensors, subnet, supernet.dimensions):
        if not shared:
            yield weights
            continue
        order = np.lexsort(np.vstack([weights[name].values for name in shared]))
        yield {
            name: replace(weight, values=weight.values.take(order, weight.axes.index("heads")))
            if "heads" in weight.axes
            else weight
            for name, weight in weights.items()
        }
