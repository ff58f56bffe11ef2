from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from ortnas.bench.conditions import conditions
from ortnas.bench.estimates import Timing, anchor_latency_of
from ortnas.bench.fingerprint import fingerprint
from ortnas.bench.host import Failure, HostError
from ortnas.bench.request import Request
from ortnas.bench.simulated import SimulatedHost, cost_ms
from ortnas.bench.timing import PROVIDERS, Samples, Setup, TimingProtocol, Workload
from ortnas.export.graph.model import float_model
from ortnas.export.int8.recipes import choose_recipe
from ortnas.nas.architecture.blocks import POST_NORM
from ortnas.nas.architecture.subnet import Layer, Subnet
from tests.networks import make_dimensions, make_space, random_subnets, random_tensors

WORKLOAD = Workload()
ROUNDS = TimingProtocol.fixed(40)


def uniform(
    hidden: int = 384, layers: int = 6, heads: int = 12, head_size: int = 32, ffn: int = 1536
) -> dict[str, Any]:
    """MiniLM-L6, with changes."""
    return Subnet(hidden, tuple(Layer(source, heads, head_size, ffn) for source in range(layers))).to_json()


def model_of(properties: dict[str, str]) -> bytes:
    """A model that does nothing, with these metadata properties."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "nothing", values[:1], values[1:])
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    helper.set_model_props(model, properties)
    content: bytes = model.SerializeToString()
    return content


def stating(subnet: dict[str, Any], precision: str = "int8") -> bytes:
    return model_of({"ortnas.subnet": json.dumps(subnet), "ortnas.precision": precision})


ANCHOR = stating(uniform())
SMALL = stating(uniform(hidden=192, layers=2, heads=6, ffn=512))


def samples_of(
    host: SimulatedHost, model: bytes = SMALL, protocol: TimingProtocol = ROUNDS, *workloads: Workload, visit: int = 0
) -> Samples:
    result = host.measure({"a": model}, Request(ANCHOR, Setup(), workloads or (WORKLOAD,), protocol), visit)["a"]
    assert isinstance(result, Samples)
    return result


def test_costs_lie_where_onnx_runtime_was_measured() -> None:
    full = uniform()
    assert cost_ms(full, WORKLOAD, Setup()) == pytest.approx(11.4, abs=0.8)
    assert cost_ms(full, WORKLOAD, Setup(), "fp32") == pytest.approx(29.0, abs=1.5)
    assert cost_ms(uniform(128, 2, 2, 64, 512), WORKLOAD, Setup()) < 1.5
    assert cost_ms(full, Workload(8, 128), Setup()) == pytest.approx(8 * cost_ms(full, WORKLOAD, Setup()), rel=0.1)
    assert cost_ms(full, Workload(1, 256), Setup()) > 2 * cost_ms(full, WORKLOAD, Setup())


@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_cost_grows_with_every_size(precision: str) -> None:
    base = cost_ms(uniform(), WORKLOAD, Setup(), precision)
    for larger in (uniform(hidden=400), uniform(layers=7), uniform(heads=13), uniform(head_size=36), uniform(ffn=1600)):
        assert cost_ms(larger, WORKLOAD, Setup(), precision) > 1.005 * base
    for workload in (Workload(2, 128), Workload(1, 144)):
        assert cost_ms(uniform(), workload, Setup(), precision) > 1.05 * base


def test_products_in_float_take_what_they_take_there() -> None:
    integers, floats = (cost_ms(uniform(), WORKLOAD, Setup(), precision) for precision in ("int8", "fp32"))
    names = [product.name for product in POST_NORM.products]
    products = [f"layers/{layer}/{name}" for layer in range(6) for name in names]
    assert cost_ms({**uniform(), "keep_float": products}, WORKLOAD, Setup()) == pytest.approx(floats)
    costs = [cost_ms({**uniform(), "keep_float": products[:count]}, WORKLOAD, Setup()) for count in range(4)]
    assert costs[0] == integers
    assert costs == sorted(costs)


def test_a_size_that_starts_another_tile_pays_for_all_of_it() -> None:
    costs = [cost_ms(uniform(ffn=size), WORKLOAD, Setup()) for size in (1536, 1537, 1538)]
    assert costs[1] - costs[0] > 10 * (costs[2] - costs[1]) > 0


def test_weights_that_outgrow_the_cache_are_waited_for() -> None:
    few_tokens = Workload(1, 8)
    in_cache, in_memory = (cost_ms(uniform(768, layers, 12, 64, 3072), few_tokens, Setup()) for layers in (4, 5))
    assert in_memory / in_cache > 1.5 * 5 / 4


def test_threads_help_less_and_less() -> None:
    costs = np.array([cost_ms(uniform(), WORKLOAD, Setup(threads=threads)) for threads in (1, 2, 4, 8)])
    gains = costs[:-1] / costs[1:]
    assert (gains > 1.2).all()
    assert (gains < 2).all()
    assert (np.diff(gains) < 0).all()
    tiny = uniform(32, 1, 2, 16, 64)
    assert cost_ms(tiny, Workload(1, 8), Setup(threads=8)) > cost_ms(tiny, Workload(1, 8), Setup())


def test_clients_wait_for_each_others_memory_and_threads() -> None:
    one, four = Setup(), Setup(concurrency=4)
    tiny, large = uniform(128, 2, 2, 64, 512), uniform(768, 12, 12, 64, 3072)
    slowed = [cost_ms(subnet, Workload(1, 8), four) / cost_ms(subnet, Workload(1, 8), one) for subnet in (tiny, large)]
    assert slowed[0] == pytest.approx(1.09)
    assert slowed[1] > 2
    # More of them are answered in all.
    for subnet in (tiny, large):
        assert 4 / cost_ms(subnet, WORKLOAD, four) > 1.5 / cost_ms(subnet, WORKLOAD, one)
    shared = cost_ms(uniform(), WORKLOAD, Setup(threads=4, concurrency=4))
    assert shared > 1.5 * cost_ms(uniform(), WORKLOAD, Setup(threads=4))


def test_a_load_that_the_processors_cannot_carry_is_refused() -> None:
    with SimulatedHost() as host:
        request = Request(ANCHOR, Setup(threads=2, concurrency=8), (WORKLOAD,), ROUNDS)
        with pytest.raises(HostError, match="keep 9 processors busy, and there are 8"):
            host.measure({"a": SMALL}, request)
        samples = host.measure({"a": SMALL}, Request(ANCHOR, Setup(concurrency=8), (WORKLOAD,), ROUNDS))["a"]
    assert isinstance(samples, Samples)
    assert len(samples.model_ns[0]) == 40 * Setup(concurrency=8).samples_a_turn(1) == 40 * 24


def test_samples_follow_from_what_is_timed_whatever_was_timed_before() -> None:
    first, second, other = SimulatedHost(seed=3), SimulatedHost(seed=3), SimulatedHost(seed=4)
    visits = [samples_of(first, visit=number) for number in range(3)]
    # In another order, after other work, as a run that goes on after a kill.
    samples_of(second, ANCHOR)
    second.forget()
    assert [samples_of(second, visit=number) for number in (2, 0, 1)] == [visits[2], visits[0], visits[1]]
    assert samples_of(second) == samples_of(second) == visits[0]
    varied = [
        *visits,
        samples_of(other),
        samples_of(first, stating(uniform(hidden=200))),
        samples_of(first, SMALL, TimingProtocol.fixed(39)),
        samples_of(first, SMALL, ROUNDS, Workload(1, 64)),
        first.measure({"a": SMALL}, Request(ANCHOR, Setup(spinning=False), (WORKLOAD,), ROUNDS))["a"],
        first.measure({"a": SMALL}, Request(SMALL, Setup(), (WORKLOAD,), ROUNDS))["a"],
        first.measure({"b": ANCHOR, "a": SMALL}, Request(ANCHOR, Setup(), (WORKLOAD,), ROUNDS))["a"],
    ]
    assert len(set(varied)) == len(varied)


@pytest.mark.slow
def test_visits_of_one_model_differ_by_chance_alone() -> None:
    """Independent: neighbours are no nearer to each other than any two."""
    host = SimulatedHost(seed=5)
    visits = [samples_of(host, visit=number) for number in range(200)]
    reference = anchor_latency_of(visits, [WORKLOAD])
    for latencies in (
        Timing(tuple(visits), reference).visits_ms,
        np.array([np.median(visit.anchor_ns) for visit in visits]),
    ):
        assert abs(np.corrcoef(latencies[:-1], latencies[1:])[0, 1]) < 0.2


def test_without_noise_samples_are_the_cost() -> None:
    workloads = (Workload(), Workload(2, 32))
    samples = samples_of(SimulatedHost(noise=0), SMALL, TimingProtocol(min_rounds=30), *workloads)
    for subnet, rows in (
        (uniform(hidden=192, layers=2, heads=6, ffn=512), samples.model_ns),
        (uniform(), samples.anchor_ns),
    ):
        for workload, row in zip(workloads, rows, strict=True):
            assert row == (round(cost_ms(subnet, workload, Setup()) * 1e6),) * 30


def test_drift_is_shared_and_so_the_anchor_takes_it_out() -> None:
    host = SimulatedHost(seed=1, noise=0.02)
    visits = [samples_of(host, visit=number) for number in range(60)]
    reference = anchor_latency_of(visits, [WORKLOAD])
    plain_ms = [float(np.median(visit.model_ns)) / 1e6 for visit in visits]
    corrected_ms = Timing(tuple(visits), reference).visits_ms
    assert np.std(corrected_ms) < 0.7 * np.std(plain_ms)
    cost = cost_ms(uniform(hidden=192, layers=2, heads=6, ffn=512), WORKLOAD, Setup())
    assert np.median(plain_ms) == pytest.approx(cost, rel=0.05)
    assert 0.005 < np.std(corrected_ms) / cost < 0.03


def test_outliers_occur_and_are_rare() -> None:
    samples = samples_of(SimulatedHost(seed=2), SMALL, TimingProtocol.fixed(2000))
    row = np.array(samples.model_ns[0]) / np.median(samples.model_ns[0])
    assert 0.001 < np.mean(row > 1.25) < 0.02
    assert row.min() > 0.8


def test_rounds_end_as_the_protocol_says() -> None:
    def rounds(protocol: TimingProtocol, noise: float = 0.02) -> int:
        samples = samples_of(SimulatedHost(seed=5, noise=noise), SMALL, protocol)
        assert len(samples.anchor_ns[0]) == len(samples.model_ns[0])
        return len(samples.model_ns[0])

    assert rounds(TimingProtocol.fixed(7)) == 7
    assert rounds(TimingProtocol(0.01, 30, 1000, cap_s=None), noise=0.001) == 30
    assert 40 <= rounds(TimingProtocol(0.002, 30, 5000, cap_s=None)) < 5000
    assert rounds(TimingProtocol(0.0001, 30, 50, cap_s=None)) == 50
    # A round takes about 12.6 ms of the host's own time.
    assert 70 <= rounds(TimingProtocol(0.0001, 30, 1000, cap_s=1.0)) <= 90
    assert rounds(TimingProtocol(0.0001, 30, 1000, cap_s=0.1)) == 30


def test_a_model_leaves_the_rounds_when_it_is_known() -> None:
    sizes = (8, 32, 128, 320)
    models = {str(size): stating(uniform(hidden=size)) for size in sizes}
    results = SimulatedHost(seed=0).measure(
        models, Request(ANCHOR, Setup(), (WORKLOAD,), TimingProtocol(0.005, 10, 2000, cap_s=None))
    )
    taken = [results[str(size)] for size in sizes]
    assert all(isinstance(samples, Samples) for samples in taken)
    rounds = [len(samples.model_ns[0]) for samples in taken if isinstance(samples, Samples)]
    assert len(set(rounds)) > 1
    assert all(number % 10 == 0 for number in rounds)


def test_exported_models_say_what_they_are() -> None:
    dimensions = make_dimensions()
    tensors = random_tensors(dimensions)
    subnets = random_subnets(make_space(), 3)
    models = {subnet.key: float_model(tensors, dimensions, subnet).SerializeToString() for subnet in subnets}
    results = SimulatedHost(noise=0).measure(models, Request(ANCHOR, Setup(), (WORKLOAD,), TimingProtocol.fixed(1)))
    for subnet in subnets:
        expected_ns = round(cost_ms(subnet.to_json(), WORKLOAD, Setup(), "fp32") * 1e6)
        assert results[subnet.key] == Samples(
            ((expected_ns,),), ((round(cost_ms(uniform(), WORKLOAD, Setup()) * 1e6),),)
        )


def test_models_that_cannot_be_timed_cost_themselves_only() -> None:
    subnet = json.dumps(uniform())
    models = {
        "good": SMALL,
        "refused": b"not a model",
        "silent": model_of({}),
        "unknown precision": model_of({"ortnas.subnet": subnet, "ortnas.precision": "int4"}),
        "no JSON": model_of({"ortnas.subnet": "{", "ortnas.precision": "int8"}),
        "no subnet": model_of({"ortnas.subnet": '{"hidden_size": 8}', "ortnas.precision": "int8"}),
        "no size": stating(uniform(ffn=-1)),
        "no width": stating(uniform(hidden=0)),
    }
    with SimulatedHost() as host:
        results = host.measure(models, Request(ANCHOR, Setup(), (WORKLOAD,), ROUNDS))
    assert isinstance(results["good"], Samples)
    reasons = {name: result.reason for name, result in results.items() if isinstance(result, Failure)}
    assert reasons.keys() == models.keys() - {"good"}
    assert reasons["refused"].startswith("InvalidProtobuf")
    assert "no metadata property ortnas.subnet" in reasons["silent"]
    assert "'int4'; int8 and fp32 can be simulated" in reasons["unknown precision"]
    assert "does not describe a subnet" in reasons["no JSON"]
    assert "does not describe a subnet: KeyError('layers')" in reasons["no subnet"]
    assert "a size that no network has" in reasons["no size"]
    assert "a size that no network has" in reasons["no width"]
    assert not any("\n" in reason for reason in reasons.values())


def test_without_an_anchor_or_a_provider_nothing_can_be_timed() -> None:
    host = SimulatedHost("lab")
    with pytest.raises(HostError, match="lab: the anchor cannot be timed: Invalid"):
        host.measure({"a": SMALL}, Request(b"", Setup(), (WORKLOAD,), ROUNDS))
    with pytest.raises(HostError, match=r"lab: the anchor cannot be timed: .*ortnas\.subnet"):
        host.measure({}, Request(model_of({}), Setup(), (WORKLOAD,), ROUNDS))
    with pytest.raises(HostError, match="CUDAExecutionProvider is not available here; there is CPU"):
        host.measure({"a": SMALL}, Request(ANCHOR, Setup(PROVIDERS["cuda"]), (WORKLOAD,), ROUNDS))
    assert host.measure({}, Request(ANCHOR, Setup(), (WORKLOAD,), ROUNDS)) == {}


def test_the_same_model_under_two_names_is_timed_once() -> None:
    host = SimulatedHost()
    results = host.measure({"a": SMALL, "b": SMALL, "anchor": ANCHOR}, Request(ANCHOR, Setup(), (WORKLOAD,), ROUNDS))
    assert results["a"] == results["b"] != results["anchor"]
    host.forget()
    assert host.measure({"a": SMALL}, Request(ANCHOR, Setup(), (WORKLOAD,), ROUNDS))["a"] != results["a"]


def test_it_introduces_itself_as_other_hosts_do() -> None:
    hello = SimulatedHost().hello()
    assert hello["fingerprint"].keys() == fingerprint().keys()
    assert hello["conditions"].keys() == conditions().keys()
    assert choose_recipe(hello["fingerprint"]["isa"]).name == "avx512_vnni"
    assert json.loads(json.dumps(hello)) == hello == SimulatedHost(seed=9).hello()
