"""The shipped suites in the hands of somebody else, who has pytest, numpy and onnxruntime alone."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ortnas.bench.session import Setup, make_session
from ortnas.bench.testing.models import VOCAB_SIZE, make_model
from ortnas.bench.timing import Workload, make_inputs

pytestmark = pytest.mark.slow

SOURCES = Path(__file__).parents[2] / "src"
_ALONE = """
import sys
others = "accelerate datasets onnx pyarrow pydantic scipy sklearn tokenizers torch transformers typer xgboost"
sys.modules.update(dict.fromkeys(others.split()))
"""
_TESTS = """
import pathlib, pytest
from dataclasses import replace
from ortnas.bench.host import Failure, HostError
from ortnas.bench.simulated import SimulatedHost
from ortnas.bench.store import Store
from ortnas.bench.testing.hosts import HostSuite, RefusingHostSuite
from ortnas.bench.testing.stores import StoreSuite
from ortnas.bench.timing import Samples

class Hasty(SimulatedHost):
    "Makes a round less than it is asked for, and gives up on all models for one that is refused."
    def measure(self, models, request, visit=0):
        results = super().measure(models, request, visit)
        if any(isinstance(result, Failure) for result in results.values()):
            raise HostError("a model is refused")
        return {
            name: Samples(*(tuple(row[1:] for row in rows) for rows in (samples.model_ns, samples.anchor_ns)))
            for name, samples in results.items()
        }

class Forgetful(Store):
    "Commits nothing that it is given together with a failure."
    def add(self, target, host, precision, model, measurements):
        super().add(target, host, precision, model, [row for row in measurements if row.state != "failed"])

class TestGoodHost(HostSuite):
    @pytest.fixture
    def host(self):
        return SimulatedHost()

class TestBadHost(HostSuite):
    @pytest.fixture
    def host(self):
        return Hasty()

class TestEagerHost(RefusingHostSuite):
    @pytest.fixture
    def host(self):
        return SimulatedHost()

class TestGoodStore(StoreSuite):
    @pytest.fixture
    def open_store(self, tmp_path):
        return lambda: Store(tmp_path / "s.sqlite")

class TestBadStore(StoreSuite):
    @pytest.fixture
    def open_store(self, tmp_path):
        return lambda: Forgetful(tmp_path / "s.sqlite")
"""


def test_the_suites_need_little_and_find_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(_ALONE)
    (tmp_path / "test_mine.py").write_text(_TESTS)
    command = [sys.executable, "-m", "pytest", "-q", "-rf", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(SOURCES), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    failed = set(re.findall(r"^FAILED test_mine.py::(\S+)", done.stdout, re.MULTILINE))
    assert failed == {
        "TestBadHost::test_a_fixed_protocol_makes_exactly_so_many_rounds",
        "TestBadHost::test_inferences_in_a_row_all_count",
        "TestBadHost::test_a_model_that_is_refused_costs_only_itself",
        "TestBadHost::test_nothing_but_refused_models_is_no_reason_to_stop",
        "TestEagerHost::test_it_refuses_to_time_with_one_sentence",
        "TestBadStore::test_what_goes_in_comes_out_in_its_order",
        "TestBadStore::test_the_summary_tells_what_there_is",
    }, done.stdout
    assert "ERROR" not in done.stdout
    # Assertions are shown with their values.
    assert "assert [6, 6] == [7, 7]" in done.stdout


def test_small_models_are_run_by_onnx_runtime_and_differ() -> None:
    for width in (1, 8, 200):
        session = make_session(make_model(width), Setup())
        (output,) = session.run(None, make_inputs(session, Workload(2, 5, VOCAB_SIZE), seed=0))
        assert output.shape == (2, 5, width)
        assert set(session.get_modelmeta().custom_metadata_map) == {"ortnas.subnet", "ortnas.precision"}
    assert make_model(8) == make_model(8) != make_model(8, seed=1)
