"""What a run wrote down of a bundle, as it is found when the results come back."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from ortnas.bench.bundle import BundleError, ResultsError, plan_digest, write_bundle
from ortnas.bench.request import Request
from ortnas.bench.timing import TimingProtocol
from ortnas.nas.cli.execution import guarded
from ortnas.nas.stages.bundles import read_plan
from tests.mutations import assert_sentence, mutated, seeds
from tests.networks import make_space, random_subnets


def test_a_mutated_plan_is_read_as_it_was_or_refused_in_one_sentence(tmp_path: Path) -> None:
    subnets = {subnet.key: subnet for subnet in random_subnets(make_space(), 4)}
    plan = {"models": [[key, "0" * 64] for key in subnets], "visits": 2}
    plan["digest"] = plan_digest(plan)
    original = {
        "plan": plan,
        "precision": "int8",
        "timed_model": "m",
        "subnets": {key: subnet.to_json() for key, subnet in subnets.items()},
    }
    file, refused = tmp_path / "plan.json", 0
    for seed in seeds():
        file.write_bytes(mutated(original, random.Random(seed)))
        try:
            document, read = read_plan(file, plan["digest"])
        except ResultsError as error:
            assert_sentence(error)
            refused += 1
            continue
        assert (document["plan"], read) == (plan, subnets)
        assert document["precision"] in ("int8", "fp32")
    assert 0 < refused < len(seeds())
    file.write_text(json.dumps(original))
    assert read_plan(file, plan["digest"]) == (original, subnets)


def test_a_bundle_that_cannot_be_written_is_a_sentence_on_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    request = Request(b"anchor", protocol=TimingProtocol.fixed(6))
    for path, models in (
        (tmp_path / "file" / "bundle.pyz", {"m": b"x"}),
        (tmp_path / "folder", {"m": b"x"}),
        (tmp_path / "empty.pyz", {}),
    ):
        with pytest.raises(BundleError):
            write_bundle(path, models, request, 1)
        with pytest.raises(BaseException) as ending:  # noqa: PT011 typer's exception of the exit status
            guarded(lambda path=path, models=models: write_bundle(path, models, request, 1))
        assert getattr(ending.value, "exit_code", None) == 1
        said = capsys.readouterr().err
        assert said.startswith("error: ")
        assert_sentence(said.strip())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]
