"""Another machine as a host, over the system's ``ssh``."""

from __future__ import annotations

import io
import shlex
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from .host import Failure, HostError
from .request import Request
from .session import ONNXRUNTIME
from .timing import Samples
from .worker_host import MINIMUM_PYTHON, WorkerError, WorkerHost

_Answer = TypeVar("_Answer")
_CONNECTION_TRIES = 3
_SSH_OPTIONS = ("-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=20", "-o", "ServerAliveInterval=15")
_SSH_FAILED = 255
# What the bootstrap ends with where the host's Python will not do; what it said last is the reason.
_UNSUITABLE = 78
# Takes the worker's code from stdin ahead of the requests; it lies in a temporary file only while it is imported. Any
# Python can read this, to say what is missing.
_BOOTSTRAP = """\
import os, sys, tempfile
name = %(python)r
def stop(reason):
    sys.stderr.write("\\n" + name + " there " + reason + ", or set target.python to another Python\\n")
    sys.exit(%(unsuitable)d)
version = ".".join(map(str, sys.version_info[:3]))
if sys.version_info < %(minimum)r:
    stop("is Python " + version + "; %(needed)s or newer is needed: install it")
size = int(sys.stdin.buffer.readline())
file, path = tempfile.mkstemp(suffix=".zip", prefix="ortnas-")
with os.fdopen(file, "wb") as stream:
    stream.write(sys.stdin.buffer.read(size))
sys.path.insert(0, path)
try:
    import bench
    for module in ("numpy", "onnxruntime"):
        try:
            __import__(module)
        except Exception as error:
            reason = " ".join((type(error).__name__ + ": " + str(error)).split())[:300]
            stop("(" + sys.executable + ", Python " + version + ") cannot import " + module + " (" + reason + "): "
                 "install numpy and onnxruntime there")
    import bench.worker
finally:
    os.unlink(path)
bench.worker.main()
"""


class ConnectionLostError(HostError):
    """The connection, not the worker, came to an end."""


class SshHost(WorkerHost):
    """A worker on another machine, reached by the system's ``ssh`` with its own configuration, agents and jumps.

    The worker's code is sent over: the host needs ``python`` with numpy and onnxruntime, nothing of this project. A
    connection that breaks is tried again, after ``wait_s`` and then twice that, before the host counts as gone.
    """

    def __init__(
        self,
        name: str,
        python: str = "python3",
        ssh: Sequence[str] = ("ssh",),
        timeout_s: float = 300,
        wait_s: float = 2,
        runtime: str = ONNXRUNTIME,
    ) -> None:
        if name.startswith("-"):
            raise HostError(f"{name} is no name of a host")  # ssh would take it as an option
        self._wait_s = wait_s
        # A shell stays beside the worker: of a killed one ssh itself would tell no more than of a broken connection.
        command = f"{shlex.quote(python)} -c {shlex.quote(bootstrap(python))}; exit $?"
        super().__init__(name, [*ssh, *_SSH_OPTIONS, name, f"exec sh -c {shlex.quote(command)}"], timeout_s, runtime)

    def _first_bytes(self) -> bytes:
        code = worker_archive()
        return str(len(code)).encode() + b"\n" + code

    def hello(self) -> dict[str, Any]:
        return self._again(super().hello)

    def measure(
        self,
        models: Mapping[str, bytes],
        request: Request,
        visit: int = 0,
    ) -> dict[str, Samples | Failure]:
        return self._again(lambda: super(SshHost, self).measure(models, request, visit))

    def _again(self, action: Callable[[], _Answer]) -> _Answer:
        for attempt in range(1, _CONNECTION_TRIES + 1):
            try:
                return action()
            except ConnectionLostError as error:
                if attempt == _CONNECTION_TRIES:
                    raise HostError(f"{self.name} cannot be reached: {error}") from error
                time.sleep(self._wait_s * attempt)
        raise AssertionError

    def _explain(self, status: int) -> WorkerError:
        if status == _SSH_FAILED:
            # Nobody's fault among the models.
            raise ConnectionLostError(self._stderr[-1] if self._stderr else "the connection broke")
        if status == _UNSUITABLE and self._stderr:
            return WorkerError(self._stderr[-1])
        return super()._explain(status)


def bootstrap(python: str) -> str:
    """The code that another machine's Python, which is called ``python`` there, starts with."""
    return _BOOTSTRAP % {
        "python": python,
        "unsuitable": _UNSUITABLE,
        "minimum": MINIMUM_PYTHON,
        "needed": ".".join(map(str, MINIMUM_PYTHON)),
    }


def worker_archive() -> bytes:
    """This package as a zip file that Python can import from."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(Path(__file__).resolve().parent.glob("*.py")):
            archive.writestr(zipfile.ZipInfo(f"bench/{path.name}"), path.read_bytes())
    return content.getvalue()
