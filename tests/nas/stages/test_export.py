"""Packages of named subnets, from a small trained run on the simulated host."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

from ortnas.export import build
from ortnas.export.build import ExportError
from ortnas.export.package.record import PackageError, read_record
from ortnas.export.package.upload import HubError
from ortnas.export.size import subnet_bytes
from ortnas.nas.architecture.subnet import SpaceError, Subnet
from ortnas.nas.files import write_json
from ortnas.nas.run.configuration import ConfigurationError
from ortnas.nas.run.run import Run
from ortnas.nas.stages.commands import deliver, train
from ortnas.nas.stages.further_training import refined_folder
from ortnas.nas.stages.scoring import make_scorer
from tests.nas.stages.small_runs import open_run
from tests.search.results import make_result

pytestmark = pytest.mark.slow


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Iterator[Run]:
    # Other tests fit predictors in the run that they share.
    shutil.copytree(trained / "run", tmp_path / "run", ignore=shutil.ignore_patterns("predictor"))
    document = yaml.safe_load((trained / "run.yaml").read_text()) | {"folder": str(tmp_path / "run")}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(document))
    run = open_run(tmp_path)
    yield run
    run.close()


def write_winner(run: Run, budget: str, scored_with: str) -> Subnet:
    """As a search writes it down."""
    space = run.models.supernet.space
    winner = space.decode(space.sample(1, np.random.default_rng(5))[0])
    make_result(space, winner, budget, scored_with, score=0.5).write(run.folder.search(budget))
    return winner


@pytest.mark.slow
def test_any_subnet_becomes_a_package_that_claims_no_search(run: Run, tmp_path: Path) -> None:
    space, out = run.models.supernet.space, tmp_path / "wohin ä"
    file = tmp_path / "ein subnet.json"
    file.write_text(json.dumps(space.largest.to_json()))
    names = [space.smallest.key[:6], str(file), space.smallest.key]
    done = deliver(run, names, out)
    folders = [out / f"int8-{subnet.key}" for subnet in (space.smallest, space.largest)]
    assert done["packages"] == [str(folder) for folder in folders]
    for folder, row in zip(folders, done["rows"][2:], strict=True):
        record = read_record(folder)
        assert (record.budget, record.budget_ms, record.latency.predicted_ms) == (None, None, None)
        assert record.latency.measured_ms == row["measured_ms"]
        assert record.to_json()["intervals"] == row["intervals"]
        assert record.latency.model_digest == row["model_digest"]
        assert record.data is not None
        assert record.data.texts == run.models.data.counts["training"]
        card = (folder / "README.md").read_text()
        assert "95 % interval" in card
        for claim in ("budget", "winner", "search", "predicted"):
            assert claim not in card
    # The same again finds them made.
    stamps = [path.stat().st_mtime_ns for folder in folders for path in sorted(folder.iterdir())]
    assert deliver(run, names, out)["rows"] == done["rows"]
    assert stamps == [path.stat().st_mtime_ns for folder in folders for path in sorted(folder.iterdir())]


def test_a_winner_keeps_its_budget_and_further_training_its_weights(run: Run) -> None:
    winner = write_winner(
        run, "2x", make_scorer(run.configuration, run.console, run.folder, run.texts, run.target, run.models).context
    )
    (folder,) = map(Path, deliver(run, ["2x"])["packages"])
    assert folder == run.folder.path / "packages" / f"int8-{winner.key}"
    record = read_record(folder)
    assert (record.budget, record.budget_ms, record.search_score) == ("2x", 1.6, 0.5)
    assert "winner of a search under a latency budget of 1.60 ms" in (folder / "README.md").read_text()

    target = refined_folder(run.folder, winner, quantization_aware=False)
    shutil.copytree(run.folder.supernet, target)
    description = json.loads((target / "supernet.json").read_text())
    description["provenance"] |= {"subnet": winner.to_json(), "refinement": {"steps": 7}}
    write_json(target / "supernet.json", description)
    done = deliver(run, ["2x"])
    assert done["rows"][-1]["name"] == f"{winner.key} trained further"
    record = read_record(folder)
    assert record.provenance["refinement"] == {"steps": 7}
    assert "search_score" not in record.to_json()


def test_what_cannot_be_packaged_is_said_before_any_work(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    smallest = run.models.supernet.space.smallest
    (tmp_path / "file").write_text("x")
    for place in (tmp_path / "file" / "below", Path("/proc/packages")):
        with pytest.raises(OSError, match=str(place.name)):
            deliver(run, [smallest.key], place)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no token"))
    with pytest.raises(HubError, match="not logged in"):
        deliver(run, [smallest.key], None, "encoder")
    with pytest.raises(ConfigurationError, match="has such a key"):
        deliver(run, ["ffffffffffff"])
    wider = smallest.to_json() | {"hidden_size": 4096}
    (tmp_path / "wide.json").write_text(json.dumps(wider))
    with pytest.raises(SpaceError, match="4096"):
        deliver(run, [str(tmp_path / "wide.json")])
    write_winner(run, "3x", "another supernet")
    with pytest.raises(PackageError, match="made with another supernet"):
        deliver(run, ["3x"])
    assert not list(tmp_path.rglob("model.onnx"))


def test_a_full_model_that_no_file_holds_is_left_out_of_the_comparison(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    full = run.models.teacher.dimensions.full_subnet
    sizes = [subnet_bytes(run.models.teacher.dimensions, full, recipe) for recipe in (run.models.recipe, None)]
    monkeypatch.setattr(build, "LARGEST_MODEL_BYTES", sum(sizes) // 2)
    names = [row["name"] for row in deliver(run, [run.models.supernet.space.smallest.key])["rows"]]
    assert names[0] == "full model, INT8"
    assert "full model, FP32" not in names
    assert "the full model in FP32 is left out" in capsys.readouterr().err


def test_a_run_in_floats_that_no_file_holds_is_refused_before_training(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = yaml.safe_load((trained / "run.yaml").read_text())
    document |= {"folder": str(tmp_path / "run"), "precision": "fp32"}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(document))
    run = open_run(tmp_path)
    monkeypatch.setattr(build, "LARGEST_MODEL_BYTES", 1000)
    with pytest.raises(ExportError, match=r"the FP32 model would have .* GB, and one ONNX file holds"):
        train(run)
    run.close()
    assert not (tmp_path / "run" / "teacher").exists()
