"""Models that the tests of this folder time, and a bundle of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ortnas.bench.bundle import write_bundle
from ortnas.bench.request import Request
from ortnas.export.graph.model import float_model
from tests.bench.bundles import PROTOCOL, VISITS, WORKLOADS, Bundle, run_bundle
from tests.networks import make_dimensions, make_space, random_subnets, random_tensors


@pytest.fixture(scope="session")
def models() -> list[bytes]:
    """Six different subnets of one random network; each inference takes a fraction of a millisecond."""
    dimensions = make_dimensions()
    tensors = random_tensors(dimensions)
    return [float_model(tensors, dimensions, subnet).SerializeToString() for subnet in random_subnets(make_space(), 4)]


@pytest.fixture(scope="session")
def named(models: list[bytes]) -> dict[str, bytes]:
    """Six good models, one of them twice, and a bad one: more than one group."""
    return {f"model {number}": model for number, model in enumerate(models)} | {"twin": models[0], "bad": b"no model"}


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory, named: dict[str, bytes]) -> Bundle:
    path = tmp_path_factory.mktemp("bundle") / "bundle.pyz"
    plan = write_bundle(path, named, Request(named["model 0"], workloads=WORKLOADS, protocol=PROTOCOL), VISITS)
    return path, json.loads(json.dumps(plan))


@pytest.fixture(scope="session")
def sliced_bundle(tmp_path_factory: pytest.TempPathFactory, named: dict[str, bytes]) -> Bundle:
    """The same, stored as slices of the largest."""
    path = tmp_path_factory.mktemp("sliced") / "bundle.pyz"
    source = named["model 0"]
    request = Request(named["model 1"], workloads=WORKLOADS, protocol=PROTOCOL, source=source)
    return path, json.loads(json.dumps(write_bundle(path, named, request, VISITS)))


@pytest.fixture(scope="session")
def measured(bundle: Bundle) -> Path:
    """The results file of a run without interruptions."""
    path, _ = bundle
    done = run_bundle(path)
    assert done.returncode == 0, done.stderr
    return path.parent / "results.jsonl"
