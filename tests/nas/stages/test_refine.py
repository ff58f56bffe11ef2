"""Finalists trained alone, after a search on the simulated host."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ortnas.export.package.record import read_record
from ortnas.export.weights import read_supernet
from ortnas.nas.architecture.subnet import Subnet
from ortnas.nas.failures import NotFiniteError
from ortnas.nas.run.run import Run
from ortnas.nas.stages import refine as refine_stage
from ortnas.nas.stages.commands import deliver, export, refine, search
from ortnas.nas.stages.further_training import Alone, train_alone, trained_weights
from ortnas.search.refinement import RefinementError, read_refinement
from ortnas.search.result import read_result
from tests.nas.stages.small_runs import open_run

pytestmark = pytest.mark.slow
STEPS = {"steps": 10, "batch_size": 8, "learning_rate": 0.002}


@pytest.fixture(scope="module")
def searched(fitted: Path) -> Path:
    run = open_run(fitted)
    search(run)
    run.close()
    return fitted


@pytest.fixture
def opened(searched: Path) -> Iterator[Callable[..., Run]]:
    """Opens the run as it was after the search."""
    shutil.rmtree(searched / "run" / "refined", ignore_errors=True)
    for path in searched.glob("run/search/*/refinement.json"):
        path.unlink()
    runs: list[Run] = []

    def open_again(**changes: Any) -> Run:
        for run in runs:
            run.close()
        runs.append(open_run(searched, refinement=STEPS | changes))
        return runs[-1]

    yield open_again
    runs[-1].close()


def test_the_winner_is_trained_alone_and_shipped_with_its_weights(opened: Callable[..., Run]) -> None:
    run = opened()
    document = refine(run)["1.1x"]
    # Two finalists for a fifth of the steps, then the better one.
    first, last = document["rungs"]
    assert (len(first["steps"]), set(first["steps"].values())) == (2, {2})
    assert list(last["steps"].values()) == [8]
    assert document["after"] >= document["before"]
    refinement = read_refinement(run.folder.search("1.1x"))
    assert refinement is not None
    assert refinement.to_json() == document
    assert (refinement.subnet.key, refinement.steps) == (next(iter(last["steps"])), 10)
    # What lost takes no room.
    assert [path.name for path in (run.folder.path / "refined" / "int8-1.1x").iterdir() if path.is_dir()] == [
        refinement.subnet.key
    ]
    (package,) = map(Path, export(run)["packages"])
    record = read_record(package)
    assert record.search_score == document["after"]
    assert record.provenance["subnet"] == refinement.subnet.to_json()
    assert record.provenance["refinement"]["steps"] == 8
    # By its budget's name it comes with the same weights.
    (named,) = map(Path, deliver(run, ["1.1x"])["packages"])
    assert (named / "model.onnx").read_bytes() == (package / "model.onnx").read_bytes()
    assert trained_weights(run.folder, refinement.subnet) == run.folder.path / str(refinement.weights)
    # Done is done.
    stamp = (run.folder.path / "events.jsonl").stat().st_mtime_ns
    assert refine(run)["1.1x"] == document
    assert (run.folder.path / "events.jsonl").stat().st_mtime_ns == stamp


def test_a_training_that_was_interrupted_ends_with_what_an_uninterrupted_one_gives(
    opened: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = refine(opened())["1.1x"]
    run = opened()
    shutil.rmtree(run.folder.path / "refined")
    (run.folder.search("1.1x") / "refinement.json").unlink()
    trained: list[int] = []
    train_alone = refine_stage.train_alone

    def killed(*arguments: Any) -> float:
        trained.append(arguments[-1].steps)
        if len(trained) == 3:
            raise KeyboardInterrupt
        return train_alone(*arguments)

    monkeypatch.setattr(refine_stage, "train_alone", killed)
    with pytest.raises(KeyboardInterrupt):
        refine(run)
    again = refine(opened())["1.1x"]
    assert trained == [2, 2, 8, 8]
    for document in (whole, again):
        for rung in document["rungs"]:
            rung.pop("seconds")
    assert again == whole


def test_training_begins_at_a_slice_that_is_fitted_to_the_teacher(opened: Callable[..., Run], tmp_path: Path) -> None:
    run = opened()
    supernet = run.models.supernet
    subnet = supernet.space.smallest
    fitted, continued = tmp_path / "fitted", tmp_path / "continued"
    parts = (run.configuration, run.console, run.folder, run.texts, run.models)
    # A rate that moves nothing.
    settings = Alone(1, 8, 1e-9)
    train_alone(*parts, subnet, run.folder.supernet, fitted, "first", settings)
    train_alone(*parts, subnet, fitted, continued, "second", settings)
    name = f"layers.{subnet.layers[0].source}.ffn_out.bias"
    before, first, second = (
        each.tensors[name][: subnet.hidden_size] for each in (supernet, read_supernet(fitted), read_supernet(continued))
    )
    assert np.abs(first - before).max() > 1e-4
    assert np.abs(second - first).max() < 1e-6


def test_what_was_deleted_is_made_again(opened: Callable[..., Run]) -> None:
    run = opened()
    whole = refine(run)["1.1x"]
    (run.folder.search("1.1x") / "refinement.json").unlink()
    again = refine(opened())["1.1x"]
    for document in (whole, again):
        for rung in document["rungs"]:
            rung.pop("seconds")
    assert again == whole
    assert (run.folder.path / str(again["weights"]) / "supernet.json").is_file()


def test_where_training_fails_the_network_before_is_shipped(
    opened: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any) -> None:
        raise NotFiniteError("the loss is not finite at step 1")

    monkeypatch.setattr(refine_stage, "train_alone", fail)
    run = opened()
    document = refine(run)["1.1x"]
    assert (document["weights"], document["after"]) == (None, None)
    assert "the loss is not finite" in document["reason"]
    assert "stays as it was" in capsys.readouterr().err
    (package,) = map(Path, export(run)["packages"])
    assert read_record(package).search_score == document["before"]


def test_finalists_of_other_shapes_are_tried_before_near_copies_of_the_best(opened: Callable[..., Run]) -> None:
    run = opened()
    result = read_result(run.folder.search("1.1x"))
    assert result is not None
    layers = result.finalists[0].subnet.layers
    subnets = [Subnet(16, layers), Subnet(16, (replace(layers[0], ffn_size=8), *layers[1:])), Subnet(8, layers)]
    finalists = [
        replace(
            result.finalists[0],
            candidate=replace(result.finalists[0].candidate, subnet=subnet),
            meets_budget=True,
        )
        for subnet in subnets
    ]
    over_budget = replace(finalists[2], meets_budget=False)
    order = refine_stage.different_first(replace(result, finalists=(*finalists, over_budget)))
    assert [finalist.subnet for finalist in order] == [subnets[0], subnets[2], subnets[1]]
    # The evenly shrunk one comes second, of whatever shape it is.
    order = refine_stage.different_first(replace(result, finalists=tuple(finalists), evenly_shrunk=subnets[1].key))
    assert [finalist.subnet for finalist in order] == subnets
    order = refine_stage.different_first(replace(result, finalists=tuple(finalists), evenly_shrunk=subnets[0].key))
    assert [finalist.subnet for finalist in order] == [subnets[0], subnets[2], subnets[1]]


def test_training_that_makes_it_worse_is_not_shipped(opened: Callable[..., Run]) -> None:
    document = refine(opened(learning_rate=1.0))["1.1x"]
    assert document["after"] < document["before"]
    assert document["weights"] is None
    assert re.match(r"training alone left .* \(similarity spearman\)", document["reason"])


def test_where_the_likelihood_fell_what_is_reported_decides(
    opened: Callable[..., Run], capsys: pytest.CaptureFixture[str]
) -> None:
    run = opened()
    (key,) = refine(run)["1.1x"]["rungs"][-1]["steps"]
    result = read_result(run.folder.search("1.1x"))
    assert result is not None
    assert (result.metric, run.texts.metric) == ("neighbour_likelihood", "similarity_spearman")
    parts = (run.configuration, run.console, run.folder, run.texts, run.models)
    halving = refine_stage._Halving(*parts, result, refine_stage._Pace())
    capsys.readouterr()
    assert halving._worse(before=-0.1, after=-9.0, key=key) == ""
    assert "trained alone it scores less; similarity spearman decides, and went from" in capsys.readouterr().err
    # A small loss of likelihood is nobody's concern.
    assert halving._worse(before=-0.1, after=-0.1, key=key) == ""
    assert not capsys.readouterr().err


def test_steps_that_took_longer_than_foretold_shorten_the_next_training(
    opened: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    allowed_s: list[float] = []

    def foretell(*arguments: Any) -> int:
        allowed_s.append(arguments[5])
        return 10

    def train_slowly(*arguments: Any) -> float:
        train_alone(*arguments)
        # Two finalists share the first rung.
        return 1.5 * allowed_s[0] / 2

    monkeypatch.setattr(refine_stage, "affordable_steps", foretell)
    monkeypatch.setattr(refine_stage, "train_alone", train_slowly)
    run = opened(steps=None)
    run.configuration = run.configuration.model_copy(
        update={"training": run.configuration.training.model_copy(update={"minutes": 30})}
    )
    refine(run)
    _, last_s = allowed_s
    left_s = 30 * 60 - run.clock.total_seconds - refine_stage.EXPORT_S - refine_stage._SAVED_S
    assert last_s * 1.5 == pytest.approx(left_s, rel=0.01)


def test_what_is_learned_of_the_pace_is_bounded() -> None:
    pace = refine_stage._Pace()
    factors = []
    for spent_s in (15.0, 5.0, 0.1, 100.0):
        pace.learn(10.0, spent_s)
        factors.append(pace.factor)
    assert factors == [1.5, 0.75, 0.5, 2.0]


def test_without_time_a_winner_is_still_fitted_to_the_teacher(opened: Callable[..., Run]) -> None:
    run = opened(steps=None)
    run.configuration = run.configuration.model_copy(
        update={"training": run.configuration.training.model_copy(update={"minutes": 0.01})}
    )
    document = refine(run)["1.1x"]
    (rung,) = document["rungs"]
    assert list(rung["steps"].values()) == [0]
    assert document["after"] is not None


def test_without_steps_winners_stay_as_they_are(opened: Callable[..., Run]) -> None:
    refine(opened())
    run = opened(steps=0)
    assert refine(run) == {}
    assert read_refinement(run.folder.search("1.1x")) is None
    assert not (run.folder.path / "refined" / "int8-1.1x").exists()


def test_a_damaged_record_is_named(opened: Callable[..., Run]) -> None:
    run = opened()
    file = run.folder.search("1.1x") / "refinement.json"
    file.write_text(json.dumps({"inputs": 3}))
    with pytest.raises(RefinementError, match="cannot be read"):
        refine(run)
