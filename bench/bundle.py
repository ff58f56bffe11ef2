"""Bundles: models to time on a host that cannot be reached, and the results that come back from it.

A bundle is a zip file that Python runs: ``python bundle.zip`` times everything that its plan names and writes one line
of JSON per visit to a results file. Every line carries a checksum over itself and all lines before it.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .digests import digest_of
from .errors import BenchError
from .fingerprint import fingerprint
from .host import Failure
from .request import Request
from .timing import Samples, Setup, TimingProtocol

SCHEMA = 1
_RUN_SCRIPT = '#!/bin/sh\ncd "$(dirname "$0")" && exec "${PYTHON:-python3}" . "$@"\n'
_LONGEST_LINE = 1 << 24
_LONGEST_TEXT = 500
_SHORTEST_NS, _LONGEST_NS = 1_000, 3_600 * 10**9
_DIGEST = re.compile("[0-9a-f]{64}")
# So many equal timings in a row are no chance, however coarse the clock.
_NEVER_ALL_EQUAL = 6


class BundleError(BenchError):
    """A bundle that cannot be written, or is not as it was written."""


class ResultsError(BenchError):
    """A results file that is not what the bundle wrote."""


@dataclass(frozen=True)
class Results:
    """What a bundle measured on a host: visits in the order in which they were made.

    ``missing`` are the models that neither failed nor have all their visits; ``complete`` is true when the bundle came
    to its end. ``checksum`` and ``size_bytes`` are those of the whole lines.
    """

    host: str
    fingerprint: dict[str, Any]
    versions: dict[str, Any]
    conditions: dict[str, Any]
    visits: tuple[tuple[str, Samples | Failure], ...]
    missing: tuple[str, ...]
    complete: bool
    checksum: str
    size_bytes: int


def write_bundle(
    path: Path,
    models: Mapping[str, bytes] | Iterable[tuple[str, bytes]],
    request: Request,
    visits: int,
) -> dict[str, Any]:
    """Writes models, taken one by one, and all that it takes to time them on a host with numpy and onnxruntime.

    Returns the plan, JSON-ready, that results are read with. Raises BundleError.
    """
    if os.path.isdir(path):  # unlike Path.is_dir, silent on names that are too long
        raise BundleError(f"{path} is a folder; name the file that the bundle is to be")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Python imports from no zip file that needs the 64-bit extension before 3.13.
        with zipfile.ZipFile(temporary, "w", allowZip64=False) as archive:
            _add_model(archive, request.anchor)
            plan = {
                "schema": SCHEMA,
                **request.to_json(),
                "visits": visits,
                "models": _add_models(archive, models.items() if isinstance(models, Mapping) else models),
            }
            plan["digest"] = plan_digest(plan)
            _add(archive, "plan.json", json.dumps(plan).encode())
            _add(archive, "run.sh", _RUN_SCRIPT.encode(), mode=0o755)
            for source in sorted(Path(__file__).resolve().parent.glob("*.py")):
                name = "__main__.py" if source.name == "bundle_main.py" else f"bench/{source.name}"
                _add(archive, name, source.read_bytes())
        os.replace(temporary, path)
    except zipfile.LargeZipFile as error:
        raise BundleError(f"{path} would be larger than 2 GiB; bundle fewer models at a time") from error
    except OSError as error:
        raise BundleError(f"{path} cannot be written: {error}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    return plan


def plan_digest(plan: Mapping[str, Any]) -> str:
    """SHA-256 over the plan without its own digest."""
    return _sha256(_canonical({key: value for key, value in plan.items() if key != "digest"}))


def seal(previous: str, document: Mapping[str, Any]) -> dict[str, Any]:
    """A line's content with its checksum, after a line with the checksum ``previous`` (first: the plan's digest)."""
    return {**document, "checksum": _sha256(previous + _canonical(document))}


def read_header(path: Path) -> dict[str, Any]:
    """A results file's first line: ``schema``, ``plan`` (digest), ``host`` and more that ``read_results`` checks.

    Raises ResultsError.
    """
    line = next(_lines(path), b"")
    if not line.endswith(b"\n"):
        raise ResultsError(f"{path} holds no results")
    try:
        header = _parse(line)
        plan = header.get("plan")
        # It names a file, too.
        if header.get("schema") != SCHEMA or not isinstance(plan, str) or not _DIGEST.fullmatch(plan):
            raise ResultsError(f"not a bundle's results of schema {SCHEMA}")
    except ResultsError as error:
        raise ResultsError(f"{path}, line 1: {error}") from error
    return header


def read_results(path: Path, plan: Mapping[str, Any]) -> Results:
    """Reads and checks what a bundle with this plan wrote; a file that was cut short counts as far as it goes.

    Raises ResultsError, with the line, where anything else than the cut tells it from what the bundle writes.
    """
    header = read_header(path)
    checksum, size_bytes, complete = str(plan["digest"]), 0, False
    if header["plan"] != checksum:
        other = f"plan {header['plan'][:12]}, not {checksum[:12]}"
        raise ResultsError(f"{path}, line 1: results of another bundle ({other})")
    visits: list[tuple[str, Samples | Failure]] = []
    left = Counter({name: plan["visits"] for name, _ in plan["models"]})
    for number, line in enumerate(_lines(path), start=1):
        if len(line) < _LONGEST_LINE and not line.endswith(b"\n"):
            break
        try:
            if complete:
                raise ResultsError("nothing follows the last line that a bundle writes")
            document = _parse(line)
            stated = document.pop("checksum", None)
            checksum = seal(checksum, document)["checksum"]
            if stated != checksum:
                raise ResultsError("not as the bundle wrote it, or lines before it are missing; get the original file")
            if number == 1:
                _check_header(document)
            elif "end" in document:
                complete = True
            else:
                name, result = _visit(document, plan)
                left[name] -= 1
                if left[name] < 0:
                    raise ResultsError(f"more visits to {name} than the bundle makes")
                visits.append((name, result))
        except ResultsError as error:
            raise ResultsError(f"{path}, line {number}: {error}") from error
        size_bytes += len(line)
    failed = {name for name, result in visits if isinstance(result, Failure)}
    missing = tuple(name for name, count in left.items() if count and name not in failed)
    if complete and missing:
        raise ResultsError(f"{path} claims to be complete, but lacks visits to {', '.join(missing[:3])}")
    host, facts, versions, conditions = (header[key] for key in ("host", "fingerprint", "versions", "conditions"))
    return Results(host, facts, versions, conditions, tuple(visits), missing, complete, checksum, size_bytes)


def _add_models(archive: zipfile.ZipFile, models: Iterable[tuple[str, bytes]]) -> list[list[str]]:
    """[name, digest] of each."""
    digests: dict[str, str] = {}
    for name, model in models:
        if name in digests:
            raise BundleError(f"two models are called {name}")
        digests[name] = _add_model(archive, model)
    if not digests:
        raise BundleError("there is no model to bundle")
    return [[name, digest] for name, digest in digests.items()]


def _add_model(archive: zipfile.ZipFile, model: bytes) -> str:
    digest = digest_of(model)
    name = f"models/{digest}.onnx"
    if name not in archive.NameToInfo:
        _add(archive, name, model)
    return digest


def _add(archive: zipfile.ZipFile, name: str, content: bytes, mode: int = 0o644) -> None:
    """Uncompressed: weights would hardly get smaller."""
    entry = zipfile.ZipInfo(name)
    entry.external_attr = mode << 16
    archive.writestr(entry, content)


def _lines(path: Path) -> Iterator[bytes]:
    """Lines with their ends; those without are cut short or longer than any that a bundle writes."""
    try:
        with path.open("rb") as stream:
            while line := stream.readline(_LONGEST_LINE):
                yield line
    except OSError as error:
        raise ResultsError(f"{path} cannot be read: {error.strerror}") from error


def _parse(line: bytes) -> dict[str, Any]:
    try:
        document = json.loads(line, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise ResultsError("not a line of JSON") from error
    if not isinstance(document, dict):
        raise ResultsError("not a JSON object")
    return document


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _check_header(header: Mapping[str, Any]) -> None:
    host = header.get("host")
    if not isinstance(host, str) or not host.isprintable() or not 0 < len(host) <= _LONGEST_TEXT:
        raise ResultsError("the host has no name")
    if not all(isinstance(header.get(key), dict) for key in ("fingerprint", "versions", "conditions")):
        raise ResultsError("fingerprint, versions and conditions are objects")
    if differing := set(header["fingerprint"]) ^ set(fingerprint()):
        raise ResultsError(f"a fingerprint with keys of another kind: {', '.join(sorted(differing))[:_LONGEST_TEXT]}")
    if not all(map(_is_fact, header["fingerprint"].values())):
        raise ResultsError("a fingerprint of more than texts, numbers and lists of texts")


def _is_fact(value: Any) -> bool:
    if isinstance(value, list):
        return all(isinstance(entry, str) for entry in value)
    return value is None or isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))


def _visit(document: Mapping[str, Any], plan: Mapping[str, Any]) -> tuple[str, Samples | Failure]:
    name = document.get("name")
    if [name, document.get("model")] not in plan["models"]:
        raise ResultsError(f"a model that is not in the bundle: {str(name)[:_LONGEST_TEXT]}")
    if "failed" in document:
        reason = document["failed"]
        if not isinstance(reason, str):
            raise ResultsError("a failure without a reason")
        return str(name), Failure(
            "".join(character if character.isprintable() else " " for character in reason[:_LONGEST_TEXT])
        )
    try:
        samples = Samples.from_json(document)
    except ValueError as error:
        raise ResultsError(str(error)) from error
    protocol = TimingProtocol.from_json(plan["protocol"])
    fewest, most = min(protocol.min_rounds, protocol.max_rounds), protocol.max_rounds
    turn_samples = Setup.from_json(plan["setup"]).samples_a_turn(protocol.runs)
    for rows in (samples.model_ns, samples.anchor_ns):
        if len(rows) != len(plan["workloads"]):
            raise ResultsError(f"samples of {len(rows)} workloads; the bundle has {len(plan['workloads'])}")
        for row in rows:
            if len(row) % turn_samples or not fewest <= len(row) // turn_samples <= most:
                raise ResultsError(f"{len(row) / turn_samples:g} rounds; the bundle makes {fewest} to {most}")
            if min(row) < _SHORTEST_NS or max(row) > _LONGEST_NS:
                raise ResultsError("an inference of less than a microsecond or more than an hour")
            if len(row) >= _NEVER_ALL_EQUAL and min(row) == max(row):
                raise ResultsError("samples that are all equal are no timings")
    return str(name), samples


def _canonical(document: Mapping[str, Any]) -> str:
    return json.dumps(document, sort_keys=True, separators=(",", ":"))


def _sha256(text: str) -> str:
    return digest_of(text.encode())
