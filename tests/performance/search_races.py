"""What racing saves and what it costs, replayed on recorded answers."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ortnas.nas.architecture.subnet import Subnet
from ortnas.nas.console import Console
from ortnas.search.constraints import Constraint
from ortnas.search.evolution import Evolution, Settings
from ortnas.search.loop import run_search
from ortnas.search.racing import Race, expected_score
from ortnas.search.scoring import Outcome
from tests.performance.recorded_scores import Recording

CANDIDATES, BUDGETS = 100, 5


class _Replay:
    """Outcomes from recorded answers, raced as by ``search.scoring.Scorer``."""

    def __init__(self, recording: Recording, race: Race | None, seed: int) -> None:
        self.recording, self.race = recording, race
        alike = recording.header["text_count"] - recording.right.shape[1]
        # Texts that all answer alike differ from no rival's; where they stand does not matter.
        values = np.pad(recording.right.astype(float), ((0, 0), (0, alike)))
        self.values = values[:, np.random.default_rng(seed).permutation(values.shape[1])]
        self.always_right = recording.header["always_right"] / values.shape[1]
        self.texts = 0

    def outcomes(self, subnets: Sequence[Subnet], rivals: Sequence[Subnet | None]) -> Iterator[Outcome]:
        for subnet, rival in zip(subnets, rivals, strict=True):
            yield self._outcome(self._row(subnet), None if rival is None else self._row(rival))

    def _row(self, subnet: Subnet) -> np.ndarray:
        space = self.recording.space
        return self.values[self.recording.rows_of(space.encode(subnet)[None])[0]]

    def _outcome(self, values: np.ndarray, rival: np.ndarray | None) -> Outcome:
        looks = [] if rival is None or self.race is None else self.race.looks(len(values))
        for count in looks:
            assert rival is not None
            assert self.race is not None
            differences = values[:count] - rival[:count]
            if self.race.is_hopeless(differences, len(values), len(looks)):
                self.texts += count
                return Outcome(expected_score(rival, differences) + self.always_right, estimated=True, texts=count)
        self.texts += len(values)
        return Outcome(values.mean() + self.always_right, texts=len(values))


def measure_races(recording: Recording, seeds: int, console: Console) -> dict[str, float]:
    """``raced_texts``: share of the texts that are run; ``race_losses``: share of searches that end with a lower best
    score than without the race; ``race_score_change``: the mean change of that score."""
    shares, changes = [], []
    budgets = np.quantile(recording.upper_ms, np.linspace(0.1, 0.9, BUDGETS))
    with console.progress("races") as report, tempfile.TemporaryDirectory() as folder:
        for seed in range(seeds):
            for number, budget_ms in enumerate(budgets):
                ended = {}
                for race in (None, Race()):
                    replay = _Replay(recording, race, seed)
                    evolution = Evolution(recording.space, [Constraint(recording, float(budget_ms))], Settings(), seed)
                    log = Path(folder) / f"{seed}-{number}-{race is None}"
                    run_search(evolution, replay, CANDIDATES, log, "", lambda *_: None)
                    ended[race is None] = evolution.ranking[0].score, replay.texts
                changes.append(ended[False][0] - ended[True][0])
                shares.append(ended[False][1] / ended[True][1])
            report(seed + 1, seeds, f"{np.mean(shares):.0%} of the texts")
    return {
        "raced_texts": float(np.mean(shares)),
        "race_losses": float(np.mean(np.array(changes) < -1e-9)),
        "race_gains": float(np.mean(np.array(changes) > 1e-9)),
        "race_score_change": float(np.mean(changes)),
    }
