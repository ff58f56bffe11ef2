"""A run that is killed again and again ends as one that is left alone does, timings included."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.e2e.forked import run_until_killed

pytestmark = pytest.mark.slow


def write_run(folder: Path, bert: Path, corpus: Path) -> Path:
    folder.mkdir()
    document = {
        "checkpoint": str(bert),
        "head": "embedding",
        "folder": str(folder / "run"),
        "data": {
            "source": str(corpus),
            "max_length": 16,
            "calibration_size": 16,
            "search_size": 32,
            "report_size": 32,
        },
        "training": {"steps": 25, "batch_size": 8, "importance_texts": 16, "checkpoint_every": 5, "probe_every": 10},
        "refinement": {"steps": 20, "batch_size": 8, "learning_rate": 0.001},
        "target": {"sequence": 16, "host": "simulated"},
        "bench": {"subnets": 14, "cap_s": 0.01},
        "search": {"budgets": ["1.05x"], "candidates": 8, "population": 4, "finalists": 2},
    }
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def finish(configuration: Path) -> None:
    """In a process of its own: all that are forked from one have its order of sets."""
    command = [sys.executable, "-m", "ortnas", "run", str(configuration)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, bert_folder: Path, sentences: list[str]) -> tuple[Path, Path]:
    """Run folders: left alone, and killed in every stage."""
    home = tmp_path_factory.mktemp("resumed")
    (home / "corpus.txt").write_text("\n".join(sentences))
    alone, killed = (write_run(home / name, bert_folder, home / "corpus.txt") for name in ("alone", "killed"))
    finish(alone)
    run_until_killed(killed, "ortnas.nas.training.log", "TrainingLog.__call__", 13)
    run_until_killed(killed, "ortnas.nas.training.log", "TrainingLog.__call__", 10)
    run_until_killed(killed, "ortnas.bench.store", "Store.add", 2)
    run_until_killed(killed, "ortnas.bench.store", "Store.add", 1)
    run_until_killed(killed, "ortnas.nas.stages.bench", "_conclude", 1)
    run_until_killed(killed, "ortnas.nas.stages.fit", "save_predictor", 1)
    run_until_killed(killed, "ortnas.search.cache", "ScoreCache.put", 5)
    # Between measuring and what is made of it.
    run_until_killed(killed, "ortnas.nas.stages.finalists", "time_finally", 1)
    # In the first finalist's training, after the second's, and in the last one's.
    run_until_killed(killed, "ortnas.nas.training.log", "TrainingLog.__call__", 2)
    run_until_killed(killed, "ortnas.nas.stages.refine", "train_alone", 2)
    run_until_killed(killed, "ortnas.nas.training.log", "TrainingLog.__call__", 12)
    run_until_killed(killed, "ortnas.nas.stages.comparison", "time_finally", 1)
    run_until_killed(killed, "ortnas.nas.stages.packaging", "write_package", 1, "before")
    finish(killed)
    return alone.parent / "run", killed.parent / "run"


def test_the_same_winner_was_measured_the_same(folders: tuple[Path, Path]) -> None:
    alone, killed = (json.loads((folder / "search" / "int8-1.05x" / "search.json").read_text()) for folder in folders)
    assert killed["winner"] == alone["winner"]
    assert killed["finalists"] == alone["finalists"]
    assert killed["candidates"] == alone["candidates"]


def test_the_same_winner_was_trained_alone(folders: tuple[Path, Path]) -> None:
    file = Path("search", "int8-1.05x", "refinement.json")
    alone, killed = (json.loads((folder / file).read_text()) for folder in folders)
    assert alone["after"] >= alone["before"]
    for document in (alone, killed):
        for rung in document["rungs"]:
            rung.pop("seconds")
    assert killed == alone


def test_the_same_package_was_made(folders: tuple[Path, Path]) -> None:
    alone, killed = (folder / "packages" / "int8-1.05x" for folder in folders)
    assert (killed / "model.onnx").read_bytes() == (alone / "model.onnx").read_bytes()
    records = [json.loads((folder / "ortnas.json").read_text()) for folder in (alone, killed)]
    for part in ("latency", "report", "intervals", "drift"):
        assert records[1][part] == records[0][part]
    rows = [json.loads((folder / "packages" / "comparison-int8.json").read_text())["rows"] for folder in folders]
    assert rows[1] == rows[0]


def test_the_curve_was_written_once(folders: tuple[Path, Path]) -> None:
    alone, killed = ((folder / "curves" / "supernet.jsonl").read_text() for folder in folders)
    assert killed == alone
    assert [json.loads(line)["step"] for line in alone.splitlines() if "score" in line] == [10, 20, 25]
