"""The processor time of models in turn, on one thread of any release of ONNX Runtime: what else runs on the machine
adds nothing to it but what it takes of the caches."""

from __future__ import annotations

import inspect
import json
import statistics
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ortnas.bench.timing import Workload


def time_folder(folder: str, shape: list[int], vocab_size: int, rounds: int) -> None:
    """Prints the release and samples in ns of every model in a folder, as JSON. Sent as source: its environment may
    have numpy and onnxruntime alone."""
    import json
    import pathlib
    import time

    import numpy
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    ids = numpy.random.default_rng(1).integers(1, vocab_size, [4, *shape])
    turns = []
    for path in sorted(pathlib.Path(folder).glob("*.onnx")):
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        names = [item.name for item in session.get_inputs()]
        feeds = []
        for part in ids:
            values = {"input_ids": part, "attention_mask": part * 0 + 1, "token_type_ids": part * 0}
            feeds.append({name: values[name] for name in names})
        turns.append((path.stem, session, feeds))
    samples: dict[str, list[int]] = {name: [] for name, _, _ in turns}
    for number in range(-2, rounds):
        # Whoever comes first in a round is another one every time.
        start_at = number % len(turns)
        for name, session, feeds in turns[start_at:] + turns[:start_at]:
            feed = feeds[number % len(feeds)]
            # One run brings the model's weights back into the caches.
            session.run(None, feed)
            for _ in range(2):
                start = time.thread_time_ns()
                session.run(None, feed)
                taken = time.thread_time_ns() - start
                if number >= 0:
                    samples[name].append(taken)
    print(json.dumps({"release": onnxruntime.__version__, "samples_ns": samples}))


def processor_ms(python: Path, models: Mapping[str, bytes], workload: Workload, rounds: int) -> dict[str, Any]:
    """``release`` of ONNX Runtime in that Python, and ``median_ms`` by model. Raises RuntimeError where one fails."""
    shape = [workload.batch, workload.sequence]
    with tempfile.TemporaryDirectory() as folder:
        for name, model in models.items():
            (Path(folder) / f"{name}.onnx").write_bytes(model)
        call = f"time_folder({folder!r}, {shape}, {workload.vocab_size}, {rounds})"
        program = f"{inspect.getsource(time_folder)}\n{call}"
        done = subprocess.run([str(python), "-c", program], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["the process ended"])[-1])
    answer = json.loads(done.stdout)
    medians = {name: statistics.median(samples) / 1e6 for name, samples in answer["samples_ns"].items()}
    return {"release": str(answer["release"]), "median_ms": medians}
