from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from ortnas.export.package.record import PackageError
from ortnas.export.package.throughput import LoadError, drive
from tests.export.packages import write_exported


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory, sentences: list[str]) -> Path:
    return write_exported(tmp_path_factory.mktemp("unter last ä"), "bert", "classification", sentences)


@pytest.fixture
def copied(package: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(package, tmp_path / "copy"))


def change(folder: Path, name: str, **changes: object) -> None:
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.slow
@pytest.mark.parametrize("sessions", [1, 3])
def test_each_level_of_concurrency_gets_a_row_that_obeys_littles_law(package: Path, sessions: int) -> None:
    rows = drive(package, (1, 4), seconds=0.5, sessions=sessions)
    assert [(row.concurrency, row.sessions, row.threads) for row in rows] == [(1, sessions, 1), (4, sessions, 1)]
    for row in rows:
        assert row.requests > 4 * row.concurrency
        assert row.throughput == pytest.approx(row.requests / row.elapsed_s)
        assert 0 < row.p50_ms <= row.p95_ms <= row.p99_ms
        # Clients that always wait for one answer: as many requests are under way as there are clients (Little 1961).
        under_way = row.throughput * row.mean_ms / 1000
        assert 0.5 * row.concurrency <= under_way <= 1.05 * row.concurrency
        assert set(row.to_json()) >= {"concurrency", "throughput", "p50_ms", "p95_ms", "p99_ms"}


@pytest.mark.slow
def test_requests_hold_as_many_texts_as_the_workload(package: Path, copied: Path) -> None:
    record = json.loads((copied / "ortnas.json").read_text())
    (workload,) = record["target"]["workloads"]
    # More than the bundled sample has: the same texts again.
    change(copied, "ortnas.json", target=record["target"] | {"workloads": [workload | {"batch": 50}]})
    small_batch, large_batch = (drive(folder, (1,), seconds=0.3)[0] for folder in (package, copied))
    assert large_batch.p50_ms > 2 * small_batch.p50_ms


@pytest.mark.parametrize(
    ("concurrency", "seconds", "sessions"), [((), 1.0, 1), ((2, 0), 1.0, 1), ((1,), 0.0, 1), ((1,), 1.0, 0)]
)
def test_loads_that_make_no_sense_are_refused(
    package: Path, concurrency: tuple[int, ...], seconds: float, sessions: int
) -> None:
    with pytest.raises(LoadError, match=r"each at least 1|above 0"):
        drive(package, concurrency, seconds, sessions)


def test_packages_that_cannot_be_driven_get_a_sentence(copied: Path, tmp_path: Path) -> None:
    with pytest.raises(PackageError, match="is not a package"):
        drive(tmp_path, (1,))
    change(copied, "sample.json", examples=[])
    with pytest.raises(PackageError, match="its bundled sample is empty"):
        drive(copied, (1,))
    (copied / "model.onnx").write_bytes(b"not a model")
    change(copied, "sample.json", examples=[{"text": "he was in it", "label": 0}])
    with pytest.raises(LoadError, match=r"model\.onnx cannot be run"):
        drive(copied, (1,))
    change(copied, "ortnas.json", target={"setup": {}})
    with pytest.raises(PackageError, match="names no target"):
        drive(copied, (1,))


def test_a_request_that_fails_ends_the_load_with_its_reason(copied: Path) -> None:
    # Behind the texts that sessions are warmed with, a token that the word table lacks.
    tokens = [[[1, 2, 3], [0]]] * 3 + [[[10**6, 2, 3], [0]]]
    change(copied, "sample.json", examples=[], tokens=tokens)
    with pytest.raises(LoadError, match="a request failed"):
        drive(copied, (2,), seconds=0.2)
