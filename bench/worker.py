"""The process that times models: ``python -m bench.worker``.

JSON lines on stdin and stdout. Requests name what to ``do``:

* ``hello`` -> ``fingerprint``
* ``put`` with ``digest`` (SHA-256) and ``size_bytes``, followed by that many raw bytes of ONNX
* ``measure`` with ``models`` (digests), ``setup``, ``workload``, ``protocol`` -> ``samples_ns`` by digest
* ``drop`` with ``digest``
* ``bye``

Every answer has ``ok``; where it is false, ``error`` says why, and the worker goes on.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from typing import Any, BinaryIO

import onnxruntime

from bench.fingerprint import fingerprint
from bench.timing import Protocol, Setup, Workload, make_session, time_interleaved

PROTOCOL_VERSION = 1


class Worker:
    """Models by digest and their sessions."""

    def __init__(self) -> None:
        self.models: dict[str, bytes] = {}
        self.sessions: dict[tuple[str, Setup], onnxruntime.InferenceSession] = {}

    def answer(self, request: dict[str, Any], stream: BinaryIO) -> dict[str, Any]:
        match request.get("do"):
            case "hello":
                return {"protocol": PROTOCOL_VERSION, "fingerprint": fingerprint()}
            case "put":
                content = stream.read(request["size_bytes"])
                if hashlib.sha256(content).hexdigest() != request["digest"]:
                    raise ValueError("the model's bytes do not match its digest")
                self.models[request["digest"]] = content
                return {}
            case "measure":
                return self._measure(request)
            case "drop":
                self.models.pop(request["digest"], None)
                self.sessions = {key: value for key, value in self.sessions.items() if key[0] != request["digest"]}
                return {}
            case unknown:
                raise ValueError(f"unknown request {unknown!r}")

    def _measure(self, request: dict[str, Any]) -> dict[str, Any]:
        setup, workload = Setup.from_json(request["setup"]), Workload(**request["workload"])
        chosen = {}
        for digest in request["models"]:
            if (digest, setup) not in self.sessions:
                self.sessions[digest, setup] = make_session(self.models[digest], setup)
            chosen[digest] = self.sessions[digest, setup]
        return {"samples_ns": time_interleaved(chosen, workload, Protocol(**request["protocol"]))}


def main() -> None:
    # Only answers may reach the pipe; whatever a library prints goes to stderr.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    worker = Worker()
    while line := sys.stdin.buffer.readline():
        request = json.loads(line)
        if request.get("do") == "bye":
            break
        try:
            answer = {"ok": True, **worker.answer(request, sys.stdin.buffer)}
        except Exception as error:  # one model's failure must not end the worker
            answer = {"ok": False, "error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()


if __name__ == "__main__":
    main()
