"""Hosts that time models through a worker process."""

from __future__ import annotations

import collections
import contextlib
import json
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from .digests import digest_of
from .errors import BenchError
from .host import Failure, HostError
from .request import Request
from .timing import Samples

# The exported graphs' opset 20 came with this release.
MINIMUM_ONNXRUNTIME = (1, 17)
MINIMUM_PYTHON = (3, 10)
_STDERR_LINES = 20
_SLOW_INFERENCE_S = 1.0


class WorkerError(BenchError):
    """The worker crashed, hung or was killed: the model that it worked on may be to blame."""


class WorkerHost:
    """A worker process and the models that it holds. A crash or hang costs the model at fault; the worker is replaced.

    ``timeout_s`` is allowed for each message beside the time that the protocol takes.
    """

    def __init__(self, name: str, command: Sequence[str], timeout_s: float = 120) -> None:
        self.name, self.timeout_s = name, timeout_s
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        self._answers: queue.Queue[bytes] = queue.Queue()
        self._stderr: collections.deque[str] = collections.deque(maxlen=_STDERR_LINES)
        self._present: set[str] = set()

    def __enter__(self) -> WorkerHost:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def process_id(self) -> int | None:
        """Of the process that was started here for the worker, if one runs."""
        return self._process.pid if self._process else None

    def hello(self) -> dict[str, Any]:
        self._bury_the_dead()
        try:
            answer = self._ask({"do": "hello"})
        except WorkerError as error:
            raise HostError(f"{self.name}: {error}") from error
        version = tuple(map(int, answer["versions"]["onnxruntime"].split(".")[:2]))
        if version < MINIMUM_ONNXRUNTIME:
            raise HostError(
                f"{self.name}: ONNX Runtime {answer['versions']['onnxruntime']} is older than the models' opset; "
                f"install {'.'.join(map(str, MINIMUM_ONNXRUNTIME))} or newer there"
            )
        return answer

    def measure(
        self,
        models: Mapping[str, bytes],
        request: Request,
        visit: int = 0,  # noqa: ARG002 the clock tells
    ) -> dict[str, Samples | Failure]:
        self._bury_the_dead()

        def take(chosen: Mapping[str, bytes]) -> dict[str, Samples | Failure]:
            try:
                return self._visit(chosen, request)
            except RefusedError as error:
                raise HostError(f"{self.name}: {error}") from error

        try:
            return take(models)
        except WorkerError as error:
            if len(models) == 1:
                return self._blame(next(iter(models)), error, take)
        # One of them did it: alone, the others get their turn.
        results: dict[str, Samples | Failure] = {}
        for name, model in models.items():
            try:
                results |= take({name: model})
            except WorkerError as error:
                results |= self._blame(name, error, take)
        return results

    def forget(self) -> None:
        if self._process is not None and self._present:
            with contextlib.suppress(HostError, WorkerError):
                self._ask({"do": "drop", "digests": sorted(self._present)})
        self._present.clear()

    def close(self) -> None:
        """Lets the worker tidy up; one that does not end by itself is killed."""
        process, self._process = self._process, None
        self._present.clear()
        if process is None:
            return
        assert process.stdin is not None
        with contextlib.suppress(OSError):  # closing flushes what a dead worker never read
            process.stdin.close()
        try:
            process.wait(timeout=3)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _bury_the_dead(self) -> None:
        """A worker that ended while nothing was asked of it is replaced: no model is to blame."""
        if self._process is not None and self._process.poll() is not None:
            self.close()

    def _blame(
        self, name: str, error: WorkerError, visit: Callable[[Mapping[str, bytes]], object]
    ) -> dict[str, Samples | Failure]:
        """The model is at fault if the worker can time the anchor alone. Raises HostError where it cannot."""
        try:
            visit({})
        except WorkerError as second:
            raise HostError(f"{self.name}: {second}") from second
        return {name: Failure(str(error))}

    def _visit(
        self,
        models: Mapping[str, bytes],
        request: Request,
    ) -> dict[str, Samples | Failure]:
        results: dict[str, Samples | Failure] = {}
        digests: dict[str, str] = {}
        self._put(request.anchor)
        for name, model in models.items():
            try:
                digests[name] = self._put(model)
            except RefusedError as error:
                results[name] = Failure(str(error))
        protocol = request.protocol
        # The least rounds may take longer than the cap; without a cap the rounds alone say.
        rounds = protocol.max_rounds if protocol.cap_s is None else protocol.min_rounds
        # Clients compute beside each other; after what is kept, each goes on for about one request.
        in_a_row = 1 + request.setup.samples_a_turn(protocol.runs) // request.setup.concurrency
        turn_s = len(request.workloads) * in_a_row * _SLOW_INFERENCE_S
        expected_s = (len(models) + 1) * ((protocol.cap_s or 0) + rounds * turn_s)
        message = {"do": "measure", "models": list(dict.fromkeys(digests.values())), **request.to_json()}
        answer = self._ask(message, timeout_s=self.timeout_s + expected_s)["results"]
        for name, digest in digests.items():
            result = answer[digest]
            results[name] = Failure(result["failed"]) if "failed" in result else Samples.from_json(result)
        return results

    def _put(self, model: bytes) -> str:
        digest = digest_of(model)
        if digest not in self._present:
            self._ask({"do": "put", "digest": digest, "size_bytes": len(model)}, model)
            self._present.add(digest)
        return digest

    def _start(self) -> subprocess.Popen[bytes]:
        try:
            process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
        except OSError as error:
            raise HostError(f"{self.name}: {self._command[0]} cannot be started: {error.strerror}") from error
        self._answers = queue.Queue()
        self._stderr.clear()
        threading.Thread(target=_forward, args=(process, self._answers), daemon=True).start()
        self._listener = threading.Thread(target=_keep_tail, args=(process, self._stderr), daemon=True)
        self._listener.start()
        return process

    def _first_bytes(self) -> bytes:
        """What the process is sent ahead of the messages."""
        return b""

    def _ask(self, message: dict[str, Any], payload: bytes = b"", timeout_s: float | None = None) -> dict[str, Any]:
        """Raises WorkerError where the worker is lost, RefusedError where it says no."""
        first = b""
        if self._process is None:
            self._process, first = self._start(), self._first_bytes()
        allowed_s = timeout_s or self.timeout_s
        assert self._process.stdin is not None
        # A worker that does not read must not stop this process too.
        sender = threading.Thread(
            target=_send, args=(self._process.stdin, first + json.dumps(message).encode() + b"\n", payload), daemon=True
        )
        sender.start()
        try:
            line = self._answers.get(timeout=allowed_s)
        except queue.Empty:
            self._kill()
            raise WorkerError(f"the worker did not answer within {allowed_s:g} s and was stopped") from None
        if not line:
            raise self._lost()
        sender.join()
        answer: dict[str, Any] = json.loads(line)
        if not answer["ok"]:
            raise RefusedError(answer["error"])
        return answer

    def _lost(self) -> WorkerError:
        assert self._process is not None
        status = self._process.wait()
        self._listener.join(timeout=1)  # its last words; another process may hold the pipe open
        self.close()
        return self._explain(status)

    def _explain(self, status: int) -> WorkerError:
        killed = " (killed; out of memory?)" if status in (-9, 137) else ""
        said = f": {self._stderr[-1]}" if self._stderr else ""
        return WorkerError(f"the worker ended with status {status}{killed}{said}")

    def _kill(self) -> None:
        if self._process is not None:
            self._process.kill()
        self.close()


class RefusedError(HostError):
    """The worker goes on, but could not do what it was asked."""


class LocalHost(WorkerHost):
    """A worker on this machine, in a process of its own."""

    def __init__(self, timeout_s: float = 120, python: str = sys.executable) -> None:
        # The folder, or the bundle, that this package is in; never the current folder, which may hold another bench.
        home = str(Path(__file__).resolve().parent.parent)
        code = f"import sys; sys.path[:] = [{home!r}, *filter(None, sys.path)]; from bench.worker import main; main()"
        super().__init__("local", [python, "-c", code], timeout_s)


def _send(stream: Any, message: bytes, payload: bytes) -> None:
    # A worker that is gone is noticed by its missing answer.
    with contextlib.suppress(OSError, ValueError):
        stream.write(message)
        stream.write(payload)
        stream.flush()


def _forward(process: subprocess.Popen[bytes], answers: queue.Queue[bytes]) -> None:
    """Whole answers only: not the start of one that was cut off, not what a login script prints."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(b'{"ok": ') and line.endswith(b"\n"):
            answers.put(line)
    answers.put(b"")


def _keep_tail(process: subprocess.Popen[bytes], lines: collections.deque[str]) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if text := line.decode(errors="replace").strip():
            lines.append(text)
