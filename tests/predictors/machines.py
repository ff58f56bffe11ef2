"""Measurements on a machine whose law is known: analytic terms, a kink that they do not have, and noise."""

from __future__ import annotations

from typing import Any

import numpy as np

from ortnas.bench.session import Setup
from ortnas.bench.simulated import cost_ms
from ortnas.bench.target import Target
from ortnas.bench.timing import Workload
from ortnas.nas.architecture.space import Genomes, SearchSpace
from ortnas.predictors.fitting import Predictor, fit_predictor
from tests.networks import make_space

WIDE = make_space(
    num_layers=4,
    hidden_size=(64, 96, 128, 160, 192),
    depth=(1, 2, 3, 4),
    num_heads=(2, 4, 6),
    head_size=(16, 32),
    ffn_size=(64, 128, 192, 256, 384),
)


def make_target(threads: int = 1, workloads: tuple[Workload, ...] = (Workload(1, 64),), **facts: Any) -> Target:
    fingerprint = {"cpu": "x", "isa": ["avx2", "avx512f", "avx512_vnni"], "onnxruntime": "1.30.0"} | facts
    return Target(fingerprint, Setup(threads=threads), workloads)


def measure(
    space: SearchSpace,
    n: int,
    noise: float,
    seed: int = 0,
    target: Target | None = None,
    precision: str = "int8",
    kink: float = 0.0,
) -> tuple[Genomes, np.ndarray]:
    """Distinct genomes and latencies in ms, of several workloads their weighted mean."""
    rng = np.random.default_rng(seed)
    target = target or make_target()
    genomes = np.unique(space.sample(3 * n + 20, rng), axis=0)
    genomes = genomes[rng.permutation(len(genomes))[:n]]
    setup, total = target.setup, sum(workload.weight for workload in target.workloads)
    subnets = [space.decode(genome) for genome in genomes]
    latency_ms = np.array(
        [
            sum(
                cost_ms(subnet.to_json(), workload, setup, precision) * workload.weight / total
                for workload in target.workloads
            )
            for subnet in subnets
        ]
    )
    latency_ms *= np.array([1 + kink if subnet.hidden_size % 64 else 1.0 for subnet in subnets])
    return genomes, latency_ms * np.exp(noise * rng.standard_normal(len(genomes)))


def fitted(n: int = 100, noise: float = 0.02, kink: float = 0.0, **changes: Any) -> Predictor:
    genomes, latency_ms = measure(WIDE, n, noise, kink=kink)
    errors = np.full(len(latency_ms), noise)
    settings: dict[str, Any] = {"target": make_target(), "precision": "int8", "noise_floor": noise, "inputs": "some"}
    return fit_predictor(WIDE, genomes, latency_ms, errors, **settings | changes)
