"""Whether winners are worth their search: what the comparison says of their rivals, in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ortnas.export.intervals import Interval
from ortnas.search.comparison import RIVALS, ComparisonRow, rivals_of

# Timings of one model in two sessions lie that far apart.
_SAME_LATENCY = 1.01


def as_good(winner: ComparisonRow, rows: Sequence[ComparisonRow]) -> list[ComparisonRow]:
    """Rivals of no more latency whose score the winner's does not exceed beyond chance: the paired interval of their
    difference reaches 0. The simplest kind first, of one kind the best."""
    equals = [row for row in _comparable(winner, rows) if winner.gains[row.name].low <= 0]
    kinds = list(RIVALS)
    return sorted(equals, key=lambda row: (kinds.index(row.kind), winner.gains[row.name].value))


def _comparable(winner: ComparisonRow, rows: Sequence[ComparisonRow]) -> list[ComparisonRow]:
    """Rivals that are as fast, within what timings repeat to, and have a score of the run's metric."""
    slowest_ms = winner.measured_ms * _SAME_LATENCY
    return [row for row in rivals_of(winner, rows) if row.measured_ms <= slowest_ms and row.name in winner.gains]


def verdict(rows: Sequence[ComparisonRow]) -> str:
    """A sentence for each winner that a simpler network equals, and one for the others; empty without rivals."""
    sentences, ahead, alone = [], [], []
    for winner in rows:
        if winner.kind != "winner" or not rivals_of(winner, rows):
            continue
        if equals := as_good(winner, rows):
            sentences.append(_recommendation(winner, equals[0]))
        elif _comparable(winner, rows):
            ahead.append(str(winner.budget))
        else:
            alone.append(str(winner.budget))
    if ahead:
        sentences.append(f"Under {' and '.join(ahead)} the winner is better than every rival of no more latency.")
    if alone:
        sentences.append(f"Under {' and '.join(alone)} no rival that can be compared is as fast as the winner.")
    return " ".join(sentences)


def _recommendation(winner: ComparisonRow, rival: ComparisonRow) -> str:
    gain = winner.gains[rival.name]
    better = "better than" if gain.high < 0 else "as good as"
    return (
        f"Under {winner.budget}, {rival.name} is {better} the winner and takes no search; take it "
        f"({rival.measured_ms:.2f} ms, the winner {winner.measured_ms:.2f} ms; score of the winner less its: "
        f"{gain.signed})."
    )


class Lead(NamedTuple):
    """How far a winner's score lies above that of one of its rivals."""

    winner: ComparisonRow
    rival: ComparisonRow
    gain: Interval

    @property
    def cells(self) -> tuple[str, ...]:
        """As ``LEAD_COLUMNS`` of a table."""
        times = self.rival.measured_ms / self.winner.measured_ms
        return self.winner.name, self.rival.name, f"{times:.1%}", self.gain.signed


LEAD_COLUMNS = ("winner", "rival", "its latency to the winner's", "winner less rival (95 %)")


def leads(rows: Sequence[ComparisonRow]) -> list[Lead]:
    """Every winner with each of its rivals that has a score of the run's metric."""
    return [
        Lead(winner, rival, winner.gains[rival.name])
        for winner in rows
        for rival in rivals_of(winner, rows)
        if rival.name in winner.gains
    ]
