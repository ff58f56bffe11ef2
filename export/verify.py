"""Checking a package on the host where it lies: is it whole, does it run, is it as fast and as good as it says."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import onnxruntime

from bench.estimates import reference_of
from bench.fingerprint import fingerprint
from bench.store import Target
from bench.timing import Protocol, Setup, Workload, make_session, time_interleaved
from export.audit import CoverageError, audit, check_coverage
from export.build import model_outputs
from export.heads import FLOAT_PRODUCTS
from export.inspection import InspectionError
from export.metrics import METRICS, Part
from export.package import Sample, checksum, read_record, read_sample
from nas.text import EncodedExamples, Example, encode, load_tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer

State = Literal["pass", "warn", "fail"]
# Integer kernels of other instruction sets round differently; a broken model is off by far more.
SCORE_TOLERANCE = 0.02
# A shared host has slow seconds: latency is taken at several moments.
_MOMENTS, _PAUSE_S = 6, 1.0
_UNBUDGETED = 1.1
_PROTOCOL = Protocol.fixed(40)


@dataclass(frozen=True)
class Check:
    name: str
    state: State
    detail: str


def verify(folder: Path) -> list[Check]:
    """All checks in order. Raises PackageError where the folder is no package."""
    record = read_record(folder)
    checks = [_checksums(folder, record)]
    # A changed file is not loaded: nothing else about it can be trusted.
    if checks[0].state != "fail":
        checks += _running(folder, record)
    return checks


def _checksums(folder: Path, record: dict[str, Any]) -> Check:
    wrong = [
        f"{name} is missing" if not (folder / name).is_file() else f"{name} was changed"
        for name, expected in record["checksums"].items()
        if not (folder / name).is_file() or checksum(folder / name) != expected
    ]
    if wrong:
        return Check("checksums", "fail", ", ".join(wrong))
    return Check("checksums", "pass", f"{len(record['checksums'])} files are as exported")


def _latency(
    session: onnxruntime.InferenceSession, workloads: tuple[Workload, ...], budget_ms: float, same_host: bool
) -> Check:
    """Passes by the median of all moments; a host that is fast enough at some moment, or another host, only warns."""
    medians_ms = []
    for moment in range(_MOMENTS):
        if moment:
            time.sleep(_PAUSE_S)
        samples = time_interleaved({"model": session}, "model", workloads, _PROTOCOL)["model"]
        medians_ms.append(reference_of([samples], workloads).latency_ms)
    latency_ms, best_ms, worst_ms = float(np.median(medians_ms)), min(medians_ms), max(medians_ms)
    within: State = "pass" if latency_ms <= budget_ms else "warn" if best_ms <= budget_ms or not same_host else "fail"
    detail = f"{latency_ms:.2f} ms ({best_ms:.2f} to {worst_ms:.2f}) against a budget of {budget_ms:.2f} ms"
    return Check("latency", within, detail)


def _coverage(model: bytes, record: dict[str, Any], workload: Workload, setup: Setup) -> Check:
    """Another ONNX Runtime may run in floats what the one that the package was made with ran in integers."""
    try:
        found = audit(model, workload, setup)
        check_coverage(found, record["coverage"]["threshold"], (*record["recipe"]["keep_float"], *FLOAT_PRODUCTS))
    except (CoverageError, InspectionError) as error:
        return Check("integer kernels", "fail", str(error))
    share = found.weight_integer_share
    return Check("integer kernels", "pass", f"{share:.1%} of the weight products' multiply-adds")


def _running(folder: Path, record: dict[str, Any]) -> Iterator[Check]:
    recorded = Target.from_json(record["target"])
    setup, workloads = recorded.setup, recorded.workloads
    model = (folder / "model.onnx").read_bytes()
    try:
        session = make_session(model, setup)
    except Exception as error:  # ONNX Runtime's own exception types share no public base
        yield Check("load", "fail", f"ONNX Runtime {onnxruntime.__version__} refuses the model: {error}")
        return
    yield Check("load", "pass", f"ONNX Runtime {onnxruntime.__version__}, {setup.provider}")

    if record["coverage"]["threshold"] is not None:
        yield _coverage(model, record, workloads[0], setup)
    target = Target(fingerprint(), setup, workloads)
    differences = target.differences(record["target"])
    same_host = not differences
    yield (
        Check("host", "pass", "the host that the package was measured on, or one like it")
        if same_host
        else Check("host", "warn", "measured elsewhere; " + "; ".join(differences))
    )
    # A package that was made for no budget is held to what it took where it was made.
    budget_ms = record["budget_ms"] or record["latency"]["measured_ms"] * _UNBUDGETED
    yield _latency(session, workloads, budget_ms, same_host)

    sample = read_sample(folder)
    part = sample_part(sample, load_tokenizer(folder), record)
    score = METRICS[sample.metric](model_outputs(model, part.encoded, record["head"]), part)
    detail = f"{sample.metric} {score:.4f} on {len(part.encoded)} bundled inputs, {sample.score:.4f} when exported"
    yield Check("score", "pass" if abs(score - sample.score) <= SCORE_TOLERANCE else "fail", detail)


def sample_part(sample: Sample, tokenizer: Tokenizer, record: dict[str, Any]) -> Part:
    """The bundled sample as inputs of the model."""
    examples = [Example.from_json(document) for document in sample.examples]
    if examples:
        encoded = encode(tokenizer, examples, record["max_length"])
    else:
        ids, labels = ([entry[column] for entry in sample.tokens] for column in (0, 1))
        encoded = EncodedExamples(ids, [[0] * len(row) for row in ids], labels)
    teacher = None if sample.teacher is None else np.asarray(sample.teacher, np.float32)
    return Part(encoded, examples, tuple(record["labels"]), teacher)
