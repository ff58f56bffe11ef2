from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ortnas.nas.architecture.space import Genomes, SearchSpace
from ortnas.search.candidate import Candidate
from ortnas.search.constraints import Constraint, SizeLimit
from ortnas.search.evolution import Evolution, InfeasibleBudgetError, InfeasibleSizeError, Settings
from ortnas.search.front import hypervolume
from ortnas.search.methods import METHODS
from ortnas.search.operators import enumerate_space
from tests.networks import SizePredictor, make_space
from tests.search.landscape import capacities, deep_space, evolve, small_space

PLAIN = Settings(surrogate=False)


class HeadPredictor:
    """Another target: its latency is all heads."""

    def __init__(self, space: SearchSpace) -> None:
        self.space = space

    def predict(self, genomes: Genomes) -> tuple[np.ndarray, np.ndarray]:
        latency_ms = 1 + self.space.expand(genomes).num_heads.sum(1).astype(float)
        return latency_ms, latency_ms * 1.2


def genomes_of(evolution: Evolution) -> list[tuple[int, ...]]:
    return [candidate.genome for candidate in evolution.candidates]


@pytest.mark.slow
@given(
    budget_ms=st.floats(1.5, 8.0),
    seed=st.integers(0, 50),
    method=st.sampled_from(list(METHODS)),
    goal=st.sampled_from(["budget", "front"]),
    surrogate=st.booleans(),
)
@settings(max_examples=20, deadline=None)
def test_nothing_over_the_bound_and_nothing_twice(
    budget_ms: float, seed: int, method: str, goal: str, surrogate: bool
) -> None:
    chosen = Settings(goal, method, population=8, surrogate=surrogate)  # type: ignore[arg-type]
    evolution = evolve(make_space(), budget_ms, 40, chosen, seed)
    assert len(set(genomes_of(evolution))) == len(genomes_of(evolution)) == 40
    assert all(candidate.upper_ms <= budget_ms for candidate in evolution.candidates)
    assert all(len(evolution.space.decode(np.array(genome)).layers) for genome in genomes_of(evolution))


@pytest.mark.slow
@pytest.mark.parametrize("chosen", [PLAIN, Settings(), Settings("front")], ids=["plain", "surrogate", "front"])
def test_same_seed_and_scores_give_the_same_search(chosen: Settings) -> None:
    first, again, other = (evolve(make_space(), 4.0, 40, chosen, seed) for seed in (0, 0, 1))
    assert first.candidates == again.candidates
    assert first.candidates != other.candidates


@pytest.mark.slow
def test_finds_better_subnets_than_as_many_random_ones() -> None:
    space = deep_space()
    for budget_ms in (2.5, 4.0):
        best, random = (
            np.mean([evolve(space, budget_ms, 120, chosen, seed).ranking[0].score for seed in range(3)])
            for chosen in (PLAIN, Settings(method="random", surrogate=False))
        )
        assert best > random


@pytest.mark.slow
def test_a_surrogate_needs_fewer_scores_for_the_same_best() -> None:
    space, budget_ms = deep_space(), 4.0
    guided, plain = (
        np.mean([evolve(space, budget_ms, wanted, chosen, seed).ranking[0].score for seed in range(3)])
        for wanted, chosen in ((60, Settings()), (120, PLAIN))
    )
    assert guided >= plain


@pytest.mark.slow
def test_a_surrogate_needs_fewer_scores_for_the_same_front() -> None:
    space = deep_space()

    def covered(wanted: int, chosen: Settings) -> float:
        fronts = [evolve(space, 8.0, wanted, chosen, seed).ranking for seed in range(3)]
        return float(np.mean([area(front, (0.0, 8.0)) for front in fronts]))

    assert covered(60, Settings("front")) >= covered(120, Settings("front", surrogate=False))


def area(front: list[Candidate], reference: tuple[float, float]) -> float:
    scores, latency_ms = np.array([(candidate.score, candidate.latency_ms) for candidate in front]).T
    return hypervolume(scores, latency_ms, reference)


@pytest.mark.slow
@pytest.mark.parametrize("surrogate", [False, True])
def test_the_front_of_a_small_space_is_found(surrogate: bool) -> None:
    space = small_space()
    genomes = enumerate_space(space)
    latency_ms, scores = SizePredictor(space).predict(genomes)[0], capacities(space, genomes)
    reference = float(scores.min()), float(latency_ms.max())
    whole = hypervolume(scores, latency_ms, reference)
    evolution = evolve(space, 100.0, 150, Settings("front", surrogate=surrogate))
    assert area(evolution.ranking, reference) / whole > (0.98 if surrogate else 0.95)


def hidden_sizes(space: SearchSpace, genomes: Genomes) -> np.ndarray:
    return space.expand(genomes).hidden_size.astype(float)


@pytest.mark.parametrize("goal", ["budget", "front"])
def test_files_stay_within_a_size(goal: str) -> None:
    space = small_space()
    limit = SizeLimit(lambda genomes: hidden_sizes(space, genomes), float(space.hidden_size[0]))
    constraint, settings = Constraint(HeadPredictor(space)), Settings(goal, population=8)  # type: ignore[arg-type]
    evolution = Evolution(space, [constraint], settings, 0, limit)
    for _ in range(4):
        proposals = evolution.ask(8)
        assert len(proposals.genomes) == 8
        assert (hidden_sizes(space, proposals.genomes) <= limit.limit_bytes).all()
        rows = zip(*proposals, capacities(space, proposals.genomes), strict=True)
        evolution.tell([Candidate.of(space, *row) for row in rows])
    # A larger one from another search is no winner here.
    wide = space.encode(space.largest)
    evolution.tell([Candidate.of(space, wide, 1.0, 1.0, 1e9)])
    assert wide.tolist() not in [list(candidate.genome) for candidate in evolution.ranking]


def test_a_size_that_no_subnet_has_names_the_smallest() -> None:
    space = small_space()
    limit = SizeLimit(lambda genomes: hidden_sizes(space, genomes) * 1e6, 1e6)
    smallest_mb = space.hidden_size[0]
    with pytest.raises(InfeasibleSizeError, match=rf"fits into 1\.00 MB: the smallest takes {smallest_mb}\.00 MB"):
        Evolution(space, [Constraint(HeadPredictor(space), 1e6)], Settings(), 0, limit)


def test_all_targets_have_to_be_met() -> None:
    space = make_space()
    constraints = [Constraint(SizePredictor(space), 4.0, "laptop"), Constraint(HeadPredictor(space), 9.0, "phone")]
    evolution = Evolution(space, constraints, PLAIN)
    genomes = evolution.ask(60).genomes
    assert len(genomes) == 60
    for constraint in constraints:
        assert (constraint.predictor.predict(genomes)[1] <= constraint.budget_ms).all()
    alone = Evolution(space, constraints[:1], PLAIN).ask(60).genomes
    assert (HeadPredictor(space).predict(alone)[1] > 9.0).any()


def test_candidates_over_a_budget_are_ranked_behind_and_are_parents_of_last_resort() -> None:
    space = make_space()
    evolution = Evolution(space, [Constraint(SizePredictor(space), 2.0)], Settings(population=2, surrogate=False))
    largest, smallest = (tuple(space.encode(subnet).tolist()) for subnet in (space.largest, space.smallest))
    latency_ms, upper_ms = SizePredictor(space).predict(np.array([largest, smallest], np.int16))
    evolution.tell([Candidate.of(space, largest, latency_ms[0], upper_ms[0], 9.0)])
    assert evolution.ranking == []
    assert evolution._parents().tolist() == [list(largest)]
    evolution.tell([Candidate.of(space, smallest, latency_ms[1], upper_ms[1], 0.1)])
    assert [candidate.genome for candidate in evolution.ranking] == [smallest]
    assert evolution._parents().tolist() == [list(smallest), list(largest)]


def test_a_small_space_is_exhausted_and_the_search_ends() -> None:
    space = make_space(num_layers=1, depth=(1,), hidden_size=(16, 32), num_heads=(2, 4), head_size=(8,), ffn_size=(32,))
    evolution = evolve(space, 100.0, 50)
    assert len(evolution.candidates) == space.count == 4
    assert len(evolution.ask(5).genomes) == 0


def test_every_subnet_within_the_budget_is_found_before_the_space_counts_as_exhausted() -> None:
    space = small_space()
    within = SizePredictor(space).predict(enumerate_space(space))[1] <= 2.5
    assert len(evolve(space, 2.5, 10_000, PLAIN, batch=64).candidates) == within.sum() > 100


def test_an_infeasible_budget_names_the_fastest() -> None:
    space = make_space()
    fastest = SizePredictor(space).predict(space.encode(space.smallest)[None])[1][0]
    with pytest.raises(InfeasibleBudgetError, match=f"at least {fastest:.3g} ms") as caught:
        Evolution(space, [Constraint(SizePredictor(space), fastest * 0.9)])
    assert caught.value.fastest_ms == pytest.approx(fastest)
    phone = Constraint(HeadPredictor(space), 1.0, "phone")
    with pytest.raises(InfeasibleBudgetError, match="budget of 1 ms on phone"):
        Evolution(space, [Constraint(SizePredictor(space), 50.0), phone])


class NarrowValley:
    """A target on which subnets are fast whose widths alternate in a way that random ones hardly ever do."""

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        self.best = np.arange(space.genes) * 7 % space.bounds

    def predict(self, genomes: Genomes) -> tuple[np.ndarray, np.ndarray]:
        latency_ms = 1 + np.abs(genomes - self.best).sum(1).astype(float)
        return latency_ms, latency_ms


def test_a_budget_that_no_random_subnet_meets_is_worked_towards() -> None:
    space = make_space(num_layers=12, depth=(12,))
    valley = NarrowValley(space)
    fastest = valley.predict(space.sample(30_000, np.random.default_rng(1)))[1].min()
    proposals = Evolution(space, [Constraint(valley, fastest - 3)]).ask(4)
    assert len(proposals.genomes) == 4
    assert (proposals.upper_ms <= fastest - 3).all()


@pytest.mark.slow
def test_a_budget_that_all_meet_leads_to_large_subnets() -> None:
    space = make_space()
    best = capacities(space, space.sample(20_000, np.random.default_rng(0))).max()
    for chosen in (PLAIN, Settings()):
        assert evolve(space, 1e6, 40, chosen).ranking[0].score >= 0.95 * best


@pytest.mark.slow
@pytest.mark.parametrize(("chosen", "share"), [(PLAIN, 0.8), (Settings(), 0.97)], ids=["plain", "surrogate"])
def test_what_is_asked_lies_near_a_limit_where_enough_does(chosen: Settings, share: float) -> None:
    """The nearest that a coarse space has is a little less."""
    space = deep_space()
    evolution = evolve(space, 4.0, 16, chosen)
    asked = evolution.ask(8)
    assert ((asked.upper_ms >= share * 4) & (asked.upper_ms <= 4)).all()
    # A limit of size that is nearer than the budget counts in its place.
    size_limit = SizeLimit(lambda genomes: SizePredictor(space).predict(genomes)[0], 2.5)
    limited = Evolution(space, [Constraint(SizePredictor(space), 4.0)], chosen, size_limit=size_limit)
    limited.tell(evolution.candidates)
    asked = limited.ask(8)
    assert ((asked.latency_ms >= share * 2.5) & (asked.latency_ms <= 2.5)).all()


def test_candidates_of_earlier_searches_are_parents_and_are_not_asked_again() -> None:
    space = make_space()
    earlier = evolve(space, 4.0, 24).candidates
    evolution = Evolution(space, [Constraint(SizePredictor(space), 5.0)])
    evolution.tell(earlier)
    asked = {tuple(genome) for genome in evolution.ask(24).genomes.tolist()}
    assert len(asked) == 24
    assert asked.isdisjoint(candidate.genome for candidate in earlier)
    assert evolution.asked == 24


def test_what_is_asked_does_not_depend_on_failures_being_told() -> None:
    """A candidate without a score is simply not told; it is not asked for again."""
    space = make_space()
    evolution = Evolution(space, [Constraint(SizePredictor(space), 5.0)])
    first = evolution.ask(8).genomes
    second = evolution.ask(8).genomes
    assert len(np.unique(np.concatenate([first, second]), axis=0)) == 16


def test_an_unknown_method_is_named_with_those_that_exist() -> None:
    space = make_space()
    with pytest.raises(ValueError, match="called 'annealing'; there are evolution, random, fast, evolved"):
        Evolution(space, [Constraint(SizePredictor(space))], Settings(method="annealing"))


def test_rivals_are_the_best_so_many_or_the_best_no_slower() -> None:
    space = make_space()
    told = evolve(space, 8.0, 30, PLAIN).candidates
    alone = Evolution(space, [Constraint(SizePredictor(space), 8.0)], PLAIN)
    front = Evolution(space, [Constraint(SizePredictor(space), 8.0)], Settings("front"))
    proposals = alone.ask(10)
    assert alone.rivals(proposals, keep=4) == [None] * 10
    alone.tell(told)
    front.tell(told)
    assert alone.rivals(proposals, keep=4) == [alone.ranking[3]] * 10
    for latency_ms, rival in zip(proposals.latency_ms, front.rivals(proposals, keep=4), strict=True):
        cheaper = [candidate for candidate in told if candidate.latency_ms <= latency_ms]
        assert (rival is None) == (not cheaper)
        if rival is not None:
            assert rival.score == max(candidate.score for candidate in cheaper)


def test_ranking_prefers_score_then_speed_and_leaves_out_estimates() -> None:
    space = make_space()
    evolution = Evolution(space, [Constraint(SizePredictor(space), 100.0)])
    genomes = [tuple(genome) for genome in space.sample(4, np.random.default_rng(0)).tolist()]
    scores = ((2.0, 0.5, False), (1.0, 0.5, False), (9.0, 0.7, False), (1.0, 0.9, True))
    evolution.tell(
        [
            Candidate.of(space, genome, latency_ms, latency_ms, score, estimated)
            for genome, (latency_ms, score, estimated) in zip(genomes, scores, strict=True)
        ]
    )
    assert [candidate.genome for candidate in evolution.ranking] == [genomes[2], genomes[1], genomes[0]]
