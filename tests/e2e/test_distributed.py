"""Two processes train one supernet, and one of them writes it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ortnas.nas.files import read_lines

pytestmark = pytest.mark.slow


def test_two_processes_share_one_run_folder(tmp_path: Path, bert_folder: Path, sentences: list[str]) -> None:
    rows = [f"{text}\t{'long' if len(text) > 30 else 'short'}" for text in sentences]
    (tmp_path / "train.tsv").write_text("\n".join(["text\tlabel", *rows[:300]]))
    (tmp_path / "dev.tsv").write_text("\n".join(["text\tlabel", *rows[300:]]))
    document = {
        "checkpoint": str(bert_folder),
        "head": "classification",
        "folder": str(tmp_path / "run"),
        "data": {"source": str(tmp_path), "max_length": 24, "calibration_size": 8, "search_size": 16},
        "training": {"steps": 6, "teacher_steps": 4, "batch_size": 8, "probe_every": 3, "importance_texts": 16},
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(document))
    # `accelerate launch` starts a process for each GPU, and on a CPU one alone; torch's own launcher starts two.
    launch = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "29714"]
    command = [sys.executable, *launch, "-m", "ortnas", "train", str(tmp_path / "run.yaml"), "--json"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.getcwd()}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout)["steps"] == 6, "one process answers"
    events = [line["stage"] for line in read_lines(tmp_path / "run" / "events.jsonl")]
    assert events == ["train"]
    curve = read_lines(tmp_path / "run" / "curves" / "supernet.jsonl")
    assert [line["step"] for line in curve if "score" in line] == [3, 6]
    again = subprocess.run(
        [sys.executable, "-m", "ortnas", "train", str(tmp_path / "run.yaml"), "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert again.returncode == 0, again.stderr
    assert "supernet: " not in again.stderr, "what two processes trained is not trained again by one"
