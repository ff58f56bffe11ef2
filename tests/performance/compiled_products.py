"""What keeping compiled products is worth: ``python tests/performance/compiled_products.py [--quick] [--json]``.

A subnet of half of MiniLM-L6's multiply-adds is trained alone, in the precision of the machine's choice, by batches of
64 texts whose lengths differ from batch to batch, as a run does. Processes that keep as many compiled products as
oneDNN does by itself (1,024) and those that keep as many as ortnas asks for take turns; the first epoch, which
compiles, is left out. The last line of ``--json`` holds ``step_ratio`` (ours / oneDNN's own, the median over turns:
smaller is better), ``step_seconds`` by capacity and ``resident_mib``, what a process holds at its end, likewise.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

VARIABLE = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
# None leaves it to ortnas.
CAPACITIES: dict[str, str | None] = {"oneDNN": "1024", "ortnas": None}
BATCH, LONGEST, SEED = 64, 100, 0


def train(batches_an_epoch: int, epochs: int) -> dict[str, float]:
    """Seconds of a step after the first epoch, and MiB that the process holds."""
    from ortnas.nas.architecture.presets import default_space
    from ortnas.nas.text import EncodedExamples
    from ortnas.nas.training.alone import train_subnet
    from ortnas.nas.training.batches import Batches, Schedule
    from ortnas.nas.training.engine import StateFiles, choose_accelerator
    from ortnas.nas.training.objective import Objective
    from ortnas.nas.training.probes import choose_probes
    from ortnas.nas.training.steps import Course
    from tests.performance.training_cost import load

    rng = np.random.default_rng(SEED)
    lengths = np.linspace(16, LONGEST, batches_an_epoch).astype(int).repeat(BATCH)
    ids = [rng.integers(1000, 30000, length).tolist() for length in lengths]
    examples = EncodedExamples(ids, [[0] * len(row) for row in ids], rng.integers(0, 2, len(ids)).tolist())
    network = load()
    subnet = choose_probes(default_space(network.dimensions))["half"]
    batches = Batches(examples, Schedule(batches_an_epoch * epochs, BATCH, 1e-5, SEED))
    ends: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        states = StateFiles(Path(folder), "subnet", "")
        accelerator = choose_accelerator("auto")
        course = Course(accelerator, batches, states, lambda _step, _losses: ends.append(time.perf_counter()))
        train_subnet(network, subnet, None, Objective({"labels": 1.0}, network.dimensions), course)
    resident = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    return {
        "step_seconds": (ends[-1] - ends[batches_an_epoch - 1]) / (len(ends) - batches_an_epoch),
        "resident_mib": int(resident.split()[1]) / 1024,
    }


def measure(name: str, arguments: list[str]) -> dict[str, float]:
    variables = {key: value for key, value in os.environ.items() if key != VARIABLE}
    if (capacity := CAPACITIES[name]) is not None:
        variables[VARIABLE] = capacity
    command = [sys.executable, __file__, "--train", *arguments]
    result: dict[str, float] = json.loads(
        subprocess.run(command, env=variables, check=True, capture_output=True).stdout
    )
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer batches and turns")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--train", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    batches_an_epoch, epochs, turns = (16, 2, 1) if arguments.quick else (50, 3, 2)
    if arguments.train:
        print(json.dumps(train(batches_an_epoch, epochs)))
        return
    measured: dict[str, list[dict[str, float]]] = {name: [] for name in CAPACITIES}
    for _ in range(turns):
        for name in CAPACITIES:
            measured[name].append(measure(name, ["--quick"] if arguments.quick else []))
            if not arguments.json:
                figures = measured[name][-1]
                print(f"{name}: {figures['step_seconds']:.3f} s a step, {figures['resident_mib']:.0f} MiB", flush=True)
    document: dict[str, Any] = {
        key: {name: statistics.median(figures[key] for figures in measured[name]) for name in measured}
        for key in ("step_seconds", "resident_mib")
    }
    ratios = [
        ours["step_seconds"] / own["step_seconds"]
        for ours, own in zip(measured["ortnas"], measured["oneDNN"], strict=True)
    ]
    print(json.dumps(document | {"step_ratio": statistics.median(ratios)}))


if __name__ == "__main__":
    main()
