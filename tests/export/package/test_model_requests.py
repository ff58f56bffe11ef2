"""Packages whose models take requests of one shape alone, or no mask: predict.py, verify, card and load."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ortnas.bench.session import Setup
from ortnas.bench.target import Target
from ortnas.bench.timing import Workload
from ortnas.export.graph.inputs import ModelInputs
from ortnas.export.package.card import model_card
from ortnas.export.package.throughput import drive
from ortnas.export.package.verify import verify
from ortnas.nas.architecture.heads import HEADS
from tests.export.package.test_card import FACTS
from tests.export.package.test_package import load_predict, watch
from tests.export.packages import CASES, MAX_LENGTH, write_exported
from tests.networks import make_dimensions, make_space

FIXED, UNMASKED = ModelInputs((2, MAX_LENGTH)), ModelInputs(mask=False)
BOTH = ModelInputs((1, 6), mask=False)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ortnas.export.package.verify._PAUSE_S", 0.0)


def pair_of(folder: Path, head: str, sentences: list[str], inputs: ModelInputs) -> tuple[Path, Path]:
    """The package for any request, and that for some."""
    paths = []
    for name, own in (("usual", ModelInputs()), ("other", inputs)):
        (folder / name).mkdir()
        paths.append(write_exported(folder / name, CASES[head], head, sentences, own))
    return paths[0], paths[1]


def leaves(description: Any) -> Iterator[Any]:
    """The texts and numbers of a description, in order."""
    if isinstance(description, dict):
        description = list(description.items())
    if not isinstance(description, list | tuple):
        yield description
        return
    for part in description:
        yield from leaves(part)


@pytest.mark.slow
@pytest.mark.parametrize("head", CASES)
@pytest.mark.parametrize("inputs", [FIXED, UNMASKED], ids=["fixed", "unmasked"])
def test_predict_answers_as_the_package_for_any_request(
    tmp_path: Path, head: str, inputs: ModelInputs, sentences: list[str]
) -> None:
    if HEADS[head].makes_token_vectors and not inputs.mask:
        pytest.skip("queries of late interaction need a mask, and the configuration says so")
    usual, other = pair_of(tmp_path, head, sentences, inputs)
    expected, model = (load_predict(folder).Model(folder) for folder in (usual, other))
    asked = watch(model)
    texts: list[Any] = [*sentences[:4], sentences[4][:5]]
    if HEADS[head].reads_pairs:
        texts = list(itertools.pairwise(texts))
    outputs = np.stack([model(texts), expected(texts)])
    if HEADS[head].is_token_level:
        lengths = np.array([len(encoding.ids) for encoding in model.tokenizer.encode_batch(texts)])
        outputs = outputs[:, np.arange(outputs.shape[2]) < lengths[:, None]]
    np.testing.assert_allclose(outputs[0], outputs[1], atol=1e-4)
    shapes = {feeds["input_ids"].shape for feeds in asked}
    if inputs.shapes is not None:
        assert shapes == {inputs.shapes}
        assert len(asked) == -(-len(texts) // 2)
    else:
        assert all("attention_mask" not in feeds for feeds in asked)
        assert len({length for _, length in shapes}) == len(asked) > 1
    for text in texts:
        ours, theirs = (list(leaves(item.describe(text))) for item in (model, expected))
        assert ours == pytest.approx(theirs, abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("inputs", [FIXED, UNMASKED], ids=["fixed", "unmasked"])
@pytest.mark.parametrize("head", ["classification", "span"])
def test_verify_and_load_ask_what_the_model_takes(
    tmp_path: Path, head: str, inputs: ModelInputs, sentences: list[str]
) -> None:
    package = write_exported(tmp_path, CASES[head], head, sentences, inputs)
    assert {check.state for check in verify(package)} <= {"pass", "warn"}
    (row,) = drive(package, (2,), seconds=0.2)
    assert row.requests > 2


@pytest.mark.slow
def test_late_interaction_fills_queries_up_within_a_fixed_shape(tmp_path: Path, sentences: list[str]) -> None:
    usual, other = pair_of(tmp_path, "late-interaction", sentences, FIXED)
    expected, model = (load_predict(folder).Model(folder) for folder in (usual, other))
    for settings in (item.record["provenance"].setdefault("late_interaction", {}) for item in (expected, model)):
        settings |= {"query_length": 12, "do_query_expansion": True}
    ours, theirs = (item.vectors("he was", is_query=True) for item in (model, expected))
    assert ours[0] == theirs[0]
    np.testing.assert_allclose(ours[1], theirs[1], atol=1e-5)
    ranked = [list(leaves(item.maxsim(*sentences[:4]))) for item in (model, expected)]
    assert ranked[0] == pytest.approx(ranked[1], abs=1e-3)


@pytest.mark.slow
def test_a_text_that_does_not_fit_gets_a_sentence(tmp_path: Path, sentences: list[str]) -> None:
    usual = write_exported(tmp_path, "bert", "classification", sentences, ModelInputs((1, MAX_LENGTH)))
    record = json.loads((usual / "ortnas.json").read_text())
    record["target"]["workloads"][0]["mask"] = False
    (usual / "ortnas.json").write_text(json.dumps(record))
    command = [sys.executable, str(usual / "predict.py"), "he was"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr.strip() == "this package takes texts of exactly 20 tokens, and one has 4"


def card_of(inputs: ModelInputs) -> str:
    shape = inputs.shapes or (1, 16)
    workload = Workload(*shape, fixed=inputs.shapes is not None, mask=inputs.mask)
    host = {"cpu": "a processor", "onnxruntime": "1.0"}
    facts = replace(FACTS, target=Target(host, Setup(), (workload,)))
    dimensions = make_dimensions()
    return model_card("card", dimensions, make_space().smallest, (), 16, facts, ("'a'", [2, 5, 3]))


def test_cards_tell_what_the_model_takes() -> None:
    usual, fixed, unmasked, both = map(card_of, (ModelInputs(), FIXED, UNMASKED, BOTH))
    assert "int64 [batch, sequence]" in usual
    assert "tokens alone" not in usual
    assert "no padding" not in usual
    assert "int64 [2, 20]" in fixed
    assert "at most 16 a text, padded behind its end" in fixed
    assert "float32 [2, 32]" in fixed
    assert "takes requests of 2 × 20 tokens alone. `predict.py` fills them up" in fixed
    assert "attention_mask" not in unmasked
    assert "texts of a request have to be equally long" in unmasked
    assert "requests of 1 × 6 tokens alone, and is told of no padding: texts of other lengths are refused" in both
