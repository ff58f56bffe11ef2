"""Python on the manual's pages runs: as a notebook on a random checkpoint, from the first block to the last."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

import ortnas
from ortnas.export.inference import drift, load, run
from tests.docs.pages import ROOT, find_page

pytestmark = pytest.mark.slow


def test_the_page_on_python_runs_as_a_notebook(
    tmp_path: Path, bert_folder: Path, sentences: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    # Latencies are no matter here, so they need no moments apart.
    monkeypatch.setattr("ortnas.export.package.verify._PAUSE_S", 0.0)
    Path("texts.txt").write_text("\n".join(sentences[:96]))
    cells = [block for block in find_page("api.md").blocks if block.kind == "python"]
    # The last one is a whole run; tests/e2e does the same by the command line.
    assert "ortnas.run" in cells[-1].text
    names: dict[str, Any] = {}
    for cell in cells[:-1]:
        code = cell.text.replace('"path/to/bert"', repr(str(bert_folder)))
        # Line numbers in a traceback are those of the page.
        exec(compile("\n" * cell.line + code, cell.page, "exec"), names)

    assert names["audited"].weight_integer_share > 0.9
    session = onnxruntime.InferenceSession("work/model.onnx")
    (feeds, *_) = names["exporter"].calibration
    (embedding,) = session.run(None, feeds)
    np.testing.assert_allclose(np.linalg.norm(embedding, axis=1), 1, atol=1e-5)
    loss = drift(embedding, run(load(names["fp32"]), feeds))
    assert loss.cosine > 0.9
    assert {timing.latency_ms > 0 for timing in names["timings"].values()} == {True}
    scores = [candidate.score for candidate in names["candidates"]]
    assert 12 <= len(scores) <= 24
    assert scores == sorted(scores, reverse=True)
    assert names["best"].upper_ms <= names["budget_ms"]
    states = {check.name: check.state for check in names["checks"]}
    assert {states[name] for name in ("checksums", "load", "tokenizer", "score")} == {"pass"}


def test_the_example_of_a_space_runs() -> None:
    (cell,) = (block for block in find_page("spaces.md").blocks if block.kind == "python")
    names: dict[str, Any] = {}
    exec(compile("\n" * cell.line + cell.text, cell.page, "exec"), names)
    assert names["space"].decode(names["space"].encode(names["subnet"])) == names["subnet"]


def test_the_page_uses_public_names_alone_and_all_of_them() -> None:
    page = find_page("api.md")
    code = "\n".join(block.text for block in page.blocks if block.kind == "python")
    imported = [line for line in code.splitlines() if line.startswith(("from ", "import "))]
    assert imported == ["from pathlib import Path", "import ortnas", "import numpy as np"]
    named = set(re.findall(r"\bortnas\.(\w+)", (ROOT / "docs" / "api.md").read_text(encoding="utf-8")))
    assert named == set(ortnas.__all__)
