"""A run with several sources: what is said of them, from the data to the comparison of models."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from ortnas.nas.data import Mixture
from ortnas.nas.stages.commands import data, deliver, train
from ortnas.nas.stages.narrow_texts import kept_by_source
from ortnas.search.comparison import ComparisonRow
from tests.nas.stages.small_runs import open_run
from tests.networks import make_dimensions

MIXTURE = Mixture(("own.txt", "general.txt"), (1.0, 1.0), ("report", "report_general"), (0, 1))


def make_row(name: str, own: float, general: float) -> ComparisonRow:
    return ComparisonRow(
        name=name,
        subnet=make_dimensions("embedding").full_subnet,
        precision="int8",
        measured_ms=1.0,
        spread_ms=0.1,
        p95_ms=1.1,
        speed_up=2.0,
        predicted_ms=None,
        size_bytes=1,
        model_digest="0" * 64,
        scores={"mean_cosine": own, "mean_cosine_general": general},
    )


def test_narrow_texts_are_said_to_be_narrow() -> None:
    said = kept_by_source([make_row("winner 2x, INT8", 0.93, 0.81)], MIXTURE)
    assert said[0] == "winner 2x, INT8: mean cosine with the full model 0.930 on own.txt, 0.810 on general.txt"
    assert "The texts of own.txt are narrow" in said[1]


@pytest.mark.parametrize("general", [0.92, 0.97])
def test_texts_that_serve_others_too_are_not(general: float) -> None:
    assert len(kept_by_source([make_row("winner 2x, INT8", 0.93, general)], MIXTURE)) == 1


@pytest.mark.slow
def test_a_run_learns_from_several_sources_and_tells_what_each_kept(
    trained: Path, tmp_path: Path, sentences: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "general.txt").write_text("".join(f"{text} and {text}\n" for text in sentences[:300]))
    sources = [str(trained / "corpus.txt"), {"source": str(tmp_path / "general.txt"), "weight": 3}]
    document = yaml.safe_load((trained / "run.yaml").read_text()) | {"folder": str(tmp_path / "run")}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(document))
    run = open_run(tmp_path, data={"source": sources}, training={"steps": 3})
    prepared = data(run)
    assert [source["share"] for source in prepared["sources"].values()] == [0.25, 0.75]
    assert prepared["parts"]["report_general"]["rows"] == 32
    train(run)
    done = deliver(run, [run.models.supernet.space.smallest.key], tmp_path / "out")
    run.close()
    for row in done["rows"]:
        assert {"mean_cosine", "mean_cosine_general"} <= set(row["scores"])
    said = " ".join(capsys.readouterr().err.split())
    assert "general.txt | 232 | 75.0% | teacher" in said
    assert "mean cosine with the full model" in said
    card = (next((tmp_path / "out").iterdir()) / "README.md").read_text()
    assert "corpus.txt`, `general.txt`" in card
