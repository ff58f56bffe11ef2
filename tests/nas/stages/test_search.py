"""The search stage on a small network, timed by the simulated host."""

from __future__ import annotations

import hashlib
import json
import math
import re
import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from ortnas.bench.errors import BenchError
from ortnas.export.build import Exporter
from ortnas.export.package.record import read_record
from ortnas.export.size import subnet_bytes
from ortnas.nas.architecture.shrinking import shrunk_evenly
from ortnas.nas.architecture.subnet import Subnet
from ortnas.nas.run.configuration import ConfigurationError
from ortnas.nas.run.run import Run
from ortnas.nas.stages import comparison
from ortnas.nas.stages import search as search_stage
from ortnas.nas.stages.commands import bench, export, fit_predictor, list_within_budget, refine, search
from ortnas.nas.stages.finalists import measure_finalists
from ortnas.nas.stages.fit import checked_predictor, folder_of, usable_timings
from ortnas.nas.stages.probes import PROBES_FILE
from ortnas.nas.stages.scoring import make_scorer
from ortnas.nas.stages.search import SearchError
from ortnas.predictors.fitting import Predictor, PredictorError
from ortnas.search.comparison import ComparisonRow
from ortnas.search.finalists import LatencyLimit
from ortnas.search.resolution import ScoreResolution
from ortnas.search.result import RESULT_FILE, read_result
from tests.nas.stages.small_runs import open_run
from tests.networks import write_bert

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(fitted: Path) -> Path:
    """Without searches of other tests."""
    shutil.rmtree(fitted / "run" / "search", ignore_errors=True)
    return fitted


def searched(folder: Path, **settings: Any) -> tuple[dict[str, Any], Run]:
    run = open_run(folder, search=settings)
    try:
        return search(run), run
    finally:
        run.close()


def test_winners_are_compared_with_subnets_that_nobody_searched_and_with_a_checkpoint_of_another_size(
    folder: Path, tmp_path: Path
) -> None:
    searched(folder)
    rival = write_bert(tmp_path / "tiny", hidden_size=48, intermediate_size=32, num_hidden_layers=1)
    run = open_run(folder, compare=[str(rival)], rivals=True, refinement={"steps": 2, "batch_size": 8})
    refine(run)
    rows = [ComparisonRow.from_json(row) for row in export(run)["rows"]]
    assert [row.kind for row in rows[:3]] == ["full", "full", "winner"]
    winner, ready_made = rows[2], rows[-1]
    assert {row.kind for row in rows[3:-1]} <= {"fewer_layers", "shrunk", "random"}
    for row in rows[3:-1]:
        assert row.budget == "1.1x"
        assert row.predicted_ms is not None
        assert row.predicted_ms <= 1.02 * winner.measured_ms
        assert row.subnet != winner.subnet
    assert (ready_made.name, ready_made.kind, ready_made.budget) == ("ready-made tiny, INT8", "ready_made", None)
    assert (ready_made.subnet.hidden_size, len(ready_made.subnet.layers)) == (48, 1)
    assert ready_made.scores.keys() == {"similarity_spearman"}
    assert winner.scores.keys() == {"similarity_spearman", "mean_cosine"}
    assert winner.gains.keys() == {row.name for row in rows[3:]}
    for row in rows[3:]:
        gain = winner.gains[row.name]
        metric = "similarity_spearman"
        assert gain.value == pytest.approx(winner.scores[metric] - row.scores[metric])
        assert gain.low <= gain.value <= gain.high
    files = {
        path: path.stat().st_mtime_ns
        for kind in ("ready-made", "rivals")
        for path in (folder / "run" / kind).rglob("supernet.json")
    }
    # Every rival was trained as long as the winner.
    trained_rivals = [path for path in files if path.parent.parent.name == "rivals"]
    assert len(trained_rivals) == len({row.subnet.key for row in rows[3:-1]})
    # The same again finds all made; without rivals the comparison is another.
    assert [row["name"] for row in export(run)["rows"]] == [row.name for row in rows]
    assert {path: path.stat().st_mtime_ns for path in files} == files
    run.close()
    alone = open_run(folder, refinement={"steps": 2, "batch_size": 8})
    assert [row["kind"] for row in export(alone)["rows"]] == ["full", "full", "winner"]
    alone.close()


@pytest.mark.parametrize("method", ["evolution", "random", "fast", "evolved"])
def test_every_method_ends_with_a_winner_within_the_budget(folder: Path, method: str) -> None:
    results, _ = searched(folder, method=method)
    result = results["1.1x"]
    assert result["winner"]["measured_ms"] <= result["budget_ms"]
    assert result["hit_rate"] is not None
    assert all(candidate["upper_ms"] <= result["budget_ms"] for candidate in result["candidates"])
    for finalist in result["finalists"]:
        score = finalist["report"]["score"]
        assert score["low"] <= score["value"] <= score["high"]


@pytest.mark.slow
def test_one_search_of_the_front_serves_every_budget(folder: Path) -> None:
    results, run = searched(folder, goal="front", budgets=["1.02x", "1.1x"], candidates=16)
    assert set(results) == {"1.02x", "1.1x"}
    assert results["1.02x"]["candidates"] == results["1.1x"]["candidates"]
    assert len(results["1.1x"]["candidates"]) == 16
    assert not (run.folder.search("1.1x") / "candidates.jsonl").exists()
    again, _ = searched(folder, goal="front", budgets=["1.02x", "1.1x"], candidates=16)
    assert again == results


@pytest.mark.slow
def test_the_same_search_is_not_made_again_and_another_one_is(folder: Path) -> None:
    first, run = searched(folder)
    scores = run.folder.scores_file.read_text()
    again, _ = searched(folder, workers=1)
    assert again == first
    assert run.folder.scores_file.read_text() == scores
    other, _ = searched(folder, rule="knee")
    assert other["1.1x"]["inputs"] != first["1.1x"]["inputs"]


@pytest.mark.slow
def test_a_budget_on_the_95th_percentile_is_stricter(folder: Path) -> None:
    # The slowest subnets meet it by their median.
    median, _ = searched(folder, budgets=["0.236"])
    tail, _ = searched(folder, budgets=["0.236"], percentile=95)
    slowest = [max(candidate["upper_ms"] for candidate in results["0.236"]["candidates"]) for results in (median, tail)]
    assert slowest[1] < slowest[0]
    assert tail["0.236"]["winner"]["measured_ms"] <= tail["0.236"]["budget_ms"]


@pytest.mark.slow
def test_a_throughput_is_searched_for_under_its_requests_at_a_time(
    fitted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(fitted, tmp_path, dirs_exist_ok=True)
    document = yaml.safe_load((tmp_path / "run.yaml").read_text())
    document["target"]["concurrency"] = 4
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(document | {"folder": str(tmp_path / "run")}))
    run = open_run(tmp_path)
    assert run.models.target.setup.concurrency == 4
    # Timings of one request at a time are those of another target.
    with pytest.raises(BenchError, match="ortnas bench"):
        search(run)
    run.close()
    run = open_run(tmp_path, bench={"subnets": 24, "new_target": True})
    bench(run)
    fit_predictor(run)
    assert "4 requests at a time" in capsys.readouterr().err
    run.close()
    by_speed_up = searched(tmp_path)[0]["1.1x"]
    requests_a_second = round(4 * 1000 / by_speed_up["budget_ms"])
    budget = f"{requests_a_second}/s"
    run = open_run(tmp_path, search={"budgets": [budget, "1.1x"]})
    results = search(run)
    throughput = results[budget]
    assert throughput["budget_ms"] == pytest.approx(by_speed_up["budget_ms"], rel=1e-3)
    assert (throughput["percentile"], results["1.1x"]["percentile"]) == (None, 50)
    # So many requests under way, of which each takes so long in the mean, are answered at least as often as asked for.
    winner = throughput["winner"]
    assert 4 * 1000 / winner["measured_ms"] >= requests_a_second
    # By its mean, which lies above the median.
    tails = [max(candidate["upper_ms"] for candidate in result["candidates"]) for result in (throughput, by_speed_up)]
    assert tails[0] <= tails[1]
    name = f"int8-{requests_a_second}-per-s"
    assert (run.folder.path / "search" / name / "search.json").is_file()
    packages = export(run)["packages"]
    run.close()
    assert [Path(package).name for package in packages] == [name, "int8-1.1x"]
    record = read_record(Path(packages[0]))
    assert (record.budget, record.target.setup.concurrency) == (budget, 4)
    card = (Path(packages[0]) / "README.md").read_text()
    assert f"budget of {requests_a_second} requests a second, 4 at a time" in card
    assert "1 thread(s), 4 requests at a time" in card
    assert searched(tmp_path, budgets=[budget])[0][budget] == throughput


def test_more_requests_at_a_time_than_processors_are_refused_before_anything_is_timed(folder: Path) -> None:
    run = open_run(folder, target={"concurrency": 9})
    with pytest.raises(ConfigurationError, match=r"target\.concurrency = 9: 9 requests .* there are 8"):
        search(run)
    run.close()


@pytest.mark.slow
def test_a_second_target_has_to_be_met_too(folder: Path) -> None:
    run = open_run(folder)
    first = str(folder_of(run.configuration, run.folder, run.models))
    run.close()
    alone, _ = searched(folder, budgets=["1.02x"])
    budget_ms = 0.9 * alone["1.02x"]["budget_ms"]
    both, _ = searched(folder, budgets=["1.02x"], targets=[{"predictor": first, "budget_ms": budget_ms}])
    assert all(candidate["upper_ms"] <= budget_ms for candidate in both["1.02x"]["candidates"])
    with pytest.raises(PredictorError, match="holds no predictor"):
        searched(folder, targets=[{"predictor": str(folder / "nothing"), "budget_ms": 1.0}])


def test_a_budget_that_nothing_meets_ends_with_a_sentence_and_the_others_go_on(folder: Path) -> None:
    with pytest.raises(SearchError, match=r"budget 0\.0001: no subnet meets the budget") as error:
        searched(folder, budgets=["0.0001", "1.1x"])
    assert error.value.successful == ("1.1x",)


@pytest.mark.slow
def test_a_budget_that_everything_meets_is_left_to_the_score(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    searched(folder, budgets=["1000"])
    assert "only the score decides" in capsys.readouterr().err


def test_subnets_within_a_budget_are_listed_without_scores(folder: Path) -> None:
    run = open_run(folder, search={"budgets": ["0.16"]})
    listed = list_within_budget(run, 5)
    assert len(listed["subnets"]) == 5
    assert all(0.85 * listed["budget_ms"] <= entry["upper_ms"] <= listed["budget_ms"] for entry in listed["subnets"])
    assert not run.folder.scores_file.exists()
    run.close()


def test_scores_after_training_are_those_of_one_way_of_training(folder: Path) -> None:
    contexts = []
    ways: list[dict[str, Any]] = [
        {},
        {"refinement": {"batch_size": 3}},
        {"training": {"mixed_precision": "bf16"}},
        {"training": {"losses": {"relations": 1.0}}},
    ]
    for changes in ways:
        for steps in (2, 3):
            run = open_run(folder, **changes, search={"fitness_steps": steps})
            contexts.append(
                make_scorer(run.configuration, run.console, run.folder, run.texts, run.target, run.models).context
            )
            run.close()
    assert len(set(contexts)) == 8


@pytest.mark.slow
def test_candidates_can_be_trained_before_they_are_scored(folder: Path) -> None:
    results, run = searched(folder, fitness_steps=2, candidates=2)
    assert len(results["1.1x"]["candidates"]) == 2
    assert not list(run.folder.training.glob("fitness-*"))
    assert results["1.1x"]["winner"] is not None
    packaged = open_run(folder, search={"fitness_steps": 2, "candidates": 2})
    assert export(packaged)["packages"]
    packaged.close()


@pytest.mark.slow
def test_what_the_texts_can_show_is_said_first_and_computed_once(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    results, run = searched(folder, score_by="metric")
    resolution = results["1.1x"]["resolution"]
    assert resolution["search"]["metric"] == resolution["report"]["metric"] == run.texts.metric
    assert (resolution["search"]["texts"], resolution["report"]["texts"]) == (32, 32)
    # As many texts of the same kind show as much.
    assert resolution["report"]["half_width"] == pytest.approx(resolution["search"]["half_width"])
    said = " ".join(capsys.readouterr().err.split())
    assert said.index(ScoreResolution.from_json(resolution).sentence) < said.index("re-measuring")
    file = folder / "run" / "search" / "resolution.json"
    stamp = file.stat().st_mtime_ns
    assert searched(folder, score_by="metric")[0]["1.1x"]["resolution"] == resolution
    assert file.stat().st_mtime_ns == stamp


def test_candidates_are_ranked_by_a_likelihood_and_reported_by_the_metric(folder: Path) -> None:
    results, run = searched(folder)
    result = results["1.1x"]
    assert (result["metric"], run.texts.metric) == ("neighbour_likelihood", "similarity_spearman")
    assert all(candidate["score"] <= 0 for candidate in result["candidates"])
    assert all(finalist["report"]["score"]["value"] > 0 for finalist in result["finalists"])


def test_no_model_is_built_twice_and_what_was_timed_is_packaged(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built: Counter[tuple[str, str, str]] = Counter()
    timed: list[bytes] = []
    build, time_models = Exporter._build, comparison.time_models

    def counted(self: Exporter, subnet: Subnet, precision: Any) -> bytes:
        built[self.supernet.digest, subnet.key, precision] += 1
        return build(self, subnet, precision)

    def noted(models: Mapping[str, bytes], *arguments: Any) -> Any:
        timed.extend(models.values())
        return time_models(models, *arguments)

    monkeypatch.setattr(Exporter, "_build", counted)
    monkeypatch.setattr(comparison, "time_models", noted)
    run = open_run(folder)
    search(run)
    exported = export(run)
    run.close()
    assert set(built.values()) == {1}
    (package,) = map(Path, exported["packages"])
    model, packaged = (package / "model.onnx").read_bytes(), json.loads((package / "ortnas.json").read_text())
    assert model in timed
    digest = hashlib.sha256(model).hexdigest()
    assert exported["rows"][-1]["model_digest"] == packaged["latency"]["model_digest"] == digest
    assert exported["rows"][-1]["size_bytes"] == len(model)


def test_a_winner_stays_within_the_size_that_is_allowed(folder: Path) -> None:
    free, run = searched(folder)
    sizes = {
        subnet.key: subnet_bytes(run.models.supernet.dimensions, subnet, run.models.recipe)
        for subnet in (Subnet.from_json(candidate["subnet"]) for candidate in free["1.1x"]["candidates"])
    }
    most_mb = sorted(sizes.values())[len(sizes) // 2] / 1e6
    results, _ = searched(folder, max_size_mb=most_mb)
    for candidate in results["1.1x"]["candidates"]:
        subnet = Subnet.from_json(candidate["subnet"])
        assert subnet_bytes(run.models.supernet.dimensions, subnet, run.models.recipe) <= most_mb * 1e6
    with pytest.raises(
        SearchError, match=r"no subnet's model fits into 0\.00 MB: the smallest takes .*search\.max_size_mb"
    ):
        searched(folder, max_size_mb=0.001)


def test_predictions_that_are_off_near_a_budget_are_corrected_by_timings_and_these_are_kept(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def too_low(*arguments: Any) -> Predictor:
        predictor = checked_predictor(*arguments)
        prior = predictor.model.prior
        return replace(predictor, model=replace(predictor.model, prior=replace(prior, prices=0.9 * prior.prices)))

    monkeypatch.setattr(search_stage, "checked_predictor", too_low)
    budgets = ["1.02x", "1.1x"]
    results, run = searched(folder, budgets=budgets, candidates=16)
    said = " ".join(capsys.readouterr().err.split())
    assert len(re.findall(r"subnets that the search chose take 1[0-2]\.\d% more than predicted", said)) == len(budgets)
    timed_ms = json.loads((run.folder.search("1.1x") / PROBES_FILE).read_text())["measured_ms"]
    for result in results.values():
        assert result["correction"]["shift"] == pytest.approx(math.log(1 / 0.9), abs=0.015)
        assert result["correction"]["timings"] == len(timed_ms)
        # What nobody searched is of another shape: its prediction is not corrected.
        chosen = [
            finalist
            for finalist in result["finalists"]
            if Subnet.from_json(finalist["subnet"]).key != result["evenly_shrunk"]
        ]
        assert len(chosen) == 2
        for finalist in chosen:
            assert finalist["is_hit"]
            assert finalist["predicted_ms"] == pytest.approx(finalist["measured_ms"], rel=0.02)
            assert finalist["measured_ms"] <= finalist["upper_ms"] <= result["budget_ms"]
    # Another search result with the same inputs takes the timings that are there.
    (run.folder.search("1.1x") / RESULT_FILE).unlink()
    again, _ = searched(folder, budgets=budgets, candidates=16)
    assert again == results
    assert "to see how far predictions are off" not in capsys.readouterr().err
    (run.folder.search("1.1x") / RESULT_FILE).unlink()
    (run.folder.search("1.1x") / PROBES_FILE).write_text("{")
    again, _ = searched(folder, budgets=budgets, candidates=16)
    assert again == results
    assert capsys.readouterr().err.count("to see how far predictions are off") == 1


def test_the_evenly_shrunk_subnet_is_a_finalist_too(folder: Path) -> None:
    results, run = searched(folder, candidates=4, finalists=1, budgets=["1.3x"])
    result = results["1.3x"]
    space = run.models.supernet.space
    even = {space.decode(genome).key for genome in shrunk_evenly(space)}
    keys = [Subnet.from_json(finalist["subnet"]).key for finalist in result["finalists"]]
    assert len(keys) == 2
    assert result["evenly_shrunk"] in even.intersection(keys)
    finalist = result["finalists"][keys.index(result["evenly_shrunk"])]
    assert finalist["upper_ms"] <= result["budget_ms"]
    assert (finalist["measured_ms"], finalist["report"]) != (None, None)


def test_no_finalist_is_measured_twice(folder: Path) -> None:
    searched(folder)
    run = open_run(folder, search={"finalists": 1})
    result = read_result(run.folder.search("1.1x"))
    assert result is not None
    ranking = result.candidates[:4]
    _, _, reference = usable_timings(run.folder, run.models)
    # No group has one within so small a limit, so that all are measured.
    parts = (run.configuration, run.console, run.target, run.models, reference, LatencyLimit(1e-6))
    measured = measure_finalists(*parts, ranking, beside=[ranking[2]])
    run.close()
    assert sorted(finalist.subnet.key for finalist in measured) == sorted(item.subnet.key for item in ranking)
