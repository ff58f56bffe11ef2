"""``ortnas train`` as a user starts it: alone, killed, and by several processes; and how far two networks are apart."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ortnas.export.weights import memory_map
from ortnas.nas.architecture.layout import WEIGHTS_FILE
from tests.networks import WORDS

ROOT = Path(__file__).parents[2]
_EVERY = 5
_PATIENCE_S = 600


class CommandError(Exception):
    """A command that failed; the message has the end of what it said."""


def environment(on_cpu: bool) -> dict[str, str]:
    """For processes that see the GPUs, or none."""
    paths = os.pathsep.join([str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH", "")])
    return os.environ | {"PYTHONPATH": paths} | ({"CUDA_VISIBLE_DEVICES": ""} if on_cpu else {})


def run_python(arguments: Sequence[str], on_cpu: bool) -> str:
    """What the command wrote. Raises CommandError."""
    done = subprocess.run(
        [sys.executable, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        env=environment(on_cpu),
        cwd=ROOT,
    )
    if done.returncode:
        lines = [line for line in done.stdout.splitlines() if line.strip()]
        raise CommandError(" / ".join(lines[-3:]))
    return done.stdout


def write_run(folder: Path, checkpoint: Path, steps: int, batch_size: int) -> Path:
    """run.yaml of a classification of texts that all have as many tokens, so that processes share them evenly."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    rows = [" ".join(rng.choice(WORDS, 10)) + f"\t{('early', 'late')[number % 2]}" for number in range(12 * batch_size)]
    held_out = 2 * batch_size
    (folder / "train.tsv").write_text("\n".join(["text\tlabel", *rows[held_out:]]))
    (folder / "dev.tsv").write_text("\n".join(["text\tlabel", *rows[:held_out]]))
    document: dict[str, Any] = {
        "checkpoint": str(checkpoint),
        "head": "classification",
        "folder": str(folder / "run"),
        "data": {"source": str(folder), "max_length": 16, "calibration_size": 8, "search_size": 8},
        "training": {
            "steps": steps,
            "batch_size": batch_size,
            "mixed_precision": "no",
            "checkpoint_every": _EVERY,
            "probe_every": 0,
            "importance_texts": 16,
        },
    }
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def train(configuration: Path, on_cpu: bool) -> str:
    return run_python(["-m", "ortnas", "train", str(configuration)], on_cpu)


def train_and_kill(configuration: Path, on_cpu: bool) -> None:
    """Until the supernet's first state is there. Raises CommandError where the training was over before."""
    command = [sys.executable, "-m", "ortnas", "train", str(configuration)]
    log = configuration.parent / "killed.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=stream, env=environment(on_cpu), cwd=ROOT)
    until = time.monotonic() + _PATIENCE_S
    while not list(configuration.parent.glob("run/training/supernet-*.safetensors")):
        if process.poll() is not None or time.monotonic() > until:
            process.kill()
            raise CommandError(f"no state to be killed after: {log.read_text()[-300:]}")
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    if process.wait() != -signal.SIGKILL:
        raise CommandError("the training was over before it could be killed")


def train_in_two_processes(configuration: Path, on_cpu: bool) -> None:
    """On two GPUs by accelerate's launcher, on processors by torch's own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    if on_cpu:
        launch = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", port]
    else:
        launch = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_machines", "1", "--num_processes", "2"]
        launch += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", port]
    run_python([*launch, "-m", "ortnas", "train", str(configuration)], on_cpu)


def distance(run: Path, other: Path) -> float:
    """Between the supernets of two runs, of how far the first one went from its teacher."""
    ours, theirs, start = (
        memory_map(path / WEIGHTS_FILE) for path in (run / "supernet", other / "supernet", run / "teacher")
    )
    return _norm(ours, theirs) / max(_norm(ours, start), 1e-12)


def _norm(ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray]) -> float:
    return float(np.sqrt(sum(np.square(ours[name].astype(np.float64) - theirs[name]).sum() for name in ours)))
