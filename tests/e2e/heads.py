"""Short runs of any head, on random two-layer networks and random texts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import transformers

from ortnas.nas.architecture.heads import HEADS
from tests.e2e.commands import answer, assert_intact
from tests.e2e.runs import write_run
from tests.networks import WORDS, write_checkpoint


def texts(n: int, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(6, 12))) for _ in range(n)]


_SPACE = {"hidden_size": [16, 32], "depth": [1, 2], "num_heads": [2, 4], "head_size": [8], "ffn_size": [32, 64]}


def write_head_run(folder: Path, family: str, head: str, data: dict[str, Any]) -> Path:
    return write_run(
        folder,
        write_checkpoint(folder / "checkpoint", family, head),
        head,
        data={"calibration_size": 8, "search_size": 16, "report_size": 16, "max_length": 24, **data},
        space=_SPACE,
        # The head's labels mean nothing.
        training={
            "steps": 6,
            "teacher_steps": 4,
            "probe_every": 3,
            "probe_texts": 8,
            "batch_size": 8,
            "importance_texts": 128,
            "new_head": head == "token-classification",
        },
        refinement={"steps": 4},
        target={"sequence": 16, "host": "local"},
        bench={"subnets": 10, "cap_s": 0.02},
        search={"budgets": ["0.2x"], "candidates": 3, "population": 2},
    )


def from_data_to_extraction(folder: Path, family: str, head: str, data: dict[str, Any], metric: str) -> None:
    """Data, training, a verified package, a subnet trained further in both ways, and its checkpoint."""
    run = write_head_run(folder, family, head, data)
    parts = answer("data", run)["parts"]
    assert {name: facts["rows"] for name, facts in parts.items() if name != "training"}["search"] > 0
    rows = answer("run", run)["export"]["rows"]
    assert len(rows) == 3
    assert metric in rows[0]["scores"]
    curve = [json.loads(line) for line in (folder / "run" / "curves" / "supernet.jsonl").read_text().splitlines()]
    assert [line["step"] for line in curve if "score" in line] == [3, 6]
    assert list(folder.glob("run/curves/supernet/events.out.tfevents.*"))
    assert_intact(folder / "run" / "packages" / "int8-0.2x")

    layers = [{"source": 0, "num_heads": 2, "head_size": 8, "ffn_size": 32}]
    subnet = folder / "subnet.json"
    subnet.write_text(json.dumps({"hidden_size": 16, "layers": layers}))
    refined = answer("refine", run, "--subnet", subnet, "--quantization-aware")
    assert Path(refined["packages"][0], "model.onnx").is_file()
    answer("refine", run, "--subnet", subnet)
    extracted = answer("extract", run, "--subnet", refined["subnet_key"], "--out", folder / "extracted")
    assert extracted["source"].endswith(refined["subnet_key"])
    auto_class = getattr(transformers, HEADS[head].auto_class)
    model, told = auto_class.from_pretrained(folder / "extracted", output_loading_info=True)
    assert not told["missing_keys"]
    assert (model.config.hidden_size, model.config.num_hidden_layers) == (16, 1)
