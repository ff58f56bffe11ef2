"""Which sizes the kernels like: ``python tests/performance/head_sizes.py [--quick] [--json]``.

INT8 networks of 6 layers (``--quick``: 2) and hidden size 384 with random weights, one text of 128 tokens: heads of
several sizes that are 384 wide together, numbers of heads and FFN sizes around the usual ones, and what the predictor's
prior, fitted to the others, says of each. Processor time of one thread, all in turn. The last line of ``--json`` holds
by sizes (``12x32``, ``ffn 1535``) the latency over that of 12 heads of 32 with an FFN of 1,536 as ``measured`` and
``predicted``, the share of its weights' multiply-adds as ``multiply_adds``, and the mean of |predicted / measured - 1|
as ``error``; ``error_blind`` is that of a prior which does not know in how many heads the width is divided. On one idle
core it takes one minute, ``--quick`` ten seconds.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ortnas.bench.fingerprint import fingerprint
from ortnas.bench.session import Setup
from ortnas.bench.target import Target
from ortnas.bench.timing import Workload
from ortnas.export.build import Exporter
from ortnas.export.int8.recipes import choose_recipe
from ortnas.export.weights import SupernetFolder
from ortnas.nas.architecture.presets import default_space
from ortnas.nas.architecture.space import Population
from ortnas.nas.architecture.subnet import Layer, Subnet
from ortnas.nas.arrays import Matrix, Vector
from ortnas.nas.console import Console
from ortnas.predictors.features import TERMS, Machine, analytic_terms, usual_prices
from ortnas.predictors.prior import fit_prior
from tests.networks import make_dimensions, random_feeds, random_tensors
from tests.performance.processor_time import processor_ms

WORKLOAD = Workload(1, 128, vocab_size=3000)
HIDDEN, USUAL = 384, (12, 32, 1536)
SAME_WIDTH = ((24, 16), (16, 24), (8, 48), (6, 64), (4, 96), (3, 128))
OTHER_HEADS = ((11, 32), (13, 32), (9, 32), (15, 32), (5, 64), (7, 64), (12, 30), (12, 36))
FFN_SIZES = (1408, 1472, 1504, 1520, 1528, 1532, 1535, 1537, 1544, 1552, 1568, 1600)
# Terms that tell heads of one width apart.
HEAD_TERMS = ("softmax", "heads")


def name_of(sizes: tuple[int, int, int]) -> str:
    heads, head_size, ffn = sizes
    return f"{heads}x{head_size}" if ffn == USUAL[2] else f"ffn {ffn}"


def make_models(shapes: Mapping[str, tuple[int, int, int]], layers: int) -> dict[str, bytes]:
    """Slices of one quantized network that is as large as the largest of them in every dimension."""
    heads, head_size, ffn = (max(sizes[axis] for sizes in shapes.values()) for axis in range(3))
    dimensions = make_dimensions(
        vocab_size=WORKLOAD.vocab_size,
        max_positions=WORKLOAD.sequence,
        hidden_size=HIDDEN,
        embedding_size=HIDDEN,
        num_layers=layers,
        num_heads=heads,
        head_size=head_size,
        ffn_size=ffn,
    )
    supernet = SupernetFolder(Path(), dimensions, default_space(dimensions), random_tensors(dimensions), (), {}, "")
    feeds = [random_feeds(dimensions, batch=2, sequence=64)]
    exporter = Exporter(supernet, choose_recipe(fingerprint()["isa"]), feeds)
    return {
        name: exporter.sliced(Subnet(HIDDEN, tuple(Layer(source, *sizes) for source in range(layers))))
        for name, sizes in shapes.items()
    }


def terms_of(shapes: Mapping[str, tuple[int, int, int]], layers: int) -> Matrix:
    """(n, terms)"""
    sizes = np.array(list(shapes.values()))
    count = len(sizes)
    per_layer = (np.repeat(sizes[:, axis, None], layers, axis=1) for axis in range(3))
    population = Population(np.full(count, HIDDEN), np.full(count, layers), *per_layer)
    target = Target(fingerprint(), Setup(), (WORKLOAD,))
    return analytic_terms(population, Machine.of(target, "int8"))


def held_out(terms: Matrix, latency_ms: Vector) -> Vector:
    """Predictions (n,) of each shape by a prior that is fitted to the others."""
    start, predicted_ms = usual_prices("int8"), np.empty(len(terms))
    for number in range(len(terms)):
        others = np.arange(len(terms)) != number
        prior = fit_prior(terms[others], latency_ms[others], None, start)
        predicted_ms[number] = prior.latency_ms(terms[[number]])[0]
    return predicted_ms


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two layers, fewer rounds")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    console = Console(to_stderr=arguments.json)
    layers, rounds = (2, 12) if arguments.quick else (6, 40)
    every = [USUAL, *((*heads, USUAL[2]) for heads in (*SAME_WIDTH, *OTHER_HEADS))]
    every += [(*USUAL[:2], ffn) for ffn in FFN_SIZES]
    shapes = {name_of(sizes): sizes for sizes in every}
    timed = processor_ms(Path(sys.executable), make_models(shapes, layers), WORKLOAD, rounds)
    latency_ms = np.array([timed["median_ms"][name] for name in shapes])
    terms = terms_of(shapes, layers)
    blind = terms.copy()
    blind[:, [list(TERMS).index(name) for name in HEAD_TERMS]] = 0
    predicted_ms, blind_ms = held_out(terms, latency_ms), held_out(blind, latency_ms)
    work = np.array([HIDDEN * (4 * heads * size + 2 * ffn) for heads, size, ffn in shapes.values()])
    figures = {
        "measured": dict(zip(shapes, latency_ms / latency_ms[0], strict=True)),
        "predicted": dict(zip(shapes, predicted_ms / latency_ms[0], strict=True)),
        "multiply_adds": dict(zip(shapes, work / work[0], strict=True)),
        "error": float(np.abs(predicted_ms / latency_ms - 1).mean()),
        "error_blind": float(np.abs(blind_ms / latency_ms - 1).mean()),
    }
    columns = ("sizes", "multiply-adds of weights", "latency", "predicted by the others")
    rows = [
        (name, *(f"{figures[key][name]:.3f}" for key in ("multiply_adds", "measured", "predicted"))) for name in shapes
    ]
    console.table(f"Of 12x32, ffn 1536; ONNX Runtime {timed['release']}", columns, rows)
    console.say(f"Mean error {figures['error']:.1%}; without the terms of heads {figures['error_blind']:.1%}.")
    if arguments.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
