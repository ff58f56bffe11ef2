"""Hosts that time models. A host is reached through a worker process."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from bench.timing import Protocol, Setup, Workload


class HostError(RuntimeError):
    """The worker refused, crashed or did not answer in time."""


class LocalHost:
    """A worker process on this machine. A crash or hang ends that worker; the next request starts another."""

    def __init__(self, timeout_s: float = 120) -> None:
        self.timeout_s = timeout_s
        self._process: subprocess.Popen[bytes] | None = None
        self._answers: queue.Queue[bytes] = queue.Queue()
        self._present: set[str] = set()

    def __enter__(self) -> LocalHost:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def fingerprint(self) -> dict[str, Any]:
        facts: dict[str, Any] = self._request({"do": "hello"})["fingerprint"]
        return facts

    def measure(
        self, models: Mapping[str, bytes], setup: Setup, workload: Workload, protocol: Protocol
    ) -> dict[str, list[int]]:
        """Interleaved raw samples in ns for each named model. Raises HostError."""
        digests = {name: hashlib.sha256(model).hexdigest() for name, model in models.items()}
        for name, digest in digests.items():
            self._put(digest, models[name])
        request = {
            "do": "measure",
            "models": list(dict.fromkeys(digests.values())),
            "setup": setup.to_json(),
            "workload": workload.to_json(),
            "protocol": protocol.to_json(),
        }
        samples = self._request(request)["samples_ns"]
        return {name: samples[digest] for name, digest in digests.items()}

    def drop(self, model: bytes) -> None:
        """Frees a model on the host."""
        digest = hashlib.sha256(model).hexdigest()
        if digest in self._present:
            self._request({"do": "drop", "digest": digest})
            self._present.discard(digest)

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for stream in (self._process.stdin, self._process.stdout):
                if stream is not None:
                    # Closing flushes what a dead worker never read.
                    with contextlib.suppress(BrokenPipeError):
                        stream.close()
        self._process = None
        self._present.clear()

    def _start(self) -> subprocess.Popen[bytes]:
        home = str(Path(__file__).resolve().parent.parent)
        path = os.pathsep.join(filter(None, [home, os.environ.get("PYTHONPATH")]))
        process = subprocess.Popen(
            [sys.executable, "-m", "bench.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": path},
        )
        self._answers = queue.Queue()
        threading.Thread(target=_forward, args=(process, self._answers), daemon=True).start()
        return process

    def _put(self, digest: str, model: bytes) -> None:
        if digest not in self._present:
            self._request({"do": "put", "digest": digest, "size_bytes": len(model)}, model)
            self._present.add(digest)

    def _request(self, request: dict[str, Any], payload: bytes = b"") -> dict[str, Any]:
        if self._process is None:
            self._process = self._start()
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n" + payload)
            self._process.stdin.flush()
            line = self._answers.get(timeout=self.timeout_s)
        except BrokenPipeError:
            line = b""
        except queue.Empty:
            self.close()
            raise HostError(f"the worker did not answer within {self.timeout_s:g} s and was stopped") from None
        if not line:
            status = self._process.wait()
            self.close()
            raise HostError(f"the worker ended with status {status}")
        answer: dict[str, Any] = json.loads(line)
        if not answer["ok"]:
            raise HostError(answer["error"])
        return answer


def _forward(process: subprocess.Popen[bytes], answers: queue.Queue[bytes]) -> None:
    assert process.stdout is not None
    try:
        for line in process.stdout:
            answers.put(line)
    except ValueError:  # closed while reading
        pass
    answers.put(b"")
