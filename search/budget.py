"""Budgets on latency, as people write them."""

from __future__ import annotations

import re
from dataclasses import dataclass

_WRITTEN = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,12})?)(x|ms)?")


@dataclass(frozen=True)
class Budget:
    """An upper bound on latency: ms (``6.5``), or a speed-up over the full model at the same precision (``2x``).

    ``name`` is what was written, without ``ms``; folders of searches are called by it.
    """

    name: str
    amount: float
    is_speed_up: bool

    @classmethod
    def parse(cls, written: object) -> Budget:
        """Of ``2x``, ``6.5``, ``6.5ms`` or a number of ms. Raises ValueError, whose message says how to write one."""
        match = _WRITTEN.fullmatch(str(written))
        if match is None or float(match[1]) <= 0:
            raise ValueError("write ms as 6.5 or a speed-up as 2x")
        name = str(written).removesuffix("ms")
        return cls(name, float(match[1]), name.endswith("x"))

    def limit_ms(self, reference_ms: float) -> float:
        """In ms, where the full model takes ``reference_ms``."""
        return reference_ms / self.amount if self.is_speed_up else self.amount

    @property
    def label(self) -> str:
        """With its unit: ``2x``, ``6.5ms``."""
        return self.name if self.is_speed_up else f"{self.name}ms"
