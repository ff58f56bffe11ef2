"""Everything that a GPU computes, checked in ten minutes: ``python -m tests.gpu.check [--cpu] [--size SIZE] [--folder
FOLDER]``, or ``make test-gpu``.

A random BERT is made on the spot. Trainings on the GPU are compared with those on the CPU, in float32, bfloat16 and
float16; ``ortnas train`` is started as a user does, killed and started again, and by two processes (on two GPUs, or on
processors where there are fewer); a subnet of what the GPU trained is exported and run by ONNX Runtime; every head is
trained in every way; too large a batch is tried. Without a GPU, and with ``--cpu``, what needs one is not run. The exit
status is 1 where a check fails. The last line is JSON: ``checks`` with the result of each by name, ``failed`` with a
sentence for each that failed, and ``figures``: ``loss_difference``, ``step_ratio`` (CPU / GPU, of a median step),
``gpu_gb`` by precision, ``resumed_distance``, ``processes_distance``, ``export_difference``.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from ortnas.bench.fingerprint import fingerprint
from ortnas.export.build import FLOAT_TOLERANCE, Exporter
from ortnas.export.inference import load, run
from ortnas.export.int8.recipes import choose_recipe
from ortnas.export.weights import read_supernet
from ortnas.nas.architecture.subnet import Subnet
from ortnas.nas.console import Console
from tests.gpu.commands import (
    CommandError,
    distance,
    run_python,
    train,
    train_and_kill,
    train_in_two_processes,
    write_run,
)
from tests.gpu.trainings import ANSWERS_FILE, HEADS_FILE, RESULT_FILE, SIZES, SUPERNET, Size

NO_GPU = "not run: no GPU"
# Sums of another order: of a first loss, and of those of later steps, which go by what the first ones changed.
_FIRST_LOSS, _LATER_LOSSES = 1e-3, 0.02
# Of the last losses, what lower precision may change.
_PRECISION = 0.1
# Of the way that weights went: twice as far as two trainings that nothing befell, and rounding.
_NOISE, _ROUNDING = 2.0, 1e-4
# Of the same way: gradients of two halves, summed up.
_PROCESSES = 0.05
# Of tiny networks' tensors, of which fits to few texts make more of rounding.
_HEADS = 5e-3


class FailedError(Exception):
    """A check that failed, in one sentence."""


@dataclass
class Bench:
    """What checks share: what trainings gave, by device and part, and figures for the last line."""

    folder: Path
    size_name: str
    has_gpu: bool
    figures: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._documents: dict[str, dict[str, Any]] = {}

    @property
    def size(self) -> Size:
        return SIZES[self.size_name]

    @property
    def device(self) -> str:
        return "gpu" if self.has_gpu else "cpu"

    def trained_by(self, device: str, part: str) -> Any:
        """What ``tests.gpu.trainings`` gave for a precision, the ``heads`` or the ``memory``; it is run once for a
        device. Raises FailedError where that part failed."""
        if device not in self._documents:
            self._documents[device] = self._train_all_on(device)
        document = self._documents[device]
        if part not in document:
            raise FailedError(f"on the {device.upper()}: {document.get('error', 'not run, float32 failed')}")
        result = document[part]
        if isinstance(result, dict) and "error" in result:
            raise FailedError(f"on the {device.upper()}: {result['error']}")
        return result

    def _train_all_on(self, device: str) -> Mapping[str, Any]:
        folder = self.folder / device
        folder.mkdir(parents=True)
        precisions = ["no", "bf16", "fp16"] if device == "gpu" else ["no", "bf16"]
        heads = ["--heads"] if self.has_gpu else []
        try:
            run_python(["-m", "tests.gpu.trainings", str(folder), self.size_name, *precisions, *heads], device == "cpu")
        except CommandError as error:
            return {"error": f"no training ended: {error}"}
        document: dict[str, Any] = json.loads((folder / RESULT_FILE).read_text())
        return document

    def trained(self, name: str) -> Path:
        """The run folder of ``ortnas train`` without anything special, by name, on the device."""
        folder = self.folder / name
        if not folder.exists():
            train(self.configuration(name), not self.has_gpu)
        return folder / "run"

    def configuration(self, name: str) -> Path:
        checkpoint = self.folder / self.device / "checkpoint"
        self.trained_by(self.device, "no")
        return write_run(self.folder / name, checkpoint, steps=60, batch_size=self.size.batch)


def check_device(bench: Bench) -> str:
    configuration = bench.configuration("alone")
    said = train(configuration, on_cpu=False)
    line = next((line for line in said.splitlines() if line.startswith("training: ")), "")
    place = line.rpartition("; ")[2]
    if not place.endswith("on cuda"):
        raise FailedError(f"`ortnas train` did not take the GPU by itself; it says {line!r}")
    return place


def check_losses(bench: Bench) -> str:
    ours, theirs = (np.array(bench.trained_by(device, "no")["losses"]) for device in ("gpu", "cpu"))
    differences = np.abs(ours - theirs) / np.abs(theirs)
    bench.figures["loss_difference"] = float(differences.max())
    if not differences[0] <= _FIRST_LOSS or not differences.max() <= _LATER_LOSSES:
        raise FailedError(
            f"losses in float32 differ from those on the CPU by {differences[0]:.2g} at the first step and "
            f"{differences.max():.2g} at most; {_FIRST_LOSS:g} and {_LATER_LOSSES:g} are allowed"
        )
    return f"{differences.max():.1e} at most in {len(ours)} steps"


def check_precision(bench: Bench, precision: str) -> str:
    ours, theirs = (bench.trained_by(bench.device, name) for name in (precision, "no"))
    losses, exact = (np.array(training["losses"]) for training in (ours, theirs))
    if not np.isfinite(losses).all():
        raise FailedError(f"{precision}: the loss is not finite at step {int(np.argmin(np.isfinite(losses)))}")
    last = max(1, len(exact) // 4)
    end, exact_end = losses[-last:].mean(), exact[-last:].mean()
    if not abs(end - exact_end) <= _PRECISION * exact_end:
        raise FailedError(
            f"{precision}: the loss ends at {end:.4g}, in float32 at {exact_end:.4g}, from {exact[0]:.4g}"
        )
    scale = ours["loss_scale"]
    return f"loss {end:.4f}, float32 {exact_end:.4f}" + ("" if scale is None else f", loss scale {scale:g}")


def check_bfloat16(bench: Bench) -> str:
    return check_precision(bench, "bf16")


def check_float16(bench: Bench) -> str:
    return check_precision(bench, "fp16")


def check_heads(bench: Bench) -> str:
    for device in ("gpu", "cpu"):
        bench.trained_by(device, "heads")
    ours, theirs = (load_file(bench.folder / device / HEADS_FILE) for device in ("gpu", "cpu"))
    far = {name: float((ours[name] - theirs[name]).abs().max()) for name in theirs}
    worst = max(far, key=lambda name: far[name])
    allowed = _HEADS * max(1.0, float(theirs[worst].abs().max()))
    if not far[worst] <= allowed:
        raise FailedError(
            f"{worst}: after all trainings {far[worst]:.2g} from what the CPU gives; {allowed:.2g} allowed"
        )
    return f"{len({name.partition(':')[0] for name in theirs})} heads, {far[worst]:.1e} at most"


def check_memory_advice(bench: Bench) -> str:
    bench.trained_by("gpu", "memory")
    return "what was advised fits"


def check_resumed(bench: Bench) -> str:
    alone, on_cpu = bench.trained("alone"), not bench.has_gpu
    noise = distance(alone, bench.trained("again")) if bench.has_gpu else 0.0
    configuration = bench.configuration("killed")
    train_and_kill(configuration, on_cpu)
    train(configuration, on_cpu)
    far = bench.figures["resumed_distance"] = distance(alone, bench.folder / "killed" / "run")
    if not far <= _NOISE * noise + _ROUNDING:
        raise FailedError(
            f"after a kill the same command ends {far:.2g} of the way from where it ends without one; two that nobody "
            f"killed are {noise:.2g} apart"
        )
    return f"{far:.1e} of the way" + (f", two without a kill {noise:.1e}" if bench.has_gpu else "")


def check_processes(bench: Bench) -> str:
    on_cpu = not bench.has_gpu or torch.cuda.device_count() < 2
    alone = bench.trained("alone")
    if on_cpu and bench.has_gpu:
        train(bench.configuration("processor"), on_cpu)
        alone = bench.folder / "processor" / "run"
    configuration = bench.configuration("processes")
    train_in_two_processes(configuration, on_cpu)
    far = bench.figures["processes_distance"] = distance(alone, bench.folder / "processes" / "run")
    if not far <= _PROCESSES:
        raise FailedError(f"two processes end {far:.2g} of the way from where one ends; {_PROCESSES:g} is allowed")
    return f"{far:.1e} of the way, on {'processors' if on_cpu else 'two GPUs'}"


def check_export(bench: Bench) -> str:
    bench.trained_by(bench.device, "no")
    folder = bench.folder / bench.device
    content = np.load(folder / ANSWERS_FILE, allow_pickle=False)
    answers, feeds = content["answers"], {name: content[name] for name in content.files if name != "answers"}
    exporter = Exporter(read_supernet(folder / SUPERNET), choose_recipe(fingerprint()["isa"]), [feeds])
    subnet = Subnet.from_json(json.loads((folder / "subnet.json").read_text()))
    exact, rounded = (run(load(exporter.build(subnet, precision)), feeds) for precision in ("fp32", "int8"))
    scale = max(1.0, float(np.abs(answers).max()))
    difference = bench.figures["export_difference"] = float(np.abs(exact - answers).max()) / scale
    if not difference <= FLOAT_TOLERANCE:
        raise FailedError(
            f"the exported subnet answers {difference:.2g} from the trained one; {FLOAT_TOLERANCE:g} allowed"
        )
    return f"float32 {difference:.1e}, INT8 {float(np.abs(rounded - answers).max()) / scale:.1e}"


def check_speed(bench: Bench) -> str:
    gpu, cpu = (bench.trained_by(device, "no")["step_ms"] for device in ("gpu", "cpu"))
    bench.figures["step_ratio"] = cpu / gpu
    steps = {precision: bench.trained_by("gpu", precision)["step_ms"] for precision in ("no", "bf16", "fp16")}
    return f"{cpu / gpu:.1f}x in float32; " + ", ".join(f"{name} {ms:.0f} ms" for name, ms in steps.items())


def check_memory(bench: Bench) -> str:
    used = {precision: bench.trained_by("gpu", precision)["gpu_bytes"] / 1e9 for precision in ("no", "bf16", "fp16")}
    bench.figures["gpu_gb"] = used
    return ", ".join(f"{name} {gb:.2f} GB" for name, gb in used.items())


# Name, function, and whether it needs a GPU.
CHECKS: tuple[tuple[str, Callable[[Bench], str], bool], ...] = (
    ("the GPU is taken by itself", check_device, True),
    ("float32 losses as on the CPU", check_losses, True),
    ("bfloat16 trains", check_bfloat16, False),
    ("float16 trains, loss scaled", check_float16, True),
    ("all heads, all trainings", check_heads, True),
    ("too large a batch", check_memory_advice, True),
    ("killed and resumed", check_resumed, False),
    ("two processes as one", check_processes, False),
    ("exported subnet", check_export, False),
    ("step, CPU / GPU", check_speed, True),
    ("peak GPU memory", check_memory, True),
)


def run_checks(bench: Bench, console: Console) -> int:
    """Prints the table and the line of JSON; returns the exit status."""
    rows, results, failed = [], {}, {}
    for name, check, needs_gpu in CHECKS:
        result, figure = NO_GPU, ""
        if bench.has_gpu or not needs_gpu:
            console.say(f"{name} ...")
            try:
                result, figure = "pass", check(bench)
            except FailedError as error:
                result, failed[name] = "FAIL", str(error)
            except CommandError as error:
                result, failed[name] = "FAIL", f"a command failed: {error}"
            except Exception as error:  # the other checks are still worth their minutes
                result, failed[name] = "FAIL", f"{type(error).__name__}: {error}".splitlines()[0]
        results[name] = result
        rows.append((name, result, figure))
    console.table(f"{bench.size_name} BERT on {_describe(bench)}", ("check", "result", "figure"), rows)
    for name, sentence in failed.items():
        console.say(f"{name}: {sentence}")
    print(json.dumps({"checks": results, "failed": failed, "figures": bench.figures}))
    return 1 if failed else 0


def _describe(bench: Bench) -> str:
    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())] if bench.has_gpu else []
    return f"{', '.join(gpus) or 'the CPU'}, torch {torch.__version__}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cpu", action="store_true", help="as on a machine without a GPU")
    parser.add_argument("--size", default="small", choices=SIZES)
    parser.add_argument("--folder", type=Path, help="keep everything there; it must not exist yet")
    arguments = parser.parse_args()
    has_gpu = torch.cuda.is_available() and not arguments.cpu
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.folder or Path(scratch) / "check"
        if folder.exists():
            sys.exit(f"{folder} exists; name a folder that does not")
        sys.exit(run_checks(Bench(folder, arguments.size, has_gpu), Console()))


if __name__ == "__main__":
    main()
