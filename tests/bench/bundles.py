"""Bundles of small models, and their results, for tests to run and to tamper with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from ortnas.bench.bundle import seal
from ortnas.bench.timing import TimingProtocol, Workload

WORKLOADS = (Workload(1, 8, 120), Workload(2, 16, 120, (4, 16), 0.5))
PROTOCOL = TimingProtocol.fixed(6)
VISITS = 2

Document = dict[str, Any]
# A bundle's file and its plan.
Bundle = tuple[Path, Document]


def run_bundle(path: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a bundle in its folder, where nothing of the project is in reach."""
    outside = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, path.name, *arguments],
        cwd=path.parent,
        env=outside | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def write_lines(path: Path, plan: Document, documents: list[Document]) -> None:
    """A results file with sound checksums, whatever the lines say."""
    checksum, lines = plan["digest"], []
    for document in documents:
        sealed = seal(checksum, document)
        checksum = sealed["checksum"]
        lines.append(json.dumps(sealed) + "\n")
    path.write_text("".join(lines))


def lines_of(path: Path) -> list[Document]:
    documents = [json.loads(line) for line in path.read_text().splitlines()]
    for document in documents:
        del document["checksum"]
    return documents
