"""Running anybody's ONNX model to look at it: made-up inputs, the graph that really runs, shapes, time by operator."""

from __future__ import annotations

import json
import math
import re
import tempfile
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from ortnas.bench import fastmath
from ortnas.bench.session import Setup
from ortnas.bench.timing import Workload
from ortnas.export.inspect.messages import INT64, Message, element_type, parse_model
from ortnas.export.inspect.products import Shape
from ortnas.nas.failures import OrtnasError

Model = bytes | Path
Feeds = dict[str, npt.NDArray[np.generic]]

# Their node contains other nodes, which are timed and counted themselves.
CONTROL_FLOW = ("If", "Loop", "Scan")
_MODEL_FILE = "model.onnx"
_WARMUP_RUNS = 3
# Rows of a table that an input's ids are below where the graph does not show the table.
_UNKNOWN_ROWS = 2
# Operators that hand on the values of their first input.
_CARRIERS = ("Cast", "Expand", "Flatten", "Identity", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze")


class InspectionError(OrtnasError):
    """A model that cannot be looked at; the message says why and what to do."""


def find_model(path: Path) -> Path:
    """An ONNX file itself, or ``model.onnx`` of a package folder. Raises InspectionError where there is none."""
    file = path / _MODEL_FILE if path.is_dir() else path
    if not file.is_file():
        raise InspectionError(f"{file}: no such file; give an ONNX file or a folder that holds {_MODEL_FILE}")
    return file


def read_model(model: Model) -> Message:
    """The model without data that lies outside its file. Raises InspectionError for what is not ONNX."""
    content = model.read_bytes() if isinstance(model, Path) else model
    try:
        read = parse_model(content)
    except Exception:  # protobuf's exception types have changed between releases
        raise InspectionError(f"{_label(model)}: not an ONNX model, or one that is cut short or damaged") from None
    if not read.graph.node:
        raise InspectionError(f"{_label(model)}: not an ONNX model: it holds no operators")
    return read


def graph_inputs(graph: Message) -> list[Message]:
    """Inputs that must be fed; until IR version 4 weights are listed among the inputs."""
    weights = {item.name for item in graph.initializer}
    return [item for item in graph.input if item.name not in weights]


def make_up_inputs(model: Message, workload: Workload, seed: int = 1) -> Feeds:
    """Values for every input of a model, by its type and name.

    Sizes that the model leaves open are the batch on the first axis, the sequence on axes named for it and on second
    axes. Integers are random ids below the number of rows of the table that they are looked up in (and the workload's
    ``vocab_size``), or, as their name says, ones for masks, zeros for token types, 0, 1, 2... for positions. Floats are
    standard normal. Raises InspectionError for inputs of other types or with other open sizes.
    """
    rng = np.random.default_rng(seed)
    rows = _table_rows(model.graph)
    named_sizes: dict[str, int] = {}
    feeds: Feeds = {}
    for item in graph_inputs(model.graph):
        if item.type.WhichOneof("value") != "tensor_type":
            raise InspectionError(f"input {item.name!r} is no tensor but a {item.type.WhichOneof('value')}")
        shape = _input_shape(item, workload, named_sizes)
        limit = min(rows.get(item.name, _UNKNOWN_ROWS), workload.vocab_size)
        feeds[item.name] = _input_values(item, shape, limit, rng)
    return feeds


def _table_rows(graph: Message) -> dict[str, int]:
    """Rows of the smallest constant table that each input's values are looked up in, by input name."""
    tables = {item.name: tuple(item.dims) for item in graph.initializer}
    origin = {item.name: item.name for item in graph_inputs(graph)}
    rows: dict[str, int] = {}

    def looked_up(table: str, ids: str) -> None:
        if table in tables and ids in origin:
            size = tables[table][0]
            rows[origin[ids]] = min(size, rows.get(origin[ids], size))

    for node in graph.node:
        attributes = {item.name: item for item in node.attribute}
        if node.op_type == "Constant" and "value" in attributes:
            tables[node.output[0]] = tuple(attributes["value"].t.dims)
        elif node.op_type in ("Cast", "DequantizeLinear", "Identity") and node.input[0] in tables:
            tables[node.output[0]] = tables[node.input[0]]
        elif node.op_type in _CARRIERS and node.input[0] in origin:
            origin[node.output[0]] = origin[node.input[0]]
        elif node.op_type == "Gather" and ("axis" not in attributes or attributes["axis"].i == 0):
            looked_up(*node.input[:2])
        elif node.op_type == "EmbedLayerNormalization":
            looked_up(node.input[2], node.input[0])
    return rows


def _input_shape(item: Message, workload: Workload, named_sizes: dict[str, int]) -> Shape:
    if not item.type.tensor_type.HasField("shape"):
        raise InspectionError(f"input {item.name!r} has no declared shape; export the model with one")
    shape = []
    for axis, dimension in enumerate(item.type.tensor_type.shape.dim):
        name = dimension.dim_param
        if dimension.HasField("dim_value") and dimension.dim_value > 0:
            size = dimension.dim_value
        elif name in named_sizes:
            size = named_sizes[name]
        elif "seq" in name.lower() or "length" in name.lower():
            size = workload.sequence
        elif axis == 0 or "batch" in name.lower():
            size = workload.batch
        elif axis == 1:
            size = workload.sequence
        else:
            called = f" ({name})" if name else ""
            raise InspectionError(
                f"input {item.name!r} leaves the size of axis {axis}{called} open, which is neither batch nor "
                "sequence; export the model with that size fixed"
            )
        if name:
            named_sizes[name] = size
        shape.append(size)
    return tuple(shape)


def _input_values(item: Message, shape: Shape, limit: int, rng: np.random.Generator) -> npt.NDArray[np.generic]:
    type_name, name = element_type(item.type.tensor_type.elem_type)[0], item.name.lower()
    if not re.fullmatch(r"bool|u?int(8|16|32|64)|float(16|32|64)", type_name):
        raise InspectionError(f"input {item.name!r} is of type {type_name}, for which no values can be made up")
    kind = np.dtype(type_name)
    if "mask" in name or kind.kind == "b":
        return np.ones(shape, kind)
    if kind.kind == "f":
        return rng.standard_normal(shape).astype(kind)
    if "type" in name or "segment" in name:
        return np.zeros(shape, kind)
    if "position" in name and shape:
        return np.broadcast_to(np.arange(shape[-1]), shape).astype(kind)
    return rng.integers(0, min(limit, np.iinfo(kind).max), shape).astype(kind)


def _label(model: Model) -> str:
    return str(model) if isinstance(model, Path) else "the model"


def _options(setup: Setup) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = setup.threads
    options.inter_op_num_threads = 1
    # What goes wrong is said in one sentence, not logged as well.
    options.log_severity_level = 4
    if setup.fastmath_bfloat16:
        options.add_session_config_entry(fastmath.ENTRY, "1")
    return options


def _session(model: Model, setup: Setup, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    available = onnxruntime.get_available_providers()
    if setup.provider not in available:
        raise InspectionError(f"{setup.provider} is not available here; there is {', '.join(available)}")
    source = str(model) if isinstance(model, Path) else model
    try:
        providers = [(setup.provider, dict(setup.provider_options))]
        session = onnxruntime.InferenceSession(source, options, providers=providers)
    except Exception as error:  # ONNX Runtime's own exception types share no public base
        raise InspectionError(
            f"{_label(model)}: ONNX Runtime {onnxruntime.__version__} refuses it: {_reason(error)}"
        ) from error
    if setup.provider not in session.get_providers():
        raise InspectionError(f"{setup.provider} cannot be started here; there is {', '.join(session.get_providers())}")
    return session


def _run(session: onnxruntime.InferenceSession, outputs: Collection[str], feeds: Feeds) -> list[Any]:
    options = onnxruntime.RunOptions()
    options.log_severity_level = 4
    try:
        return list(session.run(list(outputs), feeds, options))
    except Exception as error:  # as above
        shapes = ", ".join(f"{name} {list(value.shape)}" for name, value in feeds.items())
        raise InspectionError(
            f"the model does not run with {shapes}: {_reason(error)}; choose a batch and a sequence that it takes"
        ) from error


def _reason(error: Exception) -> str:
    """ONNX Runtime's message as part of a sentence: one line, without error codes and source positions."""
    text = (str(error).strip().splitlines() or [type(error).__name__])[0]
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", text)
    text = re.sub(r"^Non-zero status code .* running (\S+) node\. Name:('[^']*') Status Message: ", r"\1 \2: ", text)
    text = re.sub(r"\S+\.(cc|h):\d+ ", "", text)
    text = re.sub(r"\w+ onnxruntime::.*? was false\. ", "", text)
    bounds = r"indices element out of data bounds, idx=(-?\d+) must be within the inclusive range \[-(\d+),-?\d+\]"
    text = re.sub(bounds, r"row \1 asked of a table with \2 rows", text)
    return text.strip().rstrip(".")


@contextmanager
def optimized_file(model: Model, setup: Setup) -> Iterator[Path]:
    """The graph that ONNX Runtime makes of a model under default options, as a file that goes when the block ends.

    Larger weights lie in a second file beside it. Raises InspectionError where ONNX Runtime refuses the model.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "optimized.onnx"
        options = _options(setup)
        options.optimized_model_filepath = str(path)
        # No protobuf can be larger than 2 GB.
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", "weights.bin")
        options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "1024")
        _session(model, setup, options)
        if not path.is_file():
            raise InspectionError(f"{_label(model)}: {setup.provider} does not show the graph that it runs")
        yield path


def measured_shapes(path: Path, tensors: Collection[str], feeds: Feeds, setup: Setup) -> dict[str, Shape]:
    """Shapes of inner tensors of an optimized model, found by running it once as it is.

    Any operator may occur: nothing is inferred. Raises InspectionError where the model does not take the feeds.
    """
    if not tensors:
        return {}
    model = parse_model(path.read_bytes())
    outputs = {f"shape of {tensor}": tensor for tensor in tensors}
    for output, tensor in outputs.items():
        model.graph.node.add(op_type="Shape", input=[tensor], output=[output])
        model.graph.output.add(name=output).type.tensor_type.elem_type = INT64
    with_shapes = path.with_name("with_shapes.onnx")
    with_shapes.write_bytes(model.SerializeToString())
    options = _options(setup)
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    values = _run(_session(with_shapes, setup, options), outputs, feeds)
    return {tensor: tuple(map(int, value)) for tensor, value in zip(outputs.values(), values, strict=True)}


@dataclass(frozen=True)
class OperatorTime:
    """Kernel time of one operator type, ms a run, and how many of its kernels a run starts."""

    operator: str
    kernels: float
    time_ms: float


@dataclass(frozen=True)
class Profile:
    """Where a run's time goes, slowest operator first; ``wall_ms`` is the mean time of a run while it is profiled."""

    operators: tuple[OperatorTime, ...]
    wall_ms: float
    runs: int

    @property
    def kernels_ms(self) -> float:
        return math.fsum(row.time_ms for row in self.operators)

    def share(self, row: OperatorTime) -> float:
        """An operator's share of the time of all kernels."""
        return row.time_ms / self.kernels_ms if self.kernels_ms else 0.0

    def to_json(self) -> dict[str, Any]:
        rows = [vars(row) | {"share": self.share(row)} for row in self.operators]
        return {"runs": self.runs, "wall_ms": self.wall_ms, "kernels_ms": self.kernels_ms, "operators": rows}


def profile(model: Model, workload: Workload, setup: Setup, runs: int = 20) -> Profile:
    """Time by operator type over some runs on made-up inputs, after runs that are not counted.

    ONNX Runtime's profiler counts whole microseconds and slows the run a little. Raises InspectionError.
    """
    feeds = make_up_inputs(read_model(model), workload)
    with tempfile.TemporaryDirectory() as folder:
        options = _options(setup)
        options.enable_profiling = True
        options.profile_file_prefix = f"{folder}/profile"
        session = _session(model, setup, options)
        try:
            for _ in range(_WARMUP_RUNS + runs):
                _run(session, [], feeds)
        finally:
            events: list[Mapping[str, Any]] = json.loads(Path(session.end_profiling()).read_text())
    timed = sorted((event for event in events if event["name"] == "model_run"), key=lambda event: event["ts"])
    timed = timed[_WARMUP_RUNS:]
    microseconds: Counter[str] = Counter()
    kernels: Counter[str] = Counter()
    for event in events:
        if event["cat"] == "Node" and event["name"].endswith("_kernel_time") and event["ts"] >= timed[0]["ts"]:
            operator = event["args"]["op_name"]
            # A control flow node's time is that of the nodes in it.
            if operator not in CONTROL_FLOW:
                microseconds[operator] += event["dur"]
                kernels[operator] += 1
    rows = (
        OperatorTime(operator, kernels[operator] / runs, total / runs / 1e3)
        for operator, total in microseconds.most_common()
    )
    return Profile(tuple(rows), sum(event["dur"] for event in timed) / runs / 1e3, runs)
