"""A search in one call, as in a notebook: a predictor, texts and a budget in; scored subnets out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ortnas.export.build import Exporter, Precision
from ortnas.export.metrics import suitable_metrics
from ortnas.export.plain_texts import Text, make_part
from ortnas.nas.files import digest
from ortnas.predictors.predictor import Predictor
from ortnas.search.candidate import Candidate
from ortnas.search.constraints import Constraint
from ortnas.search.evolution import Evolution
from ortnas.search.loop import LOG_FILE, run_search
from ortnas.search.scoring import Scorer

_SCORES_FILE = "scores.jsonl"
# So many predictions tell a predictor from another.
_COMPARED = 16


def search_subnets(
    exporter: Exporter,
    predictor: Predictor,
    texts: Sequence[Text],
    budget_ms: float,
    folder: Path,
    max_length: int = 128,
    candidates: int = 64,
    seed: int = 0,
) -> list[Candidate]:
    """Scored subnets whose predicted bound is within the budget, the best first, at the predictor's precision.

    ``texts`` are as in ``export.plain_texts.make_part``. Scores and the log go to ``folder``: called again after a
    kill, it goes on. Raises InfeasibleBudgetError and ScoringError.
    """
    part, head = make_part(exporter, texts, max_length), exporter.supernet.dimensions.head
    metric = suitable_metrics(head, exporter.supernet.labels)[0]
    folder.mkdir(parents=True, exist_ok=True)
    precision: Precision = "fp32" if predictor.precision == "fp32" else "int8"
    scorer = Scorer(exporter, part, precision, metric, folder / _SCORES_FILE)
    evolution = Evolution(predictor.space, [Constraint(predictor, budget_ms)], seed=seed)
    _, upper_ms = predictor.predict(predictor.space.sample(_COMPARED, np.random.default_rng(0)))
    inputs = digest(scorer.context, predictor.target.hash, upper_ms.tolist(), budget_ms, seed)
    run_search(evolution, scorer, candidates, folder / LOG_FILE, inputs)
    return list(evolution.ranking)
