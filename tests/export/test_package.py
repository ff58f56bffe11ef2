from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from bench.fingerprint import fingerprint
from bench.store import Target
from bench.timing import Setup, Workload
from export.build import Exporter, model_outputs
from export.metrics import METRICS
from export.package import PackageContent, PackageError, Sample, read_record, write_package
from export.recipes import recipe_named
from export.verify import verify
from export.weights import read_supernet
from nas.checkpoint import read_checkpoint
from nas.supernet import Supernet, save_supernet
from nas.text import Example, encode, load_tokenizer
from tests.networks import make_space

LABELS = ("<b>no</b>", "yes & no", "yes")


@pytest.fixture(scope="module", params=["embedding", "classification"])
def exported(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, bert_folder: Path, sentences: list[str]
) -> Path:
    """A package of a random network, written by the same calls as the export stage."""
    head = request.param
    labels = LABELS if head == "classification" else ()
    folder = tmp_path_factory.mktemp("ordner mit ä")
    checkpoint = read_checkpoint(str(bert_folder), head, labels)
    space = make_space(num_layers=2, depth=(1, 2))
    network = Supernet(checkpoint.tensors, checkpoint.dimensions)
    save_supernet(folder / "supernet", network, space, labels, checkpoint.tokenizer, {"checkpoint": "random"})
    supernet = read_supernet(folder / "supernet")
    examples = [Example(text) for text in sentences[:32]]
    encoded = encode(load_tokenizer(folder / "supernet"), examples, 20)
    exporter = Exporter(supernet, recipe_named("avx512_vnni"), [feeds for _, feeds in encoded.batches(16)])
    model = exporter.build(space.smallest, "int8")
    outputs = model_outputs(model, encoded)
    metric = "mean_cosine" if head == "embedding" else "accuracy"
    reference: Any = outputs if head == "embedding" else np.arange(32) % 3
    score = METRICS[metric](outputs, reference)
    target = Target(fingerprint(), Setup(), Workload(1, 16, checkpoint.dimensions.vocab_size))
    record = {
        "precision": "int8",
        "checkpoint": "random",
        "recipe": exporter.recipe.to_json(),
        "budget_ms": 1000.0,
        "latency": {"measured_ms": 1.0, "spread_ms": 0.1, "predicted_ms": 1.1},
        "report": {metric: score},
        "report_size": 32,
        "target": target.to_json(),
    }
    sample = Sample(metric, [item.text for item in examples], [None] * 32, reference.tolist(), score)
    write_package(folder / "package", PackageContent("name", model, supernet, space.smallest, 20, sample, record))
    return folder / "package"


def states(folder: Path) -> dict[str, str]:
    return {check.name: check.state for check in verify(folder)}


def copy_of(package: Path, folder: Path) -> Path:
    target = folder / "copy"
    target.mkdir()
    for path in package.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    return target


def change_record(folder: Path, **changes: Any) -> None:
    path = folder / "ortnas.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_whole_package_passes(exported: Path) -> None:
    assert states(exported) == dict.fromkeys(("checksums", "load", "host", "latency", "score"), "pass")


def test_a_bare_session_loads_the_model(exported: Path) -> None:
    session = onnxruntime.InferenceSession(str(exported / "model.onnx"))
    feeds = {item.name: np.ones((2, 5), np.int64) for item in session.get_inputs()}
    assert session.run(None, feeds)[0].shape[0] == 2


def test_predict_runs_alone_and_gives_the_same_outputs(exported: Path, sentences: list[str]) -> None:
    """In an interpreter that can import neither the project nor torch."""
    script = (
        "import sys, json; sys.path.insert(0, sys.argv[1]); import predict\n"
        "print(json.dumps(predict.Model()(sys.argv[2:]).tolist()))\n"
        "assert not {'torch', 'transformers', 'onnx', 'nas', 'export'} & set(sys.modules)"
    )
    texts = sentences[:5]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, "-c", script, str(exported), *texts]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, cwd=exported)
    encoded = encode(load_tokenizer(exported), [Example(text) for text in texts], 20)
    expected = model_outputs((exported / "model.onnx").read_bytes(), encoded, batch_size=5)
    np.testing.assert_allclose(json.loads(answer.stdout), expected, atol=1e-5)


def test_predict_prints_labels_or_embeddings(exported: Path) -> None:
    command = [sys.executable, str(exported / "predict.py"), "he was in it"]
    answer = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    output = answer["output"]
    if read_record(exported)["labels"]:
        assert set(output) == set(LABELS)
        assert sum(output.values()) == pytest.approx(1, abs=1e-3)
    else:
        assert np.linalg.norm(output) == pytest.approx(1, abs=1e-3)
    assert subprocess.run(command[:2], capture_output=True, check=False).returncode != 0


def test_model_card_states_checkpoint_latency_and_score(exported: Path) -> None:
    card = (exported / "README.md").read_text()
    for fact in ("random", "1.00 ± 0.10 ms", "input_ids", "int64", "predict.py"):
        assert fact in card


def test_a_changed_byte_and_a_missing_file_fail(exported: Path, tmp_path: Path) -> None:
    package = copy_of(exported, tmp_path)
    model = bytearray((package / "model.onnx").read_bytes())
    model[len(model) // 2] ^= 1
    (package / "model.onnx").write_bytes(model)
    (package / "tokenizer.json").unlink()
    (check,) = verify(package)
    assert check.state == "fail"
    assert "model.onnx was changed" in check.detail
    assert "tokenizer.json is missing" in check.detail


def test_too_slow_fails_here_and_warns_elsewhere(exported: Path, tmp_path: Path) -> None:
    package = copy_of(exported, tmp_path)
    change_record(package, budget_ms=1e-6)
    assert states(package)["latency"] == "fail"
    target = read_record(package)["target"]
    change_record(package, target=target | {"fingerprint": target["fingerprint"] | {"cpu": "another"}})
    assert (states(package)["host"], states(package)["latency"]) == ("warn", "warn")


def test_a_model_that_answers_differently_fails(exported: Path, tmp_path: Path) -> None:
    package = copy_of(exported, tmp_path)
    sample = json.loads((package / "sample.json").read_text())
    sample["score"] += 0.5
    (package / "sample.json").write_text(json.dumps(sample))
    record = read_record(package)
    checksums = {name: value for name, value in record["checksums"].items() if name != "sample.json"}
    change_record(package, checksums=checksums)
    assert states(package)["score"] == "fail"


def test_a_model_that_is_no_model_fails_to_load(exported: Path, tmp_path: Path) -> None:
    package = copy_of(exported, tmp_path)
    (package / "model.onnx").write_bytes(b"not a model")
    change_record(package, checksums={})
    assert states(package) == {"checksums": "pass", "load": "fail"}


def test_folders_that_are_no_package_get_a_sentence(exported: Path, tmp_path: Path) -> None:
    with pytest.raises(PackageError, match="not a package"):
        read_record(tmp_path)
    package = copy_of(exported, tmp_path)
    change_record(package, format=99)
    with pytest.raises(PackageError, match="newer than this release"):
        read_record(package)
    (package / "ortnas.json").write_text("{")
    with pytest.raises(PackageError, match="cannot be read"):
        read_record(package)
