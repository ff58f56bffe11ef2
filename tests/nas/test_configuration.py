from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from nas.configuration import ConfigurationError, check_configuration, read_configuration

MINIMAL: dict[str, Any] = {"checkpoint": "x", "head": "embedding", "data": {"source": "texts.txt"}}


def test_defaults_fill_a_minimal_document() -> None:
    configuration = check_configuration(MINIMAL, "run.yaml")
    assert configuration.precision == "int8"
    assert configuration.search.budgets == ("2x",)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"chekpoint": "y"}, r"unknown key 'chekpoint'; did you mean 'checkpoint'\?"),
        ({"training": {"step": 3}}, r"unknown key 'training.step'; did you mean 'steps'\?"),
        ({"data": {"source": "x", "zzzz": 3}}, "unknown key 'data.zzzz'; known keys are source"),
        ({"training": {"steps": "many"}}, "training.steps = 'many': input should be a valid integer"),
        ({"head": "ranking"}, "head = 'ranking': input should be 'embedding', 'classification', 'regression'"),
        ({"search": {"budgets": ["fast"]}}, "'fast' is no budget; write ms as 6.5 or a speed-up as 2x"),
        ({"search": {"budgets": ["0x"]}}, "is no budget"),
        ({"search": {"budgets": []}}, "at least one budget"),
        ({"search": {"score_by": "log_likelihood"}}, "score_by 'log_likelihood' is for head 'classification'"),
        ({"space": {"preset": "tiny"}}, "allowed are default, autotinybert-kd"),
        ({"data": {}}, "the key 'data.source' is missing"),
    ],
)
def test_wrong_keys_get_a_sentence(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        check_configuration(MINIMAL | change, "run.yaml")


def test_overrides_reach_nested_keys(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("checkpoint: x\nhead: embedding\ndata: {source: a}\n")
    configuration = read_configuration(path, {"training.steps": 7, "data.source": "b", "search.budgets": ["3x", 5]})
    assert (configuration.training.steps, configuration.data.source) == (7, "b")
    assert configuration.search.budgets == ("3x", "5")
    with pytest.raises(ConfigurationError, match="checkpoint is a value"):
        read_configuration(path, {"checkpoint.name": 1})


@pytest.mark.parametrize(
    ("content", "message"),
    [("- a list", "expected keys"), ("a: [", "line"), ("!!python/object:os.system {}", "constructor")],
)
def test_unreadable_files_get_a_sentence(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(content)
    with pytest.raises(ConfigurationError, match=message):
        read_configuration(path, {})
    with pytest.raises(ConfigurationError, match="no such file"):
        read_configuration(tmp_path / "none.yaml", {})


def test_providers_have_short_names() -> None:
    document = {"checkpoint": "x", "head": "embedding", "data": {"source": "x"}}
    for name, full in (("openvino", "OpenVINOExecutionProvider"), ("MyExecutionProvider", "MyExecutionProvider")):
        assert check_configuration(document | {"target": {"provider": name}}, "run.yaml").target.provider == full


def test_a_task_brings_its_head_and_contradictions_are_refused() -> None:
    document = {"checkpoint": "x", "data": {"source": "glue/STS-B", "task": "STS-B"}}
    configuration = check_configuration(document, "run.yaml")
    assert (configuration.head, configuration.data.task) == ("regression", "sts-b")
    for change, message in (
        ({"head": "span"}, "head 'span' does not fit task 'STS-B', whose head is 'regression'"),
        ({"data": {"source": "x"}}, "the key 'head' is missing; it is one of embedding, classification"),
        ({"data": {"source": "x", "task": "sts"}}, "data.task = 'sts'"),
        ({"quantization": {"calibration": "entropy"}, "refinement": {"quantization_aware": True}}, "minmax ranges"),
        ({"quantization": {"calibration": "best"}}, "quantization.calibration = 'best'"),
        ({"training": {"losses": {"tokens": 1}}}, "tokens does not fit head regression"),
        ({"training": {"teacher": "largest", "sampling": "uniform"}}, "needs the largest subnet in every step"),
        ({"training": {"accumulation": 64}}, "accumulation 64 exceeds batch_size 32"),
        ({"training": {"teacher": "largest", "losses": {"labels": 1}}}, "needs a distillation loss beside"),
    ):
        with pytest.raises(ConfigurationError, match=re.escape(message)):
            check_configuration(document | change, "run.yaml")
