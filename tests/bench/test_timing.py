from __future__ import annotations

import gc
import json
import os
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ortnas.bench.session import PROVIDERS, Session, Setup, fixed_shapes, make_session
from ortnas.bench.timing import (
    Samples,
    TimingProtocol,
    Workload,
    affinity,
    half_width,
    is_known,
    make_inputs,
    time_interleaved,
)
from ortnas.export.graph.inputs import ModelInputs
from ortnas.export.graph.model import float_model
from tests.networks import make_dimensions, make_space, random_tensors

SHORT = Workload(2, 16, 120)
linux_only = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no processor affinity")


@pytest.fixture(scope="module")
def models() -> dict[str, bytes]:
    dimensions, space = make_dimensions(), make_space()
    tensors = random_tensors(dimensions)
    subnets = {"small": space.smallest, "large": space.largest}
    return {name: float_model(tensors, dimensions, subnet).SerializeToString() for name, subnet in subnets.items()}


def test_setups_and_workloads_survive_json() -> None:
    options = (("device_type", "CPU"), ("num_of_threads", "1"))
    for setup in (
        Setup(),
        Setup(PROVIDERS["openvino"], 2, options),
        Setup(spinning=False, affinity=(0, 3), concurrency=4),
    ):
        assert Setup.from_json(json.loads(json.dumps(setup.to_json()))) == setup
    for workload in (Workload(), Workload(4, 32, 99, (3, 7), 0.5)):
        assert Workload.from_json(json.loads(json.dumps(workload.to_json()))) == workload


def test_models_are_timed_in_turn_with_raw_samples_kept(models: dict[str, bytes]) -> None:
    sessions = {name: make_session(model, Setup()) for name, model in models.items()}
    workloads = [SHORT, Workload(1, 8, 120)]
    timed = time_interleaved(sessions, "large", workloads, TimingProtocol.fixed(7, runs=3))
    assert [[len(row) for row in samples.model_ns] for samples in timed.values()] == [[21, 21], [21, 21]]
    assert timed["small"].anchor_ns == timed["large"].model_ns


def test_a_model_of_a_fixed_shape_is_asked_for_that_alone(models: dict[str, bytes]) -> None:
    dimensions = make_dimensions()
    fixed = float_model(random_tensors(dimensions), dimensions, make_space().smallest, ModelInputs((2, 8)))
    session = make_session(fixed.SerializeToString(), Setup())
    assert fixed_shapes(session) == (2, 8)
    assert fixed_shapes(make_session(models["small"], Setup())) is None
    assert make_inputs(session, Workload(2, 8, 120), 0)["input_ids"].shape == (2, 8)
    with pytest.raises(ValueError, match="the model takes 2 x 8 tokens a request, not 1 x 8 tokens"):
        make_inputs(session, Workload(1, 8, 120), 0)


def test_workloads_name_what_is_not_as_usual() -> None:
    assert set(Workload().to_json()) == {"batch", "sequence", "vocab_size", "lengths", "weight"}
    workload = Workload(fixed=True, mask=False)
    assert Workload.from_json(workload.to_json()) == workload
    for wrong in ({"fixed": 1}, {"mask": None}):
        with pytest.raises(ValueError, match="fixed and mask are true or false"):
            Workload.from_json(Workload().to_json() | wrong)


def test_setups_without_concurrency_are_written_as_before_and_odd_ones_refused() -> None:
    assert "concurrency" not in Setup(threads=2).to_json()
    assert Setup(threads=2, concurrency=3).describe() == "2 thread(s), 3 requests at a time"
    for concurrency in (0, -1, 2.0, True, "2", 10**6, None):
        with pytest.raises(ValueError, match="concurrency is a whole number from 1"):
            Setup.from_json({"provider": "P", "threads": 1, "concurrency": concurrency})


def test_a_turn_under_load_keeps_as_many_samples_of_every_client(models: dict[str, bytes]) -> None:
    """And as long as one is short of them, all go on."""
    under_way: list[int] = []
    now = [0]
    lock = threading.Lock()

    class Watched:
        def __init__(self, name: str) -> None:
            self.session = make_session(models[name], Setup())
            self.get_inputs = self.session.get_inputs

        def run(self, outputs: None, feeds: dict[str, np.ndarray]) -> object:
            with lock:
                now[0] += 1
                under_way.append(now[0])
            try:
                return self.session.run(outputs, feeds)
            finally:
                with lock:
                    now[0] -= 1

    sessions = {name: Watched(name) for name in models}
    workloads = [SHORT, Workload(1, 8, 120)]
    timed = time_interleaved(sessions, "large", workloads, TimingProtocol.fixed(5, runs=2), concurrency=3)  # type: ignore[arg-type]
    assert Setup(concurrency=3).samples_a_turn(2) == 18
    assert [[len(row) for row in samples.model_ns] for samples in timed.values()] == [[90, 90], [90, 90]]
    assert timed["small"].anchor_ns == timed["large"].model_ns
    assert max(under_way) == 3


def test_samples_of_one_burst_count_as_one() -> None:
    """Six bursts that lie apart tell little of the median, however many samples are in each."""
    ratios = np.repeat([1.0, 1.2, 0.9, 1.1, 1.0, 0.8], 50)
    assert is_known(ratios, 0.06, 1)
    assert not is_known(ratios, 0.06, 50)
    assert is_known(np.tile([0.8, 1.2], 50), 0.01, 2)


class Costing:
    """A session whose inferences take what they are said to, by a clock that they move themselves."""

    def __init__(self, session: Session, clock: Clock, token_ns: int) -> None:
        self._session, self._clock, self._token_ns = session, clock, token_ns
        self.get_inputs = session.get_inputs

    def run(self, outputs: None, feeds: dict[str, np.ndarray]) -> object:
        self._clock.now_ns += self._token_ns * feeds["input_ids"].size
        return self._session.run(outputs, feeds)


class Clock:
    now_ns = 1_000

    def perf_counter_ns(self) -> int:
        return self.now_ns


def test_samples_are_those_of_their_model_and_workload(
    models: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, costs_ns = Clock(), {"small": 3, "large": 5, "middle": 4}
    monkeypatch.setattr("ortnas.bench.timing.time", clock)
    sessions = {
        name: Costing(make_session(models["small"], Setup()), clock, cost_ns) for name, cost_ns in costs_ns.items()
    }
    timed = time_interleaved(sessions, "large", [SHORT, Workload(1, 8, 120)], TimingProtocol.fixed(6))  # type: ignore[arg-type]
    for name, cost_ns in costs_ns.items():
        assert timed[name].model_ns == ((32 * cost_ns,) * 6, (8 * cost_ns,) * 6)
        assert timed[name].anchor_ns == ((32 * 5,) * 6, (8 * 5,) * 6)


def test_rounds_end_when_the_median_is_known_or_the_time_is_over(models: dict[str, bytes]) -> None:
    sessions = {name: make_session(model, Setup()) for name, model in models.items()}
    easy = time_interleaved(sessions, "large", [SHORT], TimingProtocol(share=1e9, min_rounds=10, max_rounds=500))
    assert len(easy["small"].model_ns[0]) == 10
    hard = time_interleaved(
        sessions, "large", [SHORT], TimingProtocol(share=1e-9, min_rounds=10, max_rounds=60, cap_s=None)
    )
    assert len(hard["small"].model_ns[0]) == 60
    capped = time_interleaved(sessions, "large", [SHORT], TimingProtocol(share=1e-9, min_rounds=10, cap_s=1e-9))
    assert len(capped["small"].model_ns[0]) == 10


def test_garbage_collection_rests_while_timing_and_then_goes_on(models: dict[str, bytes]) -> None:
    seen = []

    class Watched:
        def __init__(self) -> None:
            self.session = make_session(models["small"], Setup())

        def get_inputs(self) -> object:
            return self.session.get_inputs()

        def run(self, outputs: None, feeds: dict[str, np.ndarray]) -> object:
            seen.append(gc.isenabled())
            return self.session.run(outputs, feeds)

    time_interleaved({"model": Watched()}, "model", [SHORT], TimingProtocol.fixed(3))  # type: ignore[dict-item]
    assert seen
    assert not any(seen)
    assert gc.isenabled()


def test_a_provider_that_is_not_there_is_refused(models: dict[str, bytes]) -> None:
    refused = pytest.raises(ValueError, match="MadeUpExecutionProvider is not available here; there is CPU")
    with pytest.warns(UserWarning, match="not in available provider names"), refused:
        make_session(models["small"], Setup(provider="MadeUpExecutionProvider"))


def test_sessions_run_without_spinning_and_from_files(models: dict[str, bytes], tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(models["small"])
    session = make_session(path, Setup(threads=2, spinning=False))
    assert session.get_session_options().get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert session.run(None, make_inputs(session, SHORT, 0))


def test_inputs_are_varied_ids_and_padded_only_where_lengths_say(models: dict[str, bytes]) -> None:
    session = make_session(models["small"], Setup())
    inputs = make_inputs(session, Workload(3, 20, 120), seed=0)
    assert inputs["input_ids"].shape == (3, 20)
    assert len(np.unique(inputs["input_ids"])) > 20
    assert inputs["input_ids"].min() > 0
    assert inputs["attention_mask"].all()
    padded = make_inputs(session, Workload(64, 20, 120, lengths=(3, 7, 90)), seed=0)
    assert set(padded["attention_mask"].sum(1)) == {3, 7, 20}
    assert not padded["input_ids"][padded["attention_mask"] == 0].any()
    assert (padded["input_ids"][padded["attention_mask"] == 1] > 0).all()
    assert (np.diff(padded["attention_mask"], axis=1) <= 0).all()


@linux_only
def test_affinity_holds_for_the_block_and_a_foreign_processor_is_a_sentence() -> None:
    before = os.sched_getaffinity(0)
    with affinity([min(before)]):
        assert os.sched_getaffinity(0) == {min(before)}
    assert os.sched_getaffinity(0) == before
    with pytest.raises(ValueError, match=r"affinity \[100000\] is not allowed here"), affinity([100_000]):
        pass


def test_affinity_is_refused_where_the_system_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_setaffinity", raising=False)
    with pytest.raises(ValueError, match="leave affinity empty"), affinity([0]):
        pass
    with affinity([]):
        assert sys.platform


def test_the_interval_of_the_median_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    draws = rng.gamma(4, 1, (3000, 60))
    median = float(np.median(rng.gamma(4, 1, 1_000_000)))
    inside = [abs(np.median(row) - median) <= half_width(row) * np.median(row) for row in draws]
    assert 0.92 <= np.mean(inside) <= 0.98
    assert half_width(np.array([1.0, 2.0, 3.0])) == np.inf


rows = st.lists(st.integers(1, 2**40), min_size=1, max_size=5)


@given(st.lists(st.tuples(rows, st.integers(1, 2**40)), min_size=1, max_size=3))
def test_samples_survive_json(parts: list[tuple[list[int], int]]) -> None:
    samples = Samples(tuple(tuple(row) for row, _ in parts), tuple((anchor,) * len(row) for row, anchor in parts))
    assert Samples.from_json(json.loads(json.dumps(samples.to_json()))) == samples


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({}, "lists of lists"),
        ({"model_ns": [[1]], "anchor_ns": "x"}, "lists of lists"),
        ({"model_ns": [[1, 2]], "anchor_ns": [[1]]}, "as many samples"),
        ({"model_ns": [[]], "anchor_ns": [[]]}, "as many samples"),
        ({"model_ns": [[0]], "anchor_ns": [[1]]}, "positive whole numbers"),
        ({"model_ns": [[-3]], "anchor_ns": [[1]]}, "positive whole numbers"),
        ({"model_ns": [[True]], "anchor_ns": [[1]]}, "positive whole numbers"),
        ({"model_ns": [[1.5]], "anchor_ns": [[1]]}, "positive whole numbers"),
    ],
)
def test_documents_that_are_no_samples_are_refused(document: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Samples.from_json(document)
