"""Stores for tests to fill, also from processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from ortnas.bench.session import Setup
from ortnas.bench.store import Measurement, Store
from ortnas.bench.target import Target
from ortnas.bench.timing import Samples, Workload

ROOT = Path(__file__).parents[2]
TARGET = Target({"cpu": "one"}, Setup(), (Workload(),))
MIX = Target({"cpu": "one"}, Setup(), (Workload(weight=3), Workload(4, 32)))
VISIT = Samples(((1_000_000,) * 8,), ((2_000_000,) * 8,))
# What programs of these tests start with.
PROGRAM = """
import json, os, resource, sys
from pathlib import Path
from ortnas.bench.store import Measurement, Store, StoreError
from ortnas.bench.target import Target
from ortnas.bench.session import Setup
from ortnas.bench.timing import Samples, Workload
target = Target({"cpu": "one"}, Setup(), (Workload(),))
path = Path(sys.argv[1])
def rows(name, count, rounds=8):
    samples = Samples(((1_000_000,) * rounds,), ((2_000_000,) * rounds,))
    return [Measurement(f"{name}-{number}", {"hidden_size": number}, "ok", "", samples) for number in range(count)]
"""


def measurement(
    key: str = "k", state: str = "ok", samples: Samples | None = VISIT, at: float | None = None
) -> Measurement:
    reason = "why" if state == "failed" else ""
    return Measurement(key, {"hidden_size": 8}, state, reason, None if state == "failed" else samples, at)


def visit(model_ms: float, anchor_ms: float = 2.0, rounds: int = 8) -> Samples:
    return Samples(((int(model_ms * 1e6),) * rounds,), ((int(anchor_ms * 1e6),) * rounds,))


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROGRAM + script, *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> str:
    output, problem = process.communicate(timeout=60)
    assert process.returncode == 0, problem
    return output


def keys(path: Path, target: Target = TARGET) -> list[str]:
    with Store(path) as store:
        return [row.subnet_key for row in store.measurements(target, "int8", "m")]
