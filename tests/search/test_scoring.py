from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ortnas.export.build import Exporter
from ortnas.export.inference import model_outputs, open_model, outputs_of
from ortnas.export.int8.recipes import recipe_named
from ortnas.export.metrics import METRICS
from ortnas.export.part import Part
from ortnas.export.weights import SupernetFolder
from ortnas.nas.architecture.subnet import Layer, Subnet
from ortnas.nas.text import EncodedExamples
from ortnas.search.racing import Race
from ortnas.search.scoring import FitnessScorer, Scorer, ScoringError, in_threads
from tests.networks import make_dimensions, make_space, random_feeds, random_subnets, random_tensors


def make_exporter(digest: str = "weights", head: str = "classification", seed: int = 0) -> Exporter:
    dimensions = make_dimensions(head)
    tensors = random_tensors(dimensions, seed)
    folder = SupernetFolder(None, dimensions, make_space(), tensors, (), {}, digest)  # type: ignore[arg-type]
    return Exporter(folder, recipe_named("avx512_vnni"), [random_feeds(dimensions, seed=seed) for seed in range(2)])


def make_part(n: int = 30, labels: list[int] | None = None) -> Part:
    rng = np.random.default_rng(0)
    ids = [rng.integers(0, 120, rng.integers(3, 20)).tolist() for _ in range(n)]
    return Part(EncodedExamples(ids, [[0] * len(row) for row in ids], labels or rng.integers(0, 3, n).tolist()))


def part_labelled_by(exporter: Exporter, subnet: Subnet, n: int) -> Part:
    """A split on which that subnet scores best and others the worse the further they are from it."""
    part = make_part(n)
    outputs = model_outputs(exporter.build(subnet, "int8"), part.encoded, "classification")
    return make_part(n, np.stack(outputs).argmax(1).tolist())


def score_all(scorer: Scorer, subnets: list[Subnet]) -> list[float | None]:
    return [outcome.score for outcome in scorer.outcomes(subnets, [None] * len(subnets))]


@pytest.mark.parametrize("head", ["classification", "token-classification", "masked-lm"])
def test_outputs_do_not_depend_on_batches_or_order(head: str) -> None:
    exporter = make_exporter(head=head)
    part = make_part()
    if head == "masked-lm":
        part = Part(replace(part.encoded, labels=[[ids[0], *[-100] * (len(ids) - 1)] for ids in part.encoded.ids]))
    model = exporter.build(exporter.supernet.space.largest, "fp32")
    together = model_outputs(model, part.encoded, head, 7)
    rows = np.random.default_rng(1).permutation(30)[:17]
    for row, output in zip(rows, outputs_of(open_model(model), part.encoded, head, rows), strict=True):
        np.testing.assert_allclose(output, together[row], atol=1e-5)


def test_a_score_is_the_metric_of_the_model_that_would_be_shipped(tmp_path: Path) -> None:
    exporter, part = make_exporter(), make_part()
    for subnet in random_subnets(make_space(), 2):
        expected = METRICS["f1"](model_outputs(exporter.build(subnet, "int8"), part.encoded, "classification"), part)
        assert Scorer(exporter, part, "int8", "f1", tmp_path / "scores").score(subnet) == expected


def test_a_score_is_computed_once_across_runs(tmp_path: Path) -> None:
    subnets = random_subnets(make_space(), 3)
    cache = tmp_path / "scores.jsonl"
    first = Scorer(make_exporter(), make_part(), "int8", "accuracy", cache)
    scores = [first.score(subnet) for subnet in [*subnets, *subnets]]
    assert first.computed == len(set(subnets))
    second = Scorer(make_exporter(), make_part(), "int8", "accuracy", cache)
    assert score_all(second, subnets) == scores[: len(subnets)]
    assert second.computed == 0


def test_scores_of_other_weights_splits_precisions_metrics_and_forms_are_not_used(tmp_path: Path) -> None:
    exporter, part, cache = make_exporter(), make_part(), tmp_path / "scores.jsonl"
    recipe = replace(exporter.recipe, per_channel=False)
    contexts = {
        Scorer(exporter, part, "int8", "accuracy", cache).context,
        Scorer(make_exporter("others"), part, "int8", "accuracy", cache).context,
        Scorer(exporter, make_part(29), "int8", "accuracy", cache).context,
        Scorer(exporter, part, "fp32", "accuracy", cache).context,
        Scorer(exporter, part, "int8", "mean_cosine", cache).context,
        Scorer(exporter, part, "int8", "accuracy", cache, form="sliced").context,
        Scorer(replace(exporter, recipe=recipe), part, "int8", "accuracy", cache).context,
        Scorer(replace(exporter, calibration=exporter.calibration[:1]), part, "int8", "accuracy", cache).context,
        FitnessScorer(lambda subnet: 0.0, "three steps", cache).context,
        FitnessScorer(lambda subnet: 0.0, "four steps", cache).context,
    }
    assert len(contexts) == 10


@pytest.mark.slow
def test_workers_change_neither_scores_nor_their_order(tmp_path: Path) -> None:
    exporter, part = make_exporter(), make_part()
    subnets = random_subnets(make_space(), 6)
    alone, together = (
        score_all(
            Scorer(exporter, part, "int8", "accuracy", tmp_path / str(count), dispatch=in_threads(count)), subnets
        )
        for count in (1, 4)
    )
    assert alone == together
    assert len(set(alone)) > 1


@pytest.mark.slow
def test_sliced_models_score_nearly_as_their_own_ones(tmp_path: Path) -> None:
    exporter, part = make_exporter(), make_part(200)
    subnets = random_subnets(make_space(), 6)
    own, sliced = (
        score_all(Scorer(exporter, part, "int8", "accuracy", tmp_path / "cache", form=form), subnets)  # type: ignore[arg-type]
        for form in ("own", "sliced")
    )
    assert np.abs(np.subtract(own, sliced)).max() < 0.1  # type: ignore[arg-type]


def test_one_candidate_that_fails_is_an_outcome_with_a_reason(tmp_path: Path) -> None:
    scorer = Scorer(make_exporter(), make_part(), "int8", "accuracy", tmp_path / "scores")
    good = make_space().smallest
    impossible = Subnet(16, (Layer(7, 2, 4, 16),))
    first, second, third = scorer.outcomes([good, impossible, make_space().largest], [None] * 3)
    assert first.score is not None
    assert third.score is not None
    assert second.score is None
    assert "source layer 7" in second.reason
    assert len((tmp_path / "scores").read_text().splitlines()) == 2
    with pytest.raises(ScoringError, match="source layer 7"):
        scorer.score(impossible)


def test_weights_that_are_not_numbers_fail_and_are_not_remembered(tmp_path: Path) -> None:
    exporter = make_exporter()
    tensors = dict(exporter.supernet.tensors)
    tensors["head.pooler.bias"] = tensors["head.pooler.bias"] * np.nan
    broken = replace(exporter, supernet=replace(exporter.supernet, tensors=tensors))
    scorer = Scorer(broken, make_part(), "fp32", "accuracy", tmp_path / "scores")
    (outcome,) = scorer.outcomes([make_space().smallest], [None])
    assert outcome.score is None
    assert outcome.reason
    assert not (tmp_path / "scores").exists()


def test_an_empty_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ScoringError, match=r"empty.*data\.search_size"):
        Scorer(make_exporter(), Part(EncodedExamples([], [])), "int8", "accuracy", tmp_path / "scores")


@pytest.mark.slow
def test_a_race_ends_what_cannot_reach_its_rival_and_scores_the_rest_in_full(tmp_path: Path) -> None:
    exporter, space = make_exporter(), make_space()
    part = part_labelled_by(exporter, space.largest, 400)
    subnets = random_subnets(space, 8)
    plain = dict(
        zip(subnets, score_all(Scorer(exporter, part, "int8", "accuracy", tmp_path / "plain"), subnets), strict=True)
    )
    scorer = Scorer(exporter, part, "int8", "accuracy", tmp_path / "raced", race=Race())
    rival = space.largest
    assert scorer.score(rival) == plain[rival]
    outcomes = dict(zip(subnets, scorer.outcomes(subnets, [rival] * len(subnets)), strict=True))
    ended = [subnet for subnet, outcome in outcomes.items() if outcome.estimated]
    assert ended
    for subnet, outcome in outcomes.items():
        if outcome.estimated:
            assert outcome.texts < 400
            assert plain[subnet] < plain[rival]
            assert outcome.score == pytest.approx(plain[subnet], abs=0.15)
        else:
            assert outcome.score == plain[subnet]
    # What was ended early is not a score that another search may use.
    keys = {json.loads(line)["subnet_key"] for line in (tmp_path / "raced").read_text().splitlines()}
    assert keys.isdisjoint(subnet.key for subnet in ended)


@pytest.mark.slow
def test_a_race_goes_on_alike_with_values_from_the_cache(tmp_path: Path) -> None:
    exporter, space = make_exporter(head="embedding"), make_space()
    part = make_part(300)
    teacher = np.stack(model_outputs(exporter.build(space.largest, "fp32"), part.encoded, "embedding"))
    part = replace(part, teacher=teacher)
    subnets = random_subnets(space, 5)

    def raced(fresh: bool) -> list[Any]:
        scorer = Scorer(exporter, part, "int8", "mean_cosine", tmp_path / "cache", race=Race(shares=(0.2, 0.5)))
        if fresh:
            scorer.score(space.largest)
        return [
            (outcome.score, outcome.estimated)
            for outcome in scorer.outcomes(subnets[1:], [space.largest] * (len(subnets) - 1))
        ]

    first = raced(fresh=True)
    assert any(estimated for _, estimated in first)
    assert raced(fresh=False) == first


def test_a_given_fitness_is_computed_once_and_may_fail(tmp_path: Path) -> None:
    calls: list[str] = []

    def fitness(subnet: Subnet) -> float:
        calls.append(subnet.key)
        if subnet.hidden_size == 16:
            raise RuntimeError("the loss became infinite")
        return subnet.multiply_adds / 1e5 if subnet.hidden_size == 24 else float("nan")

    subnets = [Subnet(hidden, (Layer(0, 2, 4, 16),)) for hidden in (16, 24, 32)]
    scorer = FitnessScorer(fitness, {"steps": 10}, tmp_path / "cache")
    failed, good, not_a_number = scorer.outcomes(subnets, [None] * 3)
    assert "the loss became infinite" in failed.reason
    assert "nan" in not_a_number.reason
    assert good.score == subnets[1].multiply_adds / 1e5
    assert next(FitnessScorer(fitness, {"steps": 10}, tmp_path / "cache").outcomes(subnets[1:2], [None])) == good
    assert len(calls) == 3
