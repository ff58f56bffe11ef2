"""Budgets on latency or throughput, as people write them."""

from __future__ import annotations

import re
from dataclasses import dataclass

_WRITTEN = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,12})?)(x|ms|/s)?")


@dataclass(frozen=True)
class Budget:
    """A bound on latency or throughput: at most so many ms (``6.5``), a speed-up over the full model at the same
    precision (``2x``), or at least so many requests a second (``400/s``).

    ``name`` is what was written, without ``ms``.
    """

    name: str
    amount: float

    @classmethod
    def parse(cls, written: object) -> Budget:
        """Of ``2x``, ``400/s``, ``6.5``, ``6.5ms`` or a number of ms. Raises ValueError, whose message says how to
        write one."""
        match = _WRITTEN.fullmatch(str(written))
        if match is None or float(match[1]) <= 0:
            raise ValueError("write ms as 6.5, a speed-up as 2x or requests a second as 400/s")
        return cls(str(written).removesuffix("ms"), float(match[1]))

    @property
    def is_speed_up(self) -> bool:
        return self.name.endswith("x")

    @property
    def is_throughput(self) -> bool:
        return self.name.endswith("/s")

    def limit_ms(self, reference_ms: float, concurrency: int) -> float:
        """In ms, where the full model takes ``reference_ms``. Of a throughput it bounds the mean latency while so many
        requests are under way at any time: that many by the throughput (Little 1961)."""
        if self.is_throughput:
            return 1000 * concurrency / self.amount
        return reference_ms / self.amount if self.is_speed_up else self.amount

    @property
    def label(self) -> str:
        """With its unit: ``2x``, ``400/s``, ``6.5ms``."""
        return self.name if self.is_speed_up or self.is_throughput else f"{self.name}ms"


def file_name_of(budget: str) -> str:
    """A budget's name or label where it names a file or a folder: ``400-per-s``."""
    return budget.replace("/", "-per-")


def budget_of_file(name: str) -> str:
    """The inverse of ``file_name_of``."""
    return name.replace("-per-", "/")
