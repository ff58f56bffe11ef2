"""Analytic terms of a subnet's latency, vectorised over populations."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nas.space import Population

Matrix = npt.NDArray[np.float64]

TERMS = {
    "constant": "one inference: session entry, inputs, head",
    "layers": "per layer: operator launches",
    "embedding": "tokens x hidden: table look-up and first layer norm",
    "projections": "multiply-adds of query, key, value and output products (integer kernels)",
    "ffn": "multiply-adds of the two FFN products (integer kernels)",
    "attention": "multiply-adds of scores and mixing (float kernels)",
    "softmax": "elements of the score matrices",
    "residual": "tokens x hidden per layer: residual additions, layer norms, quantization",
    "ffn_elements": "tokens x FFN size: activation function and quantization",
    "head_elements": "tokens x heads x head size: transposes and quantization",
}


def analytic_terms(population: Population, batch: int, sequence: int) -> Matrix:
    """Shape (n, len(TERMS)), in the order of TERMS; counts in millions, so that columns have similar size."""
    hidden = population.hidden_size.astype(np.float64)
    tokens = batch * sequence
    width = (population.num_heads * population.head_size).sum(1, dtype=np.float64)
    ffn = population.ffn_size.sum(1, dtype=np.float64)
    columns = (
        np.full(len(hidden), 1e6),
        population.depth * 1e5,
        tokens * hidden,
        tokens * hidden * 4 * width,
        tokens * hidden * 2 * ffn,
        batch * 2 * sequence**2 * width,
        batch * sequence**2 * population.num_heads.sum(1),
        tokens * hidden * population.depth,
        tokens * ffn,
        tokens * width,
    )
    return np.stack(columns, axis=1) / 1e6


def tree_features(population: Population, terms: Matrix) -> Matrix:
    """What the trees see: the analytic terms and the raw sizes, shape (n, features)."""
    sizes = (
        population.hidden_size,
        population.depth,
        population.num_heads.sum(1),
        population.head_size.max(1),
        population.ffn_size.sum(1),
    )
    return np.concatenate([terms[:, 1:], np.stack(sizes, axis=1)], axis=1)
