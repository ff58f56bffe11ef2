"""The measured search on a real run of a network with one product that INT8 ruins."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import transformers
import yaml

from ortnas.nas.files import read_lines
from ortnas.nas.run.configuration import ConfigurationError
from ortnas.nas.run.run import Run
from ortnas.nas.stages.commands import sensitivity
from ortnas.nas.stages.variants import Variants, added_ms, error_ms
from tests.nas.stages.small_runs import open_run, train_run
from tests.networks import write_bert

pytestmark = pytest.mark.slow

SENSITIVE = "layers/1/ffn/out"


def write_sensitive_bert(folder: Path) -> None:
    """In the second layer one FFN neuron is always a thousand times as active as the others, and its weights are as
    much smaller: nothing to fp32, while the steps of an INT8 range that holds it are larger than all the others."""
    write_bert(folder)
    model = transformers.AutoModel.from_pretrained(folder)
    layer = model.encoder.layer[1]
    with torch.no_grad():
        layer.intermediate.dense.weight.mul_(8)
        layer.output.dense.weight.mul_(4)
        layer.intermediate.dense.bias[5] = 4000.0
        layer.output.dense.weight[:, 5] *= 1e-4
    model.save_pretrained(folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, sentences: list[str]) -> Path:
    folder = tmp_path_factory.mktemp("sensitive")
    write_sensitive_bert(folder / "bert")
    train_run(folder, sentences, {}, {"cap_s": 0.05}, search_size=64)
    return folder


@pytest.fixture
def run(folder: Path) -> Iterator[Run]:
    run = open_run(folder)
    yield run
    run.close()


def evaluations(run: Run) -> Path:
    return run.folder.path / "sensitivity" / "evaluations.jsonl"


@pytest.mark.slow
def test_the_search_finds_the_product_that_int8_ruins(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    result = sensitivity(run, None, tolerance=0.02, limit=3, budget=None)
    assert result["keep_float"] == [SENSITIVE]
    assert result["ending"] == "goal"
    assert next(iter(result["alone"])) == SENSITIVE
    assert set(result["alone"]) == set(result["multiply_adds"])
    assert sum(result["multiply_adds"].values()) == run.models.teacher.dimensions.full_subnet.multiply_adds * 16
    fp32, int8 = (result["baseline"][name]["score"] for name in ("fp32", "int8"))
    before, after = (step["evaluation"] for step in result["path"])
    assert (before["score"], fp32) == (int8, pytest.approx(1, abs=1e-6))
    assert int8 < 0.9 < 0.98 < after["score"]
    assert after["drift"] < before["drift"] / 20
    # On texts that nothing was chosen on, too.
    scores = [row["scores"]["similarity_spearman"] for row in result["rows"]]
    assert [row["name"] for row in result["rows"]] == [
        "full model, FP32",
        "full model, INT8",
        "full model, 1 in float",
    ]
    assert scores[1] < 0.9 < 0.98 < scores[2] <= scores[0]

    # What it prints is what run.yaml takes, and a search from there has nothing left to do.
    printed = capsys.readouterr().err
    lines = yaml.safe_load(printed[printed.index("quantization:") : printed.index("timing 3 models")])
    changed = {"quantization": lines["quantization"]}
    run.close()
    again = open_run(Path(run.configuration.folder).parent, **changed)
    result = sensitivity(again, None, tolerance=0.02, limit=3, budget=None)
    again.close()
    assert len(result["path"]) == 1
    assert result["keep_float"] == [SENSITIVE]
    assert SENSITIVE not in result["multiply_adds"]
    assert "within the tolerance of 0.02; nothing to leave in float" in capsys.readouterr().err


@pytest.mark.slow
def test_a_search_that_was_killed_goes_on_and_evaluates_only_what_is_missing(run: Run) -> None:
    first = sensitivity(run, None, tolerance=0.0, limit=2, budget=None)
    recorded = evaluations(run).read_bytes()
    assert sensitivity(run, None, tolerance=0.0, limit=2, budget=None)["path"] == first["path"]
    assert evaluations(run).read_bytes() == recorded
    # Killed while it wrote: three lines are gone and half of one is there.
    lines = recorded.splitlines(keepends=True)
    kept = b"".join(lines[:-4]) + lines[-4][:30]
    evaluations(run).write_bytes(kept)
    sensitivity(run, None, tolerance=0.0, limit=2, budget=None)
    entries = read_lines(evaluations(run))
    assert evaluations(run).read_bytes().startswith(kept)
    assert len(entries) == len(lines)
    assert entries[: len(lines) - 4] == [json.loads(line) for line in lines[:-4]]
    asked = [(entry["context"], tuple(entry["kept"])) for entry in entries if "kept" in entry]
    assert len(asked) == len(set(asked))


def test_variants_differ_from_the_exported_model_only_in_what_stays_float(run: Run) -> None:
    subnet = run.models.supernet.space.smallest
    variants = Variants(
        run.console,
        run.target.host,
        run.models.target,
        run.models.anchor,
        run.models.part("search", run.texts.metric),
        run.texts.metric,
        run.models.exporter,
        subnet,
        evaluations(run),
    )
    products = list(variants.multiply_adds())
    exported = run.models.exporter.build(subnet, "int8")
    assert variants.build(()) == exported
    kept = variants.build((products[0], products[-1]))
    weights = {item.name: item.data_type for item in onnx.load_from_string(kept).graph.initializer}
    for product in products:
        integer = product not in (products[0], products[-1])
        assert (f"{product}.weight_quantized" in weights) == integer
        assert (f"{product}.weight" in weights) != integer
    # One model after another comes from the same ranges.
    assert variants.build(()) == exported


@pytest.mark.slow
def test_a_subnet_of_the_supernet_is_searched_on_its_own(run: Run, folder: Path) -> None:
    space = run.models.supernet.space
    subnet = space.decode(space.repair(space.bounds[None] - 1 - np.eye(space.genes, dtype=np.int16)[:1])[0])
    (folder / "subnet.json").write_text(json.dumps(subnet.to_json()))
    # What the other products cost depends on the host's rounding.
    result = sensitivity(run, str(folder / "subnet.json"), tolerance=0.002, limit=1, budget=None)
    assert result["subnet_key"] == subnet.key != run.models.teacher.dimensions.full_subnet.key
    assert result["ending"] == "goal"
    assert len(result["keep_float"]) == 1
    assert result["baseline"]["full_ms"] > 0
    assert [row["name"] for row in result["rows"]][2:4] == [f"{subnet.key}, FP32", f"{subnet.key}, INT8"]
    assert json.loads((run.folder.path / "sensitivity" / f"{subnet.key}.json").read_text()) == json.loads(
        json.dumps(result)
    )


def test_nothing_is_added_that_exceeds_the_budget(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    result = sensitivity(run, None, tolerance=0.0, limit=3, budget="100x")
    assert (result["ending"], result["keep_float"]) == ("budget", [])
    assert "what would help exceeds the budget" in capsys.readouterr().err


def test_bad_input_is_refused_before_anything_is_measured(folder: Path, run: Run) -> None:
    recorded = evaluations(run).read_bytes() if evaluations(run).exists() else b""
    for budget in ("fast", "0x", "-1"):
        with pytest.raises(ConfigurationError, match="write ms as"):
            sensitivity(run, None, tolerance=0.0, limit=3, budget=budget)
    with pytest.raises(ConfigurationError, match="no searched or timed subnet"):
        sensitivity(run, "nothing", tolerance=0.0, limit=3, budget=None)
    run.close()
    float_run = open_run(folder, precision="fp32")
    with pytest.raises(ConfigurationError, match="only INT8 models"):
        sensitivity(float_run, None, tolerance=0.0, limit=3, budget=None)
    float_run.close()
    assert (evaluations(run).read_bytes() if evaluations(run).exists() else b"") == recorded


def test_added_time_is_seen_through_a_host_that_slows_down_and_comes_back() -> None:
    rng = np.random.default_rng(0)
    errors = []
    for _ in range(200):
        # Slow rounds slow all models; each median has a noise of its own.
        host = 1 + 0.3 * (rng.random(20) < 0.4)
        int8, other = 10 * host + 0.2 * rng.standard_normal(20), 11 * host + 0.2 * rng.standard_normal(20)
        errors.append(added_ms(other, int8, 10.0) - 1.0)
    assert abs(np.mean(errors)) < 0.05
    assert np.std(errors) < 0.15
    assert added_ms(2 * other, 2 * int8, 10.0) == pytest.approx(added_ms(other, int8, 10.0))


def test_the_error_of_added_time_is_that_of_two_noisy_medians() -> None:
    rng = np.random.default_rng(1)
    noise = rng.normal(10, 0.2, (2, 2000, 40))
    spread_ms = np.std([added_ms(other, int8, 10.0) for int8, other in zip(*noise, strict=True)])
    assert np.mean([error_ms(rounds) for rounds in noise[0]]) == pytest.approx(spread_ms, rel=0.15)
    assert error_ms(np.full(20, 10.0)) > 0


@pytest.mark.slow
def test_the_command_prints_one_json_object(folder: Path) -> None:
    command = [sys.executable, "-m", "ortnas", "sensitivity", str(folder / "run.yaml"), "--json"]
    done = subprocess.run(
        [*command, "--tolerance", "0.02", "--limit", "3"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["keep_float"] == [SENSITIVE]
    assert "keep_float: [layers/1/ffn/out]" in done.stderr
    assert "next:" not in done.stderr
    refused = subprocess.run([*command, "--budget", "soon"], capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert refused.stderr.strip() == (
        "error: --budget soon: write ms as 6.5, a speed-up over the full INT8 model as 2x, or requests a second as "
        "400/s"
    )
