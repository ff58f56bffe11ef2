"""Stores on file systems that have no write-ahead log."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ortnas.bench import store as store_module
from ortnas.bench.store import Store
from ortnas.bench.testing.stores import Opening, StoreSuite
from tests.bench.stores import TARGET, keys, measurement, start

_connect = sqlite3.connect
# What a program of these tests does to SQLite: this access to files has no shared memory, as on a network file system.
_WITHOUT_SHARED_MEMORY = """
import sqlite3
connect = sqlite3.connect
sqlite3.connect = lambda path, **options: connect(f"file:{path}?vfs=unix-none", uri=True, **options)
"""
# Locks what readers of a write-ahead log lock in its shared index: five bytes.
_KEEP_READERS_OUT = """
import fcntl, sys
with open(sys.argv[1], "wb") as index:
    fcntl.lockf(index, fcntl.LOCK_EX, 5, 123)
    print("locked", flush=True)
    sys.stdin.read()
"""


def journal_mode(path: Path) -> str:
    connection = _connect(path)
    mode: str = connection.execute("PRAGMA journal_mode").fetchone()[0]
    connection.close()
    return mode


@pytest.fixture
def without_shared_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(path: Path, **options: Any) -> sqlite3.Connection:
        return _connect(f"file:{path}?vfs=unix-dotfile", uri=True, **options)

    monkeypatch.setattr(sqlite3, "connect", connect)


@pytest.mark.usefixtures("without_shared_memory")
class TestStoreWithoutSharedMemory(StoreSuite):
    @pytest.fixture
    def open_store(self, tmp_path: Path) -> Opening:
        return lambda: Store(tmp_path / "folder" / "s.sqlite")


@pytest.mark.usefixtures("without_shared_memory")
def test_the_sentence_names_the_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind, named in (("vfat", "the file system (vfat) has no"), ("", f"the file system of {tmp_path} has no")):
        monkeypatch.setattr(store_module, "file_system_of", lambda _, kind=kind: kind)
        with Store(tmp_path / "s.sqlite") as store:
            assert named in store.notice
            assert "rollback journal" in store.notice
            assert "\n" not in store.notice
    assert journal_mode(tmp_path / "s.sqlite") == "delete"


def test_a_log_is_kept_where_it_works_and_nothing_is_said(tmp_path: Path) -> None:
    with Store(tmp_path / "s.sqlite") as store:
        assert store.notice == ""
    assert journal_mode(tmp_path / "s.sqlite") == "wal"


def test_no_log_is_tried_where_several_hosts_may_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "s.sqlite"
    with Store(path) as store:
        store.add(TARGET, "here", "int8", "m", [measurement("a")])
    monkeypatch.setattr(store_module, "file_system_of", lambda _: "nfs4")
    with Store(path) as first, Store(path) as second:
        assert "(nfs4)" in first.notice
        first.add(TARGET, "here", "int8", "m", [measurement("b")])
        second.add(TARGET, "here", "int8", "m", [measurement("c")])
    assert journal_mode(path) == "delete"
    monkeypatch.undo()
    assert keys(path) == ["a", "b", "c"]
    assert journal_mode(path) == "wal"


def test_a_log_that_a_killed_process_left_is_read_without_shared_memory(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    path = tmp_path / "s.sqlite"
    script = """
store = Store(path)
store.add(target, "here", "int8", "m", rows("a", 3))
print("stored", flush=True)
signal.pause()
"""
    process = start("import signal\n" + script, path)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert path.with_name("s.sqlite-wal").stat().st_size > 0
    path.with_name("s.sqlite-shm").unlink()
    request.getfixturevalue("without_shared_memory")
    assert keys(path) == ["a-0", "a-1", "a-2"]
    with Store(path) as store:
        store.add(TARGET, "here", "int8", "m", [measurement("b")])
    assert keys(path) == ["a-0", "a-1", "a-2", "b"]
    assert journal_mode(path) == "delete"


def test_a_store_of_a_newer_release_stays_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "s.sqlite"
    connection = _connect(path)
    connection.execute("PRAGMA user_version=99")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.close()
    before = path.read_bytes()
    monkeypatch.setattr(store_module, "file_system_of", lambda _: "nfs4")
    with pytest.raises(store_module.StoreError, match="newer release"):
        Store(path)
    assert path.read_bytes() == before


def test_every_measurement_survives_a_kill_without_a_log(tmp_path: Path) -> None:
    script = (
        _WITHOUT_SHARED_MEMORY
        + """
store = Store(path)
number = int(sys.argv[2])
while True:
    store.add(target, "here", "int8", "m", rows(number, 5, rounds=5000))
    print(number, flush=True)
    number += 1
"""
    )
    path, first = tmp_path / "s.sqlite", 0
    for batches in (1, 4, 7):
        process = start(script, path, first)
        assert process.stdout is not None
        acknowledged = [int(process.stdout.readline()) for _ in range(batches)][-1]
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert journal_mode(path) == "delete"
        connection = _connect(path)
        stored = [key for (key,) in connection.execute("SELECT subnet_key FROM measurement ORDER BY id")]
        connection.close()
        last = int(stored[-1].split("-")[0])
        assert last >= acknowledged
        assert stored == [f"{batch}-{number}" for batch in range(last + 1) for number in range(5)]
        first = last + 1


@pytest.mark.slow
def test_a_log_whose_locks_fail_is_done_without(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    with Store(path) as store:
        store.add(TARGET, "here", "int8", "m", [measurement("a")])
    command = [sys.executable, "-c", _KEEP_READERS_OUT, str(path.with_name("s.sqlite-shm"))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as keeper:
        assert keeper.stdout is not None
        keeper.stdout.readline()
        # SQLite says "locking protocol" after some seconds of trying.
        with Store(path) as store:
            assert "rollback journal" in store.notice
            assert [row.subnet_key for row in store.measurements(TARGET, "int8", "m")] == ["a"]
            store.add(TARGET, "here", "int8", "m", [measurement("b")])
        keeper.communicate()
    assert keys(path) == ["a", "b"]
