"""The supernet: one set of weights, any subnet computed from views of them."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from ortnas.export.weights import SupernetFolder, read_supernet
from ortnas.nas.architecture.layout import (
    DESCRIPTION_FILE,
    WEIGHTS_FILE,
    Dimensions,
    cut,
    cut_layers,
    cut_top,
    tensor_axes,
    tensor_shape,
    top_axes,
)
from ortnas.nas.architecture.presets import check_fits, preset
from ortnas.nas.architecture.space import SearchSpace
from ortnas.nas.architecture.subnet import Subnet
from ortnas.nas.failures import CheckpointError
from ortnas.nas.files import aside, write_json
from ortnas.nas.training.checkpoint.reading import read_checkpoint

# A weight product: its name in the exported graph, x [..., in], weight [out, in] and bias [out] or None.
Linear = Callable[[str, Tensor, Tensor, Tensor | None], Tensor]


def plain_linear(name: str, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:  # noqa: ARG001 one of many Linear
    """``x @ weight.T + bias``."""
    return F.linear(x, weight, bias)


class Encoded(NamedTuple):
    """Last hidden state, float32 [batch, sequence, subnet.hidden_size], and the last layer's query, key and value,
    [batch, heads, sequence, head_size], not scaled."""

    hidden: Tensor
    query: Tensor
    key: Tensor
    value: Tensor


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
        """Sum of the three embeddings at full width, float32 [batch, sequence, table or hidden]; shared by all subnets.

        A network with one token type ignores ``token_type_ids``.
        """
        tensors = self.tensors
        positions = tensors["embeddings.position"][: input_ids.shape[1]]
        words = F.embedding(input_ids, tensors["embeddings.word"])
        types = tensors["embeddings.token_type"]
        return words + positions + (types[0] if len(types) == 1 else F.embedding(token_type_ids, types))

    def encode(
        self, embedded: Tensor, attention_mask: Tensor, subnet: Subnet, linear: Linear = plain_linear
    ) -> Encoded:
        """The encoder's layers on the output of ``look_up``."""
        tensors = self.tensors
        self.dimensions.check(subnet)
        epsilon = self.dimensions.layer_norm_epsilon
        width = (subnet.hidden_size,)
        x = self._embed(embedded, subnet, linear)
        mask = attention_mask.bool()[:, None, None, :]
        query = key = value = x
        for layer, weights in cut_layers(tensors, subnet):
            name = f"layers/{layer.source}"
            query, key, value = (
                _heads(f"{name}/attention/{part}", x, weights[f"{part}.weight"], weights[f"{part}.bias"], linear)
                for part in ("query", "key", "value")
            )
            mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask).transpose(1, 2).flatten(2)
            output = weights["output.weight"].flatten(1)
            x = x + linear(f"{name}/attention/output", mixed, output, weights["output.bias"])
            x = F.layer_norm(x, width, weights["attention_norm.weight"], weights["attention_norm.bias"], epsilon)
            inner = linear(f"{name}/ffn/in", x, weights["ffn_in.weight"], weights["ffn_in.bias"])
            inner = _activate(self.dimensions.activation, inner)
            x = x + linear(f"{name}/ffn/out", inner, weights["ffn_out.weight"], weights["ffn_out.bias"])
            x = F.layer_norm(x, width, weights["ffn_norm.weight"], weights["ffn_norm.bias"], epsilon)
        return Encoded(x, query, key, value)

    def apply_head(
        self,
        hidden: Tensor,
        attention_mask: Tensor,
        subnet: Subnet,
        positions: Tensor | None = None,
        linear: Linear = plain_linear,
    ) -> Tensor:
        """The head on the last hidden state [batch, sequence, subnet.hidden_size], float32.

        Unit embeddings [batch, embedding_size]; logits [batch, labels] (regression: 1), [batch, sequence, labels],
        [batch, sequence, 2] (span: start, end) or [batch, sequence, vocab]. For the masked-LM head, boolean
        ``positions`` [batch, sequence] picks m tokens: only their logits are computed, [m, vocab].
        """
        head = self.dimensions.head
        top = cut_top(self.tensors, subnet, self.dimensions)
        if head == "embedding":
            if self.dimensions.pooling == "cls":
                return F.normalize(self.project(hidden[:, 0], subnet), dim=-1)
            mask = attention_mask[..., None].to(hidden.dtype)
            mean = (hidden * mask).sum(1) / mask.sum(1)
            return F.normalize(self.project(mean, subnet), dim=-1)
        if head == "masked-lm":
            return self._token_logits(hidden if positions is None else hidden[positions], top, linear)
        if "head.pooler.weight" in top:
            hidden = linear("head/pooler", hidden[:, 0], top["head.pooler.weight"], top["head.pooler.bias"])
            hidden = _activate(self.dimensions.head_activation, hidden)
        return linear("head/classifier", hidden, top["head.classifier.weight"], top["head.classifier.bias"])

    def project(self, hidden: Tensor, subnet: Subnet) -> Tensor:
        """Hidden states in the checkpoint's channels: [..., subnet.hidden_size] to [..., embedding_size]."""
        axes = top_axes(self.dimensions)["head.projection.weight"]
        return F.linear(hidden, cut(self.tensors["head.projection.weight"], axes, subnet))

    def forward(self, batch: Mapping[str, Tensor], subnet: Subnet) -> Tensor:
        embedded = self.look_up(batch["input_ids"], batch["token_type_ids"])
        hidden = self.encode(embedded, batch["attention_mask"], subnet).hidden
        return self.apply_head(hidden, batch["attention_mask"], subnet)

    def _embed(self, embedded: Tensor, subnet: Subnet, linear: Linear) -> Tensor:
        """Normed embeddings at the subnet's width, [batch, sequence, subnet.hidden_size]."""
        top = cut_top(self.tensors, subnet, self.dimensions)
        weight, bias = top["embeddings.norm.weight"], top["embeddings.norm.bias"]
        width = len(weight)
        x = F.layer_norm(embedded[..., :width], (width,), weight, bias, self.dimensions.layer_norm_epsilon)
        if not self.dimensions.table_size:
            return x
        return linear(
            "embeddings/projection", x, top["embeddings.projection.weight"], top["embeddings.projection.bias"]
        )

    def _token_logits(self, hidden: Tensor, top: Mapping[str, Tensor], linear: Linear) -> Tensor:
        """Masked-LM logits [..., vocab] of hidden states [..., subnet.hidden_size]."""
        x = linear("head/transform", hidden, top["head.transform.weight"], top["head.transform.bias"])
        x = _activate(self.dimensions.activation, x)
        weight, bias = top["head.transform_norm.weight"], top["head.transform_norm.bias"]
        x = F.layer_norm(x, (len(weight),), weight, bias, self.dimensions.layer_norm_epsilon)
        return linear("head/decoder", x, top["embeddings.word"], top["head.decoder.bias"])


def _activate(kind: str, x: Tensor) -> Tensor:
    if kind == "relu":
        return F.relu(x)
    if kind == "tanh":
        return torch.tanh(x)
    return F.gelu(x, approximate="tanh" if kind == "gelu_tanh" else "none")


def _heads(name: str, x: Tensor, weight: Tensor, bias: Tensor, linear: Linear) -> Tensor:
    """Projection of x [batch, sequence, hidden] to [batch, heads, sequence, head_size]."""
    heads, head_size, _ = weight.shape
    flat = linear(name, x, weight.flatten(0, 1), bias.flatten())
    return flat.view(*flat.shape[:-1], heads, head_size).transpose(1, 2)


def save_supernet(
    folder: Path,
    supernet: Supernet,
    space: SearchSpace,
    labels: tuple[str, ...],
    tokenizer_folder: Path,
    provenance: Mapping[str, Any],
) -> None:
    """Writes a supernet folder; its description comes last, so a folder with one is complete."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in tokenizer_folder.iterdir():
        if path.is_file():
            shutil.copyfile(path, folder / path.name)
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


def open_checkpoint(
    name: str,
    head: str,
    folder: Path,
    space: SearchSpace | str = "default",
    labels: tuple[str, ...] = (),
    pooling: str | None = None,
    label_names: Mapping[str, str] = {},
) -> SupernetFolder:
    """A supernet folder of the checkpoint as it is: untrained, its units in the order in which they are.

    ``name``, ``head``, ``labels``, ``pooling`` and ``label_names`` are those of ``read_checkpoint``; ``space`` may be a
    preset's name. What the folder held of these files is replaced. Raises CheckpointError, and SpaceError where the
    space is unknown or does not fit.
    """
    checkpoint = read_checkpoint(name, head, labels, pooling=pooling, label_names=label_names)
    if checkpoint.order_is_open:
        raise CheckpointError(
            f"checkpoint {name}: its head does not name its labels (LABEL_0, ...); say which is which as label_names"
        )
    dimensions = checkpoint.dimensions
    if isinstance(space, str):
        space = preset(space, dimensions)
    check_fits(space, dimensions)
    network = Supernet(checkpoint.tensors, dimensions)
    with tempfile.TemporaryDirectory() as tokenizer_folder:
        checkpoint.tokenizer.save(Path(tokenizer_folder))
        provenance = {"checkpoint": name, "activation": checkpoint.activation}
        save_supernet(folder, network, space, checkpoint.labels, Path(tokenizer_folder), provenance)
    return read_supernet(folder)
