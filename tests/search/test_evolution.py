from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.space import SearchSpace
from search.evolution import Candidate, Evolution, InfeasibleBudgetError
from tests.networks import SizePredictor, make_space


def capacity(space: SearchSpace, genome: np.ndarray) -> float:
    """A score that grows with size but prefers wide FFNs early: not the same order as latency."""
    subnet = space.decode(genome)
    return (
        sum(layer.ffn_size / (1 + layer.source) + 3 * layer.num_heads for layer in subnet.layers) + subnet.hidden_size
    )


def evolve(
    space: SearchSpace, budget_ms: float, n: int, seed: int = 0, known: list[Candidate] | None = None
) -> Evolution:
    evolution = Evolution(space, SizePredictor(space), budget_ms, population=8, seed=seed)
    evolution.tell(known or [])
    asked = 0
    while asked < n:
        genomes, latency_ms, upper_ms = evolution.ask(min(8, n - asked))
        if not len(genomes):
            break
        evolution.tell(
            [
                Candidate(tuple(genome.tolist()), float(latency), float(upper), capacity(space, genome))
                for genome, latency, upper in zip(genomes, latency_ms, upper_ms, strict=True)
            ]
        )
        asked += len(genomes)
    return evolution


@given(budget_ms=st.floats(2.0, 8.0), seed=st.integers(0, 50))
@settings(max_examples=15, deadline=None)
def test_nothing_over_the_bound_and_nothing_twice(budget_ms: float, seed: int) -> None:
    evolution = evolve(make_space(), budget_ms, 60, seed)
    genomes = [candidate.genome for candidate in evolution.candidates]
    assert len(set(genomes)) == len(genomes)
    assert all(candidate.upper_ms <= budget_ms for candidate in evolution.candidates)


def test_same_seed_and_scores_give_the_same_search() -> None:
    assert evolve(make_space(), 4.0, 50).candidates == evolve(make_space(), 4.0, 50).candidates
    assert evolve(make_space(), 4.0, 50).candidates != evolve(make_space(), 4.0, 50, seed=1).candidates


def test_finds_better_subnets_than_as_many_random_ones() -> None:
    space = make_space(num_layers=8, depth=tuple(range(2, 9)))
    for budget_ms in (2.5, 4.0):
        gains = []
        for seed in range(5):
            genomes = space.sample(20000, np.random.default_rng(seed))
            feasible = genomes[SizePredictor(space).predict(genomes)[1] <= budget_ms][:120]
            best = evolve(space, budget_ms, 120, seed).ranking[0].score
            gains.append(best - max(capacity(space, genome) for genome in feasible))
        assert np.mean(gains) > 0


def test_a_small_space_is_exhausted_and_the_search_ends() -> None:
    space = make_space(num_layers=1, depth=(1,), hidden_size=(16, 32), num_heads=(2, 4), head_size=(8,), ffn_size=(32,))
    evolution = evolve(space, 100.0, 50)
    assert len(evolution.candidates) == space.count == 4
    assert len(evolution.ask(5)[0]) == 0


def test_an_infeasible_budget_names_the_fastest() -> None:
    space = make_space()
    fastest = SizePredictor(space).predict(space.encode(space.smallest)[None])[1][0]
    with pytest.raises(InfeasibleBudgetError, match=f"at least {fastest:.3g} ms") as caught:
        Evolution(space, SizePredictor(space), fastest * 0.9, 8, 0)
    assert caught.value.fastest_ms == pytest.approx(fastest)


def test_a_budget_that_all_meet_leads_to_large_subnets() -> None:
    space = make_space()
    evolution = evolve(space, 1e6, 40)
    assert evolution.ranking[0].score >= 0.95 * capacity(space, space.encode(space.largest))


def test_known_candidates_are_parents_and_are_not_asked_again() -> None:
    space = make_space()
    known = evolve(space, 4.0, 24).candidates
    evolution = evolve(space, 5.0, 24, known=known)
    genomes = [candidate.genome for candidate in evolution.candidates]
    assert len(set(genomes)) == len(genomes) == 48


def test_ranking_prefers_score_then_speed() -> None:
    space = make_space()
    evolution = Evolution(space, SizePredictor(space), 100.0, 8, 0)
    evolution.tell([Candidate((0,), 2.0, 2.2, 0.5), Candidate((1,), 1.0, 1.1, 0.5), Candidate((2,), 9.0, 9.9, 0.7)])
    assert [candidate.genome for candidate in evolution.ranking] == [(2,), (1,), (0,)]
