"""A host that computes what it would measure: an analytic cost model with seeded noise, for tests and documentation."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from . import fastmath
from .digests import digest_of
from .host import Failure, HostError
from .load import overload
from .openvino_runtime import FACTS
from .request import Request
from .session import ONNXRUNTIME, OPENVINO, PROVIDERS, Setup
from .timing import Array, Samples, TimingProtocol, Workload, is_known

# Properties of an exported model that say which network it holds, and at which precision.
SUBNET_PROPERTY = "ortnas.subnet"
PRECISION_PROPERTY = "ortnas.precision"

# Multiply-adds per ns of one thread, and bytes of one weight.
_PRODUCT_RATE = {"int8": 190.0, "fp32": 57.0}
_WEIGHT_BYTES = {"int8": 1, "fp32": 4}
_ATTENTION_RATE = 42.0
_PROJECTIONS = ("query", "key", "value")
# Kernels work on tiles; sizes that do not fill their last tile pay for all of it.
_TILE_ROWS, _TILE_DEPTH, _TILE_COLUMNS = 4, 4, 16
# Bytes per ns at which weights arrive, by the size of all of them together: second-level cache, last level, memory.
_SECOND_LEVEL, _LAST_LEVEL = 1 << 20, 32 << 20
_BANDWIDTH = ((_SECOND_LEVEL, 60.0), (_LAST_LEVEL, 20.0), (math.inf, 8.0))
# A product whose own weights outgrow the second level waits for them now and then.
_STALL = 1.08
_SOFTMAX_NS, _NORM_NS, _ACTIVATION_NS, _QUANTIZE_NS, _EMBEDDING_NS = 0.5, 0.5, 0.5, 0.15, 1.0
_OPERATOR_NS, _OPERATORS_PER_LAYER, _OPERATORS_OUTSIDE = 4000.0, 20, 15
# What each further thread adds to an operator's start, and how far threads fall short: n of them do n ** 0.85 work.
_THREAD_START, _THREAD_LOSS = 0.25, 0.15
# By what every further client slows the others' computing: they share caches and clock. They share the bandwidth too.
_CLIENT_LOSS = 0.03
_PROCESSORS = 8

# The drift's step in units of the noise, and what stays of it from round to round: it wanders by 1.5 times the noise.
_DRIFT_STEP, _DRIFT_KEPT = 0.15, 0.995
_SESSION_SHARE = 0.3
_OUTLIER_SHARE, _OUTLIER_SIZE = 0.01, 25.0
_CHECK_EVERY = 10


def cost_ms(subnet: Mapping[str, Any], workload: Workload, setup: Setup, precision: str = "int8") -> float:
    """Latency in ms of an encoder (``nas.architecture.subnet.Subnet``'s JSON) on a made-up processor with AVX-512 VNNI.

    Every product takes the longer of computing its tiles and fetching its weights (roofline model); attention,
    activations and layer norms are in float at both precisions, as are the products of INT8 models that their network's
    ``keep_float`` names. Padding changes nothing: dense kernels compute it. With several clients it is what each
    of them waits: beyond the second-level cache, of which every processor has its own, they share the bandwidth, and
    always the threads that a session has beside theirs.
    """
    hidden: int = subnet["hidden_size"]
    tokens, clients = workload.batch * workload.sequence, setup.concurrency
    threads = 1 + (setup.threads - 1) // clients
    precisions = dict.fromkeys(subnet.get("keep_float", ()), "fp32")
    products = _products(subnet)
    weight_bytes = sum(
        _WEIGHT_BYTES[precisions.get(name, precision)] * depth * columns for name, (depth, columns) in products.items()
    )
    bandwidth = next(rate for limit, rate in _BANDWIDTH if weight_bytes <= limit)
    if weight_bytes > _SECOND_LEVEL:
        bandwidth /= clients

    def product_ns(name: str) -> float:
        (depth, columns), own = products[name], precisions.get(name, precision)
        own_bytes = _WEIGHT_BYTES[own] * depth * columns
        multiply_adds = _tiled(tokens, _TILE_ROWS) * _tiled(depth, _TILE_DEPTH) * _tiled(columns, _TILE_COLUMNS)
        compute_ns = multiply_adds / _PRODUCT_RATE[own] * (_STALL if own_bytes > _SECOND_LEVEL else 1)
        return max(compute_ns * _share(math.ceil(columns / _TILE_COLUMNS), threads), own_bytes / bandwidth)

    elements_ns = tokens * hidden * (_EMBEDDING_NS + _NORM_NS)
    kernels_ns = sum(map(product_ns, products))
    # What products read is made integer once, whoever of them reads it.
    quantized = {
        _inputs(name): depth for name, (depth, _) in products.items() if precisions.get(name, precision) == "int8"
    }
    elements_ns += tokens * sum(quantized.values()) * _QUANTIZE_NS
    parts = 0
    for layer in subnet["layers"]:
        width, ffn = layer["num_heads"] * layer["head_size"], layer["ffn_size"]
        if width:
            kernels_ns += _attention_ns(layer["num_heads"], layer["head_size"], workload, threads)
        of_layer = (width > 0) + (ffn > 0)
        parts += of_layer
        elements_ns += tokens * (of_layer * hidden * _NORM_NS + ffn * _ACTIVATION_NS)
    operators = _OPERATORS_OUTSIDE + _OPERATORS_PER_LAYER / 2 * parts
    start_ns = operators * _OPERATOR_NS * (1 + _THREAD_START * (threads - 1))
    computed_ns = kernels_ns + elements_ns * _share(tokens, threads) + start_ns
    return computed_ns * (1 + _CLIENT_LOSS * (clients - 1)) / 1e6


def _products(subnet: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """Depth and columns of every weight product of the layers, by its name in the graph."""
    hidden: int = subnet["hidden_size"]
    products: dict[str, tuple[int, int]] = {}
    for layer in subnet["layers"]:
        width, ffn = layer["num_heads"] * layer["head_size"], layer["ffn_size"]
        sizes = {
            **{f"attention/{name}": (hidden, width) for name in _PROJECTIONS},
            "attention/output": (width, hidden),
            "ffn/in": (hidden, ffn),
            "ffn/out": (ffn, hidden),
        }
        products |= {f"layers/{layer['source']}/{name}": size for name, size in sizes.items() if min(size)}
    return products


def _inputs(product: str) -> str:
    """A name for what a product reads; the projections before attention read the same."""
    part, _, name = product.rpartition("/")
    return part if name in _PROJECTIONS else product


def _attention_ns(num_heads: int, head_size: int, workload: Workload, threads: int) -> float:
    sequence, heads = workload.sequence, workload.batch * num_heads
    scores = _tiled(sequence, _TILE_COLUMNS) * head_size
    mixing = sequence * _tiled(head_size, _TILE_COLUMNS)
    one_head_ns = sequence * ((scores + mixing) / _ATTENTION_RATE + sequence * _SOFTMAX_NS)
    return heads * one_head_ns * _share(heads, threads)


def _tiled(size: int, tile: int) -> int:
    return math.ceil(size / tile) * tile


def _share(pieces: int, threads: int) -> float:
    """Time of work in so many equal pieces on some threads, as a share of one thread's."""
    return math.ceil(pieces / threads) / pieces * math.pow(threads, _THREAD_LOSS)


_RUNTIME_FACTS: dict[str, dict[str, Any]] = {
    ONNXRUNTIME: {"providers": [PROVIDERS["cpu"]], "onnxruntime": "simulated", "onnxruntime_build": "simulated"},
    OPENVINO: {**dict.fromkeys(FACTS, "simulated"), "runtime": OPENVINO},
}


class SimulatedHost:
    """Times models by ``cost_ms``, without a clock: what is timed, and the number of the visit, make the samples.

    A run that goes on after a kill therefore sees what it would have seen. Around the cost, samples vary by ``noise``
    each (log-normal, now and then an outlier), by a factor of a third of it for each session, and by a slow drift that
    all models of a round share. Models say which network they hold in
    their metadata (``ortnas.subnet``, ``ortnas.precision``); they are loaded, but never run. Every runtime
    takes as long.
    """

    def __init__(self, name: str = "simulated", seed: int = 0, noise: float = 0.02, runtime: str = ONNXRUNTIME) -> None:
        self.name, self.noise, self._runtime = name, noise, runtime
        self._seed = seed
        self._elapsed_ns = 0
        self._networks: dict[str, tuple[dict[str, Any], str]] = {}

    def __enter__(self) -> SimulatedHost:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def hello(self) -> dict[str, Any]:
        return {
            "versions": dict.fromkeys(("python", "numpy", "onnxruntime", self._runtime), "simulated"),
            "fingerprint": {
                "cpu": "simulated",
                "machine": "x86_64",
                "system": "Linux",
                "isa": ["avx2", "avx512f", "avx512_vnni"],
                "cores": _PROCESSORS,
                "cpu_quota": None,
                "governor": "performance",
                "turbo_off": "1",
                **_RUNTIME_FACTS[self._runtime],
            },
            "conditions": {
                "clock_s": self._elapsed_ns / 1e9,
                "load": 0.0,
                "processors": _PROCESSORS,
                "cores": _PROCESSORS,
                "hyper_threads": False,
                "capacities": [1024],
                "cpu_quota": 8.0,
                "quota_stops": 0,
                "governors": ["performance"],
                "turbo": False,
                "frequency_mhz": 3000.0,
                "busy_s": self._elapsed_ns / 1e9,
                "steal_s": 0.0,
                "own_s": self._elapsed_ns / 1e9,
                "heat_slowdowns": 0,
                "cooling": 0,
                "board_flags": None,
                "hypervisor": False,
            },
        }

    def measure(
        self,
        models: Mapping[str, bytes],
        request: Request,
        visit: int = 0,
    ) -> dict[str, Samples | Failure]:
        if request.setup.runtime == ONNXRUNTIME and request.setup.provider != PROVIDERS["cpu"]:
            raise HostError(f"{self.name}: {request.setup.provider} is not available here; there is {PROVIDERS['cpu']}")
        if problem := overload(request.setup.concurrency, request.setup.threads, _PROCESSORS):
            raise HostError(f"{self.name}: {problem}")
        if request.setup.fastmath_bfloat16 and (obstacle := fastmath.obstacle(self.hello()["fingerprint"])):
            raise HostError(f"{self.name}: fastmath_bfloat16: {obstacle}")
        failures: dict[str, Samples | Failure] = {}
        digests: dict[str, str] = {}
        try:
            anchor_digest = self._load(request.anchor)
        except ValueError as error:
            raise HostError(f"{self.name}: the anchor cannot be timed: {error}") from error
        for name, model in models.items():
            try:
                digests[name] = self._load(model)
            except ValueError as error:
                failures[name] = Failure(str(error))
        # As on other hosts, models of the same bytes are one.
        distinct = list(dict.fromkeys(digests.values()))
        costs_ns = np.array(
            [
                [cost_ms(network, workload, request.setup, precision) * 1e6 for workload in request.workloads]
                for network, precision in (self._networks[digest] for digest in (anchor_digest, *distinct))
            ]
        )
        timed = [self._seed, visit, anchor_digest, distinct, request.setup.to_json(), request.protocol.to_json()]
        timed += [workload.to_json() for workload in request.workloads]
        noise = _Noise(self.noise, int(digest_of(json.dumps(timed).encode())[:32], 16))
        samples = dict(zip(distinct, self._rounds(costs_ns, request.setup, request.protocol, noise), strict=True))
        return failures | {name: samples[digest] for name, digest in digests.items()}

    def forget(self) -> None:
        self._networks.clear()

    def close(self) -> None:
        self.forget()

    def _load(self, model: bytes) -> str:
        """Its digest, under which its network is then known. Raises ValueError where it holds none."""
        digest = digest_of(model)
        if digest not in self._networks:
            self._networks[digest] = _network(model)
        return digest

    def _rounds(self, costs_ns: Array, setup: Setup, protocol: TimingProtocol, noise: _Noise) -> list[Samples]:
        """Samples of all rows of ``costs_ns`` (models, workloads) after the first, the anchor's.

        Rounds end as in ``bench.timing.time_interleaved``, by the samples' own seconds.
        """
        costs_ns = noise.sessions(costs_ns)
        active = list(range(1, len(costs_ns)))
        cap_ns = math.inf if protocol.cap_s is None else protocol.cap_s * 1e9 * max(1, len(active))
        taken: list[list[npt.NDArray[np.int64]]] = [[] for _ in costs_ns]
        turn_samples = setup.samples_a_turn(protocol.runs)
        block = turn_samples if setup.concurrency > 1 else 1
        began_ns = self._elapsed_ns
        for rounds in range(1, protocol.max_rounds + 1):
            running = [0, *active]
            for _ in range(turn_samples):
                drawn = noise.round(costs_ns[running])
                self._elapsed_ns += int(drawn.sum()) // setup.concurrency
                for model, values in zip(running, drawn, strict=True):
                    taken[model].append(values)
            if rounds < protocol.min_rounds:
                continue
            if self._elapsed_ns - began_ns >= cap_ns:
                break
            if protocol.share and (rounds - protocol.min_rounds) % _CHECK_EVERY == 0:
                active = [model for model in active if not _known(taken[model], taken[0], protocol.share, block)]
                if not active:
                    break
        return [Samples(_rows(values), _rows(taken[0][: len(values)])) for values in taken[1:]]


class _Noise:
    """What one visit's samples differ by; ``size`` is that of a sample."""

    def __init__(self, size: float, seed: int) -> None:
        self._size, self._random = size, np.random.default_rng(seed)
        # Where the drift is by now: it has wandered for ever.
        wandered = _DRIFT_STEP / math.sqrt(1 - _DRIFT_KEPT**2)
        self._drift = wandered * size * self._random.standard_normal()

    def sessions(self, costs_ns: Array) -> Array:
        """Costs (models, workloads) in the sessions of this visit."""
        slowed: Array = np.exp(_SESSION_SHARE * self._size * self._random.standard_normal((len(costs_ns), 1)))
        return costs_ns * slowed

    def round(self, costs_ns: Array) -> npt.NDArray[np.int64]:
        """One round: a sample in ns for each of (models, workloads)."""
        self._drift = _DRIFT_KEPT * self._drift + _DRIFT_STEP * self._size * self._random.standard_normal()
        jitter = self._size * self._random.standard_normal(costs_ns.shape)
        is_outlier = self._random.random(costs_ns.shape) < _OUTLIER_SHARE
        slowed = 1 + is_outlier * self._random.exponential(_OUTLIER_SIZE * self._size, costs_ns.shape)
        return np.maximum(1, np.rint(costs_ns * np.exp(self._drift + jitter) * slowed)).astype(np.int64)


def _network(model: bytes) -> tuple[dict[str, Any], str]:
    """Subnet and precision that a model's metadata names. Raises ValueError."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(model, options, providers=[PROVIDERS["cpu"]])
    except Exception as error:  # ONNX Runtime's own exception types share no public base
        raise ValueError(f"{type(error).__name__}: {error}".strip().splitlines()[0]) from error
    properties = session.get_modelmeta().custom_metadata_map
    if SUBNET_PROPERTY not in properties:
        raise ValueError(f"the model has no metadata property {SUBNET_PROPERTY}, by which its cost is computed")
    precision = properties.get(PRECISION_PROPERTY, "")
    if precision not in _PRODUCT_RATE:
        raise ValueError(f"the metadata property {PRECISION_PROPERTY} is {precision!r}; int8 and fp32 can be simulated")
    try:
        network = json.loads(properties[SUBNET_PROPERTY])
        hidden_size, sizes = network["hidden_size"], list[Any]()
        for layer in network["layers"]:
            sizes += [layer["num_heads"], layer["head_size"], layer["ffn_size"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"the metadata property {SUBNET_PROPERTY} does not describe a subnet: {error!r}") from error
    # A part that a layer lacks has the size 0.
    if not all(type(size) is int and size >= 0 for size in (hidden_size, *sizes)) or not hidden_size:
        raise ValueError(f"the metadata property {SUBNET_PROPERTY} holds a size that no network has")
    return network, precision


def _known(
    model_ns: Sequence[npt.NDArray[np.int64]], anchor_ns: Sequence[npt.NDArray[np.int64]], share: float, block: int
) -> bool:
    ratios = np.divide(model_ns, anchor_ns[: len(model_ns)])
    return all(is_known(row, share, block) for row in ratios.T)


def _rows(rounds: Sequence[npt.NDArray[np.int64]]) -> tuple[tuple[int, ...], ...]:
    """One row per workload."""
    return tuple(tuple(row) for row in np.array(rounds).T.tolist())
