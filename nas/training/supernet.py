"""The supernet: one set of weights, any subnet computed from views of them."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safetensors.torch import save_file
from torch import Tensor, nn

from ortnas.export.weights import SupernetFolder, read_supernet
from ortnas.nas.architecture.dimensions import Dimensions
from ortnas.nas.architecture.head_passes import project
from ortnas.nas.architecture.layout import (
    DESCRIPTION_FILE,
    WEIGHTS_FILE,
    cut_layers,
    cut_top,
    head_of,
    network_of,
    tensor_axes,
    tensor_shape,
    whole_top,
)
from ortnas.nas.architecture.ops import PoolingMode
from ortnas.nas.architecture.presets import check_fits, preset
from ortnas.nas.architecture.space import SearchSpace
from ortnas.nas.architecture.subnet import Subnet
from ortnas.nas.failures import CheckpointError
from ortnas.nas.files import aside, write_json
from ortnas.nas.training.checkpoint.reading import Checkpoint, read_checkpoint
from ortnas.nas.training.torch_ops import Linear, TorchOps, plain_linear


class LastLayer(NamedTuple):
    """Last hidden state, float32 [batch, sequence, subnet.hidden_size], and query, key and value of the last layer that
    has attention, [batch, heads, sequence, head_size], not scaled."""

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

    def look_up(self, input_ids: Tensor, token_type_ids: Tensor, sparse_gradient: bool = False) -> Tensor:
        """Sum of the three embeddings at full width, float32 [batch, sequence, table or hidden]; shared by all subnets.

        A network with one token type ignores ``token_type_ids``. ``sparse_gradient``: that of the word table may hold
        the batch's rows alone, which ``engine.optimise`` takes.
        """
        ops = TorchOps({"input_ids": input_ids, "token_type_ids": token_type_ids}, sparse_table=sparse_gradient)
        return network_of(self.dimensions).look_up(ops, whole_top(self.tensors, self.dimensions))

    def encode(
        self, embedded: Tensor, attention_mask: Tensor, subnet: Subnet, linear: Linear = plain_linear
    ) -> LastLayer:
        """The encoder's layers on the output of ``look_up``."""
        tensors, dimensions = self.tensors, self.dimensions
        dimensions.check(subnet)
        ops = TorchOps({"attention_mask": attention_mask}, linear)
        top = cut_top(tensors, subnet, dimensions)
        embedded = embedded[..., : dimensions.table_size or subnet.hidden_size]
        hidden = network_of(dimensions).encode(ops, embedded, top, cut_layers(tensors, subnet, dimensions), dimensions)
        assert ops.attended is not None
        return LastLayer(hidden, *ops.attended)

    def apply_head(
        self,
        hidden: Tensor,
        attention_mask: Tensor,
        subnet: Subnet,
        positions: Tensor | None = None,
        linear: Linear = plain_linear,
    ) -> Tensor:
        """The head on the last hidden state [batch, sequence, subnet.hidden_size], float32.

        Embeddings [batch, embedding_size]; logits [batch, labels] (regression: 1), [batch, sequence, labels],
        [batch, sequence, 2] (span: start, end) or [batch, sequence, vocab]. For the masked-LM head, boolean
        ``positions`` [batch, sequence] picks m tokens: only their logits are computed, [m, vocab].
        """
        if positions is not None:
            hidden = hidden[positions]
        ops = TorchOps({"attention_mask": attention_mask}, linear)
        top = cut_top(self.tensors, subnet, self.dimensions)
        return head_of(self.dimensions).apply(ops, hidden, top, self.dimensions)

    def project(self, hidden: Tensor, subnet: Subnet) -> Tensor:
        """Hidden states in the checkpoint's channels: [..., subnet.hidden_size] to [..., full hidden size]."""
        return project(TorchOps({}), hidden, cut_top(self.tensors, subnet, self.dimensions))

    def forward(self, batch: Mapping[str, Tensor], subnet: Subnet) -> Tensor:
        embedded = self.look_up(batch["input_ids"], batch["token_type_ids"])
        hidden = self.encode(embedded, batch["attention_mask"], subnet).hidden
        return self.apply_head(hidden, batch["attention_mask"], subnet)


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


def network_as_it_is(checkpoint: Checkpoint, folder: Path) -> SupernetFolder:
    """The checkpoint's network in memory; its tokenizer alone is written, to ``folder``."""
    checkpoint.tokenizer.save(folder)
    return SupernetFolder(
        path=folder,
        dimensions=checkpoint.dimensions,
        space=preset("default", checkpoint.dimensions),
        tensors={name: tensor.contiguous().numpy() for name, tensor in checkpoint.tensors.items()},
        labels=checkpoint.labels,
        provenance={"checkpoint": checkpoint.name, **checkpoint.usage},
        digest="",
    )


def open_checkpoint(
    name: str,
    head: str,
    folder: Path,
    space: SearchSpace | str = "default",
    labels: tuple[str, ...] = (),
    pooling: PoolingMode | None = None,
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
        provenance = {"checkpoint": name, **checkpoint.usage}
        save_supernet(folder, network, space, checkpoint.labels, Path(tokenizer_folder), provenance)
    return read_supernet(folder)
