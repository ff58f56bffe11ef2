"""Timing models: interleaved rounds, raw samples kept, an anchor model in every round to see the host drift."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

# Short names of ONNX Runtime's execution providers.
PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "directml": "DmlExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "qnn": "QNNExecutionProvider",
}


@dataclass(frozen=True)
class Setup:
    """How a session runs: execution provider, its options, and threads of the CPU provider."""

    provider: str = PROVIDERS["cpu"]
    threads: int = 1
    provider_options: tuple[tuple[str, str], ...] = ()

    def to_json(self) -> dict[str, Any]:
        options = {"provider_options": dict(self.provider_options)} if self.provider_options else {}
        return {"provider": self.provider, "threads": self.threads, **options}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Setup:
        options = tuple(sorted(document.get("provider_options", {}).items()))
        return cls(document["provider"], document["threads"], options)


@dataclass(frozen=True)
class Workload:
    """What a session is asked: one batch of sequences without padding, ids drawn below ``vocab_size``."""

    batch: int = 1
    sequence: int = 128
    vocab_size: int = 30522

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Protocol:
    """``rounds`` rounds of ``runs`` inferences of each model, after ``warmup`` inferences that are not counted."""

    warmup: int = 5
    rounds: int = 10
    runs: int = 4

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def make_session(model: bytes, setup: Setup) -> onnxruntime.InferenceSession:
    """An inference session with the setup's threads and provider, default optimizations.

    Raises ValueError where the provider is not there: ONNX Runtime would quietly take another.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = setup.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    providers = [(setup.provider, dict(setup.provider_options))]
    session = onnxruntime.InferenceSession(model, options, providers=providers)
    if setup.provider not in session.get_providers():
        raise ValueError(f"{setup.provider} is not available here; there is {', '.join(session.get_providers())}")
    return session


def make_inputs(
    session: onnxruntime.InferenceSession, workload: Workload, seed: int
) -> dict[str, npt.NDArray[np.int64]]:
    """Random token ids (never all zeros: embedding rows would stay in cache) for the inputs that the model has."""
    shape = (workload.batch, workload.sequence)
    ids = np.random.default_rng(seed).integers(1, workload.vocab_size, shape)
    values = {
        "input_ids": ids,
        "attention_mask": np.ones(shape, np.int64),
        "token_type_ids": np.zeros(shape, np.int64),
    }
    return {item.name: values[item.name] for item in session.get_inputs()}


def time_interleaved(
    sessions: Mapping[str, onnxruntime.InferenceSession], workload: Workload, protocol: Protocol
) -> dict[str, list[int]]:
    """Raw samples in ns for each named session, taken in turn so that drift falls on all alike."""
    inputs = {name: make_inputs(session, workload, seed=1) for name, session in sessions.items()}
    samples: dict[str, list[int]] = {name: [] for name in sessions}
    for name, session in sessions.items():
        for _ in range(protocol.warmup):
            session.run(None, inputs[name])
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        for _ in range(protocol.rounds):
            for name, session in sessions.items():
                feed = inputs[name]
                for _ in range(protocol.runs):
                    start = time.perf_counter_ns()
                    session.run(None, feed)
                    samples[name].append(time.perf_counter_ns() - start)
    finally:
        if was_enabled:
            gc.enable()
    return samples


@dataclass(frozen=True)
class Timing:
    """Raw samples of one model beside the anchor's of the same rounds, in ns.

    ``reference_ms`` is the anchor's latency that all timings of a target are brought to.
    """

    samples_ns: tuple[int, ...]
    anchor_ns: tuple[int, ...]
    reference_ms: float

    @property
    def drift(self) -> float:
        """How much slower than the reference the host was."""
        return float(np.median(self.anchor_ns)) / 1e6 / self.reference_ms

    def percentile_ms(self, percent: float) -> float:
        """Drift-corrected latency in ms below which ``percent`` of the samples lie."""
        return float(np.percentile(self.samples_ns, percent)) / 1e6 / self.drift

    @property
    def latency_ms(self) -> float:
        """Drift-corrected median."""
        return self.percentile_ms(50)

    @property
    def upper_ms(self) -> float:
        """One-sided 95 % confidence bound of the median, drift-corrected (order statistics; binomial, normal form)."""
        n = len(self.samples_ns)
        rank = min(n - 1, math.ceil(n / 2 + 0.5 * 1.645 * math.sqrt(n)))
        return float(np.sort(self.samples_ns)[rank]) / 1e6 / self.drift

    @property
    def spread_ms(self) -> float:
        """Half the width of the middle half of the samples, drift-corrected."""
        return (self.percentile_ms(75) - self.percentile_ms(25)) / 2


def anchor_reference_ms(anchors_ns: Sequence[Sequence[int]]) -> float:
    """The anchor's usual latency over many measurements, in ms."""
    return float(np.median([np.median(samples) for samples in anchors_ns])) / 1e6
