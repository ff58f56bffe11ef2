from __future__ import annotations

import numpy as np
import pytest

from ortnas.bench.session import Setup
from ortnas.bench.simulated import cost_ms
from ortnas.bench.target import Target
from ortnas.bench.timing import Workload
from ortnas.nas.architecture.subnet import Layer, Subnet
from ortnas.predictors.features import SIZES, TERMS, Machine, analytic_terms, kernels_of, tree_features, usual_prices
from ortnas.predictors.prior import fit_prior
from tests.networks import make_space
from tests.predictors.machines import WIDE, make_target, measure


def terms_of(genomes: np.ndarray, target: Target, precision: str = "int8") -> np.ndarray:
    return analytic_terms(WIDE.expand(genomes), Machine.of(target, precision))


def test_terms_count_what_they_say() -> None:
    subnet = WIDE.largest
    workload = Workload(2, 64)
    row = terms_of(WIDE.encode(subnet)[None], make_target(workloads=(workload,)))[0]
    terms = dict(zip(TERMS, row, strict=True))
    tokens = 2 * 64
    ffn = [layer.ffn_size for layer in subnet.layers]
    width = [layer.num_heads * layer.head_size for layer in subnet.layers]
    heads = sum(layer.num_heads for layer in subnet.layers)
    # All sizes of this subnet fill their tiles.
    assert terms["attention_products"] + terms["ffn_products"] == pytest.approx(tokens * subnet.multiply_adds)
    assert terms["scores"] == pytest.approx(2 * 2 * 64 * 64 * sum(width))
    assert terms["softmax"] == pytest.approx(2 * 64 * 64 * heads)
    assert terms["heads"] == pytest.approx(2 * heads)
    assert terms["ffn_elements"] == pytest.approx(tokens * sum(ffn))
    assert terms["residual"] == pytest.approx(tokens * subnet.hidden_size * len(subnet.layers))
    assert terms["weight_bytes"] == pytest.approx(subnet.multiply_adds)


def test_products_in_float_cost_more_time_and_bytes() -> None:
    space = WIDE.leaving_float(("layers/1/ffn/out", "layers/2/attention/value"))
    subnet = space.largest
    machine = Machine.of(make_target(workloads=(Workload(2, 64),)), "int8")
    rows = [
        dict(zip(TERMS, analytic_terms(space.expand(space.encode(network)[None]), machine)[0], strict=True))
        for network in (subnet, WIDE.largest)
    ]
    changed = {name for name in TERMS if rows[0][name] != rows[1][name]}
    assert changed == {"weight_bytes", "float_products", "weight_bytes_beyond_cache"} & changed
    layer = subnet.layers[1]
    elements = subnet.hidden_size * (layer.ffn_size + layer.num_heads * layer.head_size)
    assert rows[0]["float_products"] == 2 * 64 * elements
    assert rows[1]["float_products"] == 0
    assert rows[0]["weight_bytes"] - rows[1]["weight_bytes"] == 3 * elements


def test_widths_are_padded_to_the_kernels_tiles() -> None:
    space = make_space(hidden_size=(20, 32), head_size=(), num_heads=(4,))
    genomes = np.array([space.encode(space.smallest)])
    narrow = analytic_terms(space.expand(genomes), Machine.of(make_target(), "int8"))[0]
    products = narrow[list(TERMS).index("ffn_products")]
    # hidden 20 is 20 deep (a multiple of 4), but 32 columns (of 16); the FFN's 16 fill theirs.
    assert products == pytest.approx(64 * (20 * 16 + 32 * 16))
    amx = Machine.of(make_target(isa=["avx2", "amx_int8"]), "int8")
    assert analytic_terms(space.expand(genomes), amx)[0][list(TERMS).index("ffn_products")] == pytest.approx(
        64 * (64 * 16 + 32 * 64)
    )


def test_kernels_follow_the_instruction_set_and_precision() -> None:
    assert kernels_of(["avx2", "avx512_vnni"], "int8") == kernels_of((), "int8")
    assert kernels_of(["avx2", "amx_int8"], "int8").depth == 64
    assert kernels_of(["asimddp", "i8mm"], "int8").columns == 8
    assert kernels_of(["avx2", "amx_int8"], "fp32").weight_bytes == 4


def test_inner_dimensions_beyond_a_block_cost_another_pass() -> None:
    space = make_space(ffn_size=(384, 385), depth=(1,), num_heads=(1,), head_size=(4,), hidden_size=(32,))
    genomes = np.stack([space.encode(space.smallest), space.encode(space.largest)])
    terms = analytic_terms(space.expand(genomes), Machine.of(make_target(), "int8"))
    accumulation = terms[:, list(TERMS).index("accumulation")]
    assert accumulation[1] - accumulation[0] == pytest.approx(64 * (1 + 32))


def test_workloads_are_mixed_by_weight_and_threads_share_the_work() -> None:
    genomes = WIDE.sample(20, np.random.default_rng(3))
    long, short = Workload(1, 128, weight=3), Workload(4, 16, weight=1)
    mixed = terms_of(genomes, make_target(workloads=(long, short)))
    alone = [terms_of(genomes, make_target(workloads=(workload,))) for workload in (long, short)]
    np.testing.assert_allclose(mixed, 0.75 * alone[0] + 0.25 * alone[1])
    shared = terms_of(genomes, make_target(threads=2, workloads=(long,)))
    for term, share in (("ffn_products", 0.5), ("softmax", 0.5), ("layers", 1.0), ("weight_bytes", 1.0)):
        column = list(TERMS).index(term)
        np.testing.assert_allclose(shared[:, column], share * alone[0][:, column], err_msg=term)


def test_features_are_vectorised_row_by_row() -> None:
    genomes = WIDE.sample(12, np.random.default_rng(0))
    target = make_target(workloads=(Workload(1, 24),))
    together, sizes = terms_of(genomes, target), tree_features(WIDE.expand(genomes))
    assert together.shape == (12, len(TERMS))
    assert sizes.shape == (12, len(SIZES))
    for row in range(12):
        np.testing.assert_allclose(terms_of(genomes[row : row + 1], target)[0], together[row])
        np.testing.assert_allclose(tree_features(WIDE.expand(genomes[row : row + 1]))[0], sizes[row])


def test_heads_of_one_width_are_told_apart_as_the_host_does() -> None:
    """Many narrow heads cost more than few wide ones with as many multiply-adds."""
    target = make_target(workloads=(Workload(1, 128),))
    genomes, latency_ms = measure(WIDE, 60, 0.01, target=target)
    narrow, wide = (
        Subnet(128, tuple(Layer(source, heads, size, 192) for source in range(4))) for heads, size in ((4, 16), (2, 32))
    )
    pair = np.stack([WIDE.encode(narrow), WIDE.encode(wide)])
    cost = [cost_ms(subnet.to_json(), target.workloads[0], Setup()) for subnet in (narrow, wide)]

    def ratio(without: tuple[str, ...] = ()) -> float:
        kept = [name not in without for name in TERMS]
        prior = fit_prior(terms_of(genomes, target)[:, kept], latency_ms, None, usual_prices("int8")[kept])
        predicted = prior.latency_ms(terms_of(pair, target)[:, kept])
        return float(predicted[0] / predicted[1])

    assert cost[0] / cost[1] > 1.05
    assert ratio() == pytest.approx(cost[0] / cost[1], rel=0.02)
    assert ratio(without=("softmax", "heads")) == pytest.approx(1, rel=0.01)


def test_terms_never_shrink_when_a_size_grows() -> None:
    rng = np.random.default_rng(1)
    genomes = WIDE.sample(300, rng)
    for gene in (0, *range(2, WIDE.genes)):
        larger = genomes.copy()
        larger[:, gene] += 1
        larger = WIDE.repair(larger)
        for precision in ("int8", "fp32"):
            grown = terms_of(larger, make_target(), precision) - terms_of(genomes, make_target(), precision)
            assert (grown >= -1e-6).all(), gene


def test_usual_prices_are_positive_milliseconds() -> None:
    for precision in ("int8", "fp32"):
        assert usual_prices(precision).shape == (len(TERMS),)
        assert (usual_prices(precision) > 0).all()
    assert usual_prices("int8")[list(TERMS).index("ffn_products")] < 1e-7
