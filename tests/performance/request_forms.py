"""What models gain that take some requests alone: ``python tests/performance/request_forms.py [--quick] [--json]``.

MiniLM-L6 and random subnets of it as INT8, one thread, requests without padding, in turn with the usual form, which
takes any shape and a mask: for one shape (``fixed``), without a mask (``unmasked``), both (``fixed_unmasked``), without
a mask and with ONNX Runtime's own ``MultiHeadAttention`` in place of attention's products and softmax (``fused``, as
packages have it), the same with a mask (``masked_fused``), and with both graphs in an ``If`` that looks for padding
(``either``), which is timed on padded requests too (``either_padded``). On the installed ONNX Runtime, on an older
release and on OpenVINO, the latter two in virtual environments under ``runs/environments``; where these cannot be made
their figures are left out.

The last line of ``--json`` has, by runtime and by request, ``ratio_<form>``: the usual form's time / that form's,
median over the subnets of medians over rounds (larger is better). ``sizes`` are bytes of the full network's files,
``resident_bytes`` what a process holds with a session of each after a request, and ``fusions`` how many attention nodes
``onnxruntime.transformers`` makes of the float graphs of six layers.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ortnas.bench.host import Failure
from ortnas.bench.request import Request
from ortnas.bench.session import OPENVINO, Setup
from ortnas.bench.timing import Samples, TimingProtocol, Workload
from ortnas.bench.worker_host import LocalHost
from ortnas.export.build import Exporter
from ortnas.export.graph.fused_attention import OPERATOR, fuse_attention
from ortnas.export.graph.inputs import ModelInputs
from ortnas.export.inference import drift, load, run
from ortnas.nas.architecture.subnet import Subnet
from ortnas.nas.console import Console
from tests.performance.deployed_latency import OLDER_RELEASE
from tests.performance.export_speed import SEED, make_exporter, random_subnets, random_texts, write_minilm
from tests.performance.openvino_latency import environment

SHAPES = ((1, 128), (1, 32), (1, 256), (1, 512), (8, 128))
QUICK_SHAPES = ((1, 128), (1, 512))
# It has an operator that no other runtime has.
ONNXRUNTIME_ALONE = ("fused", "masked_fused")

Models = dict[str, bytes]


def make_forms(exporter: Exporter, subnet: Subnet, shapes: tuple[int, int]) -> Models:
    """The same network for the same requests, by form. Raises ValueError where one computes something else."""
    built = {
        "usual": ModelInputs(),
        "fixed": ModelInputs(shapes),
        "unmasked": ModelInputs(mask=False),
        "fixed_unmasked": ModelInputs(shapes, mask=False),
    }
    standard = replace(exporter, fuses_attention=False)
    forms = {name: replace(standard, inputs=inputs).sliced(subnet) for name, inputs in built.items()}
    forms["fused"] = replace(exporter, inputs=built["unmasked"]).sliced(subnet)
    forms["masked_fused"] = with_masked_attention(forms["usual"])
    forms["either"] = with_both(forms["usual"], forms["unmasked"])
    batch, sequence = shapes
    ids = np.random.default_rng(SEED).integers(1, exporter.supernet.dimensions.vocab_size, shapes)
    feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    padded = {**feeds, "attention_mask": (np.arange(sequence) < sequence // 2) * feeds["attention_mask"]}
    for asked, names in ((feeds, list(forms)), (padded, ["usual", "fixed", "masked_fused", "either"])):
        expected = run(load(forms["usual"]), asked)
        for name in names:
            cosine = drift(run(load(forms[name]), asked), expected).cosine
            # Integers round what is the same but for its last digits: of the float models the cosine is 1.
            if cosine < 0.99:
                raise ValueError(f"{name} at {batch} x {sequence} is another network: cosine {cosine:.4f}")
    return forms


def with_masked_attention(usual: bytes) -> bytes:
    """The usual form with ONNX Runtime's attention operator, which is told by the mask what is padding."""
    model = onnx.ModelProto.FromString(usual)
    graph = model.graph
    unbiased = [node for node in graph.node if not node.output[0].endswith("/masked_scores")]
    for node in unbiased:
        if node.op_type == "Softmax":
            node.input[0] = node.input[0].replace("/masked_scores", "/scores")
    replace_nodes(graph, unbiased)
    fuse_attention(model)
    mask = helper.make_node("Cast", ["attention_mask"], ["shown"], name="shown", to=TensorProto.INT32)
    for node in graph.node:
        if node.op_type == OPERATOR:
            # Queries, keys, values, no bias, what is padding.
            node.input.extend(["", mask.output[0]])
    replace_nodes(graph, [mask, *graph.node])
    content: bytes = model.SerializeToString()
    return content


def replace_nodes(graph: onnx.GraphProto, nodes: Sequence[onnx.NodeProto]) -> None:
    copies = list(nodes)
    graph.ClearField("node")
    graph.node.extend(copies)


def with_both(usual: bytes, unmasked: bytes) -> bytes:
    """One model with both graphs, which share their weights: that without a mask runs where nothing is padding."""
    whole, other = (onnx.ModelProto.FromString(content) for content in (usual, unmasked))
    graph = whole.graph
    (output,) = graph.output
    names = {item.name for item in graph.initializer}
    graph.initializer.extend(item for item in other.graph.initializer if item.name not in names)
    branches = {}
    for name, nodes in (("then_branch", list(other.graph.node)), ("else_branch", list(graph.node))):
        answer = f"{name}/{output.name}"
        for node in nodes:
            node.output[:] = [answer if value == output.name else value for value in node.output]
        typed = helper.make_tensor_value_info(answer, TensorProto.FLOAT, None)
        branches[name] = helper.make_graph(nodes, name, [], [typed])
    shown = numpy_helper.from_array(np.array(1, np.int64), "padding/shown")
    graph.initializer.append(shown)
    graph.ClearField("node")
    graph.node.extend(
        [
            helper.make_node("ReduceMin", ["attention_mask"], ["padding/least"], name="padding/least", keepdims=0),
            helper.make_node("Equal", ["padding/least", shown.name], ["padding/none"], name="padding/none"),
            helper.make_node("If", ["padding/none"], [output.name], name="padding/if", **branches),
        ]
    )
    content: bytes = whole.SerializeToString()
    return content


def measure(
    python: Path, setup: Setup, subnets: Sequence[Models], shapes: tuple[int, int], protocol: TimingProtocol
) -> tuple[str, dict[str, float]]:
    """The runtime's version there, and the ratios. Raises RuntimeError where a form cannot be timed."""
    batch, sequence = shapes
    padded = Workload(batch, sequence, lengths=(max(1, sequence // 2),))
    by_form: dict[str, list[float]] = {}
    with LocalHost(python=str(python), runtime=setup.runtime) as host:
        version = str(host.hello()["fingerprint"][setup.runtime])
        for forms in subnets:
            kept = {name: forms[name] for name in forms if setup.runtime != OPENVINO or name not in ONNXRUNTIME_ALONE}
            full = Request(kept["usual"], setup, (Workload(batch, sequence),), protocol)
            timed = {**host.measure(kept, full)}
            either = host.measure({"either": kept["either"]}, replace(full, workloads=(padded,)))
            timed["either_padded"] = either["either"]
            for name, result in timed.items():
                if isinstance(result, Failure):
                    print(f"{name}, {setup.runtime} {version}: {result.reason}", file=sys.stderr)
                    continue
                by_form.setdefault(name, []).append(speed_up(result))
            host.forget()
    return version, {f"ratio_{name}": statistics.median(values) for name, values in by_form.items() if name != "usual"}


def speed_up(samples: Samples) -> float:
    """The usual form's time / this one's, median over rounds."""
    return float(np.median(np.divide(samples.anchor_ns[0], samples.model_ns[0])))


def resident_bytes(forms: Models) -> dict[str, int]:
    """Of a process with one session, after a request of 128 tokens."""
    program = (
        "import sys, numpy, onnxruntime, pathlib\n"
        "options = onnxruntime.SessionOptions(); options.intra_op_num_threads = 1\n"
        "session = onnxruntime.InferenceSession(sys.argv[1], options)\n"
        "ones = numpy.ones((1, 128), numpy.int64)\n"
        "session.run(None, {item.name: ones for item in session.get_inputs()})\n"
        "print(int(pathlib.Path('/proc/self/statm').read_text().split()[1]) * 4096)\n"
    )
    resident = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        for name, content in forms.items():
            path.write_bytes(content)
            resident[name] = int(subprocess.check_output([sys.executable, "-c", program, str(path)], text=True))
    return resident


def fusions(exporter: Exporter, subnet: Subnet) -> dict[str, int]:
    """Attention nodes that ONNX Runtime's own optimizer makes of the float graph with and without a mask."""
    from onnxruntime.transformers.fusion_options import FusionOptions
    from onnxruntime.transformers.optimizer import optimize_model

    counts = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        for name, inputs in (("usual", ModelInputs()), ("unmasked", ModelInputs(mask=False))):
            plain = replace(exporter, inputs=inputs, fuses_attention=False)
            model = onnx.ModelProto.FromString(plain.build(subnet, "fp32"))
            # The optimizer passes over models of other exporters.
            model.producer_name = "pytorch"
            path.write_bytes(model.SerializeToString())
            layer = subnet.layers[0]
            optimized = optimize_model(
                str(path),
                "bert",
                num_heads=layer.num_heads,
                hidden_size=subnet.hidden_size,
                optimization_options=FusionOptions("bert"),
                use_gpu=False,
            )
            kinds = [node.op_type for node in optimized.model.graph.node]
            counts[name] = sum(kinds.count(kind) for kind in ("Attention", "MultiHeadAttention"))
    return counts


def show(console: Console, runtime: str, by_shape: Mapping[str, Mapping[str, float]]) -> None:
    names = list(dict.fromkeys(name for row in by_shape.values() for name in row))
    rows = [
        (shape, *(f"{row[name]:.3f}x" if name in row else "-" for name in names)) for shape, row in by_shape.items()
    ]
    headings = [name.removeprefix("ratio_").replace("_", " ") for name in names]
    console.table(f"{runtime}: the usual form's time / that form's", ("request", *headings), rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    console = Console(to_stderr=arguments.json)
    shapes = QUICK_SHAPES if arguments.quick else SHAPES
    rounds, random_ones = (20, 0) if arguments.quick else (60, 3)
    runtimes = [(Path(sys.executable), Setup())]
    for name, setup, requirements in (
        (f"onnxruntime-{OLDER_RELEASE}", Setup(), (f"onnxruntime=={OLDER_RELEASE}", "numpy")),
        ("openvino-worker", Setup.for_openvino(), ("openvino", "onnxruntime", "numpy")),
    ):
        python = environment(name, *requirements)
        if python is None:
            console.say(f"the environment {name} could not be made: is a package registry in reach?")
        else:
            runtimes.append((python, setup))
    with tempfile.TemporaryDirectory() as folder:
        write_minilm(Path(folder))
        exporter = make_exporter(Path(folder))
        exporter = replace(exporter, calibration=random_texts(exporter.supernet.dimensions.vocab_size, SEED))
        full = exporter.supernet.dimensions.full_subnet
        subnets = [full, *random_subnets(exporter, random_ones)]
        figures: dict[str, Any] = {"runtimes": {}}
        for batch, sequence in shapes:
            forms = [make_forms(exporter, subnet, (batch, sequence)) for subnet in subnets]
            protocol = TimingProtocol.fixed(max(10, round(rounds * 128 / (batch * sequence))))
            for python, setup in runtimes:
                version, shares = measure(python, setup, forms, (batch, sequence), protocol)
                figures["runtimes"].setdefault(f"{setup.runtime} {version}", {})[f"{batch} x {sequence}"] = shares
            if (batch, sequence) == (1, 128):
                figures["sizes"] = {name: len(content) for name, content in forms[0].items()}
                figures["resident_bytes"] = resident_bytes(forms[0])
        figures["fusions"] = fusions(exporter, full)
    for runtime, by_shape in figures["runtimes"].items():
        show(console, runtime, by_shape)
    for name in ("sizes", "resident_bytes"):
        console.say(f"{name}: " + ", ".join(f"{form} {size / 1e6:.1f} MB" for form, size in figures[name].items()))
    console.say(f"attention nodes that onnxruntime.transformers makes: {figures['fusions']}")
    if arguments.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
