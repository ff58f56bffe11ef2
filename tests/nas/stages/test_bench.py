"""The bench stage on a small network: simulated host where only the order of things matters, real ones elsewhere."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from ortnas.bench.bundle import ResultsError
from ortnas.bench.host import Failure, HostError
from ortnas.bench.request import Request
from ortnas.bench.simulated import SimulatedHost
from ortnas.bench.store import Store, StoreError
from ortnas.bench.timing import Samples
from ortnas.nas.architecture.subnet import Layer, Subnet
from ortnas.nas.cli import app
from ortnas.nas.console import Console
from ortnas.nas.run.configuration import ConfigurationError, check_configuration
from ortnas.nas.run.run import Run
from ortnas.nas.stages.commands import bench, bundle, fit_predictor, import_results, search
from ortnas.nas.stages.search import SearchError
from ortnas.nas.stages.stored_timings import import_latencies
from ortnas.predictors.latency_files import write_latency_file
from tests.nas.stages.small_runs import open_run

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(trained: Path) -> Path:
    """The trained run without timings."""
    for path in (trained / "run").glob("bench.sqlite*"):
        path.unlink()
    return trained


def row_count(run: Run) -> int:
    with Store(run.folder.store_file) as store:
        return len(store.measurements(run.models.target, run.configuration.precision, run.models.timed_model))


def next_after(*arguments: str | Path) -> list[str]:
    """The arguments of the command that ``ortnas`` says is next."""
    done = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    line = done.output.splitlines()[-1]
    assert line.startswith("next: ortnas ")
    return shlex.split(line)[2:]


class Unreliable(SimulatedHost):
    """Gives up after some requests; times no model whose name is in ``broken``."""

    def __init__(self, requests: int = 10**9, broken: Sequence[str] = ()) -> None:
        super().__init__()
        self.left, self.broken, self.asked = requests, broken, 0

    def measure(
        self,
        models: Mapping[str, bytes],
        request: Request,
        visit: int = 0,
    ) -> dict[str, Samples | Failure]:
        if self.asked == self.left:
            raise HostError("gone")
        self.asked += 1
        outcomes = super().measure(models, request, visit)
        return {name: Failure("broken") if name in self.broken else outcome for name, outcome in outcomes.items()}


@pytest.mark.slow
def test_every_subnet_is_visited_as_often_as_configured(folder: Path) -> None:
    run = open_run(folder, bench={"visits": 3})
    result = bench(run)
    assert result["measurements"] == 12
    assert row_count(run) == 36
    assert result["noise_floor"] > 0
    run.close()


def test_a_host_that_vanishes_costs_nothing_that_was_measured(folder: Path) -> None:
    whole = open_run(folder)
    whole.target.host = Unreliable(requests=2)  # type: ignore[misc]
    with pytest.raises(HostError, match="gone"):
        bench(whole)
    kept = row_count(whole)
    whole.close()
    assert 0 < kept < 24
    again = open_run(folder)
    host = again.target.host = Unreliable()  # type: ignore[misc]
    result = bench(again)
    assert result["measurements"] == 12
    assert row_count(again) == 24
    assert host.asked < 6
    asked = host.asked
    assert bench(again) == result
    assert host.asked == asked
    again.close()


def test_a_model_that_cannot_be_timed_costs_itself_and_is_not_tried_again(folder: Path) -> None:
    run = open_run(folder)
    smallest = run.models.supernet.space.smallest.key
    run.target.host = Unreliable(broken=[smallest])  # type: ignore[misc]
    result = bench(run)
    assert (result["measurements"], result["failed"]) == (11, 1)
    assert bench(run)["failed"] == 0
    assert row_count(run) == 11 * 2 + 1
    run.close()


def test_a_host_that_changed_is_refused_until_a_new_target_is_asked_for(folder: Path) -> None:
    run = open_run(folder)
    bench(run)
    run.close()

    class Updated(SimulatedHost):
        def hello(self) -> dict[str, Any]:
            answer = super().hello()
            return answer | {"fingerprint": answer["fingerprint"] | {"onnxruntime": "9.9"}}

    changed = open_run(folder)
    changed.target.host = Updated()  # type: ignore[misc]
    with pytest.raises(StoreError, match=r"onnxruntime: '.*', here '9\.9'.*--new-target"):
        bench(changed)
    changed.close()
    second = open_run(folder, bench={"new_target": True})
    second.target.host = Updated()  # type: ignore[misc]
    assert bench(second)["measurements"] == 12
    with Store(second.folder.store_file) as store:
        assert len(store.targets()) == 2
    second.close()


def exact() -> SimulatedHost:
    """So small a network differs by one percent between precisions, less than noise does."""
    return SimulatedHost(noise=0)


@pytest.mark.slow
def test_threads_precisions_and_workloads_live_side_by_side_in_one_store(folder: Path) -> None:
    medians = {}
    for name, changes in {
        "plain": {},
        "threads": {"target": {"threads": 2}},
        "mix": {"target": {"workloads": [{"sequence": 16}, {"sequence": 8, "weight": 3}]}},
    }.items():
        run = open_run(folder, **changes)
        run.target.host = exact()  # type: ignore[misc]
        medians[name] = bench(run)["full_latency_ms"]
        fit_predictor(run)
        run.close()
    assert medians["mix"] < medians["plain"]
    document = yaml.safe_load((folder / "run.yaml").read_text()) | {"precision": "fp32"}
    run = Run(check_configuration(document, "test"), Console(to_stderr=True))
    run.target.host = exact()  # type: ignore[misc]
    assert bench(run)["full_latency_ms"] > medians["plain"]
    fit_predictor(run)
    with Store(run.folder.store_file) as store:
        assert len(store.targets()) == 3
    assert len(list(run.folder.predictors.iterdir())) == 4
    run.close()


@pytest.mark.slow
def test_timed_subnets_outside_todays_space_are_left_out_and_counted_once(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = open_run(folder, bench={"visits": 1})
    bench(run)
    with Store(run.folder.store_file) as store:
        subnets = [Subnet.from_json(row.subnet) for row in run.models.measurements(store)]
    space = run.models.supernet.space
    smaller = space.restrict(ffn_size=space.ffn_size[len(space.ffn_size) // 2 :])
    kept = [subnet for subnet in subnets if subnet in smaller]
    run.close()
    assert "today's space" not in capsys.readouterr().err

    again = open_run(folder, bench={"subnets": 14, "visits": 1})
    again.models.supernet = replace(again.models.supernet, space=smaller)  # type: ignore[misc]
    count = bench(again)["measurements"]
    assert 14 <= count <= 14 + len(kept)
    assert fit_predictor(again)["measurements"] == count
    said = f"{len(subnets) - len(kept)} timed subnets are not in today's space and are left out"
    assert len(subnets) > len(kept)
    assert capsys.readouterr().err.count(said) == 1
    again.close()


def test_the_host_of_a_latency_file_is_no_target(folder: Path, tmp_path: Path) -> None:
    run = open_run(folder)
    write_latency_file(tmp_path / "phone.lat", [(run.models.supernet.space.largest.to_json(), 3.0)])
    import_latencies(run.folder.store_file, tmp_path / "phone.lat", "int8")
    run.close()
    run = open_run(folder, target={"host": "stored:phone.lat"})
    with pytest.raises(
        ConfigurationError, match=r"timings of no host with ONNX Runtime; .* `ortnas fit --latencies FILE`"
    ):
        _ = run.models.target
    run.close()


@pytest.mark.slow
def test_what_comes_next_is_said_with_the_options_that_were_given(folder: Path, tmp_path: Path) -> None:
    options = ["--folder", folder / "run", "--host", "simulated"]
    following = next_after(
        "bench", folder / "run.yaml", *options, "--threads", "2", "--subnets", "11", "--set", "bench.visits=1"
    )
    expected_options = ["--folder", str(folder / "run"), "--host", "simulated", "--set", "target.threads=2"]
    assert following == ["fit", str(folder / "run.yaml"), *expected_options, "--set", "bench.visits=1"]
    # Without threads there would be no timings to fit to.
    assert next_after(*following)[0] == "search"
    write_latency_file(tmp_path / "a phone.lat", [(Subnet(64, (Layer(0, 2, 16, 128),)).to_json(), 3.0)])
    following = next_after("bench", folder / "run.yaml", "--import", tmp_path / "a phone.lat", "--precision", "fp32")
    assert following == ["fit", "--latencies", str(tmp_path / "a phone.lat"), "--precision", "fp32"]


@pytest.mark.slow
def test_an_active_run_ends_at_its_goal_and_says_so(folder: Path) -> None:
    run = open_run(folder, bench={"until_error": "60%", "subnets": 40})
    assert "error of 60.0% is reached" in bench(run)["ending"]
    run.close()
    run = open_run(folder, bench={"until_error": 1e-6, "subnets": 50})
    result = bench(run)
    assert "did not reach the error" in result["ending"]
    assert result["measurements"] >= 50
    run.close()
    run = open_run(folder, bench={"minutes": 1e-6})
    assert "minutes are over" in bench(run)["ending"]
    run.close()


def test_a_bundle_is_timed_elsewhere_and_its_results_come_home(folder: Path, tmp_path: Path) -> None:
    run = open_run(folder, target={"host": "local"}, bench={"subnets": 10, "visits": 1})
    path = tmp_path / "out.zip"
    assert bundle(run, path)["subnets"] == 10
    with zipfile.ZipFile(path) as archive:
        suffixes = Counter(Path(name).suffix for name in archive.namelist() if name.startswith("models/"))
    assert suffixes[".difference"] >= 9  # all but the full network
    results = tmp_path / "results.jsonl"
    subprocess.run([sys.executable, path, "--out", results], check=True, capture_output=True, cwd=tmp_path)
    imported = import_results(run, results)
    assert (imported["imported"], imported["missing"], imported["complete"]) == (10, [], True)
    assert import_results(run, results)["known"] == 10
    run.close()
    stored = ["--host", f"stored:{imported['host']}"]
    following = next_after("bench", folder / "run.yaml", "--import", results)
    assert following == ["fit", str(folder / "run.yaml"), *stored]
    assert next_after(*following) == ["search", str(folder / "run.yaml"), *stored, "--candidates", "20"]

    there = open_run(folder, target={"host": f"stored:{imported['host']}"}, bench={"subnets": 10, "visits": 1})
    quality = fit_predictor(there)
    assert quality["measurements"] + quality["outliers"] == 10
    with pytest.raises(SearchError, match="no finalist measured there; `ortnas search --candidates N` lists"):
        search(there)
    assert not there.folder.scores_file.exists()
    with pytest.raises(HostError, match="known from imported timings only"):
        there.target.host.measure(
            {}, Request(b"", there.models.target.setup, there.models.target.workloads, there.target.protocol)
        )
    there.close()

    lines = results.read_text().splitlines()
    entry = json.loads(lines[3])
    entry["samples"] = {"model_ns": [[1]], "anchor_ns": [[1]]}
    results.write_text("\n".join([*lines[:3], json.dumps(entry), *lines[4:]]))
    run = open_run(folder, target={"host": "local"})
    with pytest.raises(ResultsError, match="line 4"):
        import_results(run, results)
    run.close()


def test_more_threads_than_the_host_has_processors_are_warned_of(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for threads, warned in ((8, False), (9, True)):
        run = open_run(trained, target={"threads": threads})
        assert run.models.target.setup.threads == threads
        run.close()
        said = " ".join(capsys.readouterr().err.split())
        assert (f"target.threads = {threads}: the host has 8 processors" in said) is warned
