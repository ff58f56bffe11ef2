"""The INT8 model under OpenVINO's provider, in an interpreter that has it: ``make test-openvino``."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from ortnas.export.build import Exporter
from ortnas.export.inference import drift, load, run
from ortnas.export.int8.recipes import recipe_named
from ortnas.export.weights import SupernetFolder
from tests.networks import make_dimensions, make_space, random_feeds, random_tensors

PYTHON = os.environ.get("ORTNAS_OPENVINO_PYTHON", "")
ROOT = Path(__file__).parents[2]
SCRIPT = """
import json, sys
import numpy as np
from bench.session import Setup, make_session
from bench.timing import TimingProtocol, Workload, time_interleaved
folder = sys.argv[1]
setup = Setup("OpenVINOExecutionProvider", 1, (("device_type", "CPU"), ("num_of_threads", "1")))
session = make_session(open(f"{folder}/model.onnx", "rb").read(), setup)
feeds = {item.name: np.load(f"{folder}/{item.name}.npy") for item in session.get_inputs()}
np.save(f"{folder}/output.npy", session.run(None, feeds)[0])
samples = time_interleaved({"model": session}, "model", [Workload(1, 16, 120)], TimingProtocol.fixed(6))["model"]
print(json.dumps([session.get_providers(), samples.model_ns[0]]))
"""


@pytest.mark.skipif(not PYTHON, reason="ORTNAS_OPENVINO_PYTHON names no interpreter with onnxruntime-openvino")
@pytest.mark.parametrize("head", ["embedding", "classification", "token-classification"])
@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_openvino_computes_what_the_cpu_provider_computes(tmp_path: Path, head: str, precision: str) -> None:
    dimensions = make_dimensions(head)
    folder = SupernetFolder(tmp_path, dimensions, make_space(), random_tensors(dimensions), (), {}, "")
    calibration = [random_feeds(dimensions, batch=8, sequence=20, seed=seed) for seed in range(4)]
    exporter = Exporter(folder, recipe_named("avx512_vnni"), calibration)
    model = exporter.build(make_space().largest, precision)  # type: ignore[arg-type]
    feeds = random_feeds(dimensions, batch=4, sequence=20, seed=9)
    (tmp_path / "model.onnx").write_bytes(model)
    for name, values in feeds.items():
        np.save(tmp_path / f"{name}.npy", values)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [PYTHON, "-c", SCRIPT, str(tmp_path)]
    answer = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert answer.returncode == 0, answer.stderr
    providers, samples = json.loads(answer.stdout)
    assert providers[0] == "OpenVINOExecutionProvider"
    assert len(samples) == 6
    assert min(samples) > 0
    computed, expected = np.load(tmp_path / "output.npy"), run(load(model), feeds)
    if head == "token-classification":
        shown = feeds["attention_mask"] == 1
        computed, expected = computed[shown], expected[shown]
    assert drift(computed, expected).cosine > 0.99
