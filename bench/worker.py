"""The process that times models: ``python -m ortnas.bench.worker``.

JSON lines on stdin and stdout, until stdin ends. Messages name what to ``do``:

* ``hello`` with ``runtime`` -> ``versions``, ``fingerprint``, ``conditions``
* ``put`` with ``digest`` (SHA-256) and ``size_bytes``, followed by that many raw bytes of ONNX; with ``source`` (digest
  of a model that is here) and ``parts``, those are what is given of the model's difference from the source
* ``measure`` with ``models`` (digests) and a ``Request``'s JSON -> ``results`` by digest: ``model_ns`` and
  ``anchor_ns``, or ``failed`` with the reason
* ``drop`` with ``digests``

Every answer has ``ok``; where it is false, ``error`` says why, and the worker goes on.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnxruntime

from . import fastmath
from .conditions import conditions
from .difference import read_parts, rebuild
from .errors import BenchError
from .fingerprint import fingerprint
from .openvino_runtime import installed_version
from .request import read_settings
from .session import ONNXRUNTIME, Session, make_session
from .timing import Workload, affinity, make_inputs, time_interleaved

_BLOCK_BYTES = 1 << 20
_FOLDER_PREFIX = "ortnas-worker-"


class _Payload:
    """The bytes that follow a message on the stream."""

    def __init__(self, stream: BinaryIO, size_bytes: int) -> None:
        self._stream, self._left = stream, size_bytes

    def read(self, size: int) -> bytes:
        block = self._stream.read(min(size, self._left))
        # A stream that ended gives no more.
        self._left = self._left - len(block) if block else 0
        return block

    def drain(self) -> None:
        while self.read(_BLOCK_BYTES):
            pass


class Worker:
    """Models lie in a folder by digest; sessions live for one measurement, so that no two share their luck."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def answer(self, message: dict[str, Any], stream: BinaryIO) -> dict[str, Any]:
        match message.get("do"):
            case "hello":
                return {
                    "versions": _versions(),
                    "fingerprint": fingerprint(message.get("runtime", ONNXRUNTIME)),
                    "conditions": conditions(),
                }
            case "put":
                payload = _Payload(stream, message["size_bytes"])
                try:
                    self._put(message, payload)
                finally:
                    payload.drain()  # whatever happened to it: the next message follows
                return {}
            case "measure":
                return {"results": self._measure(message)}
            case "drop":
                for digest in message["digests"]:
                    self._file(digest).unlink(missing_ok=True)
                return {}
            case unknown:
                raise ValueError(f"unknown message {unknown!r}")

    def _file(self, digest: str) -> Path:
        if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
            raise ValueError(f"{digest!r} is no SHA-256 digest")
        return self.folder / f"{digest}.onnx"

    def _put(self, message: dict[str, Any], payload: _Payload) -> None:
        path = self._file(message["digest"])
        part = path.with_suffix(".part")
        content = hashlib.sha256()
        try:
            with self._source(message) as source, part.open("wb") as file:
                parts = read_parts(message.get("parts", [message["size_bytes"]]), source.seek(0, os.SEEK_END))
                for block in rebuild(parts, payload, source):
                    content.update(block)
                    file.write(block)
            if content.hexdigest() != message["digest"]:
                raise ValueError("the model's bytes do not match its digest")
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)

    def _source(self, message: dict[str, Any]) -> BinaryIO:
        """What parts are cut from: a model that was put before, or nothing."""
        if "source" not in message:
            return io.BytesIO()
        path = self._file(message["source"])
        if not path.exists():
            raise ValueError(f"the model {message['source'][:12]}, from which this one is cut, is not here")
        return path.open("rb")

    def _measure(self, message: dict[str, Any]) -> dict[str, Any]:
        setup, workloads, protocol = read_settings(message)
        if setup.overload:
            raise ValueError(setup.overload)
        if setup.fastmath_bfloat16 and (obstacle := fastmath.obstacle(fingerprint())):
            raise BenchError(f"fastmath_bfloat16: {obstacle}")
        with affinity(setup.affinity):
            sessions = {"anchor": make_session(self._file(message["anchor"]), setup)}
            results: dict[str, Any] = {}
            for digest in message["models"]:
                try:
                    sessions[digest] = self._warm(make_session(self._file(digest), setup), workloads)
                except Exception as error:  # ONNX Runtime's own exception types share no public base
                    results[digest] = {"failed": _sentence(error)}
            samples = time_interleaved(sessions, "anchor", workloads, protocol, setup.concurrency)
        samples.pop("anchor")
        return results | {digest: timed.to_json() for digest, timed in samples.items()}

    @staticmethod
    def _warm(session: Session, workloads: Sequence[Workload]) -> Session:
        """Fails here, alone, where a model loads but cannot run."""
        for workload in workloads:
            session.run(None, make_inputs(session, workload, seed=0))
        return session


def _versions() -> dict[str, str]:
    """OpenVINO's too where it is installed."""
    versions = {"python": platform.python_version(), "numpy": np.__version__, "onnxruntime": onnxruntime.__version__}
    openvino = installed_version()
    return versions if openvino is None else {**versions, "openvino": openvino}


def _sentence(error: Exception) -> str:
    if isinstance(error, BenchError):
        return str(error)
    return f"{type(error).__name__}: {error}".strip().splitlines()[0]


def _remove_leftovers() -> None:
    """Folders of workers that were killed before they could tidy up."""
    if os.name != "posix":  # elsewhere there is no asking whether a process lives by signal 0
        return
    for folder in Path(tempfile.gettempdir()).glob(f"{_FOLDER_PREFIX}*-*"):
        try:
            os.kill(int(folder.name.removeprefix(_FOLDER_PREFIX).split("-")[0]), 0)
        except ProcessLookupError:
            shutil.rmtree(folder, ignore_errors=True)
        except (OSError, ValueError):
            continue


def main() -> None:
    # Only answers may reach the pipe; whatever a library prints goes to stderr.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    _remove_leftovers()
    with tempfile.TemporaryDirectory(prefix=f"{_FOLDER_PREFIX}{os.getpid()}-") as folder:
        worker = Worker(Path(folder))
        while line := sys.stdin.buffer.readline():
            message = json.loads(line)
            try:
                answer = {"ok": True, **worker.answer(message, sys.stdin.buffer)}
            except Exception as error:  # one model's failure must not end the worker
                answer = {"ok": False, "error": _sentence(error)}
            answers.write(json.dumps(answer).encode() + b"\n")
            answers.flush()


if __name__ == "__main__":
    main()
