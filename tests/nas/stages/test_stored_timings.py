from __future__ import annotations

import csv
import json
from datetime import datetime, timezone
from pathlib import Path

import pyarrow.parquet
import pytest

from ortnas.bench.store import Measurement, Store, StoreError, timings
from ortnas.bench.target import Target
from ortnas.bench.timing import Samples, Setup, Workload
from ortnas.nas.architecture.subnet import Layer, Subnet
from ortnas.nas.console import Console
from ortnas.nas.run.configuration import ConfigurationError
from ortnas.nas.stages.stored_timings import export_dataset, import_latencies, list_datasets
from ortnas.predictors.latency_files import LatencyFileError, write_latency_file

HERE = Target({"cpu": "Xeon"}, Setup(), (Workload(),))
THERE = Target({"cpu": "Cortex"}, Setup(threads=4), (Workload(weight=3), Workload(4, 32)))
SMALL = Subnet(64, (Layer(2, 2, 16, 128),))
LARGE = Subnet(96, (Layer(0, 4, 16, 256), Layer(3, 2, 32, 192)))


def visit(*model_ms: float, anchor_ms: float = 2.0) -> Samples:
    """One entry per workload, 40 rounds."""
    model = tuple((int(value * 1e6),) * 40 for value in model_ms)
    return Samples(model, ((int(anchor_ms * 1e6),) * 40,) * len(model))


def row(subnet: Subnet, samples: Samples | None, state: str = "ok", at: float = 0.0) -> Measurement:
    return Measurement(subnet.key, subnet.to_json(), state, "" if samples else "out of memory", samples, at)


@pytest.fixture
def store_path(tmp_path: Path) -> Path:
    path = tmp_path / "bench.sqlite"
    with Store(path) as store:
        visits = [
            row(SMALL, visit(1.0), at=1_700_000_000),
            row(LARGE, visit(3.0), "unstable", 1_700_000_060),
            row(SMALL, visit(2.0, anchor_ms=4.0), at=1_700_000_120),
        ]
        store.add(HERE, "local", "int8", "m", visits)
        store.add(HERE, "local", "fp32", "m", [row(SMALL, visit(4.0), at=1_700_000_000)])
        store.add(THERE, "user@pi", "int8", "m", [row(LARGE, visit(5.0, 7.0)), row(SMALL, None, "failed")])
    return path


def test_the_list_names_every_data_set(store_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = list_datasets(store_path, Console())
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert len(cells) == 2 + 3
    assert cells[2][:9] == ["local", "Xeon", "1 thread(s)", "1 x 128 tokens", "int8", "2", "1", "0", "1.00 to 3.00"]
    assert cells[2][10:] == [HERE.hash, "2023-11-14 22:15 UTC"]
    assert cells[4][:8] == ["user@pi", "Cortex", "4 thread(s)", "1 x 128 tokens, 4 x 32 tokens", "int8", "2", "0", "1"]
    assert [(dataset["target"], dataset["precision"]) for dataset in result["datasets"]] == [
        (HERE.hash, "int8"),
        (HERE.hash, "fp32"),
        (THERE.hash, "int8"),
    ]
    assert result["datasets"][0]["visits"] == {"ok": 2, "unstable": 1, "failed": 0}
    assert result["datasets"][2]["noise_floor"] is None
    assert json.loads(json.dumps(result)) == result


def test_without_timings_there_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(StoreError, match=r"bench\.sqlite: there are no timings yet; `ortnas bench` takes them"):
        list_datasets(tmp_path / "bench.sqlite", Console())
    assert list(tmp_path.iterdir()) == []
    with Store(tmp_path / "bench.sqlite"):
        pass
    assert list_datasets(tmp_path / "bench.sqlite", Console())["datasets"] == []
    assert "holds no timings yet" in capsys.readouterr().out
    with pytest.raises(ConfigurationError, match=r"no timings to export: .* holds nothing"):
        export_dataset(tmp_path / "bench.sqlite", tmp_path / "a.csv")
    assert not (tmp_path / "a.csv").exists()


def test_parquet_holds_a_row_per_visit_with_its_samples(store_path: Path, tmp_path: Path) -> None:
    result = export_dataset(store_path, tmp_path / "out" / "timings.parquet")
    assert result == {
        "file": str(tmp_path / "out" / "timings.parquet"),
        "rows": 6,
        "targets": [HERE.hash, THERE.hash],
    }
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["timings.parquet"]
    rows = pyarrow.parquet.read_table(result["file"]).to_pylist()
    assert [timing["subnet_key"] for timing in rows] == [
        subnet.key for subnet in (SMALL, LARGE, SMALL, SMALL, LARGE, SMALL)
    ]
    # The reference is the median of the anchor's 2, 2 and 4 ms over three visits.
    assert [timing["latency_ms"] for timing in rows[:3]] == pytest.approx([1.0, 3.0, 1.0])
    second = rows[1]
    assert (second["depth"], second["hidden_size"], second["source"]) == (2, 96, [0, 3])
    assert (second["num_heads"], second["head_size"], second["ffn_size"]) == ([4, 2], [16, 32], [256, 192])
    assert (second["state"], second["rounds"], second["error"]) == ("unstable", 40, 0.0)
    assert second["measured_at"] == datetime.fromtimestamp(1_700_000_060, timezone.utc)
    assert second["samples_ns"] == [[3_000_000] * 40]
    assert second["anchor_ns"] == [[2_000_000] * 40]
    assert rows[4]["samples_ns"] == [[5_000_000] * 40, [7_000_000] * 40]
    assert rows[4]["latency_ms"] == pytest.approx((3 * 5 + 7) / 4)
    failed = rows[5]
    assert (failed["state"], failed["reason"], failed["rounds"]) == ("failed", "out of memory", 0)
    assert failed["latency_ms"] is failed["error"] is failed["p95_ms"] is None
    assert failed["samples_ns"] == []


def test_csv_holds_the_same_without_samples(store_path: Path, tmp_path: Path) -> None:
    export_dataset(store_path, tmp_path / "timings.parquet")
    export_dataset(store_path, tmp_path / "timings.csv")
    expected = pyarrow.parquet.read_table(tmp_path / "timings.parquet").drop_columns(["samples_ns", "anchor_ns"])
    with (tmp_path / "timings.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == expected.column_names
    for csv_row, parquet_row in zip(rows, expected.to_pylist(), strict=True):
        assert csv_row["subnet_key"] == parquet_row["subnet_key"]
        assert json.loads(csv_row["ffn_size"]) == parquet_row["ffn_size"]
        assert csv_row["latency_ms"] == ("" if parquet_row["latency_ms"] is None else repr(parquet_row["latency_ms"]))
        assert datetime.fromisoformat(csv_row["measured_at"]) == parquet_row["measured_at"]


def test_an_export_may_be_of_one_target_or_precision(store_path: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    assert export_dataset(store_path, file, precision="fp32")["rows"] == 1
    assert export_dataset(store_path, file, target=THERE.hash[:6])["targets"] == [THERE.hash]
    assert export_dataset(store_path, file, HERE.hash, "int8")["rows"] == 3
    with pytest.raises(
        ConfigurationError, match=f"no timings to export: .* holds {HERE.hash} int8, {HERE.hash} fp32, "
    ):
        export_dataset(store_path, file, "nothing")
    assert len(file.read_text().splitlines()) == 1 + 3


def test_files_of_another_kind_are_not_written(store_path: Path, tmp_path: Path) -> None:
    for name in ("timings.xlsx", "timings"):
        with pytest.raises(ConfigurationError, match=rf"{name}: \.parquet and \.csv files can be written"):
            export_dataset(store_path, tmp_path / name)
        assert not (tmp_path / name).exists()


def test_a_latency_file_becomes_a_target_of_its_own(tmp_path: Path) -> None:
    subnets = {
        subnet.key: subnet for subnet in (Subnet(64, (Layer(0, 2, 16, 128),)), Subnet(96, (Layer(0, 4, 16, 256),)))
    }
    first, second = subnets.values()
    file, store_path = tmp_path / "cpu.lat", tmp_path / "run" / "bench.sqlite"
    latencies = [(first.to_json(), 1.234567), (second.to_json(), 8.5), (second.to_json(), 8.9)]
    write_latency_file(file, latencies)
    result = import_latencies(store_path, file, "fp32", threads=2, batch=1, sequence=64)
    assert (result["imported"], result["known"], result["subnets"], result["host"]) == (3, 0, 2, "cpu.lat")
    with Store(store_path) as store:
        (summary,) = store.summary()
        usable, _ = timings(store.measurements(summary.target, "fp32", summary.model), summary.target.workloads)
    assert summary.target.hash == result["target"]
    assert set(summary.target.fingerprint) == {"imported", "sha256"}
    assert (summary.target.setup, summary.target.workloads) == (Setup(threads=2), (Workload(1, 64),))
    assert {key: timing.latency_ms for key, timing in usable.items()} == pytest.approx(
        {first.key: 1.234567, second.key: 8.7}
    )
    # Once is enough.
    again = import_latencies(store_path, file, "fp32", threads=2, batch=1, sequence=64)
    assert (again["imported"], again["known"], again["target"]) == (0, 3, result["target"])
    write_latency_file(file, latencies[:1])
    other = import_latencies(store_path, file, "fp32", threads=2, batch=1, sequence=64)
    assert other["imported"] == 1
    assert other["target"] != result["target"]


def test_imported_latencies_are_listed_and_exported_without_what_is_not_known(tmp_path: Path) -> None:
    file, store_path = tmp_path / "cpu.lat", tmp_path / "bench.sqlite"
    write_latency_file(file, [(SMALL.to_json(), 2.5)])
    import_latencies(store_path, file, "int8")
    assert list_datasets(store_path, Console(to_stderr=True))["datasets"][0]["fastest_ms"] == pytest.approx(2.5)
    export_dataset(store_path, tmp_path / "a.parquet")
    (timing,) = pyarrow.parquet.read_table(tmp_path / "a.parquet").to_pylist()
    assert (timing["host"], timing["latency_ms"], timing["rounds"]) == ("cpu.lat", pytest.approx(2.5), 1)
    assert timing["error"] is timing["p95_ms"] is None
    # The format does not say which layers a subnet is cut from.
    assert timing["source"] == [0]


def test_an_import_takes_all_or_nothing(tmp_path: Path) -> None:
    file, store_path = tmp_path / "cpu.lat", tmp_path / "bench.sqlite"
    write_latency_file(file, [(SMALL.to_json(), 2.5)])
    with pytest.raises(ConfigurationError, match="precision = 'int4'; allowed are int8, fp32"):
        import_latencies(store_path, file, "int4")
    file.write_text(file.read_text() + "torn")
    with pytest.raises(LatencyFileError, match=r"cpu\.lat, line 2"):
        import_latencies(store_path, file, "int8")
    assert not store_path.exists()
