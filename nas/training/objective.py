"""What training minimises: a weighted sum of losses between a subnet's signals, its teacher's and the labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ortnas.nas.architecture.dimensions import Dimensions
from ortnas.nas.architecture.heads import HEADS
from ortnas.nas.architecture.subnet import Subnet
from ortnas.nas.training.loss_names import ATTENTION_LOSSES, HIDDEN_LOSSES, LABEL_LOSSES, OUTPUT_LOSSES
from ortnas.nas.training.losses import (
    attention_loss,
    chosen_positions,
    embedding_loss,
    hidden_loss,
    label_loss,
    maxsim_loss,
    pair_loss,
    relation_loss,
    similarity_loss,
    soft_label_loss,
    token_loss,
)
from ortnas.nas.training.supernet import LastLayer, Supernet
from ortnas.nas.training.torch_ops import Linear, plain_linear

Batch = dict[str, Tensor]
_TEMPERATURE = 2.0


class Signals(NamedTuple):
    """What losses compare: the head's output; hidden states in the teacher's channels, [batch, sequence, full hidden
    size]; and the last layer's tensors. What no loss needs is None."""

    output: Tensor | None
    projected: Tensor | None
    encoded: LastLayer | None

    def detach(self) -> Signals:
        return self._each(Tensor.detach)

    def float(self) -> Signals:
        return self._each(Tensor.float)

    def _each(self, change: Callable[[Tensor], Tensor]) -> Signals:
        output, projected = (None if tensor is None else change(tensor) for tensor in (self.output, self.projected))
        encoded = None if self.encoded is None else LastLayer(*map(change, self.encoded))
        return Signals(output, projected, encoded)


class Objective(nn.Module):
    """The sum named by ``losses`` (name to weight). Its projection of hidden states is trained along.

    The projection starts as the identity: subnets keep the teacher's first channels.
    """

    def __init__(self, losses: Mapping[str, float], dimensions: Dimensions) -> None:
        super().__init__()
        self.losses, self.dimensions = dict(losses), dimensions
        self.projection: nn.Parameter | None = None
        if not HEADS[dimensions.head].makes_embeddings and HIDDEN_LOSSES & losses.keys():
            self.projection = nn.Parameter(torch.eye(dimensions.hidden_size))

    @property
    def needs_teacher(self) -> bool:
        return bool(self.losses.keys() - LABEL_LOSSES)

    def signals(
        self,
        network: Supernet,
        embedded: Tensor,
        batch: Batch,
        subnet: Subnet,
        linear: Linear = plain_linear,
        is_teacher: bool = False,
        learns_labels: bool = False,
    ) -> Signals:
        """Forward pass of one subnet from ``Supernet.look_up``'s result.

        ``learns_labels``: labels will be compared with the output, whatever the sum says.
        """
        mask, wanted = batch["attention_mask"], self.losses.keys()
        encoded = network.encode(embedded, mask, subnet, linear)
        output: Tensor | None = None
        if learns_labels or wanted & (OUTPUT_LOSSES - LABEL_LOSSES if is_teacher else OUTPUT_LOSSES):
            positions = chosen_positions(self.dimensions.head, batch.get("labels"))
            output = network.apply_head(encoded.hidden, mask, subnet, positions, linear)
        projected: Tensor | None = None
        if wanted & HIDDEN_LOSSES:
            if HEADS[self.dimensions.head].makes_embeddings:
                projected = network.project(encoded.hidden, subnet)
            elif is_teacher:
                projected = encoded.hidden
            elif self.projection is not None:
                projected = F.linear(encoded.hidden, self.projection[:, : subnet.hidden_size])
        return Signals(output, projected, encoded if wanted & ATTENTION_LOSSES else None)

    def forward(self, student: Signals, teacher: Signals | None, batch: Batch) -> Tensor:
        """Computed in float32 from signals of any precision; autocast would undo that, so call it outside."""
        student, teacher = student.float(), teacher and teacher.float()
        # Pairs have batches of their own.
        losses = {name: weight for name, weight in self.losses.items() if name != "pairs" or "grades" in batch}
        return torch.stack(
            [weight * self._loss(name, student, teacher, batch) for name, weight in losses.items()]
        ).sum()

    def _loss(self, name: str, student: Signals, teacher: Signals | None, batch: Batch) -> Tensor:
        head, mask = self.dimensions.head, batch["attention_mask"]
        if name == "labels":
            assert student.output is not None
            return label_loss(head, student.output, batch["labels"], mask, batch.get("labelled"))
        if name == "pairs":
            assert student.output is not None
            return pair_loss(student.output, batch["grades"], batch["rows"])
        assert teacher is not None
        if name == "soft_labels":
            return soft_label_loss(head, *_outputs(student, teacher), batch["labels"], mask, _TEMPERATURE)
        return COMPARISONS[name](student, teacher, mask)


def _outputs(student: Signals, teacher: Signals) -> tuple[Tensor, Tensor]:
    assert student.output is not None
    assert teacher.output is not None
    return student.output, teacher.output


def _projected(student: Signals, teacher: Signals) -> tuple[Tensor, Tensor]:
    assert student.projected is not None
    assert teacher.projected is not None
    return student.projected, teacher.projected


def _hidden(student: Signals, teacher: Signals, mask: Tensor) -> Tensor:
    return hidden_loss(*_projected(student, teacher), mask)


def _tokens(student: Signals, teacher: Signals, mask: Tensor) -> Tensor:
    return token_loss(*_projected(student, teacher), mask)


def _embedding(student: Signals, teacher: Signals, mask: Tensor) -> Tensor:
    ours, theirs = _outputs(student, teacher)
    if ours.dim() == 3:
        counted = mask.bool()
        ours, theirs = ours[counted], theirs[counted]
    return embedding_loss(ours, theirs)


def _similarity(student: Signals, teacher: Signals, mask: Tensor) -> Tensor:
    ours, theirs = _outputs(student, teacher)
    return maxsim_loss(ours, theirs, mask) if ours.dim() == 3 else similarity_loss(ours, theirs)


def _last_layers(student: Signals, teacher: Signals) -> tuple[LastLayer, LastLayer]:
    assert student.encoded is not None
    assert teacher.encoded is not None
    return student.encoded, teacher.encoded


def _attention(student: Signals, teacher: Signals, mask: Tensor) -> Tensor:
    ours, theirs = _last_layers(student, teacher)
    num_heads = min(ours.query.shape[1], theirs.query.shape[1])
    return attention_loss((ours.query, ours.key), (theirs.query, theirs.key), mask, num_heads)


def _relations(student: Signals, teacher: Signals, mask: Tensor) -> Tensor:
    ours, theirs = _last_layers(student, teacher)
    pairs = ((ours.query, theirs.query), (ours.key, theirs.key), (ours.value, theirs.value))
    return torch.stack([relation_loss(own, other, mask) for own, other in pairs]).sum()


# Losses that look at no labels, by name: of a student's signals, a teacher's and the attention mask.
COMPARISONS: dict[str, Callable[[Signals, Signals, Tensor], Tensor]] = {
    "hidden": _hidden,
    "attention": _attention,
    "relations": _relations,
    "embedding": _embedding,
    "similarity": _similarity,
    "tokens": _tokens,
}
