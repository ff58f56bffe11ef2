from __future__ import annotations

import numpy as np
import pytest

from ortnas.nas.architecture.shrinking import shrunk_evenly
from ortnas.search.rivals import evenly_shrunk, fewer_layers, random_ones
from tests.networks import SizePredictor, make_space

SPACE = make_space(num_layers=6, depth=(3, 4, 5, 6))
PREDICTOR = SizePredictor(SPACE)
# Of the largest subnet, six full layers.
LARGEST_MS = float(PREDICTOR.predict(SPACE.encode(SPACE.largest)[None])[0][0])
LAYER_MS = (LARGEST_MS - 1) / 6


def test_fewer_layers_keep_all_widths_and_reach_below_the_depths_of_the_space() -> None:
    rival = fewer_layers(PREDICTOR, 1 + 4.9 * LAYER_MS)
    assert rival is not None
    assert (rival.kind, rival.predicted_ms) == ("fewer_layers", pytest.approx(1 + 4 * LAYER_MS))
    assert rival.subnet.hidden_size == SPACE.largest.hidden_size
    assert {layer.ffn_size for layer in rival.subnet.layers} == {64}
    assert [layer.source for layer in rival.subnet.layers] == [0, 2, 3, 5]
    first = fewer_layers(PREDICTOR, 1 + 4.9 * LAYER_MS, "first")
    assert first is not None
    assert [layer.source for layer in first.subnet.layers] == [0, 1, 2, 3]
    single = fewer_layers(PREDICTOR, 1 + LAYER_MS)
    assert single is not None
    assert len(single.subnet.layers) == 1
    assert fewer_layers(PREDICTOR, 1 + 0.9 * LAYER_MS) is None


def test_the_evenly_shrunk_rival_is_the_slowest_that_is_not_slower_than_the_winner() -> None:
    winner_ms = 0.5 * LARGEST_MS
    rival = evenly_shrunk(PREDICTOR, winner_ms)
    assert rival is not None
    latency_ms, _ = PREDICTOR.predict(shrunk_evenly(SPACE))
    assert rival.predicted_ms == latency_ms[latency_ms <= winner_ms].max()
    assert rival.predicted_ms > 0.9 * winner_ms
    assert evenly_shrunk(PREDICTOR, 1.0) is None


def test_random_rivals_are_as_fast_as_the_winner_and_the_same_each_time() -> None:
    winner_ms = 0.5 * LARGEST_MS
    rivals = random_ones(PREDICTOR, winner_ms, 4, seed=3)
    assert len({rival.subnet.key for rival in rivals}) == 4
    assert all(0.97 * winner_ms < rival.predicted_ms <= winner_ms for rival in rivals)
    assert rivals == random_ones(PREDICTOR, winner_ms, 4, seed=3)
    smallest_ms = float(PREDICTOR.predict(np.zeros((1, SPACE.genes), np.int16))[0][0])
    assert [rival.subnet for rival in random_ones(PREDICTOR, smallest_ms, 4, seed=3)] in ([], [SPACE.smallest])
