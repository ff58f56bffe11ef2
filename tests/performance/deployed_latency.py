"""How fast our INT8 models are where they serve: ``python tests/performance/deployed_latency.py [--quick] [--json]
[--rows PATTERN]``.

MiniLM-L6 and random subnets of it on ONNX Runtime, one thread, one text of 128 tokens: ours against the same networks
quantized without this project (``rivals``) and our float32 form, inferences in turn (row ``main``); and against
OpenVINO, on our file and on NNCF's own quantized model, in a process of its own, in alternating blocks (``openvino``).
Without ``--quick`` also texts of 16 to 512 tokens, batches of 8 and 32, two and four threads (rows such as ``8 x 128
tokens, 2 threads``), and an older release of ONNX Runtime (``releases``). Rows are kept in ``--folder`` as they are
finished, and are not measured again on the same machine and releases; ``--rows`` (fnmatch, several times) chooses some,
``--again`` measures them anew. On an idle machine the exports take 2 minutes, ``openvino`` 5, any other row 1 to 2, all
of it half an hour. OpenVINO, NNCF and the older release get virtual environments under ``runs/environments``; where
these cannot be made their figures are left out.

The last line of ``--json`` holds medians over the subnets of other / ours (larger is better) as ``ratio_u8s8``,
``ratio_defaults``, ``ratio_fp32``, ``ratio_openvino``; ``latency_ms``, ``integer_share`` (of multiply-adds),
``integer_floor_ms`` and ``integer_time_share`` (the integer products alone, and their share of the time of all kernels,
from ONNX Runtime's profile) are the full network's.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any

import onnxruntime

from ortnas.bench.conditions import usable_processors
from ortnas.bench.fingerprint import fingerprint
from ortnas.bench.host import Failure
from ortnas.bench.request import Request
from ortnas.bench.session import Setup, make_session
from ortnas.bench.timing import Samples, TimingProtocol, Workload, time_interleaved
from ortnas.bench.worker_host import LocalHost
from ortnas.export.build import Exporter
from ortnas.export.graph.model import LAYOUT_VERSION
from ortnas.export.inference import drift, load, run
from ortnas.export.inspect.audit import audit
from ortnas.export.inspect.running import profile
from ortnas.nas.architecture.subnet import Subnet
from ortnas.nas.console import Console
from ortnas.nas.files import append_line, digest, read_lines
from tests.performance.export_speed import SEED, make_exporter, random_subnets, random_texts, write_minilm
from tests.performance.openvino_latency import (
    OPENVINO_FORMS,
    SETUP,
    WORKLOAD,
    Models,
    environment,
    medians_ms,
    time_openvino,
)
from tests.performance.rivals import check_same_network, export_dynamo, quantize_rival, rival_network

# A year older than the newest one that the project was tried with.
OLDER_RELEASE = "1.23.2"
LABELS = {
    "ours": "ours",
    "u8s8": "quantize_static, U8S8 per channel",
    "defaults": "quantize_static, defaults",
    "fp32": "ours, float32",
}
# The ratios that are shown; OpenVINO's by file are in the JSON alone.
RATIOS = tuple(f"ratio_{kind}" for kind in (*list(LABELS)[1:], *OPENVINO_FORMS))
SETTINGS = {
    f"{workload.describe()}, {threads} thread{'s' * (threads > 1)}": (Setup(threads=threads), workload)
    for threads, workload in (
        *((1, Workload(1, sequence)) for sequence in (16, 32, 64, 256, 512)),
        *((1, Workload(batch, 128)) for batch in (8, 32)),
        *((threads, Workload(batch, 128)) for threads in (2, 4) for batch in (1, 8, 32)),
        *((2, Workload(1, sequence)) for sequence in (16, 512)),
    )
}
MAIN, OPENVINO, RELEASES = "main", "openvino", "releases"
ROWS = (MAIN, OPENVINO, *SETTINGS, RELEASES)
QUICK_ROWS = (MAIN, OPENVINO)

Latencies = Mapping[str, float]


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


def time_setting(subnets: list[Models], name: str, rounds: int) -> dict[str, float]:
    """Ratios of one setting."""
    setup, workload = SETTINGS[name]
    # As many tokens in all as the main measurement has.
    share = WORKLOAD.sequence / (workload.batch * workload.sequence)
    protocol = TimingProtocol.fixed(max(4, round(rounds * share)), runs=4)
    return ratios([time_models(models, setup, workload, protocol) for models in subnets])


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


class Lab:
    """The networks, exported when the first row asks for them, and how a row is measured."""

    def __init__(self, quick: bool, folder: Path, console: Console) -> None:
        self.console, self.folder = console, folder
        self.random_ones, self.rounds, self.blocks = (1, 10, 8) if quick else (5, 30, 20)
        self.protocol = TimingProtocol.fixed(self.rounds, runs=4)

    @cached_property
    def exporter(self) -> Exporter:
        write_minilm(self.folder)
        return make_exporter(self.folder)

    @cached_property
    def subnets(self) -> list[Subnet]:
        return [self.exporter.supernet.dimensions.full_subnet, *random_subnets(self.exporter, self.random_ones)]

    @cached_property
    def models(self) -> list[Models]:
        made = []
        with self.console.progress("exports") as report:
            for number, subnet in enumerate(self.subnets, start=1):
                made.append(make_models(self.exporter, subnet))
                report(number, len(self.subnets), "")
        return made

    def measure(self, row: str) -> Any:
        """Figures of a row, ready for JSON; None where it cannot be measured here, which is said."""
        if row == MAIN:
            return self._main()
        if row == OPENVINO:
            return self._openvino()
        if row == RELEASES:
            return time_releases(self.models, self.protocol, self.console.say)
        threads = SETTINGS[row][0].threads
        if threads > usable_processors():
            self.console.say(f"\n{row}: left out, for there are {usable_processors()} processors.")
            return None
        return time_setting(self.models, row, self.rounds)

    def _main(self) -> dict[str, Any]:
        latencies = [time_models(item, SETUP, WORKLOAD, self.protocol) for item in self.models]
        ours = self.models[0]["ours"]
        profiled = profile(ours, WORKLOAD, SETUP, runs=10 * self.rounds)
        floor_ms = sum(row.time_ms for row in profiled.operators if row.operator == "QGemm")
        return {
            "latencies": latencies,
            "subnets": [subnet.describe() for subnet in self.subnets],
            "full": full_network_rows(self.exporter, self.models[0], latencies[0]),
            "integer_floor_ms": floor_ms,
            "integer_time_share": floor_ms / profiled.kernels_ms,
            "integer_share": audit(ours, WORKLOAD, SETUP).integer_share,
        }

    def _openvino(self) -> dict[str, Any] | None:
        python = environment("openvino", "openvino", "numpy")
        if python is None:
            self.console.say("\nThe environment with OpenVINO could not be made: is a package registry in reach?")
            return None
        nncf = environment("nncf", "nncf", "openvino", "numpy")
        if nncf is None:
            self.console.say("\nThe environment with NNCF could not be made; its own model is left out.")
        texts = self.exporter.calibration
        entries = time_openvino(python, nncf, self.models, texts, self.blocks, self.console.say)
        return {"latencies": entries, "subnets": [subnet.describe() for subnet in self.subnets]}


def show(rows: Mapping[str, Any], console: Console) -> dict[str, Any]:
    """Prints the tables of the rows that are there, and gives the figures of ``--json``."""
    figures: dict[str, Any] = {}
    by_subnet: dict[str, dict[str, float]] = {}
    if MAIN in rows:
        main_row = rows[MAIN]
        title = f"The full network, 1 x 128 tokens, 1 thread, ONNX Runtime {onnxruntime.__version__}"
        console.table(title, ("model", "median ms", "of ours", "cosine to float", "MB"), main_row["full"])
        console.say(
            f"\nOurs does {main_row['integer_share']:.1%} of its multiply-adds in integers, in kernels (QGemm) that "
            f"alone take {main_row['integer_floor_ms']:.2f} ms by ONNX Runtime's profile, "
            f"{main_row['integer_time_share']:.0%} of all."
        )
        figures = {name: main_row[name] for name in ("integer_floor_ms", "integer_time_share", "integer_share")}
        figures["latency_ms"] = main_row["latencies"][0]["ours"]
    for row in (MAIN, OPENVINO):
        if row in rows:
            figures |= ratios(rows[row]["latencies"])
            for subnet, entry in zip(rows[row]["subnets"], rows[row]["latencies"], strict=True):
                by_subnet.setdefault(subnet, {}).update(ratios([entry]))
    if by_subnet:
        show_ratios(console, "1 x 128 tokens, 1 thread", "subnet", by_subnet | {"median": figures})
    if settings := {name: rows[name] for name in SETTINGS if name in rows}:
        figures["settings"] = settings
        show_ratios(console, "Medians over the subnets", "setting", settings)
    if RELEASES in rows:
        figures["releases"] = rows[RELEASES]
        show_ratios(console, "Medians over the subnets", "ONNX Runtime", rows[RELEASES])
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rows", action="append", metavar="PATTERN", help=f"of {'; '.join(ROWS)}")
    parser.add_argument("--again", action="store_true", help="measure rows anew that are finished")
    parser.add_argument("--folder", type=Path, default=Path("runs", "deployed_latency"))
    arguments = parser.parse_args()
    console = Console(to_stderr=arguments.json)
    patterns = arguments.rows or (QUICK_ROWS if arguments.quick else ROWS)
    wanted = [row for row in ROWS if any(fnmatchcase(row, pattern) for pattern in patterns)]
    if not wanted:
        sys.exit(f"--rows: no row is named like {', '.join(patterns)}; there are {'; '.join(ROWS)}")
    file = arguments.folder / "rows.jsonl"
    context = digest(fingerprint(), LAYOUT_VERSION, OLDER_RELEASE, arguments.quick)
    finished = {entry["row"]: entry["figures"] for entry in read_lines(file) if entry["context"] == context}
    with tempfile.TemporaryDirectory() as folder:
        lab = Lab(arguments.quick, Path(folder), console)
        for row in wanted:
            if row in finished and not arguments.again:
                console.say(f"{row}: finished before")
            elif (figures := lab.measure(row)) is not None:
                finished[row] = figures
                append_line(file, {"context": context, "row": row, "figures": figures})
    figures = show({row: finished[row] for row in wanted if row in finished}, console)
    if arguments.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
