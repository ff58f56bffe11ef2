from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from ortnas.nas.files import write_json
from ortnas.nas.run import lock as lock_module
from ortnas.nas.run.lock import FolderLock, HeldError

# Takes the lock of a folder and says so; told "without", where the system has no locks.
_HOLD = """
import errno, fcntl, signal, sys
from pathlib import Path
from ortnas.nas.run.lock import FolderLock, HeldError
folder = Path(sys.argv[1])
system_lock = fcntl.flock
def flock(descriptor, operation):
    if not operation & fcntl.LOCK_NB:
        return system_lock(descriptor, operation)
    raise OSError(errno.ENOLCK, "No locks available")
if sys.argv[2] == "without":
    fcntl.flock = flock
lock = FolderLock(folder)
try:
    print("held" + lock.take(), flush=True)
except HeldError as error:
    print("refused", error, flush=True)
    sys.exit()
sys.stdin.read()
lock.release()
"""


def holding(folder: Path, has_locks: bool) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _HOLD, str(folder), "with" if has_locks else "without"]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def kill(process: subprocess.Popen[str], is_reaped: bool = True) -> None:
    process.send_signal(signal.SIGKILL)
    if is_reaped:
        process.communicate()
    else:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)


@pytest.fixture
def without_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even for the asking does the folder's file system lock; that for temporary files does."""
    system_lock = fcntl.flock

    def flock(descriptor: int, operation: int) -> None:
        if operation & fcntl.LOCK_NB:
            raise OSError(errno.ENOLCK, "No locks available")
        system_lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock)


def changed(folder: Path, **facts: Any) -> None:
    """As if someone else had left the record."""
    record = folder / ".holder"
    write_json(record, json.loads(record.read_text()) | facts)


@pytest.mark.slow
@pytest.mark.parametrize("has_locks", [True, False])
def test_a_live_process_is_named_and_a_killed_one_s_lock_taken_over(tmp_path: Path, has_locks: bool) -> None:
    first = holding(tmp_path, has_locks)
    assert said(first) == "held"
    second = holding(tmp_path, has_locks)
    refusal = said(second)
    second.communicate()
    assert refusal.startswith("refused another ortnas command is at work in it; wait for it to end")
    assert (f"process {first.pid} on host" in refusal) is not has_locks
    kill(first)
    third = holding(tmp_path, has_locks)
    takeover = said(third)
    assert takeover.startswith(f"held{tmp_path}: a command that was killed had left its lock (process {first.pid} on")
    third.communicate()
    assert not (tmp_path / ".holder").exists()
    fourth = holding(tmp_path, has_locks)
    assert said(fourth) == "held"
    fourth.communicate()


@pytest.mark.usefixtures("without_locks")
def test_a_killed_process_that_nobody_has_reaped_is_gone(tmp_path: Path) -> None:
    process = holding(tmp_path, has_locks=False)
    assert said(process) == "held"
    kill(process, is_reaped=False)
    lock = FolderLock(tmp_path)
    assert "a command that was killed" in lock.take()
    process.communicate()
    lock.release()


@pytest.mark.usefixtures("without_locks")
def test_a_number_that_another_process_has_by_now_is_not_the_holder(tmp_path: Path) -> None:
    FolderLock(tmp_path).take()
    with pytest.raises(HeldError, match="another ortnas command is at work"):
        FolderLock(tmp_path).take()
    changed(tmp_path, started="1")
    assert "killed" in FolderLock(tmp_path).take()
    changed(tmp_path, boot="before")
    assert "killed" in FolderLock(tmp_path).take()
    # Where the system did not say when it was started, the number has to do.
    changed(tmp_path, started="")
    with pytest.raises(HeldError, match="another ortnas command is at work"):
        FolderLock(tmp_path).take()


@pytest.mark.usefixtures("without_locks")
def test_another_host_s_lock_is_refused_with_what_to_do(tmp_path: Path) -> None:
    FolderLock(tmp_path).take()
    changed(tmp_path, host="elsewhere", process=2**31 - 1)
    before = (tmp_path / ".holder").read_bytes()
    with pytest.raises(HeldError, match=r"host elsewhere is at work in it, or was killed .* delete .*\.holder"):
        FolderLock(tmp_path).take()
    changed(tmp_path, host=os.uname().nodename, namespace="pid:[1]")
    with pytest.raises(HeldError, match="in another container"):
        FolderLock(tmp_path).take()
    (tmp_path / ".holder").write_bytes(before[:40])
    with pytest.raises(HeldError, match=r"was cut short; .* delete that file"):
        FolderLock(tmp_path).take()
    (tmp_path / ".holder").unlink()
    assert FolderLock(tmp_path).take() == ""


def test_on_a_shared_file_system_the_record_counts_beside_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock_module, "file_system_of", lambda _: "nfs4")
    lock = FolderLock(tmp_path)
    assert lock.take() == ""
    changed(tmp_path, host="elsewhere")
    lock.release()
    assert (tmp_path / ".holder").exists()  # it is not this process's any more
    with pytest.raises(HeldError, match="host elsewhere"):
        FolderLock(tmp_path).take()
    # Nor does the server, to which the folder is a local one, go past it.
    monkeypatch.setattr(lock_module, "file_system_of", lambda _: "ext4")
    with pytest.raises(HeldError, match="host elsewhere"):
        FolderLock(tmp_path).take()
    # On a local disk the system's lock tells that whoever held it is gone, by whatever name the host went.
    changed(tmp_path, alone=False)
    assert "killed" in FolderLock(tmp_path).take()


@pytest.mark.usefixtures("without_locks")
def test_of_many_that_find_a_killed_command_s_lock_one_takes_it(tmp_path: Path) -> None:
    FolderLock(tmp_path).take()
    for _ in range(20):
        changed(tmp_path, started="1")
        assert takers(tmp_path, 6) == 1


def takers(folder: Path, threads: int) -> int:
    """How many of so many threads, which try at the same moment, get the lock."""
    sentences: list[str] = []
    barrier = threading.Barrier(threads)

    def take() -> None:
        barrier.wait()
        with suppress(HeldError):
            sentences.append(FolderLock(folder).take())

    workers = [threading.Thread(target=take) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return len(sentences)


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", "\x00" * 50, '{"host": 1}', "[" * 4000, '{"host": "a", "process": -1}']
)
@pytest.mark.usefixtures("without_locks")
def test_a_damaged_record_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / ".holder").write_text(content)
    with pytest.raises(HeldError, match="was cut short"):
        FolderLock(tmp_path).take()


def test_a_folder_that_cannot_be_written_gets_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HeldError, match="cannot be taken"):
        FolderLock(tmp_path / "file").take()
