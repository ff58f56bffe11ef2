from __future__ import annotations

import numpy as np
import pytest

from ortnas.nas.architecture.space import SearchSpace
from ortnas.nas.training.probes import choose_probes
from ortnas.nas.training.step_subnets import Sampler, multiply_adds
from tests.networks import make_space

STEPS = 100


def make_sampler(strategy: str = "sandwich", random_subnets: int = 2, balanced: bool = True) -> Sampler:
    space = make_wide_space()
    return Sampler(space, strategy, random_subnets, STEPS, seed=1, costs=multiply_adds(space) if balanced else None)


def make_wide_space() -> SearchSpace:
    return make_space(hidden_size=tuple(range(4, 36, 4)), num_heads=(1, 2, 3, 4), ffn_size=tuple(range(8, 72, 8)))


def test_a_sandwich_has_both_ends_and_random_subnets() -> None:
    sampler = make_sampler()
    for step in range(20):
        subnets = sampler[step]
        assert subnets[0] == sampler.space.largest
        assert subnets[1] == sampler.space.smallest
        assert 2 <= len(subnets) <= 4


def test_draws_are_a_function_of_seed_and_step() -> None:
    first, second = make_sampler(), make_sampler()
    assert [first[step] for step in (7, 3, 50)] == [second[step] for step in (7, 3, 50)]
    assert first[3] != first[4]


def test_every_cost_is_equally_likely_when_balanced() -> None:
    """Shares of the range of multiply-adds, in quarters; drawn by genome, most subnets are small."""
    shares = {}
    for balanced in (True, False):
        sampler = make_sampler("uniform", 8, balanced)
        costs = np.array([subnet.multiply_adds for step in range(150) for subnet in sampler[step]])
        low, high = sampler.space.smallest.multiply_adds, sampler.space.largest.multiply_adds
        shares[balanced] = np.histogram(costs, 4, (low, high))[0] / len(costs)
    assert shares[True].min() > 0.19
    assert shares[True].max() < 0.31
    assert shares[False].max() > 0.5


def test_uniform_draws_one_subnet_and_no_ends() -> None:
    sampler = make_sampler("uniform", 1)
    drawn = [sampler[step] for step in range(50)]
    assert {len(subnets) for subnets in drawn} == {1}
    assert sum(subnets[0] in (sampler.space.largest, sampler.space.smallest) for subnets in drawn) < 5


def test_progressive_opens_depth_then_heads_and_ffn_then_hidden_size() -> None:
    sampler = make_sampler("progressive", 4)
    largest = sampler.space.largest
    early, middle, late = (
        [subnet for step in span for subnet in sampler[step]] for span in ((0, 9), (26, 40), (60, 99))
    )
    assert {subnet.hidden_size for subnet in early + middle} == {largest.hidden_size}
    assert {layer.ffn_size for subnet in early for layer in subnet.layers} == {64}
    assert {layer.num_heads for subnet in early for layer in subnet.layers} == {4}
    assert len({len(subnet.layers) for subnet in early}) > 1
    assert len({layer.ffn_size for subnet in middle for layer in subnet.layers}) > 2
    assert len({subnet.hidden_size for subnet in late}) > 2
    assert sampler.space.smallest in late


def test_a_tied_head_size_and_a_single_choice_are_no_obstacle() -> None:
    space = make_space(
        hidden_size=(16, 32), num_heads=(4,), head_size=(), ffn_size=(64,), uniform=("num_heads", "ffn_size")
    )
    sampler = Sampler(space, "progressive", 2, STEPS, 0, multiply_adds(space))
    assert {subnet.hidden_size for step in (70, 80, 90) for subnet in sampler[step]} == {16, 32}


def test_an_unknown_strategy_is_refused() -> None:
    with pytest.raises(ValueError, match="there are sandwich, uniform, progressive"):
        make_sampler("random")


def test_probes_stand_at_half_and_a_quarter() -> None:
    space = make_wide_space()
    probes = choose_probes(space)
    assert list(probes) == ["largest", "half", "quarter", "smallest"]
    full = space.largest.multiply_adds
    assert probes["half"].multiply_adds / full == pytest.approx(0.5, rel=0.06)
    assert probes["quarter"].multiply_adds / full == pytest.approx(0.25, rel=0.06)
