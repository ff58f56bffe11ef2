from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from ortnas.nas.architecture.subnet import SpaceError
from ortnas.nas.console import Console
from ortnas.nas.files import append_line
from ortnas.nas.run.configuration import ConfigurationError, check_configuration
from ortnas.nas.run.run import Run
from ortnas.nas.stages.find_subnet import find_subnet
from tests.networks import make_space, random_subnets
from tests.search.results import make_result


@pytest.fixture
def run(tmp_path: Path) -> Run:
    document = {"checkpoint": "x", "head": "embedding", "folder": str(tmp_path / "run"), "data": {"source": "x"}}
    run = Run(check_configuration(document, "test"), Console(to_stderr=True))
    run.models.__dict__["supernet"] = SimpleNamespace(space=make_space())
    return run


def test_a_budget_names_its_winner(run: Run) -> None:
    space = make_space()
    subnet = space.decode(space.sample(1, np.random.default_rng(0))[0])
    result = make_result(space, subnet)
    result.write(run.folder.search("2x"))
    assert find_subnet(run.configuration, run.folder, run.models, "2x") == subnet
    replace(result, winner=None).write(run.folder.search("9x"))
    with pytest.raises(ConfigurationError, match="9x: the search for that budget ended without a winner"):
        find_subnet(run.configuration, run.folder, run.models, "9x")


def test_a_key_or_its_beginning_names_a_scored_subnet(run: Run) -> None:
    for subnet in random_subnets(make_space(), 30)[2:]:
        line = {"subnet_key": subnet.key, "subnet": subnet.to_json()}
        append_line(run.folder.search("2x") / "candidates.jsonl", line)
    assert find_subnet(run.configuration, run.folder, run.models, subnet.key) == subnet
    assert find_subnet(run.configuration, run.folder, run.models, subnet.key[:8]) == subnet
    assert find_subnet(run.configuration, run.folder, run.models, make_space().smallest.key) == make_space().smallest
    with pytest.raises(ConfigurationError, match=r"begins the keys .*; give more digits"):
        find_subnet(run.configuration, run.folder, run.models, "")
    with pytest.raises(ConfigurationError, match=r"no searched or timed subnet .* searched budgets 2x"):
        find_subnet(run.configuration, run.folder, run.models, "nothing")


def test_a_file_holds_a_subnet_or_a_package_record(run: Run, tmp_path: Path) -> None:
    subnet = make_space().smallest
    for document in (subnet.to_json(), {"subnet": subnet.to_json(), "format": 2}):
        (tmp_path / "subnet.json").write_text(json.dumps(document))
        assert find_subnet(run.configuration, run.folder, run.models, str(tmp_path / "subnet.json")) == subnet
    (tmp_path / "subnet.json").write_text("[1, 2]")
    with pytest.raises(SpaceError, match="not a subnet"):
        find_subnet(run.configuration, run.folder, run.models, str(tmp_path / "subnet.json"))
    (tmp_path / "subnet.json").write_text("{")
    with pytest.raises(ConfigurationError, match=r"subnet\.json"):
        find_subnet(run.configuration, run.folder, run.models, str(tmp_path / "subnet.json"))
    with pytest.raises(ConfigurationError, match="no such file"):
        find_subnet(run.configuration, run.folder, run.models, str(tmp_path / "other.json"))
