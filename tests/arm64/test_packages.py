"""Packages of every head on Arm: what they answer, and what ``verify.pyz`` says of them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ortnas.bench.session import Setup
from ortnas.export.build import Exporter
from ortnas.export.inference import model_outputs
from ortnas.export.metrics import METRICS
from ortnas.export.package.archive import ARCHIVE_FILE
from ortnas.export.package.package import PackageContent, write_package
from ortnas.nas.architecture.heads import HEADS
from ortnas.nas.text import load_tokenizer
from tests.export.packages import CASES, change_record, make_content, write_exported
from tests.networks import HOST_RECIPE

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(HOST_RECIPE.reduce_range, reason="this processor's own sums of 8-bit products are not exact"),
]
TEXTS = ["he was in it, with them.", "it was not.", "they have one from this to that and are as they be at it"]
# One in the last of the four digits that probabilities are rounded to; vectors have six.
TOLERANCE = 1.01e-4


@pytest.fixture(scope="module", params=CASES)
def package(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, sentences: list[str]) -> Path:
    """With a budget that an emulated machine keeps."""
    head = request.param
    folder = write_exported(tmp_path_factory.mktemp(head), CASES[head], head, sentences)
    change_record(folder, budget_ms=60_000.0)
    return folder


def head_of(package: Path) -> str:
    head: str = json.loads((package / "ortnas.json").read_text())["head"]
    return head


def answers_of(python: str, package: Path) -> list[Any]:
    texts = TEXTS[:2] if HEADS[head_of(package)].reads_pairs and not HEADS[head_of(package)].ranks else TEXTS
    done = subprocess.run([python, package / "predict.py", *texts], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def leaves(answer: Any) -> Iterator[Any]:
    """Names, numbers and texts in their order."""
    if isinstance(answer, dict):
        for name, value in answer.items():
            yield name
            yield from leaves(value)
    elif isinstance(answer, list):
        for value in answer:
            yield from leaves(value)
    else:
        yield answer


@pytest.fixture(scope="module")
def answers_here(package: Path) -> list[Any]:
    return list(leaves(answers_of(sys.executable, package)))


def test_it_answers_as_it_does_here(arm_python: str, package: Path, answers_here: list[Any]) -> None:
    """Names, words and orders are the same, numbers within what rounding to their digits may turn over."""
    here, there = answers_here, list(leaves(answers_of(arm_python, package)))
    assert here
    assert there == [pytest.approx(value, abs=TOLERANCE) if isinstance(value, float) else value for value in here]


def verified(python: str, package: Path, *options: str) -> list[dict[str, str]]:
    done = subprocess.run(
        [python, ARCHIVE_FILE, "--json", *options], cwd=package, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    checks: list[dict[str, str]] = json.loads(done.stdout)
    return checks


def test_it_is_verified_with_the_same_result(arm_pythons: dict[str, str], package: Path) -> None:
    here, there = (verified(python, package) for python in (sys.executable, arm_pythons["neoverse-v1"]))
    assert [check["name"] for check in there] == [check["name"] for check in here]
    same = ("format", "files", "checksums", "load", "integer kernels", "tokenizer", "score")
    picked = [[check for check in checks if check["name"] in same] for checks in (here, there)]
    assert picked[0] == picked[1]
    (host,) = [check for check in there if check["name"] == "host"]
    assert host["state"] == "warn"
    assert "machine: 'x86_64', here 'aarch64'" in host["detail"]


def enlarged(content: PackageContent) -> PackageContent:
    """With a network whose products are large enough for ONNX Runtime to compute them in bfloat16."""
    supernet, sample, subnet = content.supernet, content.sample, content.supernet.space.largest
    part = sample.part(load_tokenizer(supernet.path), content.max_length, supernet.labels)
    exporter = Exporter(supernet, content.facts.recipe, [feeds for _, feeds in part.encoded.batches(16)])
    model = exporter.build(subnet, "int8")
    score = METRICS[sample.metric](model_outputs(model, part.encoded, "classification"), part)
    facts = replace(content.facts, latency=replace(content.facts.latency, model_digest=None))
    return replace(content, model=model, subnet=subnet, sample=replace(sample, score=score), facts=facts)


def test_a_package_is_run_in_bfloat16_where_it_was_timed_so(
    arm_pythons: dict[str, str], tmp_path: Path, sentences: list[str]
) -> None:
    content = enlarged(make_content(tmp_path, "bert", "classification", sentences))
    packages = []
    for setup in (Setup(), Setup(fastmath_bfloat16=True)):
        target = replace(content.facts.target, setup=setup)
        packages.append(tmp_path / setup.describe())
        write_package(packages[-1], replace(content, facts=replace(content.facts, target=target, budget_ms=60_000.0)))
    plain, fast = packages
    # Without the instructions, both are the same.
    assert answers_of(arm_pythons["neoverse-n1"], fast) == answers_of(arm_pythons["neoverse-n1"], plain)
    there = [list(leaves(answers_of(arm_pythons["neoverse-v1"], package))) for package in packages]
    assert there[0] != there[1]
    numbers = [[value for value in answer if isinstance(value, float)] for answer in there]
    assert numbers[1] == pytest.approx(numbers[0], abs=0.05)
    loads = {name: {check["name"]: check for check in verified(arm_pythons[name], fast)} for name in arm_pythons}
    assert "bfloat16" in loads["neoverse-v1"]["load"]["detail"]
    assert "bfloat16" not in loads["neoverse-n1"]["load"]["detail"]
    assert "fastmath_bfloat16: True, here None" in loads["neoverse-n1"]["host"]["detail"]
