"""Training batches as a pure function of seed and step, so that a resumed run sees the same ones."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ortnas.nas.data.masking import Masking
from ortnas.nas.data.mixture import Mixture
from ortnas.nas.judgements import Judgements
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

    def labelled_array(self, rows: Sequence[int]) -> npt.NDArray[np.bool_] | None: ...


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
    many are drawn anew in every epoch. A batch then has as many groups as make its size on average. Where there are
    ``pairs`` of the texts, every second batch is of whole pairs, first and second texts by turns. ``accumulation``
    splits a batch into as many parts, computed one after the other, or more where a part would have more than
    ``most_tokens``, padding included; ``rank`` of ``world_size`` processes gets its share of the rows, groups or pairs.
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
        pairs: Judgements | None = None,
        most_tokens: int | None = None,
    ) -> None:
        self.examples, self.schedule, self.masking = examples, schedule, masking
        self.accumulation, self.rank, self.world_size = accumulation, rank, world_size
        self.most_tokens = most_tokens
        lengths, size, seed = examples.lengths, schedule.batch_size, schedule.seed
        rows = None if groups is None else _rows_of(groups)
        self._texts = _Groups(rows, lengths, size, [seed], None if mixture is None else mixture.order)
        self._pairs: _Groups | None = None
        if pairs is not None:
            both = [list(pair) for pair in zip(pairs.first, pairs.second, strict=True)]
            self._pairs = _Groups(both, lengths, max(2, size), [seed, 8])
            self._grades = _from_0_to_1(pairs.grades) if pairs.are_scored else [math.nan] * len(both)
        self._steps: Sequence[int] | None = None

    @property
    def per_epoch(self) -> int:
        """Batches that show every text once."""
        return self._texts.per_epoch

    def __getitem__(self, step: int) -> list[Batch]:
        """The parts of the step's batch that this process computes; ``rows`` numbers the texts, int64 [batch], in
        batches of pairs ``grades`` has each text's gold score, from 0 to 1, or NaN, float32 [batch], and where texts
        lack labels ``labelled`` tells which have one, boolean [batch]."""
        source, numbers, epoch = self._chosen(step)
        groups = [source.rows(number, epoch) for number in numbers]
        rows = [row for group in groups for row in group]
        feeds = self.examples.feeds(rows)
        if self.masking is None:
            labels = self.examples.label_array(rows)
        else:
            labels = self.masking.apply(feeds, np.random.default_rng([self.schedule.seed, step, 3]))
        tensors = _tensors(feeds, labels) | {"rows": torch.tensor(rows)}
        if (labelled := self.examples.labelled_array(rows)) is not None:
            tensors["labelled"] = torch.from_numpy(labelled)
        if source is self._pairs:
            tensors["grades"] = torch.tensor([self._grades[number] for number in numbers]).repeat_interleave(2)
        ends = np.cumsum([len(group) for group in groups])
        places = [torch.arange(end - len(group), end) for group, end in zip(groups, ends.tolist(), strict=True)]
        parts = [torch.cat([places[group] for group in part]) for part in self._parts(len(groups), rows)]
        return [{name: tensor[part] for name, tensor in tensors.items()} for part in parts]

    def rows(self, step: int) -> list[int]:
        """The numbers of the step's texts, those of all processes."""
        source, numbers, epoch = self._chosen(step)
        return [row for number in numbers for row in source.rows(number, epoch)]

    def steps_by_tokens(self, count: int, of: int) -> list[int]:
        """Of the first ``of`` steps, in ``count`` equal groups from few tokens to many, padding included, the one
        nearest to each group's mean: on average they cost what all of them do."""
        tokens = np.array([len(rows) * self.examples.lengths[rows].max() for rows in map(self.rows, range(of))])
        groups = np.array_split(np.argsort(tokens, kind="stable"), count)
        return [int(group[np.abs(tokens[group] - tokens[group].mean()).argmin()]) for group in groups]

    def at(self, steps: Sequence[int]) -> Batches:
        """The batches of these steps, one after the other."""
        chosen = copy.copy(self)
        chosen._steps = steps
        return chosen

    def part_count(self, step: int) -> int:
        """In how many parts this process computes the step's batch."""
        _, numbers, _ = self._chosen(step)
        return len(self._parts(len(numbers), self.rows(step)))

    def _parts(self, group_count: int, rows: Sequence[int]) -> list[Tensor]:
        """Places of this process's groups among those of a batch of these texts, of all processes."""
        count = self.accumulation
        if self.most_tokens is not None:
            tokens = math.ceil(len(rows) / self.world_size) * int(self.examples.lengths[rows].max())
            count = max(count, math.ceil(tokens / self.most_tokens))
        own = torch.arange(self.rank, group_count, self.world_size)
        return [part for part in own.chunk(count) if len(part)]

    def _chosen(self, step: int) -> tuple[_Groups, list[int], int]:
        """Where the step's batch comes from, the groups there, and the epoch."""
        if self._steps is not None:
            step = self._steps[step]
        if self._pairs is None:
            return self._texts, *self._texts[step]
        source = self._pairs if step % 2 else self._texts
        return source, *source[step // 2]


class _Groups:
    """Batches of groups of rows, of similar length each, epoch after epoch.

    ``rows`` None stands for a group of its own for every row. ``order`` gives an epoch's order of groups under a seed
    in place of a random one; ``key`` is the seed of all that is random.
    """

    def __init__(
        self,
        rows: list[list[int]] | None,
        lengths: npt.NDArray[np.int64],
        batch_size: int,
        key: list[int],
        order: Callable[[int, int], npt.NDArray[np.int64]] | None = None,
    ) -> None:
        self._rows, self._lengths, self._most, self._key, self._order = rows, lengths, batch_size, key, order
        self._count, self._size = len(lengths), batch_size
        if rows is not None:
            self._lengths = np.array([lengths[group].max() for group in rows], np.int64)
            self._count = len(rows)
            kept = sum(min(batch_size, len(group)) for group in rows)
            self._size = max(1, batch_size * self._count // max(1, kept))
        self.per_epoch = max(1, self._count // self._size)
        self._epoch, self._batches = -1, list[list[int]]()

    def __getitem__(self, place: int) -> tuple[list[int], int]:
        """The numbers of a batch's groups, and the epoch."""
        epoch, position = divmod(place, self.per_epoch)
        if epoch != self._epoch:
            self._epoch, self._batches = epoch, self._plan(epoch)
        return self._batches[position], epoch

    def rows(self, number: int, epoch: int) -> list[int]:
        """A group's rows, of too many those that are drawn in this epoch."""
        if self._rows is None:
            return [number]
        rows = self._rows[number]
        if len(rows) <= self._most:
            return rows
        drawn: list[int] = np.random.default_rng([*self._key, epoch, number]).choice(rows, self._most, False).tolist()
        return drawn

    def _plan(self, epoch: int) -> list[list[int]]:
        rng = np.random.default_rng([*self._key, epoch])
        order = rng.permutation(self._count) if self._order is None else self._order(epoch, self._key[0])
        size = self._size
        batches = []
        for start in range(0, len(order), size * _BUCKET_BATCHES):
            bucket = order[start : start + size * _BUCKET_BATCHES]
            bucket = bucket[np.argsort(self._lengths[bucket], kind="stable")].tolist()
            batches += [bucket[low : low + size] for low in range(0, len(bucket), size)]
        whole = [batch for batch in batches if len(batch) == size] or batches
        return [whole[index] for index in rng.permutation(len(whole))]


def _from_0_to_1(grades: Sequence[float]) -> list[float]:
    lowest, highest = min(grades), max(grades)
    return [(grade - lowest) / (highest - lowest) for grade in grades]


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
