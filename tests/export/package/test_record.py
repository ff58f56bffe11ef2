from __future__ import annotations

import json
from pathlib import Path

import pytest

from ortnas.export.intervals import Interval, ScoreIntervals
from ortnas.export.package.record import (
    RECORD_FILE,
    Facts,
    PackageError,
    PackageRecord,
    read_record,
    write_record,
)
from tests.export.packages import change_record, copy_of


@pytest.mark.slow
def test_a_record_that_is_written_again_is_the_same(exported: Path, tmp_path: Path) -> None:
    record = read_record(exported)
    write_record(tmp_path, record)
    assert (tmp_path / RECORD_FILE).read_bytes() == (exported / RECORD_FILE).read_bytes()
    assert read_record(tmp_path) == record


def test_what_is_not_known_is_left_out_and_what_none_tells_is_kept(exported: Path) -> None:
    document = json.loads((exported / RECORD_FILE).read_text())
    assert "search_score" not in document
    assert set(document["latency"]) == {"measured_ms", "spread_ms", "predicted_ms", "model_digest"}
    assert (document["budget"], document["null_threshold"], document["origin"]["licence"]) == (None, None, None)
    assert set(Facts.__dataclass_fields__) - set(document) <= {
        "search_score",
        "metric",
        "judged",
        "similarity",
        "calibration",
        "label_thresholds",
        "runtime_drift",
    }


def test_intervals_are_values(exported: Path) -> None:
    ((metric, score),) = read_record(exported).report.items()
    assert read_record(exported).intervals[metric] == ScoreIntervals(
        Interval(score, score - 0.03, score + 0.02), Interval(-0.01, -0.02, 0.0)
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("head", "another"),
        ("labels", [1]),
        ("max_length", "20"),
        ("precision", None),
        ("subnet", {"hidden_size": 1}),
        ("recipe", {"name": "avx2", "keep_float": []}),
        ("recipe", {"name": "avx2", "keep_float": [1]}),
        ("latency", {"measured_ms": "1"}),
        ("report", {"accuracy": "high"}),
        ("intervals", {"accuracy": {"score": {"value": 1.0}}}),
        ("drift", {"largest": 1.0}),
        ("checksums", {"../model.onnx": "0"}),
    ],
)
def test_a_damaged_entry_is_named(classifier_package: Path, tmp_path: Path, key: str, value: object) -> None:
    package = copy_of(classifier_package, tmp_path)
    change_record(package, **{key: value})
    with pytest.raises(PackageError, match=rf"ortnas\.json: {key}\S* is missing or damaged; export it again$"):
        read_record(package)


def test_entries_of_packages_before_the_models_digest_are_read(classifier_package: Path) -> None:
    document = json.loads((classifier_package / RECORD_FILE).read_text())
    del document["latency"]["model_digest"]
    assert PackageRecord.from_json(document).latency.model_digest is None
