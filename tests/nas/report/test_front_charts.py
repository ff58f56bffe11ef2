from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from ortnas.nas.report import ReportError, write_front_png
from ortnas.nas.report.charts import accuracy_interval, label_rows
from ortnas.nas.report.front_charts import pareto
from ortnas.nas.report.progress import hypervolumes
from ortnas.search.candidate import Candidate
from tests.networks import make_space


def scored(latency_ms: float, score: float, estimated: bool = False) -> Candidate:
    space = make_space()
    return Candidate.of(space, space.encode(space.smallest), latency_ms, latency_ms, score, estimated)


def test_the_front_holds_what_nothing_beats() -> None:
    points = [(2.0, 0.5), (1.0, 0.4), (1.0, 0.3), (3.0, 0.5), (4.0, 0.9), (2.5, 0.45)]
    front = pareto([*(scored(*point) for point in points), scored(0.5, 0.99, estimated=True)])
    assert [(candidate.latency_ms, candidate.score) for candidate in front] == [(1.0, 0.4), (2.0, 0.5), (4.0, 0.9)]
    assert pareto([]) == []


def test_hypervolume_is_the_share_of_the_box_that_is_beaten() -> None:
    candidates = [scored(2.0, 0.5), scored(4.0, 0.3), scored(1.0, 0.4)]
    # Boxes of half the latency and all of the score, and of another quarter of the latency and half of the score.
    np.testing.assert_allclose(hypervolumes(candidates, 4.0, 0.3, 0.5), [0.5, 0.5, 0.625])


def test_intervals_of_an_accuracy_are_wilsons() -> None:
    interval = accuracy_interval("accuracy", 0.5, 10)
    assert interval is not None
    np.testing.assert_allclose(interval, (0.2366, 0.7634), atol=1e-4)
    assert accuracy_interval("accuracy", 1.0, 10) == (pytest.approx(0.7225, abs=1e-4), 1.0)
    assert accuracy_interval("f1", 0.5, 10) is None
    assert accuracy_interval("accuracy", 0.5, None) is None


def test_labels_that_are_near_each_other_get_rows_of_their_own() -> None:
    assert label_rows([5.0, 5.2, 5.4, 9.0, 5.9], 1.0) == [0, 1, 2, 0, 3]
    assert label_rows([], 1.0) == []


@pytest.mark.slow
def test_the_front_is_drawn_as_a_picture(run_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="--png needs the extra png")
    from matplotlib.image import imread

    pixels = imread(write_front_png(run_folder, tmp_path / "ein bild.png"))
    assert pixels.shape[:2] == (900, 1600)
    blue, orange = (np.array(rgb) / 255 for rgb in ((0x1F, 0x5F, 0xBF), (0xC4, 0x50, 0x0B)))
    for colour in (blue, orange):
        assert (np.abs(pixels[..., :3] - colour).max(-1) < 0.02).sum() > 100


def test_a_picture_of_nothing_is_refused(copied: Path, tmp_path: Path) -> None:
    shutil.rmtree(copied / "search")
    with pytest.raises(ReportError, match="no search has scored anything yet"):
        write_front_png(copied, tmp_path / "front.png")
