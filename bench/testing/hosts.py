"""What every host must do, whichever way leads to it: subclass a suite and give it a fixture ``host``."""

from __future__ import annotations

from typing import Any

import pytest

from ortnas.bench.fingerprint import fingerprint
from ortnas.bench.host import Failure, Host, HostError
from ortnas.bench.request import Request
from ortnas.bench.testing.models import VOCAB_SIZE, make_model
from ortnas.bench.timing import Samples, TimingProtocol, Workload

_SHORT, _LONG = Workload(1, 8, VOCAB_SIZE), Workload(2, 16, VOCAB_SIZE, (4, 9, 16), 0.5)
_PROTOCOL = TimingProtocol(min_rounds=6, max_rounds=30, cap_s=0.2)


def samples_of(result: Samples | Failure) -> Samples:
    assert isinstance(result, Samples), result
    return result


def assert_sentence(error: BaseException | str) -> None:
    """One line that says something."""
    assert str(error).strip()
    assert "\n" not in str(error)


class IntroductionSuite:
    """What hosts do that can only be known, and those that time: they say what they are."""

    # Keys of the host's fingerprint: those of a host that a worker reads.
    fingerprint_keys = frozenset(fingerprint())

    @pytest.fixture
    def host(self) -> Host:
        pytest.fail("give the suite a fixture ``host`` that opens yours, and closes it at the end")

    def test_it_has_a_name_for_people(self, host: Host) -> None:
        assert host.name
        assert host.name.isprintable()

    def test_hello_tells_what_the_host_is_and_how_it_does(self, host: Host) -> None:
        hello = host.hello()
        assert set(hello["fingerprint"]) == self.fingerprint_keys
        assert isinstance(hello["versions"], dict)
        assert isinstance(hello["conditions"], dict)
        assert host.hello()["fingerprint"] == hello["fingerprint"]

    def test_there_may_be_nothing_to_forget(self, host: Host) -> None:
        host.forget()
        host.forget()


class HostSuite(IntroductionSuite):
    """What hosts do that time models."""

    @pytest.fixture
    def models(self) -> list[bytes]:
        """Three different ONNX models or more that the host can time, with BERT's inputs or some of them."""
        return [make_model(width) for width in (8, 16, 24)]

    def test_hello_tells_the_versions_that_time(self, host: Host) -> None:
        assert {"python", "numpy", "onnxruntime"} <= set(host.hello()["versions"])

    def test_every_model_gets_samples_of_every_workload(self, host: Host, models: list[bytes]) -> None:
        named = {f"model {number}": model for number, model in enumerate(models)}
        timed = host.measure(named, _request(models[0], _SHORT, _LONG))
        assert set(timed) == set(named)
        for samples in map(samples_of, timed.values()):
            for rows in (samples.model_ns, samples.anchor_ns):
                assert len(rows) == 2
                assert all(6 <= len(row) <= 30 for row in rows)
                assert all(type(value) is int and value > 0 for row in rows for value in row)
            assert [len(row) for row in samples.model_ns] == [len(row) for row in samples.anchor_ns]

    def test_a_fixed_protocol_makes_exactly_so_many_rounds(self, host: Host, models: list[bytes]) -> None:
        request = _request(models[0], _SHORT, _LONG, protocol=TimingProtocol.fixed(7))
        timed = host.measure({"model": models[1]}, request)
        assert [len(row) for row in samples_of(timed["model"]).model_ns] == [7, 7]

    def test_inferences_in_a_row_all_count(self, host: Host, models: list[bytes]) -> None:
        timed = host.measure({"model": models[1]}, _request(models[0], protocol=TimingProtocol.fixed(6, runs=3)))
        assert [len(row) for row in samples_of(timed["model"]).model_ns] == [18]

    def test_visits_may_be_numbered(self, host: Host, models: list[bytes]) -> None:
        for number in range(2):
            assert samples_of(host.measure({"model": models[1]}, _request(models[0]), number)["model"])

    def test_a_model_may_have_two_names_and_be_its_own_anchor(self, host: Host, models: list[bytes]) -> None:
        timed = host.measure({"first": models[1], "second": models[1]}, _request(models[1]))
        assert set(timed) == {"first", "second"}
        assert all(samples_of(result).model_ns for result in timed.values())

    def test_a_model_that_is_refused_costs_only_itself(self, host: Host, models: list[bytes]) -> None:
        named = {"good": models[1], "bad": b"not a model", "also good": models[2]}
        timed = host.measure(named, _request(models[0]))
        refused = timed["bad"]
        assert isinstance(refused, Failure)
        assert_sentence(refused.reason)
        assert samples_of(timed["good"])
        assert samples_of(timed["also good"])

    def test_nothing_but_refused_models_is_no_reason_to_stop(self, host: Host, models: list[bytes]) -> None:
        timed = host.measure({"bad": b"not a model", "worse": b""}, _request(models[0]))
        assert {name: type(result) for name, result in timed.items()} == {"bad": Failure, "worse": Failure}

    def test_what_was_forgotten_can_be_measured_again(self, host: Host, models: list[bytes]) -> None:
        for _ in range(2):
            assert samples_of(host.measure({"model": models[1]}, _request(models[0]))["model"])
            host.forget()

    def test_a_hopeless_anchor_stops_the_host_with_one_sentence(self, host: Host, models: list[bytes]) -> None:
        with pytest.raises(HostError) as stopped:
            host.measure({"model": models[1]}, _request(b"not a model"))
        assert_sentence(stopped.value)
        assert samples_of(host.measure({"model": models[1]}, _request(models[0]))["model"])


class RefusingHostSuite(IntroductionSuite):
    """What hosts do that are known from stored timings alone: they refuse to time, with a sentence."""

    def test_hello_tells_no_versions_that_are_not_known(self, host: Host) -> None:
        versions: dict[str, Any] = host.hello()["versions"]
        assert all(isinstance(value, str) for value in versions.values())

    def test_it_refuses_to_time_with_one_sentence(self, host: Host) -> None:
        for models in ({}, {"model": make_model(8)}):
            with pytest.raises(HostError) as refused:
                host.measure(models, _request(make_model(16)))
            assert_sentence(refused.value)
            assert host.name in str(refused.value)


def _request(anchor: bytes, *workloads: Workload, protocol: TimingProtocol = _PROTOCOL) -> Request:
    return Request(anchor, workloads=workloads or (_SHORT,), protocol=protocol)
