"""What integer products of two activations save: ``python tests/performance/integer_attention.py [--quick] [--json]``.

MiniLM-L6 as INT8 whose attention is in floats, or in integers in one of its two products or in both
(``quantization.attention``): processor time of one thread, all in turn, on the installed ONNX Runtime and on a release
that is older (in an environment under ``runs/environments``). What they cost in score are rows of
``quantization_accuracy.py``. The last line of ``--json`` holds float / integer by release, setting and recipe as
``ratios`` (larger is better), and the share of all multiply-adds in integers as ``integer_share``. On one idle core it
takes 4 minutes, ``--quick`` one.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ortnas.bench.session import Setup
from ortnas.bench.timing import Workload
from ortnas.export.inspect.audit import audit
from ortnas.export.int8.recipes import ATTENTION_PRODUCTS
from ortnas.nas.console import Console
from tests.performance.deployed_latency import OLDER_RELEASE
from tests.performance.export_speed import make_exporter, write_minilm
from tests.performance.openvino_latency import environment
from tests.performance.processor_time import processor_ms

WORKLOADS = (Workload(1, 128), Workload(1, 16), Workload(1, 32), Workload(1, 256), Workload(1, 512), Workload(8, 128))


def make_models() -> dict[str, bytes]:
    """The full network by ``quantization.attention``."""
    with tempfile.TemporaryDirectory() as folder:
        write_minilm(Path(folder))
        exporter = make_exporter(Path(folder))
        return {
            attention: replace(exporter, recipe=replace(exporter.recipe, attention=attention)).build(
                exporter.supernet.dimensions.full_subnet, "int8"
            )
            for attention in ATTENTION_PRODUCTS
        }


def time_releases(models: Mapping[str, bytes], rounds: int, quick: bool, console: Console) -> dict[str, Any]:
    older = environment(f"onnxruntime-{OLDER_RELEASE}", f"onnxruntime=={OLDER_RELEASE}", "numpy")
    if older is None:
        console.say(f"The environment with ONNX Runtime {OLDER_RELEASE} could not be made: is a registry in reach?")
    releases: dict[str, Any] = {}
    for python in (Path(sys.executable), *([older] if older else [])):
        for workload in WORKLOADS[:1] if quick else WORKLOADS:
            # As many tokens in all for every setting.
            share = WORKLOADS[0].sequence / (workload.batch * workload.sequence)
            timed = processor_ms(python, models, workload, max(8, min(4 * rounds, round(rounds * share))))
            of_float = timed["median_ms"]["float"]
            ratios = {name: of_float / taken for name, taken in timed["median_ms"].items() if name != "float"}
            releases.setdefault(timed["release"], {})[workload.describe()] = ratios
    return releases


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one text of 128 tokens")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    console = Console(to_stderr=arguments.json)
    models = make_models()
    shares = {name: audit(model, WORKLOADS[0], Setup()).integer_share for name, model in models.items()}
    figures: dict[str, Any] = {"integer_share": shares}
    figures["ratios"] = time_releases(models, 20 if arguments.quick else 60, arguments.quick, console)
    integer = [name for name, products in ATTENTION_PRODUCTS.items() if products]
    rows = [
        (release, setting, *(f"{ratios[name]:.3f}" for name in integer))
        for release, settings in figures["ratios"].items()
        for setting, ratios in settings.items()
    ]
    console.table("Attention in floats / in integers", ("ONNX Runtime", "setting", *integer), rows)
    if arguments.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
