"""Searches that score real models of a run, over its whole space."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ortnas.nas.architecture.space import Genomes
from ortnas.nas.run.run import Run
from ortnas.predictors.fitting import find_predictor
from ortnas.search.scoring import Scorer, ScoringError

Vector = npt.NDArray[np.float64]


class RunField:
    """The space of a run with its predictor's latencies; scores are of sliced INT8 models, remembered in the run."""

    def __init__(self, run: Run) -> None:
        self.space = run.models.supernet.space
        self.predictor = find_predictor(run.folder.predictors, "int8", run.models.target)
        cache = run.folder.path / "search" / "live-scores.jsonl"
        self.scorer = Scorer(run.models.exporter, run.models.part("search"), "int8", run.texts.metric, cache, "sliced")

    def predict(self, genomes: Genomes) -> tuple[Vector, Vector]:
        return self.predictor.predict(genomes)

    def score(self, genomes: Genomes) -> Vector:
        subnets = [self.space.decode(genome) for genome in genomes]
        scores = []
        for outcome in self.scorer.outcomes(subnets, [None] * len(subnets)):
            if outcome.score is None:
                raise ScoringError(outcome.reason)
            scores.append(outcome.score)
        return np.array(scores)
