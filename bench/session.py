"""How a session runs, and the session: ONNX Runtime's or OpenVINO's."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import onnxruntime

from . import fastmath
from .load import overload
from .openvino_runtime import DEVICE, PROPERTIES, OpenvinoSession, check_properties

# What runs models, as fingerprints and people call it.
ONNXRUNTIME, OPENVINO = "onnxruntime", "openvino"
RUNTIMES = {ONNXRUNTIME: "ONNX Runtime", OPENVINO: "OpenVINO"}
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
# Requests in a row of every client that are kept, for each of ``TimingProtocol.runs``. The first one finds the caches
# as the model before left them.
LOAD_RUNS = 3
_LARGEST_COUNT = 2**31
# More are slips, and would stall the machine that tries.
_MOST_THREADS = 4096


class Session(Protocol):
    """A loaded model, as ONNX Runtime has it: inputs and outputs have a ``name``, inputs a ``shape`` too, in which an
    axis that is not fixed is no number."""

    def get_inputs(self) -> Sequence[Any]: ...

    def get_outputs(self) -> Sequence[Any]: ...

    def run(self, names: Sequence[str] | None, feeds: Mapping[str, Any], /) -> list[Any]: ...


def fixed_shapes(session: Session) -> tuple[int, int] | None:
    """Batch and sequence of the only requests that a model takes; None where both may be any."""
    shape = session.get_inputs()[0].shape
    batch, sequence = shape if len(shape) == 2 else (None, None)
    return (batch, sequence) if isinstance(batch, int) and isinstance(sequence, int) else None


def is_count(value: Any) -> bool:
    """Whether a value of a document is a whole number, not negative and of a size that can be meant."""
    return type(value) is int and 0 <= value < _LARGEST_COUNT


@dataclass(frozen=True)
class Setup:
    """How a session runs: execution provider, its options, threads of the CPU provider.

    ``spinning`` lets idle threads wait in a loop; ``affinity`` are the processors that the process may use, all if
    empty. With OpenVINO as ``runtime``, ``provider`` is its device and ``provider_options`` are its properties.
    ``concurrency``: so many clients share the session, each of which sends its next request when the last one is
    answered. ``fastmath_bfloat16``: ONNX Runtime's CPU provider computes float products in bfloat16, where
    ``bench.fastmath`` knows no obstacle.
    """

    provider: str = PROVIDERS["cpu"]
    threads: int = 1
    provider_options: tuple[tuple[str, str], ...] = ()
    spinning: bool = True
    affinity: tuple[int, ...] = ()
    concurrency: int = 1
    runtime: str = ONNXRUNTIME
    fastmath_bfloat16: bool = False

    @classmethod
    def for_openvino(
        cls,
        threads: int = 1,
        properties: Mapping[str, str] | None = None,
        affinity: tuple[int, ...] = (),
        concurrency: int = 1,
    ) -> Setup:
        """OpenVINO on the processor, tuned for one request at a time, with other ``properties`` where they are named.

        Raises ValueError for a property that cannot be set.
        """
        check_properties(properties or {})
        options = tuple(sorted({**PROPERTIES, **(properties or {})}.items()))
        return cls(DEVICE, threads, options, affinity=affinity, concurrency=concurrency, runtime=OPENVINO)

    def to_json(self) -> dict[str, Any]:
        """What differs from the usual is named, the rest left out."""
        options = {"provider_options": dict(self.provider_options)} if self.provider_options else {}
        spinning = {} if self.spinning else {"spinning": False}
        affinity = {"affinity": list(self.affinity)} if self.affinity else {}
        concurrency = {"concurrency": self.concurrency} if self.concurrency > 1 else {}
        runtime = {} if self.runtime == ONNXRUNTIME else {"runtime": self.runtime}
        fastmath_bfloat16 = {"fastmath_bfloat16": True} if self.fastmath_bfloat16 else {}
        settings = options | spinning | affinity | concurrency | runtime | fastmath_bfloat16
        return {"provider": self.provider, "threads": self.threads, **settings}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Setup:
        """Raises KeyError, TypeError or ValueError where the document describes no session."""
        options, affinity = document.get("provider_options", {}), document.get("affinity", [])
        setup = cls(
            document["provider"],
            document["threads"],
            tuple(sorted(options.items())),
            document.get("spinning", True),
            tuple(affinity),
            document.get("concurrency", 1),
            document.get("runtime", ONNXRUNTIME),
            document.get("fastmath_bfloat16", False),
        )
        texts = (setup.provider, *(text for option in setup.provider_options for text in option))
        if not all(isinstance(text, str) for text in texts) or not isinstance(setup.spinning, bool):
            raise ValueError("provider and options are texts, spinning is true or false")
        if not all(is_count(number) for number in (setup.threads, *setup.affinity)) or setup.threads > _MOST_THREADS:
            raise ValueError(f"threads, of which {_MOST_THREADS} are possible, and affinity are whole numbers")
        if setup.runtime not in RUNTIMES:
            raise ValueError(f"the runtime is {setup.runtime!r:.80}; there is {' and '.join(RUNTIMES)}")
        if setup.runtime == OPENVINO:
            check_properties(options)
            if setup.provider != DEVICE or not setup.spinning:
                raise ValueError(f"OpenVINO runs on the device {DEVICE} and has no setting for spinning")
        if not isinstance(setup.fastmath_bfloat16, bool):
            raise ValueError("fastmath_bfloat16 is true or false")
        if setup.fastmath_bfloat16 and setup.provider != PROVIDERS["cpu"]:
            raise ValueError(f"fastmath_bfloat16 is a setting of {PROVIDERS['cpu']}")
        if not is_count(setup.concurrency) or not 0 < setup.concurrency <= _MOST_THREADS:
            raise ValueError(f"concurrency is a whole number from 1 to {_MOST_THREADS}")
        return setup

    def describe(self) -> str:
        at_a_time = "" if self.concurrency == 1 else f", {self.concurrency} requests at a time"
        products = ", float products in bfloat16" if self.fastmath_bfloat16 else ""
        return f"{self.threads} thread(s){at_a_time}{products}"

    def samples_a_turn(self, runs: int) -> int:
        """How many samples of a model one round leaves, for a workload."""
        return runs if self.concurrency == 1 else self.concurrency * LOAD_RUNS * runs

    @property
    def overload(self) -> str:
        """Why this host cannot time under so many requests; empty where it can."""
        return overload(self.concurrency, self.threads, len(self.affinity) or os.cpu_count())


def make_session(model: bytes | Path, setup: Setup) -> Session:
    """An inference session with the setup's runtime, threads and provider, default optimizations.

    Raises ValueError where the provider is not there: ONNX Runtime would quietly take another; RuntimeMissingError
    where the runtime is not installed.
    """
    if setup.runtime == OPENVINO:
        return OpenvinoSession(model, setup.threads, dict(setup.provider_options))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = setup.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Several sessions take turns here: the threads of one must not spin while another works.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if not setup.spinning:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if setup.fastmath_bfloat16:
        options.add_session_config_entry(fastmath.ENTRY, "1")
    providers = [(setup.provider, dict(setup.provider_options))]
    source = str(model) if isinstance(model, Path) else model
    session = onnxruntime.InferenceSession(source, options, providers=providers)
    if setup.provider not in session.get_providers():
        raise ValueError(f"{setup.provider} is not available here; there is {', '.join(session.get_providers())}")
    ready: Session = session
    return ready
