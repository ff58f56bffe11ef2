"""Checking a package on the host where it lies: is it whole, does it run, is it as fast and as good as it says."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ortnas.bench import fastmath
from ortnas.bench.estimates import Timing, anchor_latency_of
from ortnas.bench.fingerprint import fingerprint
from ortnas.bench.openvino_runtime import RuntimeMissingError
from ortnas.bench.session import ONNXRUNTIME, OPENVINO, RUNTIMES, Setup, make_session
from ortnas.bench.target import Target
from ortnas.bench.timing import TimingProtocol, time_interleaved
from ortnas.export.graph.heads import FLOAT_PRODUCTS
from ortnas.export.inference import model_outputs
from ortnas.export.inspect.audit import CoverageError, audit, check_coverage
from ortnas.export.inspect.running import InspectionError
from ortnas.export.metrics import METRICS
from ortnas.export.package.record import (
    FORMAT,
    MODEL_FILE,
    RECORD_FILE,
    PackageError,
    PackageRecord,
    file_digest,
    read_record,
)
from ortnas.export.package.sample import Sample, read_sample, token_digest
from ortnas.nas.architecture.heads import HEADS
from ortnas.nas.text import TokenizerError, load_tokenizer
from ortnas.nas.wording import said, shortened

State = Literal["pass", "warn", "unknown", "fail"]
# What a package does to what was promised of it, by the worst state of its checks.
Verdict = Literal["keeps", "cannot tell", "breaks"]
# 2 is for wrong options.
EXIT_STATUS: dict[Verdict, int] = {"keeps": 0, "breaks": 1, "cannot tell": 3}
_VERDICTS: dict[State, Verdict] = {"pass": "keeps", "warn": "keeps", "unknown": "cannot tell", "fail": "breaks"}
# Integer kernels of other instruction sets round differently; a broken model is off by far more.
SCORE_TOLERANCE = 0.02
# A shared host has slow seconds: latency is taken at several moments.
_MOMENTS, _PAUSE_S = 6, 1.0
_UNBUDGETED = 1.1
# Above this, sessions differ by more than most subnets of one budget do.
_STEADY = 0.1
# No load that leaves sessions together at all makes them so many times slower.
_BEYOND_LOAD = 3
_PROTOCOL = TimingProtocol.fixed(40)


@dataclass(frozen=True)
class Check:
    """``unknown``: this machine, as it is now, cannot tell."""

    name: str
    state: State
    detail: str

    @property
    def verdict(self) -> Verdict:
        return _VERDICTS[self.state]

    def to_json(self) -> dict[str, str]:
        return {"name": self.name, "state": self.state, "verdict": self.verdict, "detail": self.detail}


def verdict_of(checks: Sequence[Check]) -> Verdict:
    """The worst of their verdicts: what a package breaks counts before what cannot be told."""
    states = {check.state for check in checks}
    return _VERDICTS["fail" if "fail" in states else "unknown" if "unknown" in states else "pass"]


def describe_outcome(checks: Sequence[Check]) -> str:
    """The verdict in words, and how many checks are in each state."""
    counts = {state: sum(check.state == state for check in checks) for state in ("pass", "warn", "unknown", "fail")}
    passed = "passed, with warnings" if counts["warn"] else "passed"
    outcome = {"keeps": passed, "cannot tell": "this machine cannot tell now", "breaks": "failed"}[verdict_of(checks)]
    return f"{outcome}: {', '.join(f'{count} {state}' for state, count in counts.items() if count)}"


def to_json(checks: Sequence[Check], load: Sequence[dict[str, Any]] | None = None) -> Any:
    """The checks as a list; where the package was driven, an object with the verdict and the load's rows."""
    documents = [check.to_json() for check in checks]
    return documents if load is None else {"verdict": verdict_of(checks), "checks": documents, "load": load}


def verify(folder: Path, runtime: str | None = None) -> list[Check]:
    """All checks in order, with the package's runtime or another. Raises PackageError where the folder is no package,
    or one of another format."""
    record = read_record(folder)
    checks = [
        Check("format", "pass", f"package format {FORMAT}, written by ortnas {shortened(record.release)}"),
        *_files(folder, record),
    ]
    # A changed file is not loaded: nothing else about it can be trusted.
    if all(check.state != "fail" for check in checks):
        checks += _running(folder, record, _setup(record, runtime))
    return checks


def _files(folder: Path, record: PackageRecord) -> Iterator[Check]:
    """Missing files fail; others than were exported only warn, since nothing reads them."""
    digests = record.file_digests
    missing = [name for name in digests if not (folder / name).is_file()]
    strangers = sorted(name for name in _visible_files(folder) if name not in digests and name != RECORD_FILE)
    changed = [name for name in digests if name not in missing and file_digest(folder / name) != digests[name]]
    if missing:
        yield Check("files", "fail", ", ".join(f"{name} is missing" for name in missing))
    elif strangers:
        yield Check("files", "warn", ", ".join(f"{name} was not exported" for name in strangers))
    else:
        yield Check("files", "pass", f"{len(digests) + 1} files, none missing, none added")
    if changed:
        yield Check("checksums", "fail", ", ".join(f"{name} was changed" for name in changed))
    elif _is_another_model(record):
        yield Check("checksums", "fail", f"{MODEL_FILE} is not the model that was timed")
    else:
        yield Check("checksums", "pass", f"{len(digests) - len(missing)} files are as exported")


def _is_another_model(record: PackageRecord) -> bool:
    """Models of embeddings are packaged with an output more than was timed, which costs nothing."""
    timed, packaged = record.latency.model_digest, record.file_digests.get(MODEL_FILE)
    return not HEADS[record.head].makes_embeddings and None not in (timed, packaged) and timed != packaged


def _visible_files(folder: Path) -> Iterator[str]:
    """Without hidden ones, as version control leaves them, and without what Python compiles."""
    for path in folder.rglob("*"):
        parts = path.relative_to(folder).parts
        if path.is_file() and not any(part.startswith(".") or part == "__pycache__" for part in parts):
            yield "/".join(parts)


def _latency(model: bytes, record: PackageRecord, setup: Setup, budget_ms: float, same_host: bool) -> Iterator[Check]:
    """The median of sessions at several moments, and how far two of them lie apart here: the noise floor.

    The fastest and the slowest of six sessions enclose the median of all 19 times in 20. On another host than the
    package was measured on, what exceeds the budget only warns.
    """
    sessions_ms = []
    for moment in range(_MOMENTS):
        if moment:
            time.sleep(_PAUSE_S)
        sessions_ms.append(_session_ms(model, record, setup))
    differences = [max(pair) / min(pair) - 1 for pair in combinations(sessions_ms, 2)]
    latency_ms, noise = float(np.median(sessions_ms)), float(np.percentile(differences, 95))
    detail = f"{latency_ms:.2f} ms ({min(sessions_ms):.2f} to {max(sessions_ms):.2f} in {_MOMENTS} sessions)"
    detail += f" against {budget_ms:.2f} ms"
    if max(sessions_ms) <= budget_ms:
        yield Check("latency", "pass", detail)
    elif not same_host:
        yield Check("latency", "pass" if latency_ms <= budget_ms else "warn", detail)
    elif doubt := _doubt(sessions_ms, budget_ms, noise):
        yield Check("latency", "unknown", f"{detail}: this machine cannot tell now, since {doubt}")
    else:
        yield Check("latency", "fail", detail)
    is_steady = noise <= _STEADY
    difference = f"two sessions differ by up to {noise:.1%} here"
    advice = "" if is_steady else "; something else runs, or the clock moves: `ortnas doctor` names what it sees"
    yield Check("noise floor", "pass" if is_steady else "warn", difference + advice)


def _doubt(sessions_ms: Sequence[float], budget_ms: float, noise: float) -> str:
    """Why sessions that are not all within the budget do not show that it is broken; empty where they do."""
    fastest_ms, latency_ms = min(sessions_ms), float(np.median(sessions_ms))
    if fastest_ms <= budget_ms:
        return "sessions lie on both sides of the budget"
    if latency_ms <= budget_ms * (1 + noise):
        return f"two sessions differ by more than what is too much ({noise:.1%})"
    if noise > _STEADY and fastest_ms <= _BEYOND_LOAD * budget_ms:
        return f"two sessions differ by up to {noise:.1%}: something else keeps it busy"
    return ""


def _session_ms(model: bytes, record: PackageRecord, setup: Setup) -> float:
    """Latency in a session of its own, median, or mean where a throughput was asked for: memory falls differently in
    every one."""
    workloads = record.target.workloads
    session = make_session(model, setup)
    samples = time_interleaved({"model": session}, "model", workloads, _PROTOCOL, setup.concurrency)["model"]
    timing = Timing((samples,), anchor_latency_of([samples], workloads))
    return timing.mean_ms if record.is_throughput else timing.latency_ms


def _coverage(model: bytes, record: PackageRecord, threshold: float) -> Check:
    """Another ONNX Runtime may run in floats what the one that the package was made with ran in integers."""
    target = record.target
    try:
        audited = audit(model, target.workloads[0], target.setup)
        check_coverage(audited, threshold, (*record.recipe.keep_float, *FLOAT_PRODUCTS))
    except (CoverageError, InspectionError) as error:
        return Check("integer kernels", "fail", str(error))
    share = audited.weight_integer_share
    return Check("integer kernels", "pass", f"{share:.1%} of the weight products' multiply-adds")


def _setup(record: PackageRecord, runtime: str | None) -> Setup:
    """As timed, or with another runtime: as many threads on the same processors, under as many requests at a time."""
    timed = record.target.setup
    if runtime in (None, timed.runtime):
        return timed
    if runtime == OPENVINO:
        return Setup.for_openvino(timed.threads, affinity=timed.affinity, concurrency=timed.concurrency)
    return Setup(threads=timed.threads, affinity=timed.affinity, concurrency=timed.concurrency)


def _running(folder: Path, record: PackageRecord, setup: Setup) -> Iterator[Check]:
    workloads = record.target.workloads
    try:
        facts = fingerprint(setup.runtime)
    except RuntimeMissingError as error:
        other = next(name for name in RUNTIMES if name != setup.runtime)
        yield Check(RUNTIMES[setup.runtime], "unknown", f"{error}; or check it with --runtime {other}")
        return
    if setup.fastmath_bfloat16 and fastmath.obstacle(facts):
        # The session would pass over what it cannot do, and its checks be about another one.
        setup = replace(setup, fastmath_bfloat16=False)
    here = Target(facts, setup, workloads)
    yield _runtime(here, record.target)
    model = (folder / MODEL_FILE).read_bytes()
    try:
        make_session(model, setup)
    except Exception as error:  # ONNX Runtime's own exception types share no public base
        version_here = here.fingerprint[setup.runtime]
        yield Check("load", "fail", f"{RUNTIMES[setup.runtime]} {version_here} refuses the model: {said(error)}")
        return
    yield Check("load", "pass", f"a session with {setup.provider} and {setup.describe()}")

    threshold = record.coverage.threshold
    if threshold is not None and setup.runtime == ONNXRUNTIME:
        yield from _guarded("integer kernels", lambda: [_coverage(model, record, threshold)])
    differences = here.differences(record.target)
    other_hosts = [difference for difference in differences if not difference.startswith(f"{setup.runtime}:")]
    yield (
        Check("host", "warn", "measured elsewhere; " + "; ".join(other_hosts))
        if other_hosts
        else Check("host", "pass", "the host that the package was measured on, or one like it")
    )
    # A package that was made for no budget is held to what it took where it was made.
    budget_ms = record.budget_ms or record.latency.measured_ms * _UNBUDGETED
    if setup.overload:
        yield Check("latency", "unknown", setup.overload)
    else:
        yield from _guarded("latency", lambda: _latency(model, record, setup, budget_ms, not differences))

    sample = read_sample(folder)
    yield from _guarded("tokenizer", lambda: [_tokens(folder, sample, record)])
    yield from _guarded("score", lambda: [_score(folder, sample, model, record, setup)])


def _guarded(name: str, checks: Callable[[], Iterable[Check]]) -> Iterator[Check]:
    """The checks; a record or a sample that was changed to fit no model makes a library raise whatever it raises."""
    try:
        yield from checks()
    except (PackageError, TokenizerError):
        raise
    except Exception as error:
        yield Check(name, "fail", f"the record or the sample does not fit the model: {said(error)}")


def _score(folder: Path, sample: Sample, model: bytes, record: PackageRecord, setup: Setup) -> Check:
    """With OpenVINO too the score has to be that of ONNX Runtime, which gave it when exported."""
    thresholds = record.null_threshold, record.label_thresholds
    part = sample.part(load_tokenizer(folder), record.max_length, record.labels, *thresholds)
    score = METRICS[sample.metric](model_outputs(model, part.encoded, record.head, setup=setup), part)
    detail = f"{sample.metric} {score:.4f} on {len(part.encoded)} bundled inputs, {sample.score:.4f} when exported"
    return Check("score", "pass" if abs(score - sample.score) <= SCORE_TOLERANCE else "fail", detail)


def _runtime(target: Target, timed: Target) -> Check:
    """Kernels, and with them latencies and the last digits of scores, change between releases."""
    runtime = target.setup.runtime
    title, here = RUNTIMES[runtime], target.fingerprint[runtime]
    if timed.setup.runtime != runtime:
        return Check(title, "warn", f"timed with {RUNTIMES[timed.setup.runtime]}: latency and rounding may differ")
    there = shortened(str(timed.fingerprint.get(runtime, "another release")))
    if here == there:
        return Check(title, "pass", f"{here}, as when exported")
    return Check(title, "warn", f"{here} here, {there} when exported: latency and rounding may differ")


def _tokens(folder: Path, sample: Sample, record: PackageRecord) -> Check:
    here = version("tokenizers")
    if token_digest(load_tokenizer(folder), sample, record.max_length) == record.token_digest:
        return Check("tokenizer", "pass", f"tokenizers {here} makes the ids that it made when exported")
    return Check("tokenizer", "fail", f"tokenizers {here} makes other ids of the same texts than when exported")
