from __future__ import annotations

import numpy as np
import pytest

from ortnas.bench.session import Setup, make_session
from ortnas.bench.timing import Workload, make_inputs
from ortnas.export.inspect.audit import audit
from ortnas.export.synthetic import MINILM_L6, synthetic_models
from tests.networks import make_dimensions

WORKLOAD = Workload(2, 16, 120)


def test_both_models_run_in_integers_and_the_second_has_half_the_layers() -> None:
    dimensions = make_dimensions(num_layers=4)
    models = synthetic_models(["avx2", "avx512_vnni"], dimensions)
    whole, half = (
        sum(
            product.multiply_adds for product in audit(model, WORKLOAD, Setup()).products if product.kernel == "integer"
        )
        for model in models
    )
    assert whole == 2 * half == dimensions.full_subnet.multiply_adds * 32
    session = make_session(models[0], Setup())
    (embedding,) = session.run(None, make_inputs(session, WORKLOAD, seed=0))
    assert np.linalg.norm(embedding, axis=1) == pytest.approx([1, 1], rel=1e-4)
    assert not np.allclose(embedding[0], embedding[1])


def test_one_seed_gives_one_model() -> None:
    models = [synthetic_models(["avx2"], make_dimensions(), seed) for seed in (0, 0, 1)]
    assert models[0] == models[1]
    assert models[0] != models[2]


def test_the_usual_sizes_are_those_of_minilm() -> None:
    assert MINILM_L6.full_subnet.multiply_adds == 6 * 384 * (4 * 384 + 2 * 1536)
