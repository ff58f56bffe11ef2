"""Probe subnets: their scores on held-out texts while the supernet trains, as a table that grows."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from ortnas.export.metrics import METRICS
from ortnas.export.part import Part
from ortnas.nas.architecture.shrinking import shrunk_evenly
from ortnas.nas.architecture.space import SearchSpace
from ortnas.nas.architecture.subnet import Subnet
from ortnas.nas.training.step_subnets import multiply_adds
from ortnas.nas.training.steps import network_outputs
from ortnas.nas.training.supernet import Supernet

# How far from half and a quarter a probe may be, as a share of them.
_NEAR = 0.05


def held_out_probe(
    supernet: Supernet, part: Part, metric: str, count: int, subnets: Mapping[str, Subnet]
) -> Callable[[], dict[str, float]]:
    """A function that scores the named subnets on the first ``count`` inputs of a part."""
    part = part.first(count)

    def scores() -> dict[str, float]:
        return {
            name: METRICS[metric](network_outputs(supernet, part.encoded, subnet), part)
            for name, subnet in subnets.items()
        }

    return scores


def choose_probes(space: SearchSpace) -> dict[str, Subnet]:
    """The largest, the smallest, and of the subnets shrunk evenly those of half and a quarter of the multiply-adds."""
    genomes = shrunk_evenly(space)
    shares = multiply_adds(space)(genomes) / space.largest.count_multiply_adds(space.is_gated)
    probes = {"largest": space.largest}
    for name, share in (("half", 0.5), ("quarter", 0.25)):
        distance = np.abs(shares / share - 1)
        if distance.min() < _NEAR:
            probes[name] = space.decode(genomes[np.argmin(distance)])
    probes["smallest"] = space.smallest
    return probes
