"""Every stage of the command line on the real BERT-tiny, killed on the way and finished."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import yaml

from ortnas.export.weights import memory_map
from tests.e2e.commands import answer, invoke, refusal

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("e2e")


@pytest.fixture(scope="module")
def configuration(folder: Path, bert_tiny: Path) -> Path:
    document = {
        "checkpoint": str(bert_tiny),
        "head": "embedding",
        "folder": str(folder / "run"),
        "data": {
            "source": "python-docstrings",
            "max_length": 32,
            "calibration_size": 16,
            "search_size": 48,
            "report_size": 48,
        },
        "space": {"hidden_size": [64, 96, 128], "ffn_size": [128, 256, 384, 512]},
        "training": {"steps": 12, "batch_size": 16, "importance_texts": 32, "checkpoint_every": 4},
        "refinement": {"steps": 10},
        "target": {"sequence": 64},
        "bench": {"subnets": 14, "cap_s": 0.05},
        "search": {"budgets": ["1.5x"], "candidates": 10, "population": 5, "finalists": 2},
    }
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def start(*arguments: str | Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "ortnas", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def kill_when(condition: Callable[[], bool], *arguments: str | Path) -> None:
    process = start(*arguments)
    deadline = time.monotonic() + 120
    while not condition() and process.poll() is None:
        assert time.monotonic() < deadline, "the stage never came so far"
        time.sleep(0.02)
    assert process.poll() is None, "the stage ended before it could be killed"
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()


def rows(store: Path) -> int:
    if not store.exists():
        return 0
    try:
        with sqlite3.connect(f"file:{store}?mode=ro", uri=True) as connection:
            return int(connection.execute("SELECT count(*) FROM measurement").fetchone()[0])
    except sqlite3.OperationalError:
        return 0


def test_the_loop_survives_kills_and_ends_with_a_package(folder: Path, configuration: Path) -> None:
    run = folder / "run"
    kill_when(lambda: any(run.glob("training/supernet-*.safetensors")), "train", configuration)
    trained = answer("train", configuration)
    assert trained["steps"] == 12
    weights = (run / "supernet" / "model.safetensors").read_bytes()

    kill_when(lambda: rows(run / "bench.sqlite") >= 3, "bench", configuration)
    kept = rows(run / "bench.sqlite")
    measured = answer("bench", configuration)
    assert measured["failed"] == 0
    assert rows(run / "bench.sqlite") == 2 * measured["measurements"] >= 28
    assert kept >= 3

    fitted = answer("fit", configuration)
    assert 0 < fitted["mean_error"] < 1
    (predictor,) = (run / "predictor").iterdir()
    assert {path.name for path in predictor.iterdir()} == {"model.ubj", "predictor.json"}

    scores = run / "search" / "scores.jsonl"
    kill_when(lambda: scores.exists() and len(scores.read_text().splitlines()) >= 3, "search", configuration)
    before = scores.read_text().splitlines()
    searched = answer("search", configuration)["1.5x"]
    assert searched["winner"]["measured_ms"] <= searched["budget_ms"]
    assert all(candidate["upper_ms"] <= searched["budget_ms"] for candidate in searched["candidates"])
    genomes = [tuple(candidate["genome"]) for candidate in searched["candidates"]]
    assert len(set(genomes)) == len(genomes) == 10
    after = scores.read_text().splitlines()
    assert after[: len(before)] == before
    # All are scored as cut from the quantized full network; as they would be shipped the best again, which are at most
    # eight within the bound that timings correct, and the evenly shrunk one.
    keys = [(entry["context"], entry["subnet_key"]) for entry in map(json.loads, after)]
    assert len(set(keys)) == len(keys), "a subnet was scored twice"
    as_cut = sum(context == keys[0][0] for context, _ in keys)
    assert (as_cut, 1 <= len(keys) - as_cut <= 9) == (10, True)

    refined = answer("refine", configuration)["1.5x"]
    assert refined["after"] is None or refined["weights"] is None or refined["after"] >= refined["before"]
    exported = answer("export", configuration)
    assert [row["name"] for row in exported["rows"]] == ["full model, FP32", "full model, INT8", "winner 1.5x, INT8"]
    assert exported["rows"][0]["scores"]["mean_cosine"] == pytest.approx(1, abs=1e-4)
    assert exported["rows"][1]["scores"]["mean_cosine"] > 0.99
    (package,) = map(Path, exported["packages"])
    checks = answer("verify", package)
    assert {check["name"]: check["state"] for check in checks}["score"] == "pass"

    # The whole run again finds everything done and changes nothing.
    stamps = {path: path.stat().st_mtime_ns for path in package.iterdir()}
    process = start("run", configuration, "--json")
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    assert json.loads(output)["export"]["rows"] == exported["rows"]
    assert (run / "supernet" / "model.safetensors").read_bytes() == weights
    assert {path: path.stat().st_mtime_ns for path in package.iterdir()} == stamps
    assert rows(run / "bench.sqlite") == 2 * measured["measurements"]


def test_killed_training_ends_with_the_weights_of_an_uninterrupted_one(folder: Path, configuration: Path) -> None:
    other = folder / "uninterrupted"
    answer("train", configuration, "--folder", other)
    expected = memory_map(other / "supernet" / "model.safetensors")
    for name, tensor in memory_map(folder / "run" / "supernet" / "model.safetensors").items():
        np.testing.assert_array_equal(tensor, expected[name], err_msg=name)


def test_the_package_runs_with_onnxruntime_alone(folder: Path) -> None:
    package = folder / "run" / "packages" / "int8-1.5x"
    session = onnxruntime.InferenceSession(str(package / "model.onnx"))
    assert [item.name for item in session.get_inputs()] == ["input_ids", "attention_mask", "token_type_ids"]
    command = [sys.executable, str(package / "predict.py"), "Return the name of the file."]
    output = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)["output"]
    assert len(output) == 128
    assert np.linalg.norm(output) == pytest.approx(1, abs=1e-4)


def test_an_impossible_budget_ends_with_the_fastest_possible(folder: Path, configuration: Path) -> None:
    errors = refusal("search", configuration, "--budget", "0.0001")
    assert "no subnet meets the budget of 0.0001 ms: the fastest has an upper bound of" in errors
    assert len(errors.strip().splitlines()) == 1


def test_other_splits_than_the_trained_ones_are_refused(folder: Path, configuration: Path) -> None:
    """Another seed would score texts that the supernet was trained on; another length, other teacher outputs."""
    for change in ("seed=9", "data.max_length=16"):
        errors = refusal("search", configuration, "--set", change)
        assert errors == "error: data or seed changed since the supernet was trained; run `ortnas train`\n"


def test_a_budget_that_every_subnet_meets_says_so(folder: Path, configuration: Path) -> None:
    done = invoke("search", configuration, "--budget", "500", "--set", "search.candidates=6")
    assert done.exit_code == 0, done.stderr
    assert "every subnet meets the budget of 500.00 ms" in done.stdout


def test_an_impossible_budget_beside_a_possible_one_loses_nothing(folder: Path, configuration: Path) -> None:
    budgets = ("--budget", "1.5x", "--budget", "0.0001")
    assert "budget 0.0001: no subnet meets" in refusal("run", configuration, *budgets)
    assert (folder / "run" / "packages" / "int8-1.5x" / "model.onnx").is_file()


def test_timings_can_be_listed_exported_and_joined_by_others(folder: Path, configuration: Path) -> None:
    (local,) = answer("bench", configuration, "--list")["datasets"]
    assert (local["host"], local["precision"], local["subnets"]) == ("local", "int8", 14)
    table = folder / "timings.csv"
    assert answer("bench", configuration, "--export", table)["rows"] == len(table.read_text().splitlines()) - 1 == 28
    latencies = folder / "seed's latencies é.txt"
    sizes = "'sample_layer_num': 1, 'sample_hidden_size': 144, 'sample_intermediate_sizes': [128]"
    heads = "'sample_num_attention_heads': [12], 'sample_qkv_sizes': [144]"
    latencies.write_text(f"{{{sizes}, {heads}}}\t3.25\n", encoding="utf-8")
    assert answer("bench", configuration, "--import", latencies)["imported"] == 1
    assert len(answer("bench", configuration, "--list")["datasets"]) == 2
    error = refusal("bench", configuration, "--import", folder / "nothing")
    assert error.strip() == f"error: {folder / 'nothing'}: no such file or directory"


def test_the_doctor_examines_the_run_and_its_host(folder: Path, configuration: Path) -> None:
    examined = answer("doctor", configuration)
    assert examined["noise_floor"]["median"] >= 0
    assert {finding["name"] for finding in examined["findings"]} >= {"processors", "quota", "stolen time"}
    assert answer("doctor", folder / "run")["fingerprint"] == examined["fingerprint"]
    done = invoke("doctor", "--host", "simulated", "--threads", "999")
    assert done.exit_code == 1, done.stderr
    assert "999 threads" in done.stdout


def test_fp32_is_searched_the_same_way(folder: Path, configuration: Path) -> None:
    few = ("--set", "bench.subnets=10", "--set", "search.candidates=4")
    done = answer("run", configuration, "--precision", "fp32", *few)
    assert done["search"]["1.5x"]["winner"]["measured_ms"] <= done["search"]["1.5x"]["budget_ms"]
    (package,) = map(Path, done["export"]["packages"])
    record = json.loads((package / "ortnas.json").read_text())
    assert (package.name, record["precision"], record["coverage"]["threshold"]) == ("fp32-1.5x", "fp32", None)
    assert record["coverage"]["integer_share"] == 0
    states = {check["name"]: check["state"] for check in answer("verify", package)}
    assert (states["load"], states["score"]) == ("pass", "pass")
    # Each precision has a predictor of its own, and the other one's searches go on from theirs.
    assert {path.name.split("-")[0] for path in (folder / "run" / "predictor").iterdir()} == {"int8", "fp32"}
    assert answer("search", configuration)["1.5x"]["winner"]["meets_budget"]
