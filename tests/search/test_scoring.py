from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from export.build import Exporter, model_outputs
from export.metrics import Part
from export.recipes import recipe_named
from export.weights import SupernetFolder
from nas.text import EncodedExamples
from search.scoring import Scorer
from tests.networks import make_dimensions, make_space, random_feeds, random_subnets, random_tensors


def make_exporter(digest: str = "weights") -> Exporter:
    dimensions = make_dimensions("classification")
    folder = SupernetFolder(None, dimensions, make_space(), random_tensors(dimensions), (), {}, digest)  # type: ignore[arg-type]
    return Exporter(folder, recipe_named("avx512_vnni"), [random_feeds(dimensions, seed=seed) for seed in range(2)])


def make_part(n: int = 30) -> Part:
    rng = np.random.default_rng(0)
    ids = [rng.integers(0, 120, rng.integers(3, 20)).tolist() for _ in range(n)]
    return Part(EncodedExamples(ids, [[0] * len(row) for row in ids], rng.integers(0, 3, n).tolist()))


def test_outputs_do_not_depend_on_batching() -> None:
    exporter, part = make_exporter(), make_part()
    model = exporter.build(exporter.supernet.space.largest, "fp32")
    together, alone = (model_outputs(model, part.encoded, "classification", size) for size in (7, 1))
    np.testing.assert_allclose(np.stack(together), np.stack(alone), atol=1e-5)


def test_a_score_is_computed_once_across_runs(tmp_path: Path) -> None:
    subnets = random_subnets(make_space(), 3)
    cache = tmp_path / "scores.jsonl"
    first = Scorer(make_exporter(), make_part(), "int8", "accuracy", cache)
    scores = [first.score(subnet) for subnet in [*subnets, *subnets]]
    assert first.computed == len(set(subnets))
    second = Scorer(make_exporter(), make_part(), "int8", "accuracy", cache)
    assert [second.score(subnet) for subnet in subnets] == scores[: len(subnets)]
    assert second.computed == 0


def test_scores_of_other_weights_splits_precisions_and_metrics_are_not_used(tmp_path: Path) -> None:
    exporter, part, cache = make_exporter(), make_part(), tmp_path / "scores.jsonl"
    contexts = {
        Scorer(exporter, part, "int8", "accuracy", cache).context,
        Scorer(make_exporter("others"), part, "int8", "accuracy", cache).context,
        Scorer(exporter, make_part(29), "int8", "accuracy", cache).context,
        Scorer(exporter, part, "fp32", "accuracy", cache).context,
        Scorer(exporter, part, "int8", "mean_cosine", cache).context,
    }
    assert len(contexts) == 5


def test_an_empty_split_is_refused() -> None:
    exporter = make_exporter()
    model = exporter.build(exporter.supernet.space.smallest, "fp32")
    with pytest.raises(ValueError, match="empty"):
        model_outputs(model, EncodedExamples([], []), "classification")
