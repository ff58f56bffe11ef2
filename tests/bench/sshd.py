"""A real ``sshd`` on a free port of this machine, with keys and configuration of its own."""

from __future__ import annotations

import getpass
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

SERVER = Path("/usr/sbin/sshd")
# The name under which the client's configuration knows the server.
HOST = "ortnas-test"
_PATIENCE_S = 20


@dataclass(frozen=True)
class Server:
    """``ssh`` is the client's command; it asks for nothing and touches no file outside the test's folder."""

    ssh: tuple[str, ...]
    process: subprocess.Popen[bytes]

    def cut_connections(self) -> None:
        """Kills the processes that hold them; whatever they started lives on."""
        for process_id in _servers_below(self.process.pid):
            _kill(process_id)

    def stop(self) -> None:
        """No connection stays, and none is made again."""
        connections = _servers_below(self.process.pid)
        self.process.kill()
        self.process.wait()
        for process_id in connections:
            _kill(process_id)


@contextmanager
def running_server(folder: Path) -> Iterator[Server]:
    """Skips the test where this machine has no sshd or ssh."""
    for program in (SERVER, shutil.which("ssh"), shutil.which("ssh-keygen")):
        if program is None or not Path(program).exists():
            pytest.skip("needs /usr/sbin/sshd and ssh: install Debian's packages openssh-server and openssh-client")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where a server that root starts locks its helper in
    for name in ("host_key", "user_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    shutil.copyfile(folder / "user_key.pub", folder / "authorized_keys")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    _write(
        folder / "sshd_config",
        f"Port {port}",
        "ListenAddress 127.0.0.1",
        f'HostKey "{folder / "host_key"}"',
        f'AuthorizedKeysFile "{folder / "authorized_keys"}"',
        "AuthenticationMethods publickey",
        "PermitRootLogin prohibit-password",
        "PidFile none",
        "StrictModes no",  # the test's folder lies below one that everybody may write to
        "UsePAM no",
    )
    _write(
        folder / "ssh_config",
        f"Host {HOST}",
        "HostName 127.0.0.1",
        f"Port {port}",
        f"User {getpass.getuser()}",
        f'IdentityFile "{folder / "user_key"}"',
        "IdentitiesOnly yes",
        "IdentityAgent none",
        "StrictHostKeyChecking yes",
        f'UserKnownHostsFile "{folder / "known_hosts"}"',
        "GlobalKnownHostsFile none",
    )
    key_type, key = (folder / "host_key.pub").read_text().split()[:2]
    _write(folder / "known_hosts", f"[127.0.0.1]:{port} {key_type} {key}")
    with (folder / "sshd.log").open("wb") as log:
        process = subprocess.Popen([SERVER, "-D", "-e", "-f", folder / "sshd_config"], stderr=log)
    server = Server(("ssh", "-F", str(folder / "ssh_config")), process)
    try:
        wait_until(lambda: process.poll() is not None or _listens(port))
        assert process.poll() is None, (folder / "sshd.log").read_text()
        yield server
    finally:
        server.stop()


def _servers_below(process_id: int) -> list[int]:
    """The server's processes that one of them started: one or two for each connection."""
    process_ids = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            _, name, status = re.split(r" \((.*)\) ", (folder / "stat").read_text())
        except OSError:
            continue  # ended meanwhile
        state, parent = status.split()[:2]
        if int(parent) == process_id and name.startswith("sshd") and state != "Z":
            process_ids += [int(folder.name), *_servers_below(int(folder.name))]
    return process_ids


def _kill(process_id: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(process_id, signal.SIGKILL)


def wait_until(is_so: Callable[[], bool]) -> None:
    """For what another process does in its own time."""
    give_up = time.monotonic() + _PATIENCE_S
    while not is_so():
        assert time.monotonic() < give_up, "waited in vain"
        time.sleep(0.02)


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def _write(path: Path, *lines: str) -> None:
    path.write_text("".join(f"{line}\n" for line in lines))
