"""Training batches as a pure function of seed and step, so that a resumed run sees the same ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ortnas.nas.data.masking import Masking
from ortnas.nas.data.mixture import Mixture
from ortnas.nas.text import Feeds

Batch = dict[str, Tensor]
_BUCKET_BATCHES = 50


class EncodedSource(Protocol):
    """Rows of token ids: in memory, or views of a file."""

    @property
    def lengths(self) -> npt.NDArray[np.int64]: ...

    def __len__(self) -> int: ...

    def feeds(self, rows: Sequence[int]) -> Feeds: ...

    def label_array(self, rows: Sequence[int]) -> npt.NDArray[np.generic] | None: ...


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to train. The learning rate warms up over a tenth of the steps, then falls linearly."""

    steps: int
    batch_size: int
    learning_rate: float
    seed: int
    checkpoint_every: int = 100

    def rate(self, step: int) -> float:
        warmup = max(1, self.steps // 10)
        if step < warmup:
            return self.learning_rate * (step + 1) / warmup
        return self.learning_rate * max(0.0, (self.steps - step) / max(1, self.steps - warmup))


class Batches:
    """Batches of texts of similar length: less padding, the same mix over an epoch, or the shares of the ``mixture``.

    ``groups`` has a number for each text; those of one number stay together, and of those that are more than a batch so
    many are drawn anew in every epoch. A batch then has as many groups as make its size on average. ``accumulation``
    splits a batch into as many parts, computed one after the other; ``rank`` of ``world_size`` processes gets its share
    of the rows, or groups.
    """

    def __init__(
        self,
        examples: EncodedSource,
        schedule: Schedule,
        masking: Masking | None = None,
        accumulation: int = 1,
        rank: int = 0,
        world_size: int = 1,
        mixture: Mixture | None = None,
        groups: Sequence[int] | None = None,
    ) -> None:
        self.examples, self.schedule, self.masking, self.mixture = examples, schedule, masking, mixture
        self.accumulation, self.rank, self.world_size = accumulation, rank, world_size
        # None: every text is one of its own.
        self._groups = None if groups is None else _rows_of(groups)
        self._count, self._size = len(examples), schedule.batch_size
        if self._groups is not None:
            self._count = len(self._groups)
            kept = sum(min(schedule.batch_size, len(group)) for group in self._groups)
            self._size = max(1, schedule.batch_size * self._count // max(1, kept))
        self.per_epoch = max(1, self._count // self._size)
        self._epoch, self._batches = -1, list[list[int]]()

    def __getitem__(self, step: int) -> list[Batch]:
        """The parts of the step's batch that this process computes; ``rows`` numbers the texts, int64 [batch]."""
        groups = self._groups_of(step)
        rows = [row for group in groups for row in group]
        feeds = self.examples.feeds(rows)
        if self.masking is None:
            labels = self.examples.label_array(rows)
        else:
            labels = self.masking.apply(feeds, np.random.default_rng([self.schedule.seed, step, 3]))
        tensors = _tensors(feeds, labels) | {"rows": torch.tensor(rows)}
        ends = np.cumsum([len(group) for group in groups])
        places = [torch.arange(end - len(group), end) for group, end in zip(groups, ends.tolist(), strict=True)]
        own = torch.arange(self.rank, len(groups), self.world_size)
        parts = [torch.cat([places[group] for group in part]) for part in own.chunk(self.accumulation) if len(part)]
        return [{name: tensor[part] for name, tensor in tensors.items()} for part in parts]

    def rows(self, step: int) -> list[int]:
        """The numbers of the step's texts, those of all processes."""
        return [row for group in self._groups_of(step) for row in group]

    def _groups_of(self, step: int) -> list[list[int]]:
        epoch, position = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            self._epoch, self._batches = epoch, self._plan(epoch)
        return [self._rows_of_group(number, epoch) for number in self._batches[position]]

    def _rows_of_group(self, number: int, epoch: int) -> list[int]:
        if self._groups is None:
            return [number]
        rows, size = self._groups[number], self.schedule.batch_size
        if len(rows) <= size:
            return rows
        drawn: list[int] = np.random.default_rng([self.schedule.seed, epoch, number]).choice(rows, size, False).tolist()
        return drawn

    def _plan(self, epoch: int) -> list[list[int]]:
        rng = np.random.default_rng([self.schedule.seed, epoch])
        order = rng.permutation(self._count) if self.mixture is None else self.mixture.order(epoch, self.schedule.seed)
        lengths, size = self.examples.lengths, self._size
        if self._groups is not None:
            lengths = np.array([lengths[rows].max() for rows in self._groups], np.int64)
        batches = []
        for start in range(0, len(order), size * _BUCKET_BATCHES):
            bucket = order[start : start + size * _BUCKET_BATCHES]
            bucket = bucket[np.argsort(lengths[bucket], kind="stable")].tolist()
            batches += [bucket[low : low + size] for low in range(0, len(bucket), size)]
        whole = [batch for batch in batches if len(batch) == size] or batches
        return [whole[index] for index in rng.permutation(len(whole))]


def _rows_of(groups: Sequence[int]) -> list[list[int]]:
    """The rows of each number."""
    rows: dict[int, list[int]] = {}
    for row, number in enumerate(groups):
        rows.setdefault(number, []).append(row)
    return list(rows.values())


def to_tensors(examples: EncodedSource, rows: Sequence[int]) -> Batch:
    """The chosen rows as tensors, with their labels where there are any."""
    return _tensors(examples.feeds(rows), examples.label_array(rows))


def _tensors(feeds: Feeds, labels: npt.NDArray[np.generic] | None) -> Batch:
    batch = {name: torch.from_numpy(array) for name, array in feeds.items()}
    if labels is not None:
        batch["labels"] = torch.from_numpy(labels)
    return batch
