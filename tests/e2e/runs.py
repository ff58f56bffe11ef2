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
_SENTENCE_SECTIONS = {
    "data": {"max_length": 16, "search_size": 32, "report_size": 32},
    "training": {"batch_size": 8, "importance_texts": 16},
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


def write_sentence_run(folder: Path, checkpoint: Path, sentences: Sequence[str], **sections: Any) -> Path:
    """A run of an embedding whose winners are trained alone for a few steps."""
    (folder / "corpus.txt").write_text("\n".join(sentences))
    source = {"data": {"source": str(folder / "corpus.txt")}}
    chosen = _replaced(_replaced(_SENTENCE_SECTIONS, source), sections)
    return write_run(folder, checkpoint, "embedding", **chosen)


def write_space_run(folder: Path, sentences: Sequence[str], space: Mapping[str, Any], **sections: Any) -> Path:
    """A run of a random network of three layers whose space is what is tested."""
    checkpoint = write_bert(folder / "bert", num_hidden_layers=3)
    sizes = {"hidden_size": [32], "num_heads": [4], "ffn_size": [64]}
    return write_sentence_run(
        folder, checkpoint, sentences, space={**sizes, **space}, training={"steps": 4}, **sections
    )


def _replaced(sections: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    sections = dict(sections)
    for name, change in changes.items():
        sections[name] = sections.get(name, {}) | change if isinstance(change, dict) else change
    return sections
