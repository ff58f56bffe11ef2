from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xgboost

from ortnas.bench.session import Setup
from ortnas.nas.run.configuration import ConfigurationError, check_configuration, read_configuration
from ortnas.search.budget import Budget

MINIMAL: dict[str, Any] = {"checkpoint": "x", "head": "embedding", "data": {"source": "texts.txt"}}


def test_defaults_fill_a_minimal_document() -> None:
    configuration = check_configuration(MINIMAL, "run.yaml")
    assert configuration.precision == "int8"
    assert configuration.search.budgets == (Budget.parse("2x"),)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"chekpoint": "y"}, r"unknown key 'chekpoint'; did you mean 'checkpoint'\?"),
        ({"training": {"step": 3}}, r"unknown key 'training.step'; did you mean 'steps'\?"),
        ({"data": {"source": "x", "zzzz": 3}}, "unknown key 'data.zzzz'; known keys are source"),
        ({"training": {"steps": "many"}}, "training.steps = 'many': input should be a valid integer"),
        ({"head": "ranking"}, "head = 'ranking': input should be 'embedding', 'classification', 'multi-label'"),
        (
            {"search": {"budgets": ["fast"]}},
            "'fast' is no budget; write ms as 6.5, a speed-up as 2x or requests a second as 400/s",
        ),
        ({"search": {"budgets": ["0x"]}}, "is no budget"),
        ({"search": {"budgets": []}}, "at least one budget"),
        (
            {"head": "span", "search": {"score_by": "likelihood"}},
            "score_by 'likelihood' is for head 'embedding', 'classification', 'multi-label', 'reranking', 'sparse', "
            "'masked-lm', not 'span'",
        ),
        ({"space": {"preset": "tiny"}}, "allowed are default, autotinybert-kd"),
        ({"data": {}}, "the key 'data.source' is missing"),
        ({"data": {"source": []}}, "the list has 0 sources"),
        ({"data": {"source": ["a", {"source": "a", "weight": 2}]}}, "'a' is named twice; name it once"),
        (
            {"data": {"source": ["a", {"source": "b", "weight": 0}]}},
            "data.source.1.weight = 0: input should be greater",
        ),
        ({"data": {"source": ["a", {"source": "b", "weight": -1}]}}, "data.source.1.weight = -1: input should be"),
        ({"data": {"source": ["a", {"source": "b", "weight": "x"}]}}, "data.source.1.weight = 'x': .* a valid number"),
        (
            {"data": {"source": ["a", {"source": "b", "wieght": 1}]}},
            "key 'data.source.1.wieght'; did you mean 'weight'",
        ),
        ({"data": {"source": ["a", {"weight": 1}]}}, "the key 'data.source.1.source' is missing"),
        ({"data": {"source": ["a", " "]}}, "empty text"),
        (
            {"data": {"source": [{"source": "a", "text": "t"}, "b"]}},
            "the first source's columns are named by data.text",
        ),
        ({"data": {"source": ["a", {"source": "b", "pair": "p"}]}}, "'b': pair names the second column of a pair"),
        ({"data": {"source": 5}}, "data.source = 5: input should be a valid string"),
        ({"head": "reranking", "data": {"source": ["a", "b"]}}, "head 'reranking' has queries, .* name one source"),
        (
            {"head": "regression", "data": {"source": ["a", "b"]}, "training": {"losses": {"labels": 1}}},
            "the loss 'labels' alone learns nothing from further sources",
        ),
        ({"head": "masked-lm", "data": {"source": ["a", "b"]}}, "head 'masked-lm' reads one corpus; name one source"),
    ],
)
def test_wrong_keys_get_a_sentence(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        check_configuration(MINIMAL | change, "run.yaml")


def test_several_sources_have_weights_and_read_back() -> None:
    sources = ["a.txt", {"source": "b.tsv", "weight": 2, "text": "review"}]
    configuration = check_configuration(MINIMAL | {"data": {"source": sources}}, "run.yaml")
    assert [(source.source, source.weight) for source in configuration.data.sources] == [("a.txt", 1), ("b.tsv", 2)]
    assert check_configuration(configuration.model_dump(mode="json"), "resolved.yaml") == configuration
    (only,) = check_configuration(MINIMAL, "run.yaml").data.sources
    assert (only.source, only.weight) == ("texts.txt", 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 2**70}, "seed = 1180591620717411303424: input should be less than 4294967296"),
        ({"seed": -1}, "seed = -1: input should be greater than or equal to 0"),
        ({"seed": True}, "seed = True: true and false"),
        ({"training": {"losses": {"tokens": -1}}}, "training.losses.tokens = -1: input should be greater than"),
        ({"training": {"losses": {"tokens": math.nan}}}, "training.losses.tokens = nan: input should be a finite"),
        ({"training": {"losses": {"tokns": 1}}}, "training.losses: no loss is called tokns"),
        ({"training": {"learning_rate": math.inf}}, "training.learning_rate = inf: input should be a finite"),
        ({"training": {"learning_rate": "nan"}}, "training.learning_rate = 'nan': input should be a finite"),
        ({"bench": {"until_error": "nan%"}}, "bench.until_error = nan: input should be a finite"),
        ({"bench": {"minutes": math.inf}}, "bench.minutes = inf: input should be a finite"),
        ({"search": {"tolerance": math.nan}}, "search.tolerance = nan: input should be a finite"),
        ({"search": {"budgets": ["nan"]}}, "'nan' is no budget"),
        ({"search": {"budgets": [math.inf]}}, "'inf' is no budget"),
        ({"search": {"budgets": ["9" * 400]}}, "is no budget"),
        ({"search": {"budgets": ["\u0663x"]}}, "is no budget"),
        ({"search": {"budgets": ["2x", "2x"]}}, "the same budget twice"),
        ({"search": {"targets": [{"predictor": "x", "budget": 1}]}}, "unknown key 'search.targets.0.budget'; did you"),
        ({"target": {"threads": 100_000}}, "target.threads = 100000: input should be less than or equal to 1024"),
        ({"target": {"affinity": [0, -1]}}, "target.affinity.1 = -1"),
        ({"target": {"affinity": [10**9]}}, "target.affinity.0 = 1000000000: input should be less than 4096"),
        ({"target": {"affinity": [3, 3]}}, "names a processor twice"),
        ({"target": {"batch": 65_536, "sequence": 512}}, "target: batch 65536 x sequence 512 is more than 4194304"),
        ({"target": {"workloads": [{"batch": 10**9}]}}, "target.workloads.0.batch = 1000000000"),
        (
            {"export": {"shapes": [1, 64]}},
            "export.shapes: the model takes requests of 1 x 64 tokens alone, and the target's are 1 x 128; set "
            "target.batch: 1 and target.sequence: 64",
        ),
        (
            {"export": {"shapes": [1, 128]}, "target": {"workloads": [{"sequence": 128}, {"sequence": 32}]}},
            "and the target's are 1 x 128, 1 x 32; set target.batch: 1",
        ),
        ({"export": {"shapes": [128]}}, "export.shapes"),
        ({"export": {"shapes": [0, 128]}}, "export.shapes.0 = 0: input should be greater than"),
        ({"export": {"shapes": [1, 2, 3]}}, "export.shapes"),
        ({"export": {"mask": "none"}}, "export.mask = 'none': input should be a valid boolean"),
        ({"export": {"masks": False}}, "unknown key 'export.masks'; did you mean 'mask'"),
        (
            {"export": {"mask": False}, "target": {"batch": 8}},
            "export.mask: false: a batch of 8 texts that differ in length is padded, which needs a mask; set",
        ),
        (
            {"export": {"mask": False, "shapes": [1, 128]}},
            "texts of less than 128 tokens are padded to export.shapes, and that needs a mask; where no text is",
        ),
        (
            {"export": {"mask": False}, "head": "late-interaction"},
            "export.mask: false: head 'late-interaction' fills queries up with tokens that a mask leaves out",
        ),
        ({"target": {"workloads": [{"bach": 1}]}}, "unknown key 'target.workloads.0.bach'; did you mean 'batch'"),
        ({"target": {"lengths": [0]}}, "target.lengths.0 = 0"),
        ({"target": {"ssh": "ssh 'a"}}, "is no command as a shell would take it"),
        ({"checkpoint": "package:../x"}, "checkpoint = 'package:../x': write package:NAME/FOLDER"),
        ({"checkpoint": "package:a/../../b"}, "the folder has to be inside the package"),
        ({"checkpoint": "package:a//b"}, "the folder has to be inside the package"),
        ({"checkpoint": ""}, "checkpoint = '': empty text"),
        ({"compare": ["package:a/../../b"]}, "the folder has to be inside the package"),
        ({"compare": ["a", "a"]}, "the same checkpoint twice"),
        ({"compare": [""]}, "compare = ['']: empty text"),
        ({"folder": ""}, "folder = '': empty text"),
        ({"folder": "a\0b"}, r"folder = 'a\x00b': holds a character that is no text"),
        ({"folder": "a\udc00b"}, r"folder = 'a\udc00b': holds a character that is no text"),
        ({"data": {"source": " "}}, "data.source = ' ': empty text"),
        ({"data": {"source": "x", "label": ""}}, "data.label = '': empty text"),
        ({"data": {"source": "x", "text": 5}}, "data.text = 5: input should be a valid string; put it in quotes"),
        ({"data": {"source": "x", "task": False}}, "data.task = False: true and false (in YAML also yes, no, on"),
        ({"quantization": {"keep_float": [""]}}, "quantization.keep_float = ['']: empty text"),
        ({"space": {"depth": []}}, "space.depth = []: 0 entries"),
        ({"space": {"depth": 3}}, "space.depth = 3: input should be a list"),
        ({"training": None}, "training: the section is empty"),
        ({5: 1}, "5 = 5: keys should be strings"),
    ],
)
def test_values_that_nothing_could_use_get_a_sentence(change: dict[Any, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        check_configuration(MINIMAL | change, "run.yaml")


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 2**32 - 1},
        {"target": {"threads": 1024, "spinning": False, "lengths": [8, 16], "provider_options": {"a": "b"}}},
        {"training": {"compile": True, "losses": {"tokens": 0, "embedding": 1}}},
        {"data": {"source": "x", "lower": True}},
        {"checkpoint": "package:a_package.models/the/folder"},
        {"checkpoint": "package:a_package"},
        {"compare": "package:a_package/model"},
        {"compare": ["a", "b/a"], "rivals": True},
    ],
)
def test_values_at_the_limits_are_taken(change: dict[str, Any]) -> None:
    check_configuration(MINIMAL | change, "run.yaml")


@pytest.mark.parametrize(
    "change",
    [
        {"folder": ["x" * 50_000]},
        {"x" * 50_000: 1},
        {"data": {"source": "x", "task": "y" * 50_000}},
        {"search": {"budgets": ["z\n" * 50_000]}},
        {"training": {"losses": {"x\n" * 50_000: 1.0}}},
        {"training": {f"key{number}": 1 for number in range(500)}},
        {"head": list(range(50_000))},
    ],
)
def test_a_sentence_stays_one_line_whatever_was_written(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_configuration(MINIMAL | change, "run.yaml")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_the_largest_seed_serves_every_generator() -> None:
    seed = check_configuration(MINIMAL | {"seed": 2**32 - 1}, "run.yaml").seed
    np.random.seed(seed)
    np.random.default_rng([seed, 1])
    torch.Generator().manual_seed(seed)
    data = xgboost.DMatrix(np.zeros((2, 1)), label=np.zeros(2))
    xgboost.train({"seed": seed, "subsample": 0.5}, data, num_boost_round=1)


def test_overrides_reach_nested_keys(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("checkpoint: x\nhead: embedding\ndata: {source: a}\n")
    configuration = read_configuration(path, {"training.steps": 7, "data.source": "b", "search.budgets": ["3x", 5]})
    assert (configuration.training.steps, configuration.data.source) == (7, "b")
    assert [budget.name for budget in configuration.search.budgets] == ["3x", "5"]
    with pytest.raises(ConfigurationError, match="checkpoint is a value"):
        read_configuration(path, {"checkpoint.name": 1})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("- a list", "expected keys"),
        ("a: [", "line"),
        ("!!python/object:os.system {}", "not used here"),
        ("a: 1\na: 2", "run.yaml: line 2"),
    ],
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


def test_openvino_as_a_runtime_has_no_settings_of_onnxruntime() -> None:
    document = {"checkpoint": "x", "head": "embedding", "data": {"source": "x"}}
    asked = {
        "runtime": "openvino",
        "threads": 2,
        "affinity": [1],
        "provider_options": {"INFERENCE_PRECISION_HINT": "f32"},
    }
    target = check_configuration(document | {"target": asked}, "run.yaml").target
    assert target.setup == Setup.for_openvino(2, {"INFERENCE_PRECISION_HINT": "f32"}, (1,))
    assert check_configuration(document, "run.yaml").target.setup == Setup()
    for change, message in (
        ({"runtime": "tensorflow"}, "target.runtime = 'tensorflow'"),
        ({"provider": "cuda"}, "provider 'CUDAExecutionProvider' is ONNX Runtime's"),
        ({"spinning": False}, "spinning is ONNX Runtime's"),
        ({"fastmath_bfloat16": True}, "fastmath_bfloat16 is ONNX Runtime's setting; with runtime openvino"),
        (
            {"provider_options": {"session.intra_op.allow_spinning": "0"}},
            "session.intra_op.allow_spinning: of OpenVINO's",
        ),
    ):
        with pytest.raises(ConfigurationError, match=re.escape(message)):
            check_configuration(document | {"target": {"runtime": "openvino", **change}}, "run.yaml")


def test_fast_math_is_the_processors_own_provider_s() -> None:
    document = {"checkpoint": "x", "head": "embedding", "data": {"source": "x"}}
    target = check_configuration(document | {"target": {"fastmath_bfloat16": True}}, "run.yaml").target
    assert target.setup == Setup(fastmath_bfloat16=True)
    for change, message in (
        ({"provider": "cuda"}, "fastmath_bfloat16 is a setting of CPUExecutionProvider, not of CUDAExecutionProvider"),
        ({"fastmath_bfloat16": "bf16"}, "target.fastmath_bfloat16 = 'bf16'"),
    ):
        with pytest.raises(ConfigurationError, match=re.escape(message)):
            check_configuration(document | {"target": {"fastmath_bfloat16": True, **change}}, "run.yaml")


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
