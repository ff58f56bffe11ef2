"""What a run of a base-size network costs, stage by stage: ``python -m tests.performance.stage_costs [--quick] [--json]
[--head HEAD] [--set SECTION.KEY=VALUE]``.

A random BERT of 12 layers x 768 x 3,072 with 30,522 tokens (``--quick``: 6 x 384 x 1,536), texts that fill 128 tokens
with two labels, and every stage of ``ortnas run`` as a command of its own: a few training steps, 20 timings, a search
of 8 candidates, winners trained for a few steps. Memory is that of all processes of a stage together, sampled twice a
second, where what several share counts once and what is mapped from a file counts too; or the largest of one process as
the system counted it, where that is more. Linux only. The last line of ``--json`` holds ``largest_gb`` (10^9 bytes)
over all stages, and under ``stages`` for each ``seconds``, ``memory_gb``, and ``anonymous_gb``, which is in no file.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ortnas.nas.console import Console
from tests.networks import write_checkpoint

STAGES = ("train", "bench", "fit", "search", "refine", "export", "report")
TOKENS, TEXTS, SAMPLE_S = 128, 600, 0.5
BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
SMALL = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
# With what every tokenizer of ``write_checkpoint`` has, 30,522 tokens.
_WORDS = 30_421


@dataclass(frozen=True)
class Cost:
    """Of one stage: seconds, and bytes / 10^9 of all its processes when they had most."""

    seconds: float
    memory_gb: float
    anonymous_gb: float


def made_up_words(count: int) -> list[str]:
    syllables = ["".join(pair) for pair in itertools.product("bdfgklmnprstvz", "aeiou")]
    words = ("".join(parts) for parts in itertools.product(syllables, repeat=3))
    return list(itertools.islice(words, count))


def write_texts(folder: Path, words: Sequence[str]) -> None:
    """train.tsv and dev.tsv; texts of one label have more of the first half of the words."""
    rng = np.random.default_rng(0)
    half = len(words) // 2
    for name, count in (("train", TEXTS), ("dev", 64)):
        lines = ["text\tlabel"]
        for number in range(count):
            label = number % 2
            places = rng.integers(0, half, TOKENS) + half * (rng.random(TOKENS) < (0.7 if label else 0.3))
            lines.append(" ".join(words[place] for place in places) + f"\t{'late' if label else 'early'}")
        (folder / f"{name}.tsv").write_text("\n".join(lines))


def write_run(folder: Path, head: str, sizes: dict[str, int], assignments: dict[str, Any]) -> Path:
    words = made_up_words(_WORDS)
    checkpoint = write_checkpoint(folder / "checkpoint", "bert", head, words, max_position_embeddings=512, **sizes)
    write_texts(folder, words)
    document: dict[str, Any] = {
        "checkpoint": str(checkpoint),
        "head": head,
        "folder": str(folder / "run"),
        "data": {"source": str(folder), "max_length": TOKENS, "calibration_size": 32, "search_size": 32},
        "training": {"steps": 6, "teacher_steps": 6, "checkpoint_every": 3, "new_head": head == "classification"},
        "refinement": {"steps": 6},
        "bench": {"subnets": 20, "visits": 2},
        "search": {"budgets": ["2x"], "candidates": 8, "population": 4, "finalists": 2},
    }
    for key, value in assignments.items():
        section, _, name = key.partition(".")
        document[section][name] = value
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def descendants(process: int) -> list[int]:
    """The process and all that it started, as far as they are there."""
    processes = [process]
    for parent in processes:
        try:
            for task in Path(f"/proc/{parent}/task").iterdir():
                processes += map(int, (task / "children").read_text().split())
        except OSError:
            continue
    return processes


def memory_bytes(processes: Sequence[int]) -> tuple[int, int]:
    """All pages, and those of no file, that processes hold together; what several share counts once."""
    total = {"Pss": 0, "Pss_Anon": 0}
    for process in processes:
        try:
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        for name, _, value in (line.partition(":") for line in lines):
            if name in total:
                total[name] += 1024 * int(value.split()[0])
    return total["Pss"], total["Pss_Anon"]


def run_stage(stage: str, configuration: Path) -> Cost:
    command = [sys.executable, "-m", "ortnas", stage, str(configuration)]
    log = configuration.parent / f"{stage}.log"
    most, most_anonymous, started = 0, 0, time.monotonic()
    with log.open("wb") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT)
        while True:
            ended, status, usage = os.wait4(process.pid, os.WNOHANG)
            if ended:
                break
            total, anonymous = memory_bytes(descendants(process.pid))
            most, most_anonymous = max(most, total), max(most_anonymous, anonymous)
            time.sleep(SAMPLE_S)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{stage} failed: {log.read_text()[-3000:]}")
    most = max(most, 1024 * usage.ru_maxrss)
    return Cost(time.monotonic() - started, most / 1e9, most_anonymous / 1e9)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--head", default="classification", choices=("classification", "embedding", "masked-lm"))
    parser.add_argument("--stages", nargs="+", default=STAGES, choices=STAGES)
    parser.add_argument("--folder", type=Path, help="keep everything there")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    arguments = parser.parse_args()
    console = Console(to_stderr=arguments.json)
    assignments = {key: yaml.safe_load(value) for key, _, value in (item.partition("=") for item in arguments.set)}
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        configuration = folder / "run.yaml"
        if not configuration.exists():
            write_run(folder, arguments.head, SMALL if arguments.quick else BASE, assignments)
        costs = {}
        for stage in arguments.stages:
            costs[stage] = run_stage(stage, configuration)
            console.say(f"{stage}: {costs[stage].seconds:.0f} s, {costs[stage].memory_gb:.2f} GB")
    rows = [
        (stage, f"{cost.seconds:.0f}", f"{cost.memory_gb:.2f}", f"{cost.anonymous_gb:.2f}")
        for stage, cost in costs.items()
    ]
    console.table("Stages", ("stage", "seconds", "memory GB", "of no file"), rows)
    if arguments.json:
        largest_gb = max(cost.memory_gb for cost in costs.values())
        print(json.dumps({"largest_gb": largest_gb, "stages": {stage: asdict(cost) for stage, cost in costs.items()}}))


if __name__ == "__main__":
    main()
