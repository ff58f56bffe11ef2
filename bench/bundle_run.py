"""A bundle at work on its host: times all models of its plan; run again, it goes on where it was."""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import random
import struct
import sys
import time
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from .bundle import SCHEMA, BundleError, Results, ResultsError, plan_digest, read_results, seal
from .difference import read_parts, rebuild
from .digests import digest_of
from .host import Failure, Host, HostError
from .request import Request
from .session import Setup
from .timing import Samples
from .visits import GROUP_SIZE
from .worker_host import LocalHost

# What reading a damaged zip file, or the JSON in it, raises.
_DAMAGE = (
    AttributeError,
    EOFError,
    KeyError,
    NotImplementedError,
    OSError,
    OverflowError,
    RecursionError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)


def _said(error: Exception) -> str:
    """One line of what a library says."""
    return " ".join(str(error).split())[:200] or type(error).__name__


class Bundle:
    """The plan and the models, in the zip file itself or in the folder that it was unzipped to."""

    def __init__(self, home: Path) -> None:
        """Raises BundleError where the plan is not as it was written."""
        try:
            self._root = home if home.is_dir() else zipfile.Path(home)
            self.plan: dict[str, Any] = json.loads((self._root / "plan.json").read_text(encoding="utf-8"))
            intact = self.plan["digest"] == plan_digest(self.plan)
        except _DAMAGE as error:
            raise BundleError(f"{home} is not a whole bundle: {_said(error)}") from error
        if not intact:
            raise BundleError(f"the plan of {home} was changed; copy the bundle again")

    def model(self, digest: str) -> bytes:
        """Raises BundleError where its file or that of the source is damaged."""
        different = self._root / "models" / f"{digest}.difference"
        try:
            content = self._rebuilt(different.read_bytes()) if different.exists() else self._whole(digest)
        except _DAMAGE as error:
            raise BundleError(f"the bundle is damaged, copy it again: {_said(error)}") from error
        return _checked(content, digest, "model")

    @cached_property
    def _source(self) -> bytes:
        """The model of which others are slices: the only one that is kept."""
        digest = self.plan["source"]
        return _checked(self._whole(digest), digest, "the source")

    def _whole(self, digest: str) -> bytes:
        return (self._root / "models" / f"{digest}.onnx").read_bytes()

    def _rebuilt(self, different: bytes) -> bytes:
        content = io.BytesIO(different)
        parts = read_parts(json.loads(content.readline()), len(self._source))
        return b"".join(rebuild(parts, content, io.BytesIO(self._source)))


def _checked(content: bytes, digest: str, what: str) -> bytes:
    if digest_of(content) != digest:
        raise BundleError(f"the bundle is damaged, copy it again: {what} {digest[:12]} has other bytes")
    return content


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 1 failed, 130 interrupted."""
    home = Path(__file__).resolve().parent.parent
    parser = argparse.ArgumentParser(
        prog=f"python {home.name}", description="Times this bundle's models here. Run again, it goes on where it was."
    )
    parser.add_argument("--out", type=Path, help="the results file (default: results.jsonl beside the bundle)")
    out: Path = parser.parse_args(arguments).out or (home if home.is_dir() else home.parent) / "results.jsonl"
    try:
        bundle = Bundle(home)
        with LocalHost(runtime=Setup.from_json(bundle.plan["setup"]).runtime) as host:
            _run(bundle, out, host)
    except (BundleError, ResultsError, HostError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: {out} cannot be written ({error.strerror or error}); --out names another file", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"stopped; what was timed is in {out}: run the same command to go on", file=sys.stderr)
        return 130
    print(f"done: send {out} back, for: ortnas bench RUN.yaml --import {out.name}")
    return 0


def _run(bundle: Bundle, out: Path, host: Host) -> None:
    """Makes the visits that are not in the results file yet. Raises ResultsError, BundleError and HostError."""
    plan = bundle.plan
    done = _begin(out, plan, host)
    if done.complete:
        return
    lines = _Lines(out, done)
    request, digests = Request.from_json(plan, bundle.model(plan["anchor"])), dict(plan["models"])
    counts = Counter(name for name, _ in done.visits)
    failed = {name for name, result in done.visits if isinstance(result, Failure)}
    began, made = time.monotonic(), 0
    for visit, group in _groups(plan, counts, failed):
        models = {name: bundle.model(digests[name]) for name in group}
        results = host.measure(models, request, visit)
        host.forget()
        lines.add([_line(name, digests[name], results[name]) for name in group])
        counts.update(group)
        failed.update(name for name in group if isinstance(results[name], Failure))
        made += len(group)
        left = sum(plan["visits"] - counts[name] for name in digests if name not in failed)
        minutes = (time.monotonic() - began) / made * left / 60
        print(
            f"{counts.total()} timings of {len(counts)} models, {len(failed)} failed; "
            f"{left} timings left, about {minutes:.1f} minutes",
            file=sys.stderr,
            flush=True,
        )
    lines.add([{"end": counts.total()}])


def _begin(out: Path, plan: Mapping[str, Any], host: Host) -> Results:
    """What the results file holds, which is begun where there is none. Raises ResultsError for that of another host."""
    hello = host.hello()
    facts = {key: hello[key] for key in ("fingerprint", "versions", "conditions")}
    if not out.exists():
        header = {"schema": SCHEMA, "plan": plan["digest"], "host": platform.node() or "bundle", **facts}
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = out.with_name(f".{out.name}.{os.getpid()}.part")
        try:
            temporary.write_bytes(_encode(seal(plan["digest"], header)))
            os.replace(temporary, out)
        finally:
            temporary.unlink(missing_ok=True)
    done = read_results(out, plan)
    if different := [key for key, value in done.fingerprint.items() if facts["fingerprint"].get(key) != value]:
        key = different[0]
        raise ResultsError(
            f"{out} was begun on another host ({key}: {done.fingerprint[key]!r}, here "
            f"{facts['fingerprint'].get(key)!r}); name another file with --out"
        )
    return done


def _groups(plan: Mapping[str, Any], counts: Counter[str], failed: set[str]) -> Iterator[tuple[int, list[str]]]:
    """Number of a visit and names of models to make it next, in another order in every pass.

    ``counts`` and ``failed`` grow meanwhile.
    """
    for visit in range(plan["visits"]):
        names = [name for name, _ in plan["models"]]
        random.Random(f"{plan['digest']} {visit}").shuffle(names)
        names = [name for name in names if counts[name] <= visit and name not in failed]
        for start in range(0, len(names), GROUP_SIZE):
            yield visit, names[start : start + GROUP_SIZE]


def _line(name: str, digest: str, result: Samples | Failure) -> dict[str, Any]:
    outcome = {"failed": result.reason} if isinstance(result, Failure) else result.to_json()
    return {"name": name, "model": digest, **outcome}


class _Lines:
    """The end of a results file, where lines are added; what a kill left half written is cut off."""

    def __init__(self, path: Path, done: Results) -> None:
        self._path, self._checksum, self._size_bytes = path, done.checksum, done.size_bytes
        os.truncate(path, done.size_bytes)

    def add(self, documents: Sequence[dict[str, Any]]) -> None:
        """Sees them to the disk. Raises ResultsError where somebody else wrote to the file."""
        if self._path.stat().st_size != self._size_bytes:
            raise ResultsError(f"another process writes to {self._path}; let it end, or name another file with --out")
        content = b""
        for document in documents:
            sealed = seal(self._checksum, document)
            self._checksum = sealed["checksum"]
            content += _encode(sealed)
        with self._path.open("ab") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        self._size_bytes += len(content)


def _encode(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document).encode() + b"\n"
