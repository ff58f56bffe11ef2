"""Other ways to predict a subnet's latency from the same measurements, for ``predictor_accuracy``.

Each takes the space, genomes (n, genes) and latencies (n,) to learn from, genomes (m, genes) to predict, and a seed,
and returns latencies (m,). None sees more than that, and none is asked for a bound.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import xgboost

from ortnas.nas.architecture.space import Genomes, SearchSpace

Array = np.ndarray
Rival = Callable[[SearchSpace, Genomes, Array, Genomes, int], Array]

# The network of AutoTinyBERT (Yin et al. 2021) and, before it, HAT (Wang et al. 2020). Theirs takes 5,000 steps of
# 128 rows at a rate of 1e-5, for thousands of timings; more steps than these at lower rates end no better here.
_NETWORK_WIDTH, _NETWORK_LAYERS = 2000, 3
_NETWORK_STEPS, _NETWORK_BATCH, _NETWORK_RATE = 200, 128, 2e-4
_BOOSTED = {
    "objective": "reg:squarederror",
    "eta": 0.05,
    "max_depth": 4,
    "min_child_weight": 2,
    "subsample": 0.8,
    "colsample_bytree": 0.8,
    "nthread": 1,
}
_BOOSTED_ROUNDS = 400
_TOKENS, _SEQUENCE = 128, 128
_AT_A_TIME = 1000


def boosted_dimensions(space: SearchSpace, genomes: Genomes, latency_ms: Array, wanted: Genomes, seed: int) -> Array:
    """XGBoost on every dimension of every layer, for the logarithm of the latency."""
    data = xgboost.DMatrix(_dimensions(space, genomes), label=np.log(latency_ms))
    booster = xgboost.train(_BOOSTED | {"seed": seed}, data, num_boost_round=_BOOSTED_ROUNDS)
    return np.exp(booster.predict(xgboost.DMatrix(_dimensions(space, wanted))))


def network(space: SearchSpace, genomes: Genomes, latency_ms: Array, wanted: Genomes, seed: int) -> Array:
    """4 inputs (layers, hidden size, mean FFN size, mean width of attention), 3 hidden layers of 2,000 with ReLU, Adam
    on the squared error of scaled latencies."""
    import torch

    torch.manual_seed(seed)
    inputs, wanted_inputs = _four(space, genomes), _four(space, wanted)
    scale = np.maximum(inputs, 1).max(0)
    sizes = [4, *[_NETWORK_WIDTH] * _NETWORK_LAYERS]
    layers = [layer for a, b in pairwise(sizes) for layer in (torch.nn.Linear(a, b), torch.nn.ReLU())]
    model = torch.nn.Sequential(*layers, torch.nn.Linear(_NETWORK_WIDTH, 1))
    x, y = (torch.tensor(values, dtype=torch.float32) for values in (inputs / scale, latency_ms / latency_ms.max()))
    optimizer = torch.optim.Adam(model.parameters(), lr=_NETWORK_RATE)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(_NETWORK_STEPS):
        rows = torch.randint(len(x), (_NETWORK_BATCH,), generator=generator)
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(model(x[rows])[:, 0], y[rows]).backward()
        optimizer.step()
    with torch.inference_mode():
        predicted = model(torch.tensor(wanted_inputs / scale, dtype=torch.float32))[:, 0].numpy()
    return np.maximum(predicted * latency_ms.max(), 1e-3)


def analytic(space: SearchSpace, genomes: Genomes, latency_ms: Array, wanted: Genomes, seed: int) -> Array:
    """Least squares of relative errors on ten analytic terms, signs free."""
    return _least_squares(_analytic_terms(space, genomes), latency_ms, _analytic_terms(space, wanted), relative=True)


def linear(space: SearchSpace, genomes: Genomes, latency_ms: Array, wanted: Genomes, seed: int) -> Array:
    """Linear regression on hidden size, depth, and the sums of heads, widths and FFN sizes."""
    return _least_squares(_sums(space, genomes), latency_ms, _sums(space, wanted), relative=False)


def look_up(space: SearchSpace, genomes: Genomes, latency_ms: Array, wanted: Genomes, seed: int) -> Array:
    """Additive look-up by layer, as Once-for-all (Cai et al. 2020) and nn-Meter (Zhang et al. 2021) predict: a time for
    each hidden size, and for each attention and each FFN block at that hidden size, summed over the layers.

    They time blocks alone; here the tables are fitted to whole networks, by ridge regression around what the blocks'
    sizes explain, so that entries that no measurement holds stay plausible. Cross-validation chooses the strength.
    """
    rows = np.hstack([_sums_by_block(space, genomes), _blocks(space, genomes)]) / latency_ms[:, None]
    free = np.arange(rows.shape[1]) < _sums_by_block(space, genomes[:1]).shape[1]
    folds = np.random.default_rng(seed).permutation(len(genomes)) % 5

    def solve(relative: Array, strength: float) -> Array:
        # In as many unknowns as there are measurements: tables have more entries than those.
        looseness = np.where(free, 1e6, 1 / strength)
        spread = relative * looseness
        return spread.T @ np.linalg.solve(spread @ relative.T + np.eye(len(relative)), np.ones(len(relative)))

    def error(strength: float) -> float:
        outputs = [rows[folds == fold] @ solve(rows[folds != fold], strength) for fold in range(5)]
        return float(np.abs(np.concatenate(outputs) - 1).mean())

    table = solve(rows, min((0.001, 0.01, 0.1, 1.0, 10.0, 100.0), key=error))
    parts = [
        np.hstack([_sums_by_block(space, part), _blocks(space, part)]) @ table
        for part in np.array_split(wanted, math.ceil(len(wanted) / _AT_A_TIME))
    ]
    return np.maximum(np.concatenate(parts), 1e-3)


RIVALS: dict[str, Rival] = {
    "XGBoost on raw dimensions": boosted_dimensions,
    "AutoTinyBERT's network": network,
    "analytic least squares": analytic,
    "look-up by layer": look_up,
    "linear regression": linear,
}


def _dimensions(space: SearchSpace, genomes: Genomes) -> Array:
    population = space.expand(genomes)
    return np.hstack(
        [
            population.hidden_size[:, None],
            population.depth[:, None],
            population.num_heads,
            population.head_size,
            population.ffn_size,
        ]
    ).astype(np.float32)


def _four(space: SearchSpace, genomes: Genomes) -> Array:
    population = space.expand(genomes)
    width = (population.num_heads * population.head_size).sum(1) / population.depth
    ffn = population.ffn_size.sum(1) / population.depth
    return np.stack([population.depth, population.hidden_size, ffn, width], axis=1).astype(np.float64)


def _sums(space: SearchSpace, genomes: Genomes) -> Array:
    population = space.expand(genomes)
    width = (population.num_heads * population.head_size).sum(1)
    columns = (np.ones(len(genomes)), population.hidden_size, population.depth, population.num_heads.sum(1), width)
    return np.stack([*columns, population.ffn_size.sum(1)], axis=1).astype(np.float64)


def _analytic_terms(space: SearchSpace, genomes: Genomes) -> Array:
    population = space.expand(genomes)
    hidden, depth = population.hidden_size.astype(np.float64), population.depth
    width, ffn = (population.num_heads * population.head_size).sum(1), population.ffn_size.sum(1)
    columns = (
        np.full(len(hidden), 1e6),
        depth * 1e5,
        _TOKENS * hidden,
        _TOKENS * hidden * 4 * width,
        _TOKENS * hidden * 2 * ffn,
        2 * _TOKENS * _SEQUENCE * width,
        _TOKENS * _SEQUENCE * population.num_heads.sum(1),
        _TOKENS * hidden * depth,
        _TOKENS * ffn,
        _TOKENS * width,
    )
    return np.stack(columns, axis=1) / 1e6


def _sums_by_block(space: SearchSpace, genomes: Genomes) -> Array:
    """What a block's time is near: a constant, and for all attention and FFN blocks, sizes with and without hidden."""
    population = space.expand(genomes)
    hidden = population.hidden_size.astype(np.float64)
    width, ffn = (population.num_heads * population.head_size).sum(1), population.ffn_size.sum(1)
    columns = (np.ones(len(hidden)), hidden / 100, population.depth, width / 100, ffn / 100)
    return np.stack([*columns, hidden * width / 1e4, hidden * ffn / 1e4], axis=1)


def _blocks(space: SearchSpace, genomes: Genomes) -> Array:
    """How often each block of the tables is used: (n, hidden sizes x (1 + attention blocks + FFN blocks))."""
    population = space.expand(genomes)
    widths = population.num_heads * population.head_size
    possible = sorted({heads * size for heads in space.num_heads for size in _head_sizes(space)})
    hidden = (population.hidden_size[:, None] == np.asarray(space.hidden_size)).astype(np.float64)
    counts = [np.ones((len(genomes), 1))]
    for values, choices in ((widths, possible), (population.ffn_size, space.ffn_size)):
        counts.append((values[:, :, None] == np.asarray(choices)).sum(1))
    used = np.hstack(counts)
    return (hidden[:, :, None] * used[:, None, :]).reshape(len(genomes), -1)


def _head_sizes(space: SearchSpace) -> tuple[int, ...]:
    if space.head_size:
        return space.head_size
    return tuple(sorted({hidden // heads for hidden in space.hidden_size for heads in space.num_heads}))


def _least_squares(rows: Array, latency_ms: Array, wanted: Array, relative: bool) -> Array:
    weight = 1 / latency_ms if relative else np.ones(len(latency_ms))
    solution = np.linalg.lstsq(rows * weight[:, None], latency_ms * weight, rcond=None)[0]
    return np.maximum(wanted @ solution, 1e-3)
