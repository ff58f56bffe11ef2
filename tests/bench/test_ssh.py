"""A host behind a real sshd, and what can go wrong on the way to it."""

from __future__ import annotations

import ast
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ortnas.bench.host import Failure, HostError
from ortnas.bench.request import Request
from ortnas.bench.ssh import SshHost, bootstrap
from ortnas.bench.timing import Samples, TimingProtocol, Workload
from tests.bench.pythons import DIES, old_python, when_opened, write_python
from tests.bench.sshd import HOST, Server, running_server, wait_until

pytestmark = pytest.mark.slow

WORKLOADS, PROTOCOL = (Workload(1, 8, 120),), TimingProtocol.fixed(6)
# The connection's process is the parent of the shell that started the worker.
_CUTS_ITS_CONNECTION = """
            if not os.path.exists({marker!r}):
                open({marker!r}, "w").close()
                with open(f"/proc/{{os.getppid()}}/stat") as status:
                    os.kill(int(status.read().rpartition(")")[2].split()[1]), signal.SIGKILL)
                time.sleep(0.2)
"""


_HERE = re.escape(f"{sys.executable}, Python {sys.version.split()[0]}")
_BROKEN = """
class Broken:
    def find_spec(self, name, *arguments):
        if name == "numpy":
            raise RuntimeError("built for\\nanother system")
sys.meta_path.insert(0, Broken())
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    folder = tmp_path / "sshd"
    folder.mkdir()
    with running_server(folder) as started:
        yield started


def beside(anchor: bytes) -> Request:
    return Request(anchor, workloads=WORKLOADS, protocol=PROTOCOL)


def connect(server: Server, python: str = sys.executable) -> SshHost:
    return SshHost(HOST, python, server.ssh, timeout_s=60, wait_s=0.1)


def test_the_worker_leaves_nothing_behind(server: Server, tmp_path: Path, models: list[bytes]) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    with connect(server, write_python(tmp_path, TMPDIR=str(temporary))) as host:
        host.hello()
        # Its code is gone once it runs, the models lie in one folder.
        assert [path.name.rsplit("-", 2)[0] for path in temporary.iterdir()] == ["ortnas-worker"]
        host.measure({"model": models[1]}, beside(models[0]))
        server.cut_connections()
        host.measure({"model": models[1]}, beside(models[0]))
    wait_until(lambda: not os.listdir(temporary))


def test_a_connection_lost_between_measurements_is_made_again(server: Server, models: list[bytes]) -> None:
    with connect(server) as host:
        for _ in range(3):
            results = host.measure({"model": models[1]}, beside(models[0]))
            assert isinstance(results["model"], Samples)
            server.cut_connections()
        assert host.hello()["fingerprint"]
        server.cut_connections()
        host.forget()


def test_a_source_is_sent_again_over_a_new_connection(server: Server, models: list[bytes]) -> None:
    request = replace(beside(models[0]), source=models[0])
    with connect(server) as host:
        for _ in range(2):
            results = host.measure({"a": models[1], "b": models[2]}, request)
            assert all(isinstance(result, Samples) for result in results.values())
            host.forget()
            results = host.measure({"c": models[3]}, request)
            assert isinstance(results["c"], Samples)
            server.cut_connections()


def test_a_connection_lost_while_measuring_costs_no_model(server: Server, tmp_path: Path, models: list[bytes]) -> None:
    marker = tmp_path / "cut"
    cut = _CUTS_ITS_CONNECTION.format(marker=str(marker)).strip()
    with connect(server, write_python(tmp_path, when_opened(models[2], cut))) as host:
        results = host.measure({"a": models[1], "b": models[2]}, beside(models[0]))
    assert marker.exists()
    assert all(isinstance(result, Samples) for result in results.values())


def test_a_model_that_kills_the_worker_there_costs_only_itself(
    server: Server, tmp_path: Path, models: list[bytes]
) -> None:
    with connect(server, write_python(tmp_path, when_opened(models[2], DIES))) as host:
        results = host.measure({"a": models[1], "b": models[2]}, beside(models[0]))
    assert isinstance(results["a"], Samples)
    assert isinstance(results["b"], Failure)
    assert "killed; out of memory?" in results["b"].reason


def test_a_host_that_is_gone_for_good_gets_a_sentence(server: Server, models: list[bytes]) -> None:
    with connect(server) as host:
        host.measure({"model": models[1]}, beside(models[0]))
        server.stop()
        host.forget()
        with pytest.raises(HostError, match=r"ortnas-test cannot be reached: .*[Cc]onnect"):
            host.measure({"model": models[1]}, beside(models[0]))
        with pytest.raises(HostError, match="cannot be reached"):
            host.hello()


@pytest.mark.parametrize(
    ("options", "preamble", "expected"),
    [
        ("-I -S", "", rf"python there \({_HERE}\) cannot import numpy \(ModuleNotFoundError: No module named 'numpy'"),
        ("", "sys.modules['onnxruntime'] = None", rf"python there \({_HERE}\) cannot import onnxruntime \("),
        ("", _BROKEN, r"cannot import numpy \(RuntimeError: built for another system\): install numpy and onnxr"),
        (
            "",
            "sys.version_info = (3, 9, 18)",
            "python there is Python 3.9.18; 3.10 or newer is needed: install it, or set",
        ),
        ("", "import onnxruntime; onnxruntime.__version__ = '1.10.0'", r"ONNX Runtime 1.10.0 is older .* install 1.17"),
    ],
    ids=["nothing installed", "no onnxruntime", "broken numpy", "old Python", "old onnxruntime"],
)
def test_what_the_hosts_python_lacks_is_said(
    server: Server, tmp_path: Path, options: str, preamble: str, expected: str
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    with (
        connect(server, write_python(tmp_path, preamble, options, TMPDIR=str(temporary))) as host,
        pytest.raises(HostError, match=f"^ortnas-test: .*{expected}") as caught,
    ):
        host.hello()
    assert "\n" not in str(caught.value)
    wait_until(lambda: not list(temporary.glob("ortnas-*")))


def test_a_python_that_is_too_old_says_so_itself(server: Server, models: list[bytes]) -> None:
    python = old_python()
    with connect(server, python) as host:
        for ask in (
            host.hello,
            lambda: host.measure({"model": models[1]}, beside(models[0])),
        ):
            with pytest.raises(
                HostError, match=rf"^ortnas-test: {re.escape(python)} there is Python 3\.\d\.\d+; 3.10 or"
            ):
                ask()


def test_the_bootstrap_is_readable_to_old_pythons() -> None:
    ast.parse(bootstrap("a 'python'"), feature_version=(3, 6))


def test_a_python_that_is_not_there_is_said(server: Server) -> None:
    with connect(server, "/nowhere/python") as host, pytest.raises(HostError, match="/nowhere/python: not found"):
        host.hello()


def test_what_a_login_script_prints_is_passed_over(server: Server, tmp_path: Path, models: list[bytes]) -> None:
    with connect(server, write_python(tmp_path, "print('Welcome!', flush=True)")) as host:
        assert host.hello()["fingerprint"]
        results = host.measure({"model": models[1]}, beside(models[0]))
    assert isinstance(results["model"], Samples)


def test_an_ssh_that_is_not_there_and_a_name_that_is_an_option_get_a_sentence() -> None:
    with SshHost(HOST, ssh=("no-such-ssh",)) as host, pytest.raises(HostError, match="no-such-ssh cannot be started"):
        host.hello()
    with pytest.raises(HostError, match="is no name of a host"):
        SshHost("-oProxyCommand=true")
