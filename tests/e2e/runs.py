"""Documents of small runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.networks import write_bert

# On the simulated host; a run whose timings matter names another.
_SECTIONS = {
    "data": {"calibration_size": 16},
    "training": {"importance_texts": 32},
    "target": {"sequence": 32, "host": "simulated"},
    "bench": {"subnets": 12, "cap_s": 0.01},
    "search": {"budgets": ["1.2x"], "candidates": 6, "population": 3, "finalists": 2},
}
_SPACE_SECTIONS = {
    "data": {"max_length": 16, "search_size": 32, "report_size": 32},
    "training": {"steps": 4, "batch_size": 8, "importance_texts": 16},
    "refinement": {"steps": 20, "batch_size": 8},
    "target": {"sequence": 16},
    "search": {"candidates": 8, "population": 4},
}


def write_run(folder: Path, checkpoint: Path, head: str, **sections: Any) -> Path:
    """``run.yaml`` of a run in ``folder/run``; keys of ``sections`` replace the ones above."""
    document = {"checkpoint": str(checkpoint), "head": head, "folder": str(folder / "run")}
    configuration = folder / "run.yaml"
    configuration.write_text(yaml.safe_dump(document | _replaced(_SECTIONS, sections)))
    return configuration


def write_space_run(folder: Path, sentences: Sequence[str], space: Mapping[str, Any], **sections: Any) -> Path:
    """An embedding, by a random network of three layers, whose space is what is tested; winners are trained alone."""
    checkpoint = write_bert(folder / "bert", num_hidden_layers=3)
    (folder / "corpus.txt").write_text("\n".join(sentences))
    own = {
        "data": {"source": str(folder / "corpus.txt")},
        "space": {"hidden_size": [32], "num_heads": [4], "ffn_size": [64], **space},
    }
    return write_run(folder, checkpoint, "embedding", **_replaced(_replaced(_SPACE_SECTIONS, own), sections))


def _replaced(sections: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    sections = dict(sections)
    for name, change in changes.items():
        sections[name] = sections.get(name, {}) | change if isinstance(change, dict) else change
    return sections
