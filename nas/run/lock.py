"""The lock of a run folder: one command at a time, whatever file system it lies on."""

from __future__ import annotations

import os
import platform
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from ortnas.bench.file_system import file_system_of, is_shared
from ortnas.nas.failures import OrtnasError
from ortnas.nas.files import parse_json, write_json

_LOCK_FILE, _HOLDER_FILE = ".lock", ".holder"
_LARGEST_RECORD = 4096


class HeldError(OrtnasError):
    """Another command holds the folder, or may; the message says what to do."""


@dataclass(frozen=True)
class Holder:
    """The process that holds a folder.

    ``boot`` and ``namespace`` tell apart what bears the same number on a host that was started again, or in two
    containers; ``started`` two processes that got the same number. Each is empty where the system does not say.
    ``alone``: the lock is nothing but this record, as the file system has none that goes with its process.
    ``since`` is in seconds since 1970.
    """

    host: str
    boot: str
    namespace: str
    process: int
    started: str
    alone: bool
    since: float

    def __str__(self) -> str:
        at = time.strftime("%Y-%m-%d %H:%M", time.localtime(self.since))
        return f"process {self.process} on host {self.host}, since {at}"


class FolderLock:
    """Two locks in one. That of the system goes with its process; where the file system has none, or where other
    hosts may not see it, a record of the holder decides."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._record = folder, folder / _HOLDER_FILE
        self._system_lock = FileLock(folder / _LOCK_FILE)
        self._own: Holder | None = None

    def take(self) -> str:
        """Returns a sentence where a killed command had left its lock, else an empty text. Raises HeldError."""
        try:
            self._system_lock.acquire(timeout=0)
            alone = is_shared(file_system_of(self.folder))
        except Timeout:
            raise HeldError(_AT_WORK) from None
        except (OSError, NotImplementedError):  # no such lock there: ENOLCK, EOPNOTSUPP, ENOSYS
            alone = True
        try:
            return self._take_record(alone)
        except OSError as error:
            self._system_lock.release()
            raise HeldError(f"its lock {self._record} cannot be taken: {error.strerror}") from error
        except HeldError:
            self._system_lock.release()
            raise

    def release(self) -> None:
        if self._own is not None:
            with suppress(OSError, ValueError, TypeError):
                if _read(self._record) == self._own:
                    self._record.unlink()
            self._own = None
        self._system_lock.release()

    def _take_record(self, alone: bool) -> str:
        own = _this_process(alone)
        if alone:
            try:
                # Of several processes, on any host, one makes it.
                self._record.touch(exist_ok=False)
            except FileExistsError:
                with _one_at_a_time_on_this_host():
                    return self._take_over(own)
            try:
                self._write(own)
            except OSError:
                self._record.unlink(missing_ok=True)
                raise
        elif self._record.exists():
            return self._take_over(own)
        else:
            self._write(own)
        return ""

    def _take_over(self, own: Holder) -> str:
        """Writes over a record whose process is gone; whoever may find it so is on the same host, where one at a time
        looks."""
        try:
            left = _read(self._record)
        except (OSError, ValueError, TypeError):
            if own.alone:
                raise HeldError(
                    f"its lock {self._record} is being written, or was cut short; where no ortnas command is at work "
                    f"in it, delete that file, or choose another folder"
                ) from None
            left = None
        # What the system keeps for every holder, it has just given to this one.
        if left is not None and (own.alone or left.alone) and not _is_gone(left, own):
            if (left.host, left.namespace) != (own.host, own.namespace):
                place = f"host {left.host}" + (" in another container" if left.host == own.host else "")
                raise HeldError(
                    f"an ortnas command on {place} is at work in it, or was killed there ({left}); where it is gone, "
                    f"delete {self._record}, or choose another folder"
                )
            raise HeldError(f"{_AT_WORK} ({left})")
        self._write(own)
        whose = f" ({left})" if left else ""
        return f"{self.folder}: a command that was killed had left its lock{whose}; this one takes it over."

    def _write(self, own: Holder) -> None:
        write_json(self._record, asdict(own))
        self._own = own


_AT_WORK = "another ortnas command is at work in it; wait for it to end, or choose another folder"


def _read(record: Path) -> Holder:
    """Raises OSError, ValueError and TypeError where it holds none."""
    with record.open("rb") as stream:
        holder = Holder(**parse_json(stream.read(_LARGEST_RECORD)))
    texts = (holder.host, holder.boot, holder.namespace, holder.started)
    if not all(isinstance(text, str) and text.isprintable() for text in texts):
        raise ValueError("a name is no text")
    if type(holder.process) is not int or not 0 < holder.process < 2**31 or type(holder.alone) is not bool:
        raise ValueError("a process is a whole number above 0, alone true or false")
    if not isinstance(holder.since, int | float) or not 0 <= holder.since < 2**33:
        raise ValueError("a time is seconds since 1970")
    return holder


def _this_process(alone: bool) -> Holder:
    namespace = ""
    with suppress(OSError):
        namespace = os.readlink("/proc/self/ns/pid")
    number = os.getpid()
    return Holder(platform.node(), _boot(), namespace, number, _start_of(number) or "", alone, time.time())


def _is_gone(holder: Holder, own: Holder) -> bool:
    """Whether its process has surely ended: it was of this host, which was started again since or has it no more."""
    if holder.host != own.host:
        return False
    if holder.boot != own.boot:
        return True
    started = _start_of(holder.process)
    has_other_start = bool(started and holder.started) and started != holder.started
    return holder.namespace == own.namespace and (started is None or has_other_start)


def _boot() -> str:
    """What names the time since the host was started."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _start_of(process: int) -> str | None:
    """When a process of this host was started; empty where the system does not say, None where there is none."""
    if os.name != "posix":
        return ""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    status = Path(f"/proc/{process}/stat")
    try:
        # The name before the parenthesis may hold anything; the state is the 3rd field, the start the 22nd.
        fields = status.read_text(errors="replace").rpartition(")")[2].split()
        return None if fields[0] in ("Z", "X") else fields[19]
    except (OSError, IndexError):
        pass
    try:
        command = ["ps", "-o", "lstart=", "-p", str(process)]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=False).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


@contextmanager
def _one_at_a_time_on_this_host() -> Iterator[None]:
    """Waits for the others. The folder for temporary files is the host's own, and its lock goes with the process."""
    import fcntl

    descriptor = os.open(tempfile.gettempdir(), os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
