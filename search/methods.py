"""Where proposals come from: this project's evolution, and the methods of the systems that it stands in for.

Each takes a space, the parents found so far (m, genes) in order of rank, how many proposals are wanted and a random
generator. All go through the same filter: predicted bounds within the budgets, nothing twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from ortnas.nas.architecture.space import Genomes, SearchSpace
from ortnas.search.constraints import Constraint, Proposals, SizeLimit, predict
from ortnas.search.operators import enumerate_space, offspring, unseen

Method = Callable[[SearchSpace, Genomes, int, np.random.Generator], Genomes]

# Widths that the seed system's fast method allows, as shares of the hidden size.
FFN_SHARE = (1.6, 1.9)
QKV_SHARE = (0.7, 1.0)
_RANDOM_SHARE = 8
LISTABLE = 100_000


def evolution(space: SearchSpace, parents: Genomes, n: int, rng: np.random.Generator) -> Genomes:
    """Children by tournament, crossover and mutation, and one random genome for eight of them."""
    if not len(parents):
        return space.sample(n, rng)
    random = n // _RANDOM_SHARE
    return np.concatenate([offspring(space, parents, n - random, rng), space.sample(random, rng)])


def random(space: SearchSpace, parents: Genomes, n: int, rng: np.random.Generator) -> Genomes:  # noqa: ARG001 a Method
    """Random genomes."""
    return space.sample(n, rng)


def evolved(space: SearchSpace, parents: Genomes, n: int, rng: np.random.Generator) -> Genomes:
    """Bigger&Faster's evolution: half mutated parents, half random genomes, no crossover."""
    if not len(parents):
        return space.sample(n, rng)
    mutated = space.mutate(parents[rng.integers(0, len(parents), n // 2)], rng)
    return np.concatenate([mutated, space.sample(n - n // 2, rng)])


def fast(space: SearchSpace, parents: Genomes, n: int, rng: np.random.Generator) -> Genomes:  # noqa: ARG001 a Method
    """AutoTinyBERT's fast search: random depth and hidden size, widths by rule.

    The FFN is 1.6 to 1.9 times as wide as the hidden size, queries 0.7 to 1.0 times; of the space's choices the nearest
    is taken, for heads of a tied size whatever the tie gives.
    """
    genomes = space.sample(n, rng)
    hidden_size = np.asarray(space.hidden_size)[genomes[:, :1]]
    ffn_columns, heads_columns, size_columns = (space.columns[name] for name in ("ffn_size", "num_heads", "head_size"))
    genomes[:, ffn_columns] = _nearest(space.ffn_size, hidden_size * rng.uniform(*FFN_SHARE, (n, 1)))
    width = hidden_size * rng.uniform(*QKV_SHARE, (n, 1))
    if len(space.head_size) > 1:
        # Heads of every present layer are as sampled in the first, which every depth keeps.
        heads = np.asarray(space.num_heads)[genomes[:, heads_columns][:, :1]]
        genomes[:, heads_columns] = genomes[:, heads_columns][:, :1]
        genomes[:, size_columns] = _nearest(space.head_size, width / heads)
    elif space.head_size:
        genomes[:, heads_columns] = _nearest(space.num_heads, width / space.head_size[0])
    return space.repair(genomes)


def _nearest(choices: Sequence[int], wanted: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Index of the choice next to each wanted value, (n, 1)."""
    rows: npt.NDArray[np.int64] = np.abs(np.asarray(choices) - wanted).argmin(1)
    return rows[:, None]


METHODS: Mapping[str, Method] = {method.__name__: method for method in (evolution, random, fast, evolved)}


def list_candidates(
    space: SearchSpace,
    constraints: Sequence[Constraint],
    n: int,
    rng: np.random.Generator,
    window: float = 0.85,
    size_limit: SizeLimit | None = None,
) -> Proposals:
    """Up to n different subnets within all budgets and the limit of size, none of them scored; bounds are at least
    ``window`` of the first budget.

    The nearest to the budget come first. Spaces of many subnets are sampled.
    """
    genomes = enumerate_space(space) if space.count <= LISTABLE else space.sample(LISTABLE, rng)
    proposals, excess = predict(constraints, genomes[unseen(genomes, set())], size_limit)
    listed = np.flatnonzero((excess.max(1) <= 0) & (proposals.upper_ms >= window * constraints[0].budget_ms))
    order = np.argsort(-proposals.upper_ms[listed], kind="stable")
    return proposals.take(listed[order[:n]])
