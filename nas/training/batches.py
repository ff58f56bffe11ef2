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

    ``accumulation`` splits a batch into as many parts, computed one after the other; ``rank`` of ``world_size``
    processes gets its share of the rows.
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
    ) -> None:
        self.examples, self.schedule, self.masking, self.mixture = examples, schedule, masking, mixture
        self.accumulation, self.rank, self.world_size = accumulation, rank, world_size
        self.per_epoch = max(1, len(examples) // schedule.batch_size)
        self._epoch, self._batches = -1, list[list[int]]()

    def __getitem__(self, step: int) -> list[Batch]:
        """The parts of the step's batch that this process computes; ``rows`` numbers the texts, int64 [batch]."""
        rows = self.rows(step)
        feeds = self.examples.feeds(rows)
        if self.masking is None:
            labels = self.examples.label_array(rows)
        else:
            labels = self.masking.apply(feeds, np.random.default_rng([self.schedule.seed, step, 3]))
        tensors = _tensors(feeds, labels) | {"rows": torch.tensor(rows)}
        own = torch.arange(self.rank, len(rows), self.world_size)
        parts = [part for part in own.chunk(self.accumulation) if len(part)]
        return [{name: tensor[part] for name, tensor in tensors.items()} for part in parts]

    def rows(self, step: int) -> list[int]:
        """The numbers of the step's texts, those of all processes."""
        epoch, position = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            self._epoch, self._batches = epoch, self._plan(epoch)
        return self._batches[position]

    def _plan(self, epoch: int) -> list[list[int]]:
        rng = np.random.default_rng([self.schedule.seed, epoch])
        lengths = self.examples.lengths
        if self.mixture is None:
            order = rng.permutation(len(self.examples))
        else:
            order = self.mixture.order(epoch, self.schedule.seed)
        size = self.schedule.batch_size
        batches = []
        for start in range(0, len(order), size * _BUCKET_BATCHES):
            bucket = order[start : start + size * _BUCKET_BATCHES]
            bucket = bucket[np.argsort(lengths[bucket], kind="stable")].tolist()
            batches += [bucket[low : low + size] for low in range(0, len(bucket), size)]
        whole = [batch for batch in batches if len(batch) == size] or batches
        return [whole[index] for index in rng.permutation(len(whole))]


def to_tensors(examples: EncodedSource, rows: Sequence[int]) -> Batch:
    """The chosen rows as tensors, with their labels where there are any."""
    return _tensors(examples.feeds(rows), examples.label_array(rows))


def _tensors(feeds: Feeds, labels: npt.NDArray[np.generic] | None) -> Batch:
    batch = {name: torch.from_numpy(array) for name, array in feeds.items()}
    if labels is not None:
        batch["labels"] = torch.from_numpy(labels)
    return batch
