"""What is said of pairs of texts: how alike they are, or which document answers which query."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any


@dataclass(frozen=True)
class Judgements:
    """Pairs of a part's texts, each by the numbers of their rows, with a grade.

    Of scored pairs ``grades`` are gold scores of how alike the texts are, and ``documents`` is empty. Else each
    distinct ``first`` text is a query whose ``second`` texts have to be found among ``documents``, and ``grades`` above
    0 say how relevant they are. Documents that are equally near to a query rank in this order.
    """

    first: tuple[int, ...]
    second: tuple[int, ...]
    grades: tuple[float, ...]
    documents: tuple[int, ...] = ()

    @property
    def are_scored(self) -> bool:
        return not self.documents

    @cached_property
    def queries(self) -> tuple[int, ...]:
        """Rows of the distinct first texts, in order."""
        return tuple(dict.fromkeys(self.first))

    @property
    def size(self) -> int:
        """What a score is a figure of: scored pairs, or queries."""
        return len(self.first) if self.are_scored else len(self.queries)

    def __str__(self) -> str:
        if self.are_scored:
            return f"{self.size:,} scored pairs"
        return f"{self.size:,} queries among {len(self.documents):,} documents"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Judgements:
        return cls(
            tuple(map(int, document["first"])),
            tuple(map(int, document["second"])),
            tuple(map(float, document["grades"])),
            tuple(map(int, document["documents"])),
        )


def pairs_of(part: str) -> str:
    """The name of the part that holds the judged pairs that go with a part: ``search_pairs`` with ``search``."""
    return f"{part}_pairs"
