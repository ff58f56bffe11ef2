"""Our INT8 files, and models that NNCF quantized itself, on OpenVINO in a process of its own."""

from __future__ import annotations

import inspect
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from ortnas.bench.session import Setup, make_session
from ortnas.bench.timing import TimingProtocol, Workload, time_interleaved
from ortnas.nas.text import Feeds

ROOT = Path(__file__).resolve().parents[2]
OPENVINO_FORMS = ("openvino", "openvino_static")
SETUP, WORKLOAD = Setup(threads=1), Workload(batch=1, sequence=128)
# Runs in a row of one side before the other's turn; both sides' processes wait meanwhile.
BLOCK_WARMUP, BLOCK_RUNS = 2, 8

Models = dict[str, bytes]
Ask = Callable[..., dict[str, Any]]


def median_ms(samples_ns: list[int]) -> float:
    return statistics.median(samples_ns) / 1e6


def medians_ms(samples_ns: Mapping[str, list[int]]) -> dict[str, float]:
    return {kind: median_ms(samples) for kind, samples in samples_ns.items()}


def environment(name: str, *requirements: str) -> Path | None:
    """The Python of a virtual environment with these packages, made where there is none; None where it cannot be."""
    folder = ROOT / "runs" / "environments" / name
    python, ready = folder / "bin" / "python", folder / "ready"
    wanted = "\n".join(requirements)
    if ready.is_file() and ready.read_text() == wanted:
        return python
    commands = (
        [sys.executable, "-m", "venv", "--clear", str(folder)],
        [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements],
    )
    for command in commands:
        if subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode:
            return None
    ready.write_text(wanted)
    return python


@contextmanager
def worker(python: Path, *arguments: str) -> Iterator[Ask]:
    """A process that answers JSON lines; ``ask(request, payload)`` raises RuntimeError for an answer that is not ok."""
    process = subprocess.Popen(
        [str(python), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    stdin, stdout = process.stdin, process.stdout

    def ask(request: dict[str, Any], payload: bytes = b"") -> dict[str, Any]:
        try:
            stdin.write(json.dumps(request).encode() + b"\n" + payload)
            stdin.flush()
            line = stdout.readline()
        except BrokenPipeError:
            line = b""
        answer: dict[str, Any] = json.loads(line) if line else {"ok": False, "error": "the process ended"}
        if not answer["ok"]:
            raise RuntimeError(answer["error"])
        return answer

    try:
        yield ask
    finally:
        process.kill()
        process.communicate()


def serve_openvino() -> None:
    """Loads and times models as lines on stdin say. Sent as source: its environment has openvino and numpy alone."""
    import json
    import sys
    import time

    import numpy
    import openvino

    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": 1}
    requests = {}
    for line in sys.stdin:
        task = json.loads(line)
        try:
            if "path" in task:
                model = openvino.Core().read_model(task["path"])
                if task["is_static"]:
                    model.reshape({item.any_name: task["shape"] for item in model.inputs})
                compiled = openvino.Core().compile_model(model, "CPU", settings)
                ids = numpy.random.default_rng(1).integers(1, task["vocab_size"], task["shape"])
                values = {"input_ids": ids, "attention_mask": ids * 0 + 1, "token_type_ids": ids * 0}
                feeds = {item.any_name: values[item.any_name] for item in compiled.inputs}
                requests[task["name"]] = compiled.create_infer_request(), feeds
                facts = {"threads": compiled.get_property("INFERENCE_NUM_THREADS")}
                facts["precision"] = str(compiled.get_property("INFERENCE_PRECISION_HINT"))
                answer = {"ok": True, "version": openvino.__version__.split("-")[0], **facts}
            else:
                request, feeds = requests[task["name"]]
                samples_ns = []
                for number in range(task["warmup"] + task["runs"]):
                    start = time.perf_counter_ns()
                    request.infer(feeds, share_inputs=True, share_outputs=True)
                    if number >= task["warmup"]:
                        samples_ns.append(time.perf_counter_ns() - start)
                answer = {"ok": True, "samples_ns": samples_ns}
        except Exception as error:
            answer = {"ok": False, "error": " ".join(str(error).split())[:300]}
        print(json.dumps(answer), flush=True)


def quantize_by_nncf(folder: str) -> None:
    """``nncf.xml`` from ``float.onnx`` and ``texts.npz`` in a folder. Sent as source, as ``serve_openvino`` is."""
    import nncf  # type: ignore[import-not-found]
    import numpy
    import openvino

    model = openvino.Core().read_model(f"{folder}/float.onnx")
    with numpy.load(f"{folder}/texts.npz") as archive:
        texts = {item.any_name: archive[item.any_name] for item in model.inputs}
    rows = range(len(texts["input_ids"]))
    dataset = nncf.Dataset([{name: values[row : row + 1] for name, values in texts.items()} for row in rows])
    quantized = nncf.quantize(model, dataset, model_type=nncf.ModelType.TRANSFORMER)
    openvino.save_model(quantized, f"{folder}/nncf.xml")


def nncf_model(python: Path, float_model: bytes, texts: Sequence[Feeds], folder: Path) -> Path:
    """NNCF's own INT8 form of a float model, for transformers as it recommends, its ranges those of the texts.

    Raises RuntimeError with what NNCF says.
    """
    (folder / "float.onnx").write_bytes(float_model)
    np.savez(folder / "texts.npz", **{name: np.concatenate([batch[name] for batch in texts]) for name in texts[0]})
    program = f"{inspect.getsource(quantize_by_nncf)}\nquantize_by_nncf({str(folder)!r})"
    done = subprocess.run([str(python), "-c", program], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["the process ended"])[-1][:300])
    return folder / "nncf.xml"


def openvino_files(
    models: Models, texts: Sequence[Feeds], nncf: Path | None, folder: Path, say: Callable[[str], None]
) -> dict[str, Path]:
    """What OpenVINO is given, by kind: INT8 files of ONNX, and NNCF's model where its Python is there."""
    files = {}
    for kind in ("ours", "u8s8"):
        files[kind] = folder / f"{kind}.onnx"
        files[kind].write_bytes(models[kind])
    if nncf is not None:
        try:
            files["nncf"] = nncf_model(nncf, models["fp32"], texts, folder)
        except RuntimeError as error:
            say(f"NNCF does not quantize the float model: {error}")
    return files


def time_openvino(
    python: Path,
    nncf: Path | None,
    subnets: list[Models],
    texts: Sequence[Feeds],
    blocks: int,
    say: Callable[[str], None],
) -> list[dict[str, float]]:
    """Latencies in ms by subnet: ``ours`` on ONNX Runtime; on OpenVINO, each file by form and kind, and the best file
    by form: ``openvino`` as it is, ``openvino_static`` with its shapes fixed. ``nncf`` is the Python that has NNCF."""
    program = f"{inspect.getsource(serve_openvino)}\nserve_openvino()"
    facts: dict[str, Any] = {}
    latencies = []
    for models in subnets:
        session = {"ours": make_session(models["ours"], SETUP)}
        samples: dict[str, list[int]] = {"ours": []}
        with tempfile.TemporaryDirectory() as folder, worker(python, "-c", program) as ask:
            files = openvino_files(models, texts, nncf, Path(folder), say)
            for (kind, path), form in product(files.items(), OPENVINO_FORMS):
                request = {"path": str(path), "name": f"{form}_{kind}", "is_static": form == "openvino_static"}
                shape = {"shape": [WORKLOAD.batch, WORKLOAD.sequence], "vocab_size": WORKLOAD.vocab_size}
                try:
                    facts = ask(request | shape)
                    samples[f"{form}_{kind}"] = []
                except RuntimeError as error:
                    say(f"OpenVINO does not take the model {kind!r} ({form}): {error}")
            for _ in range(blocks):
                block = time_interleaved(session, "ours", [WORKLOAD], TimingProtocol.fixed(1, BLOCK_RUNS))["ours"]
                samples["ours"] += block.model_ns[0]
                for name in list(samples)[1:]:
                    samples[name] += ask({"name": name, "warmup": BLOCK_WARMUP, "runs": BLOCK_RUNS})["samples_ns"]
        entry = medians_ms(samples)
        for form in OPENVINO_FORMS:
            taken = [entry[f"{form}_{kind}"] for kind in files if f"{form}_{kind}" in entry]
            entry |= {form: min(taken)} if taken else {}
        latencies.append(entry)
    if facts:
        say(f"OpenVINO {facts['version']}: {facts['threads']} thread, inference precision {facts['precision']}.")
    return latencies
