"""Workers and bundles that are started where a user's own modules are called as folders of this project are."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from ortnas.bench.bundle import read_results, write_bundle
from ortnas.bench.request import Request
from ortnas.bench.ssh import worker_archive
from ortnas.bench.testing.models import VOCAB_SIZE, make_model
from ortnas.bench.timing import TimingProtocol, Workload
from tests.bench.sshd import HOST, running_server

pytestmark = pytest.mark.slow

SOURCES = Path(__file__).parents[2] / "src"
_SCRIPT = """
import json, sys
from pathlib import Path
from ortnas.bench.bundle import write_bundle
from ortnas.bench.request import Request
from ortnas.bench.timing import TimingProtocol, Workload
from ortnas.bench.ssh import SshHost
from ortnas.bench.worker_host import LocalHost
name, python, *ssh = sys.argv[1:]
model, anchor = (Path(file).read_bytes() for file in ("model.onnx", "anchor.onnx"))
request = Request(anchor, workloads=(Workload(1, 8, 120),), protocol=TimingProtocol.fixed(6))
rounds = {}
for host in (LocalHost(60), SshHost(name, python, ssh, timeout_s=60)) if ssh else (LocalHost(60),):
    with host:
        host.hello()
        rounds[host.name] = len(host.measure({"model": model}, request)["model"].model_ns[0])
plan = write_bundle(Path("out.zip"), {"model": model}, request, visits=1)
import bench, export, search
print(json.dumps([rounds, plan, [module.WHOSE for module in (bench, export, search)]]))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A script beside modules of its own with our folders' names."""
    for name in ("bench/__init__.py", "search/__init__.py", "export.py", "nas.py", "predictors.py"):
        path = tmp_path / "mine" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("WHOSE = 'mine'\n")
    for name, width in (("model", 8), ("anchor", 16)):
        (tmp_path / "mine" / f"{name}.onnx").write_bytes(make_model(width))
    (tmp_path / "mine" / "script.py").write_text(_SCRIPT)
    return tmp_path / "mine"


def run(folder: Path, *arguments: str, path: str) -> str:
    environment = {**os.environ, "PYTHONPATH": path}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def assert_undisturbed(folder: Path, hosts: list[str], *arguments: str) -> None:
    rounds, plan, whose = json.loads(run(folder, "script.py", *arguments, path=f"{SOURCES}{os.pathsep}{folder}"))
    assert rounds == dict.fromkeys(hosts, 6)
    assert whose == ["mine"] * 3
    run(folder, "out.zip", path=str(folder))
    results = read_results(folder / "results.jsonl", plan)
    assert results.complete
    assert [name for name, _ in results.visits] == ["model"]


def test_the_local_worker_and_bundles_are_not_disturbed(folder: Path) -> None:
    assert_undisturbed(folder, ["local"], "", "")


def test_the_worker_behind_ssh_is_not_disturbed_on_either_side(folder: Path, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\ncd {shlex.quote(str(folder))} && exec {shlex.quote(sys.executable)} "$@"\n')
    python.chmod(0o755)
    (tmp_path / "sshd").mkdir()
    with running_server(tmp_path / "sshd") as server:
        assert_undisturbed(folder, ["local", HOST], HOST, str(python), *server.ssh)


def test_an_unzipped_bundle_is_not_disturbed(folder: Path) -> None:
    request = Request(make_model(16), workloads=(Workload(1, 8, VOCAB_SIZE),), protocol=TimingProtocol.fixed(6))
    write_bundle(folder / "out.zip", {"model": make_model(8)}, request, visits=1)
    with zipfile.ZipFile(folder / "out.zip") as archive:
        archive.extractall(folder / "unzipped")
    run(folder, "unzipped", path=str(folder))
    assert (folder / "unzipped" / "results.jsonl").is_file()


def test_what_travels_is_the_package_without_its_suites(tmp_path: Path) -> None:
    (tmp_path / "worker.zip").write_bytes(worker_archive())
    write_bundle(tmp_path / "bundle.zip", {"model": make_model(8)}, Request(make_model(16)), visits=1)
    for name in ("worker.zip", "bundle.zip"):
        with zipfile.ZipFile(tmp_path / name) as archive:
            modules = [entry for entry in archive.namelist() if entry.startswith("bench/")]
        assert "bench/worker.py" in modules
        assert all(entry.count("/") == 1 and entry.endswith(".py") for entry in modules)
