from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ortnas.bench.session import Setup
from ortnas.bench.simulated import cost_ms
from ortnas.bench.timing import Workload
from ortnas.nas.architecture.presets import preset
from ortnas.nas.console import Console
from ortnas.nas.run.configuration import ConfigurationError
from ortnas.nas.stages.fit import fit_latency_file
from ortnas.predictors.fitting import load_predictor
from ortnas.predictors.latency_files import LatencyFileError, write_latency_file
from tests.networks import make_dimensions

NOISE = 0.028
SPACE = preset(
    "bigger-and-faster", make_dimensions(hidden_size=768, num_layers=12, num_heads=12, head_size=64, ffn_size=3072)
)


@pytest.fixture(scope="module")
def latencies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    subnets = [SPACE.decode(genome) for genome in np.unique(SPACE.sample(500, rng), axis=0)]
    costs = np.array([cost_ms(subnet.to_json(), Workload(), Setup()) for subnet in subnets])
    noisy = costs * np.exp(NOISE * rng.standard_normal(len(costs)))
    path = tmp_path_factory.mktemp("latencies") / "ptq.txt"
    write_latency_file(path, zip([subnet.to_json() for subnet in subnets], noisy.tolist(), strict=True))
    return path


def fitted(file: Path, out: Path | None = None, rows: int | None = 100) -> dict:
    return fit_latency_file(file, out, rows, "int8", Setup(), Workload(), 0, Console())


@pytest.mark.slow
def test_a_hundred_rows_of_a_file_predict_the_rest(latencies: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary = fitted(latencies)
    lines = latencies.read_text().splitlines()
    assert summary["rows"] == 100
    assert summary["rest"]["measurements"] == len(lines) - 100 > 300
    # Half of what is left is noise of the rows themselves.
    assert summary["rest"]["mean_error"] < 1.3 * NOISE * np.sqrt(2 / np.pi)
    assert 0.9 <= summary["rest"]["coverage"] <= 1
    assert f"On the {len(lines) - 100} rows that it was not fitted to" in capsys.readouterr().out


@pytest.mark.slow
def test_the_predictor_of_a_file_can_be_loaded_and_asked(latencies: Path, tmp_path: Path) -> None:
    summary = fitted(latencies, tmp_path / "predictor", None)
    assert "rest" not in summary
    predictor = load_predictor(Path(summary["predictor"]))
    predicted_ms, upper_ms = predictor.predict(predictor.space.sample(50, np.random.default_rng(1)))
    assert (predicted_ms < upper_ms).all()
    assert predictor.target.fingerprint["imported"] == "ptq.txt"
    assert json.loads(json.dumps(summary)) == summary


def test_bad_requests_get_a_sentence(latencies: Path, tmp_path: Path) -> None:
    with pytest.raises(LatencyFileError, match=r"rows = 9; 10 to \d+ can be fitted to"):
        fitted(latencies, rows=9)
    with pytest.raises(LatencyFileError, match="has no more"):
        fitted(latencies, rows=10_000)
    with pytest.raises(ConfigurationError, match="a file with that name exists"):
        fitted(latencies, latencies)
    with pytest.raises(ConfigurationError, match="precision = 'int4'"):
        fit_latency_file(latencies, None, None, "int4", Setup(), Workload(), 0, Console())
    with pytest.raises(LatencyFileError, match="cannot be read"):
        fitted(tmp_path / "missing.txt")
