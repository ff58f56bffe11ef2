"""A run with texts that lack labels: the teacher is made of the others, and subnets learn from all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from ortnas.export.weights import read_supernet
from ortnas.nas.stages.commands import data, train
from tests.e2e.heads import texts, write_head_run
from tests.nas.stages.small_runs import open_run

pytestmark = pytest.mark.slow


def write_labelled(folder: Path) -> None:
    for name, count in (("train", 120), ("dev", 30)):
        rows = [json.dumps({"text": text, "label": "the" in text.split()}) for text in texts(count, count)]
        (folder / f"{name}.jsonl").write_text("\n".join(rows))
    (folder / "more.txt").write_text("\n".join(texts(400, 9)))


def test_the_teacher_is_that_of_the_labelled_texts_and_the_supernet_learns_from_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_labelled(tmp_path)
    write_head_run(tmp_path, "bert", "classification", {"source": str(tmp_path), "text": "text", "label": "label"})
    weights = {}
    for name, source in (("alone", str(tmp_path)), ("both", [str(tmp_path), str(tmp_path / "more.txt")])):
        run = open_run(tmp_path, folder=str(tmp_path / name), data={"source": source}, training={"new_head": True})
        prepared = data(run)
        train(run)
        weights[name] = [
            {
                key: torch.from_numpy(value.copy())
                for key, value in read_supernet(tmp_path / name / part).tensors.items()
            }
            for part in ("teacher", "supernet")
        ]
        run.close()
    assert {name: round(facts["share"], 2) for name, facts in prepared["sources"].items()} == {
        tmp_path.name: 0.5,
        "more.txt": 0.5,
    }
    said = " ".join(capsys.readouterr().err.split())
    # Said where there are no others.
    assert said.count("texts are few for subnets to learn from") == 1
    # A teacher of four steps.
    assert said.count("search part may be chance, since ") == 2
    assert "| 50.0% | labels, teacher |" in said
    assert "more.txt | 400 | 50.0% | teacher |" in said
    (teacher, supernet), (other_teacher, other_supernet) = weights["alone"], weights["both"]
    for key, tensor in teacher.items():
        torch.testing.assert_close(other_teacher[key], tensor, rtol=0, atol=0)
    assert any(not torch.equal(other_supernet[key], tensor) for key, tensor in supernet.items())
    assert all(tensor.isfinite().all() for tensor in other_supernet.values())
