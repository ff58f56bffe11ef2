"""Several sources in one training: whose row is whose, and rows drawn by the sources' shares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Mixture:
    """Names and weights of the sources, and for each training row the number of its source.

    ``report_parts`` has each source's, and nothing where only the first one has labels to report on.
    """

    names: tuple[str, ...]
    weights: tuple[float, ...]
    report_parts: tuple[str, ...]
    origins: tuple[int, ...]

    @property
    def shares(self) -> list[float]:
        """Of the training batches, in the order of the sources."""
        total = sum(self.weights)
        return [weight / total for weight in self.weights]

    @property
    def counts(self) -> list[int]:
        """Training rows of each source."""
        return [len(rows) for rows in self._rows]

    def order(self, epoch: int, seed: int) -> npt.NDArray[np.int64]:
        """As many training rows as there are, in random order, with each source as often as its share says.

        Over the epochs every source is gone through again and again, each time in another order: a small one repeats,
        of a large one the next rows come.
        """
        amounts = apportion(len(self.origins), self.weights)
        drawn = [
            _stretch(rows, epoch * amount, amount, [seed, source])
            for source, (rows, amount) in enumerate(zip(self._rows, amounts, strict=True))
        ]
        return np.random.default_rng([seed, epoch, len(self.names)]).permutation(np.concatenate(drawn))

    @cached_property
    def _rows(self) -> list[npt.NDArray[np.int64]]:
        origins = np.array(self.origins, np.int64)
        return [np.flatnonzero(origins == source) for source in range(len(self.names))]


def _stretch(rows: npt.NDArray[np.int64], start: int, amount: int, seed: Sequence[int]) -> npt.NDArray[np.int64]:
    """The entries from ``start`` on of the rows' endless repetition, every time in another order."""
    first, last = start // len(rows), (start + amount) // len(rows)
    passes = [np.random.default_rng([*seed, number]).permutation(rows) for number in range(first, last + 1)]
    return np.concatenate(passes)[start - first * len(rows) :][:amount]


def apportion(total: int, weights: Sequence[float]) -> list[int]:
    """Whole numbers that add up to the total, as near to the weights as can be (largest remainders)."""
    exact = total * np.array(weights) / sum(weights)
    amounts = np.floor(exact).astype(np.int64)
    largest = np.argsort(amounts - exact, kind="stable")[: total - int(amounts.sum())]
    amounts[largest] += 1
    return [int(amount) for amount in amounts]


def interleave(counts: Sequence[int], weights: Sequence[float]) -> list[int]:
    """The source of each of all rows, such that every beginning has the sources by their weights while rows last."""
    places = [(np.arange(count) + 0.5) / weight for count, weight in zip(counts, weights, strict=True)]
    origins = np.repeat(np.arange(len(counts)), counts)
    return [int(origin) for origin in origins[np.argsort(np.concatenate(places), kind="stable")]]
