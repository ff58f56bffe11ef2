"""Bundles that are written, carried to a host, run there, interrupted and damaged."""

from __future__ import annotations

import ast
import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from ortnas import bench
from ortnas.bench.bundle import BundleError, plan_digest, read_header, read_results, write_bundle
from ortnas.bench.fingerprint import fingerprint
from ortnas.bench.host import Failure
from ortnas.bench.request import Request
from ortnas.bench.timing import Samples
from tests.bench.bundles import PROTOCOL, VISITS, WORKLOADS, Bundle, lines_of, run_bundle, write_lines
from tests.bench.pythons import DIES, old_python, when_opened
from tests.bench.signals import default_signals
from tests.bench.sshd import wait_until


def test_a_bundle_holds_every_model_once_and_a_plan(bundle: Bundle, named: dict[str, bytes]) -> None:
    path, plan = bundle
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert json.loads(archive.read("plan.json")) == plan
        for name, digest in plan["models"]:
            assert archive.read(f"models/{digest}.onnx") == named[name]
    assert len(names) == len(set(names))
    assert sum(name.startswith("models/") for name in names) == len(set(named.values()))
    assert [name for name, _ in plan["models"]] == list(named)
    assert plan["digest"] == plan_digest(plan)
    assert os.listdir(path.parent).count(path.name) == 1


def test_a_bundle_measures_every_model_and_tells_how_long_it_takes(
    bundle: Bundle, measured: Path, named: dict[str, bytes]
) -> None:
    _, plan = bundle
    results = read_results(measured, plan)
    assert results.complete
    assert results.missing == ()
    assert results.fingerprint == fingerprint()
    assert read_header(measured)["plan"] == plan["digest"]
    assert Counter(name for name, _ in results.visits) == dict.fromkeys(named, VISITS) | {"bad": 1}
    for name, result in results.visits:
        if name == "bad":
            assert isinstance(result, Failure)
        else:
            assert isinstance(result, Samples)
            assert [len(row) for row in result.model_ns] == [6, 6]
    # Each pass has an order of its own, and none is the plan's.
    order = [name for name, _ in results.visits if name != "bad"]
    passes = [order[: len(named) - 1], order[len(named) - 1 :], [name for name in named if name != "bad"]]
    assert len({tuple(names) for names in passes}) == 3


@pytest.mark.slow
def test_a_finished_bundle_has_nothing_more_to_do(bundle: Bundle, measured: Path) -> None:
    before = measured.read_bytes()
    done = run_bundle(bundle[0])
    assert done.returncode == 0
    assert "--import results.jsonl" in done.stdout
    assert measured.read_bytes() == before


@pytest.mark.slow
def test_progress_goes_to_stderr(bundle: Bundle, tmp_path: Path) -> None:
    done = run_bundle(bundle[0], "--out", str(tmp_path / "deep" / "mine.jsonl"))
    said = done.stderr.splitlines()
    assert [line.partition(" models")[0] for line in said] == [
        f"{timings} timings of {names}" for timings, names in ((5, 5), (8, 8), (13, 8), (15, 8))
    ]
    assert all("timings left, about" in line for line in said)
    assert " 0 timings left" in said[-1]
    assert read_results(tmp_path / "deep" / "mine.jsonl", bundle[1]).complete


@pytest.mark.slow
def test_an_unzipped_bundle_runs_too(bundle: Bundle, tmp_path: Path) -> None:
    shutil.unpack_archive(bundle[0], tmp_path / "unzipped", "zip")
    script = tmp_path / "unzipped" / "run.sh"
    environment = {**os.environ, "PYTHON": sys.executable}
    done = subprocess.run(["sh", script], capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert read_results(tmp_path / "unzipped" / "results.jsonl", bundle[1]).complete


@pytest.mark.slow
@pytest.mark.parametrize("how", ["kill", "interrupt"])
def test_an_interrupted_run_goes_on_where_it_was(bundle: Bundle, models: list[bytes], tmp_path: Path, how: str) -> None:
    out, opened, waits = (tmp_path / name for name in ("results.jsonl", "opened", "waits"))
    (tmp_path / "sitecustomize.py").write_text(_second_time(models[1], opened, waits))
    with default_signals():
        started = subprocess.Popen(
            [sys.executable, bundle[0], "--out", out],
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
    with started as process:
        wait_until(waits.exists)
        if how == "kill":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGINT)  # what a terminal does
        assert process.stderr is not None
        said = process.stderr.read().decode()
    if how == "interrupt":
        assert process.returncode == 130
        assert said.splitlines()[-1].startswith("stopped; what was timed is in")
    with out.open("ab") as stream:
        stream.write(b'{"name": "model 1", "model_n')  # what a kill in mid-write leaves
    before = read_results(out, bundle[1])
    assert not before.complete
    assert before.visits
    assert before.missing
    assert run_bundle(bundle[0], "--out", str(out)).returncode == 0
    after = read_results(out, bundle[1])
    assert after.complete
    assert after.visits[: len(before.visits)] == before.visits


@pytest.mark.slow
def test_two_runs_do_not_write_to_one_file(bundle: Bundle, models: list[bytes], tmp_path: Path) -> None:
    out, opened, waits = (tmp_path / name for name in ("results.jsonl", "opened", "waits"))
    (tmp_path / "sitecustomize.py").write_text(_second_time(models[1], opened, waits))
    with subprocess.Popen(
        [sys.executable, bundle[0], "--out", out],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    ) as process:
        wait_until(waits.exists)
        assert run_bundle(bundle[0], "--out", str(out)).returncode == 0
        waits.unlink()
        assert process.stderr is not None
        said = process.stderr.read().decode()
    assert process.returncode == 1
    assert "another process writes to" in said
    assert read_results(out, bundle[1]).complete


def _second_time(model: bytes, opened: Path, waits: Path) -> str:
    """Code that has a worker wait when it opens a model again, while a file is there and its parent lives."""
    return when_opened(
        model,
        f"""
            if os.path.exists({str(opened)!r}):
                parent = os.getppid()
                open({str(waits)!r}, "w").close()
                while os.path.exists({str(waits)!r}) and os.getppid() == parent:
                    time.sleep(0.02)
            open({str(opened)!r}, "w").close()
""".strip(),
    )


@pytest.mark.slow
def test_a_model_that_kills_the_worker_costs_only_itself(bundle: Bundle, models: list[bytes], tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(when_opened(models[1], DIES))
    done = run_bundle(bundle[0], "--out", str(tmp_path / "results.jsonl"), PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    results = read_results(tmp_path / "results.jsonl", bundle[1])
    assert {name for name, result in results.visits if isinstance(result, Failure)} == {"bad", "model 1"}
    assert results.complete


@pytest.mark.slow
def test_results_of_another_host_are_not_continued(bundle: Bundle, measured: Path, tmp_path: Path) -> None:
    header, *_ = lines_of(measured)
    header["fingerprint"]["cpu"] = "another processor"
    write_lines(tmp_path / "results.jsonl", bundle[1], [header])
    done = run_bundle(bundle[0], "--out", str(tmp_path / "results.jsonl"))
    assert done.returncode == 1
    assert "was begun on another host (cpu: 'another processor', here " in done.stderr


@pytest.mark.slow
def test_a_damaged_bundle_gets_a_sentence(bundle: Bundle, models: list[bytes], tmp_path: Path) -> None:
    content = bundle[0].read_bytes()
    at = content.index(models[0]) + len(models[0]) // 2
    for number, damaged in enumerate(
        (
            content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :],
            content.replace(b'"visits": 2', b'"visits": 3'),
        )
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "bundle.zip").write_bytes(damaged)
        done = run_bundle(folder / "bundle.zip")
        assert done.returncode == 1
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1
        assert "bundle" in done.stderr


@pytest.mark.slow
def test_a_folder_that_cannot_be_written_to_gets_a_sentence(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run_bundle(bundle[0], "--out", str(tmp_path / "file" / "results.jsonl"))
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "--out names another file" in done.stderr


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("", "cannot import numpy (ModuleNotFoundError: No module named 'numpy'); install them with: "),
        (
            "sys.version_info = (3, 9, 18); sys.version = '3.9.18 (main)'",
            f"needs Python 3.10 or newer; {sys.executable} is Python 3.9.18",
        ),
    ],
    ids=["nothing installed", "old python"],
)
def test_what_the_python_lacks_is_said(bundle: Bundle, code: str, expected: str) -> None:
    """``-S`` leaves all installed packages out of reach."""
    start = f"import runpy, sys; {code}\nsys.argv = ['bundle']; runpy.run_path({str(bundle[0])!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", start], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert expected in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_an_old_onnxruntime_is_said(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import onnxruntime; onnxruntime.__version__ = '1.10.0'")
    done = run_bundle(bundle[0], "--out", str(tmp_path / "results.jsonl"), PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert "ONNX Runtime 1.10.0 is older" in done.stderr
    assert not (tmp_path / "results.jsonl").exists()


def test_the_entry_is_readable_to_old_pythons() -> None:
    source = (Path(bench.__file__).parent / "bundle_main.py").read_text()
    tree = ast.parse(source, feature_version=(3, 0))
    new_since = (ast.JoinedStr, ast.AnnAssign, ast.NamedExpr, ast.AsyncFunctionDef, ast.Match, ast.FunctionDef)
    assert not [node for node in ast.walk(tree) if isinstance(node, new_since)]


@pytest.mark.slow
def test_an_old_python_is_told_what_the_bundle_needs(bundle: Bundle) -> None:
    python = old_python()
    done = subprocess.run([python, str(bundle[0])], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"needs Python 3.10 or newer; {python} is Python 3." in done.stderr
    assert done.stderr.count("\n") == 1


def test_models_are_taken_one_by_one_and_no_half_bundle_stays(tmp_path: Path, models: list[bytes]) -> None:
    path = tmp_path / "bundle.zip"
    sizes = []

    def failing() -> Iterator[tuple[str, bytes]]:
        for number, model in enumerate(models):
            sizes.append(sum(file.stat().st_size for file in tmp_path.iterdir()))
            yield str(number), model
        raise RuntimeError("the next export fails")

    with pytest.raises(RuntimeError, match="the next export fails"):
        write_bundle(path, failing(), Request(models[0], workloads=WORKLOADS, protocol=PROTOCOL), 1)
    assert os.listdir(tmp_path) == []
    assert sizes == sorted(sizes)
    assert sizes[-1] > sum(map(len, models[1:-2]))


def test_what_cannot_be_bundled_gets_a_sentence(tmp_path: Path, models: list[bytes]) -> None:
    def write(path: Path, *named: tuple[str, bytes]) -> None:
        write_bundle(path, named, Request(models[0], workloads=WORKLOADS, protocol=PROTOCOL), 1)

    with pytest.raises(BundleError, match="two models are called a"):
        write(tmp_path / "b.zip", ("a", models[0]), ("a", models[1]))
    with pytest.raises(BundleError, match="no model"):
        write(tmp_path / "b.zip")
    (tmp_path / "file").write_text("")
    with pytest.raises(BundleError, match=r"b.zip cannot be written"):
        write(tmp_path / "file" / "b.zip", ("a", models[0]))


def test_a_full_disk_leaves_no_half_bundle(tmp_path: Path) -> None:
    script = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from bench.bundle import BundleError, write_bundle\n"
        "from bench.request import Request\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try:\n"
        "    write_bundle(Path(sys.argv[1]), {'a': bytes(200_000)}, Request(b'a'), 1)\n"
        "except BundleError as error:\n"
        "    sys.exit(str(error))\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "b.zip")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(bench.__file__).parents[1], check=False)
    assert "b.zip cannot be written: " in done.stderr
    assert "File too large" in done.stderr
    assert os.listdir(tmp_path) == []
