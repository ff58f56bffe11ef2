"""The supernet: one set of weights, any subnet computed from views of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from nas.files import aside, write_json
from nas.layout import (
    DESCRIPTION_FILE,
    HEADS,
    WEIGHTS_FILE,
    Dimensions,
    cut,
    cut_layers,
    cut_top,
    tensor_axes,
    tensor_shape,
)
from nas.space import SearchSpace, Subnet

_ACTIVATIONS = {"gelu": {"approximate": "none"}, "gelu_tanh": {"approximate": "tanh"}}


class Supernet(nn.Module):
    """Parameters by canonical name; the subnet to compute is an argument, never state."""

    def __init__(self, tensors: Mapping[str, Tensor], dimensions: Dimensions) -> None:
        super().__init__()
        self.dimensions = dimensions
        for name, axes in tensor_axes(dimensions).items():
            if tuple(tensors[name].shape) != tensor_shape(axes, dimensions):
                raise ValueError(f"{name} has shape {tuple(tensors[name].shape)}")
        # Parameter names may not hold dots.
        self.weights = nn.ParameterDict(
            {name.replace(".", "/"): nn.Parameter(tensors[name].clone()) for name in tensor_axes(dimensions)}
        )

    @property
    def tensors(self) -> dict[str, Tensor]:
        return {name.replace("/", "."): tensor for name, tensor in self.weights.items()}

    def look_up(self, input_ids: Tensor, token_type_ids: Tensor) -> Tensor:
        """Sum of the three embeddings at full width, float32 [batch, sequence, hidden]; shared by all subnets."""
        tensors = self.tensors
        positions = tensors["embeddings.position"][: input_ids.shape[1]]
        words = F.embedding(input_ids, tensors["embeddings.word"])
        return words + positions + F.embedding(token_type_ids, tensors["embeddings.token_type"])

    def encode(self, embedded: Tensor, attention_mask: Tensor, subnet: Subnet) -> Tensor:
        """Last hidden state of the subnet, float32 [batch, sequence, subnet.hidden_size], from ``look_up``."""
        tensors = self.tensors
        self.dimensions.check(subnet)
        epsilon = self.dimensions.layer_norm_epsilon
        hidden = subnet.hidden_size
        weight, bias = (cut(tensors[f"embeddings.norm.{kind}"], ("hidden",), subnet) for kind in ("weight", "bias"))
        x = F.layer_norm(embedded[..., :hidden], (hidden,), weight, bias, epsilon)
        mask = attention_mask.bool()[:, None, None, :]
        for _, weights in cut_layers(tensors, subnet):
            query, key, value = (_heads(x, weights, part) for part in ("query", "key", "value"))
            mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
            mixed = mixed.transpose(1, 2).flatten(2)
            attended = F.linear(mixed, weights["output.weight"].flatten(1), weights["output.bias"])
            x = x + attended
            x = F.layer_norm(x, (hidden,), weights["attention_norm.weight"], weights["attention_norm.bias"], epsilon)
            inner = self._activate(F.linear(x, weights["ffn_in.weight"], weights["ffn_in.bias"]))
            x = x + F.linear(inner, weights["ffn_out.weight"], weights["ffn_out.bias"])
            x = F.layer_norm(x, (hidden,), weights["ffn_norm.weight"], weights["ffn_norm.bias"], epsilon)
        return x

    def apply_head(self, encoded: Tensor, attention_mask: Tensor, subnet: Subnet) -> Tensor:
        """Unit sentence embeddings [batch, embedding_size] or logits [batch, labels] from the last hidden state."""
        top = cut_top(self.tensors, subnet, self.dimensions.head)
        if self.dimensions.head == "embedding":
            mask = attention_mask[..., None].to(encoded.dtype)
            mean = (encoded * mask).sum(1) / mask.sum(1)
            return F.normalize(self.project(mean, subnet), dim=-1)
        pooled = torch.tanh(F.linear(encoded[:, 0], top["head.pooler.weight"], top["head.pooler.bias"]))
        return F.linear(pooled, top["head.classifier.weight"], top["head.classifier.bias"])

    def project(self, encoded: Tensor, subnet: Subnet) -> Tensor:
        """Hidden states in the checkpoint's channels: [..., subnet.hidden_size] to [..., embedding_size]."""
        axes = HEADS["embedding"]["head.projection.weight"]
        return F.linear(encoded, cut(self.tensors["head.projection.weight"], axes, subnet))

    def forward(self, batch: Mapping[str, Tensor], subnet: Subnet) -> Tensor:
        embedded = self.look_up(batch["input_ids"], batch["token_type_ids"])
        encoded = self.encode(embedded, batch["attention_mask"], subnet)
        return self.apply_head(encoded, batch["attention_mask"], subnet)

    def _activate(self, x: Tensor) -> Tensor:
        kind = self.dimensions.activation
        return F.relu(x) if kind == "relu" else F.gelu(x, **_ACTIVATIONS[kind])


def _heads(x: Tensor, weights: Mapping[str, Tensor], part: str) -> Tensor:
    """Projection of x [batch, sequence, hidden] to [batch, heads, sequence, head_size]."""
    weight, bias = weights[f"{part}.weight"], weights[f"{part}.bias"]
    heads, head_size, _ = weight.shape
    flat = F.linear(x, weight.flatten(0, 1), bias.flatten())
    return flat.view(*flat.shape[:-1], heads, head_size).transpose(1, 2)


def save_supernet(
    folder: Path,
    supernet: Supernet,
    space: SearchSpace,
    labels: tuple[str, ...],
    tokenizer: Any,
    provenance: Mapping[str, Any],
) -> None:
    """Writes a supernet folder; its description comes last, so a folder with one is complete."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder)
    with aside(folder / WEIGHTS_FILE) as temporary:
        save_file({name: tensor.detach().contiguous() for name, tensor in supernet.tensors.items()}, temporary)
    write_json(
        folder / DESCRIPTION_FILE,
        {
            "dimensions": supernet.dimensions.to_json(),
            "labels": list(labels),
            "space": space.to_json(),
            "provenance": dict(provenance),
        },
    )
