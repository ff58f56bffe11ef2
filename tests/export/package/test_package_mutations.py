"""Packages as they arrive: what is wrong is a failed check or one sentence, never a traceback."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from ortnas.export.package.record import PackageError
from ortnas.export.package.verify import verify
from ortnas.nas.text import TokenizerError
from tests.export.packages import change_record, copy_of, write_exported
from tests.mutations import assert_sentence, damaged, mutated, seeds

pytestmark = pytest.mark.slow

FILES = ("ortnas.json", "sample.json", "config.json", "tokenizer.json", "tokenizer_config.json", "model.onnx")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Latency is not what is looked at here."""
    monkeypatch.setattr("ortnas.export.package.verify._MOMENTS", 2)
    monkeypatch.setattr("ortnas.export.package.verify._PAUSE_S", 0.0)


# What mutations once brought to light: a session of a million threads never began, a fact filled the screen.
@pytest.mark.parametrize(
    ("part", "changes"),
    [
        ("setup", {"threads": 1_000_001}),
        ("fingerprint", {"onnxruntime": "x" * 5000}),
        ("fingerprint", {"y" * 5000: "x" * 5000}),
        ("workloads", [{"batch": 1_000_001, "sequence": 16}]),
        ("workloads", [{"batch": 1, "sequence": 1000}]),
        ("workloads", []),
        ("setup", {"threads": "1"}),
    ],
)
def test_a_record_of_an_impossible_target_is_said_to_be_one(
    classifier_package: Path, tmp_path: Path, part: str, changes: Any
) -> None:
    package = copy_of(classifier_package, tmp_path)
    target = json.loads((package / "ortnas.json").read_text())["target"]
    change_record(package, target=target | {part: target[part] | changes if isinstance(changes, dict) else changes})
    try:
        checks = verify(package)
    except PackageError as error:
        assert_sentence(error)
        return
    for check in checks:
        assert_sentence(check.detail)
    assert {check.state for check in checks} & {"warn", "fail"}


@pytest.mark.parametrize("head", ["classification", "span"])
def test_mutated_packages_fail_a_check_or_are_refused_in_one_sentence(
    tmp_path: Path, sentences: list[str], head: str
) -> None:
    original = write_exported(tmp_path, "bert", head, sentences)
    package = copy_of(original, tmp_path)
    for seed in seeds()[:: 1 if head == "span" else 4]:
        rng = random.Random(seed)
        name = rng.choice(FILES)
        content = (original / name).read_bytes()
        is_json = name.endswith(".json")
        (package / name).write_bytes(mutated(json.loads(content), rng) if is_json else damaged(content, rng))
        # Without checksums, what lies in the folder is used as it is.
        if name not in ("ortnas.json", "model.onnx") and rng.random() < 0.7:
            change_record(package, checksums={})
        try:
            for check in verify(package):
                assert_sentence(check.detail)
        except (PackageError, TokenizerError) as error:
            assert_sentence(error)
        for restored in (name, "ortnas.json"):
            (package / restored).write_bytes((original / restored).read_bytes())
