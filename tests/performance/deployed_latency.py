"""How fast our INT8 models are where they serve: ``python tests/performance/deployed_latency.py [--quick] [--json]``.

MiniLM-L6 and random subnets of it on ONNX Runtime, one thread, one text of 128 tokens: ours against the same networks
quantized without this project (``rivals``) and our float32 form, inferences in turn; and against OpenVINO in a process
of its own, in alternating blocks. Without ``--quick`` also other texts, batches and threads, and an older release of
ONNX Runtime. OpenVINO and the older release get virtual environments under ``runs/environments``; where these cannot be
made their figures are left out. The last line of ``--json`` holds medians over the subnets of other / ours (larger is
better) as ``ratio_u8s8``, ``ratio_defaults``, ``ratio_fp32``, ``ratio_openvino``; ``latency_ms``, ``integer_share`` and
``integer_floor_ms`` (the integer products alone, from ONNX Runtime's profile) are the full network's.
"""

from __future__ import annotations

import argparse
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

import onnxruntime

from ortnas.bench.host import Failure
from ortnas.bench.request import Request
from ortnas.bench.session import Setup, make_session
from ortnas.bench.timing import Samples, TimingProtocol, Workload, time_interleaved
from ortnas.bench.worker_host import LocalHost
from ortnas.export.build import Exporter
from ortnas.export.inference import drift, load, run
from ortnas.export.inspect.audit import audit
from ortnas.export.inspect.running import profile
from ortnas.nas.architecture.subnet import Subnet
from ortnas.nas.console import Console
from tests.performance.export_speed import SEED, make_exporter, random_subnets, random_texts, write_minilm
from tests.performance.rivals import check_same_network, export_dynamo, quantize_rival, rival_network

ROOT = Path(__file__).resolve().parents[2]
# A year older than the newest one that the project was tried with.
OLDER_RELEASE = "1.23.2"
LABELS = {
    "ours": "ours",
    "u8s8": "quantize_static, U8S8 per channel",
    "defaults": "quantize_static, defaults",
    "fp32": "ours, float32",
}
OPENVINO_FORMS = ("openvino", "openvino_static")
# The ratios that are shown; OpenVINO's by file are in the JSON alone.
RATIOS = tuple(f"ratio_{kind}" for kind in (*list(LABELS)[1:], *OPENVINO_FORMS))
SETUP, WORKLOAD = Setup(threads=1), Workload(batch=1, sequence=128)
OTHER_SETTINGS = (
    *((SETUP, Workload(1, sequence)) for sequence in (16, 32, 64, 256)),
    (SETUP, Workload(8, 128)),
    (Setup(threads=2), WORKLOAD),
)
# Runs in a row of one side before the other's turn; both sides' processes wait meanwhile.
BLOCK_WARMUP, BLOCK_RUNS = 2, 8

Models = dict[str, bytes]
Latencies = Mapping[str, float]
Ask = Callable[..., dict[str, Any]]


def make_models(exporter: Exporter, subnet: Subnet) -> Models:
    """One subnet's models by kind. Raises ValueError where the rivals' network is not ours."""
    supernet, calibration = exporter.supernet, exporter.calibration
    models = {"ours": exporter.build(subnet, "int8"), "fp32": exporter.build(subnet, "fp32")}
    network = rival_network(supernet.tensors, supernet.dimensions, subnet)
    check_same_network(network, models["fp32"], calibration[0])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        export_dynamo(network, path)
        models["u8s8"] = quantize_rival(path, calibration)
        models["defaults"] = quantize_rival(path, calibration, defaults=True)
    return {kind: models[kind] for kind in LABELS}


def median_ms(samples_ns: list[int]) -> float:
    return statistics.median(samples_ns) / 1e6


def medians_ms(samples_ns: Mapping[str, list[int]]) -> dict[str, float]:
    return {kind: median_ms(samples) for kind, samples in samples_ns.items()}


def time_models(models: Models, setup: Setup, workload: Workload, protocol: TimingProtocol) -> dict[str, float]:
    """Latency in ms of each kind, taken in turn in this process."""
    sessions = {kind: make_session(model, setup) for kind, model in models.items()}
    timed = time_interleaved(sessions, "ours", [workload], protocol)
    return medians_ms({kind: list(samples.model_ns[0]) for kind, samples in timed.items()})


def ratios(latencies: Sequence[Latencies]) -> dict[str, float]:
    """Median over the subnets of other / ours, by kind."""
    kinds = set[str]().union(*latencies) - {"ours"}
    return {
        f"ratio_{kind}": statistics.median(entry[kind] / entry["ours"] for entry in latencies if kind in entry)
        for kind in sorted(kinds)
    }


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


def time_release(python: Path, subnets: list[Models], protocol: TimingProtocol) -> tuple[str, list[dict[str, float]]]:
    """The ONNX Runtime version of another Python and the latencies there, by subnet and kind."""
    latencies = []
    with LocalHost(python=str(python)) as host:
        version = host.hello()["fingerprint"]["onnxruntime"]
        for models in subnets:
            timed = host.measure(models, Request(models["ours"], SETUP, (WORKLOAD,), protocol))
            samples = {kind: timing for kind, timing in timed.items() if isinstance(timing, Samples)}
            if len(samples) < len(models):
                raise RuntimeError("; ".join(timing.reason for timing in timed.values() if isinstance(timing, Failure)))
            latencies.append(medians_ms({kind: list(timing.model_ns[0]) for kind, timing in samples.items()}))
            host.forget()
    return str(version), latencies


def serve_openvino() -> None:
    """Loads and times models as lines on stdin say. Sent as source: its environment has openvino and numpy alone."""
    import json
    import sys
    import time

    import numpy
    import openvino  # type: ignore[import-not-found]

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


def time_openvino(
    python: Path, subnets: list[Models], blocks: int, say: Callable[[str], None]
) -> list[dict[str, float]]:
    """Latencies in ms by subnet: ``ours`` on ONNX Runtime; on OpenVINO, each file by form and kind, and the best file
    by form: ``openvino`` as it is, ``openvino_static`` with its shapes fixed."""
    program = f"{inspect.getsource(serve_openvino)}\nserve_openvino()"
    facts: dict[str, Any] = {}
    latencies = []
    for models in subnets:
        session = {"ours": make_session(models["ours"], SETUP)}
        samples: dict[str, list[int]] = {"ours": []}
        with tempfile.TemporaryDirectory() as folder, worker(python, "-c", program) as ask:
            for kind, form in product(("ours", "u8s8"), OPENVINO_FORMS):
                path = Path(folder) / f"{kind}.onnx"
                path.write_bytes(models[kind])
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
            taken = [entry[f"{form}_{kind}"] for kind in ("ours", "u8s8") if f"{form}_{kind}" in entry]
            entry |= {form: min(taken)} if taken else {}
        latencies.append(entry)
    if facts:
        say(f"OpenVINO {facts['version']}: {facts['threads']} thread, inference precision {facts['precision']}.")
    return latencies


def time_other_settings(subnets: list[Models], rounds: int) -> dict[str, dict[str, float]]:
    """Ratios by setting."""
    settings = {}
    for setup, workload in OTHER_SETTINGS:
        # As many tokens in all as the main measurement has.
        share = WORKLOAD.sequence / (workload.batch * workload.sequence)
        protocol = TimingProtocol.fixed(max(4, round(rounds * share)), runs=4)
        name = f"{workload.batch} x {workload.sequence}, {setup.threads} thread{'s' * (setup.threads > 1)}"
        settings[name] = ratios([time_models(models, setup, workload, protocol) for models in subnets])
    return settings


def time_releases(
    subnets: list[Models], protocol: TimingProtocol, say: Callable[[str], None]
) -> dict[str, dict[str, float]]:
    """Ratios by release of ONNX Runtime, the installed one first; each in a process of its own."""
    older = environment(f"onnxruntime-{OLDER_RELEASE}", f"onnxruntime=={OLDER_RELEASE}", "numpy")
    if older is None:
        say(f"\nThe environment with ONNX Runtime {OLDER_RELEASE} could not be made: is a package registry in reach?")
    pythons = [Path(sys.executable), *([older] if older else [])]
    releases = {}
    for python in pythons:
        try:
            version, latencies = time_release(python, subnets, protocol)
            releases[version] = ratios(latencies)
        except RuntimeError as error:
            say(f"\nThe ONNX Runtime of {python} does not run the models: {error}")
    return releases


def full_network_rows(exporter: Exporter, models: Models, latencies_ms: Latencies) -> list[tuple[str, ...]]:
    feeds = random_texts(exporter.supernet.dimensions.vocab_size, SEED + 1)[0]
    expected = run(load(models["fp32"]), feeds)
    return [
        (
            label,
            f"{latencies_ms[kind]:.2f}",
            f"{latencies_ms[kind] / latencies_ms['ours']:.2f}x",
            f"{drift(run(load(models[kind]), feeds), expected).cosine:.4f}",
            f"{len(models[kind]) / 1e6:.1f}",
        )
        for kind, label in LABELS.items()
    ]


def show_ratios(console: Console, title: str, first: str, named: Mapping[str, Mapping[str, float]]) -> None:
    columns = [name for name in RATIOS if any(name in row for row in named.values())]
    rows = [
        (name, *(f"{row[column]:.2f}x" if column in row else "-" for column in columns)) for name, row in named.items()
    ]
    headings = [name.removeprefix("ratio_").replace("_", " ") for name in columns]
    console.table(f"{title}: other / ours", (first, *headings), rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    console = Console(to_stderr=arguments.json)
    random_ones, rounds, blocks = (1, 10, 8) if arguments.quick else (5, 30, 20)
    protocol = TimingProtocol.fixed(rounds, runs=4)
    with tempfile.TemporaryDirectory() as folder:
        write_minilm(Path(folder))
        exporter = make_exporter(Path(folder))
        subnets = [exporter.supernet.dimensions.full_subnet, *random_subnets(exporter, random_ones)]
        models = []
        with console.progress("exports") as report:
            for number, subnet in enumerate(subnets, start=1):
                models.append(make_models(exporter, subnet))
                report(number, len(subnets), "")
        latencies = [time_models(item, SETUP, WORKLOAD, protocol) for item in models]
        rows = full_network_rows(exporter, models[0], latencies[0])
    title = f"The full network, 1 x 128 tokens, 1 thread, ONNX Runtime {onnxruntime.__version__}"
    console.table(title, ("model", "median ms", "of ours", "cosine to float", "MB"), rows)

    kernels = profile(models[0]["ours"], WORKLOAD, SETUP, runs=10 * rounds).operators
    floor_ms = sum(row.time_ms for row in kernels if row.operator == "QGemm")
    integer_share = audit(models[0]["ours"], WORKLOAD, SETUP).integer_share
    console.say(
        f"\nOurs does {integer_share:.1%} of its multiply-adds in integers, in kernels (QGemm) that alone take "
        f"{floor_ms:.2f} ms by ONNX Runtime's profile."
    )
    figures: dict[str, Any] = {
        "latency_ms": latencies[0]["ours"],
        "integer_floor_ms": floor_ms,
        "integer_share": integer_share,
    }
    by_subnet = [ratios([entry]) for entry in latencies]
    figures |= ratios(latencies)
    python = environment("openvino", "openvino", "numpy")
    if python is None:
        console.say("\nThe environment with OpenVINO could not be made: is a package registry in reach?")
    else:
        entries = time_openvino(python, models, blocks, console.say)
        figures |= ratios(entries)
        for row, entry in zip(by_subnet, entries, strict=True):
            row |= ratios([entry])
    named = {subnet.describe(): row for subnet, row in zip(subnets, by_subnet, strict=True)}
    show_ratios(console, "1 x 128 tokens, 1 thread", "subnet", named | {"median": figures})
    if not arguments.quick:
        figures["settings"] = time_other_settings(models, rounds)
        show_ratios(console, "Medians over the subnets", "setting", figures["settings"])
        figures["releases"] = time_releases(models, protocol, console.say)
        show_ratios(console, "Medians over the subnets", "ONNX Runtime", figures["releases"])
    if arguments.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
