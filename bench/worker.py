"""The process that times models: ``python -m ortnas.bench.worker``.

JSON lines on stdin and stdout, until stdin ends. Messages name what to ``do``:

* ``hello`` -> ``versions``, ``fingerprint``, ``conditions``
* ``put`` with ``digest`` (SHA-256) and ``size_bytes``, followed by that many raw bytes of ONNX
* ``measure`` with ``models`` (digests) and a ``Request``'s JSON -> ``results`` by digest: ``model_ns`` and
  ``anchor_ns``, or ``failed`` with the reason
* ``drop`` with ``digests``

Every answer has ``ok``; where it is false, ``error`` says why, and the worker goes on.
"""

from __future__ import annotations

import hashlib
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

from .conditions import conditions
from .fingerprint import fingerprint
from .request import read_settings
from .timing import Session, Workload, affinity, make_inputs, make_session, time_interleaved

_BLOCK = 1 << 20
_FOLDER_PREFIX = "ortnas-worker-"


class Worker:
    """Models lie in a folder by digest; sessions live for one measurement, so that no two share their luck."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def answer(self, message: dict[str, Any], stream: BinaryIO) -> dict[str, Any]:
        match message.get("do"):
            case "hello":
                return {
                    "versions": {
                        "python": platform.python_version(),
                        "numpy": np.__version__,
                        "onnxruntime": onnxruntime.__version__,
                    },
                    "fingerprint": fingerprint(),
                    "conditions": conditions(),
                }
            case "put":
                self._put(message["digest"], message["size_bytes"], stream)
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

    def _put(self, digest: str, size_bytes: int, stream: BinaryIO) -> None:
        """Takes all bytes off the stream whatever happens to them: the next message follows."""
        left, content, problem = size_bytes, hashlib.sha256(), None
        path = self._file(digest)
        part = path.with_suffix(".part")
        try:
            with part.open("wb") as file:
                while left and (block := stream.read(min(left, _BLOCK))):
                    left -= len(block)
                    content.update(block)
                    if problem is None:
                        try:
                            file.write(block)
                        except OSError as error:
                            problem = error
        except OSError as error:
            problem = problem or error
        while left and (block := stream.read(min(left, _BLOCK))):
            left -= len(block)
        if problem is None and content.hexdigest() == digest:
            part.replace(path)
            return
        part.unlink(missing_ok=True)
        raise problem or ValueError("the model's bytes do not match its digest")

    def _measure(self, message: dict[str, Any]) -> dict[str, Any]:
        setup, workloads, protocol = read_settings(message)
        if setup.overload:
            raise ValueError(setup.overload)
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


def _sentence(error: Exception) -> str:
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
