"""OpenVINO as a runtime: the ONNX model as it is, on the processor. Imported when it is asked for."""

from __future__ import annotations

import sys
import threading
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .errors import BenchError

DEVICE = "CPU"
# One request at a time on all threads of the session. Threads are not pinned: each process would pin its own to the
# same first cores, and an affinity that was asked for would not hold.
PROPERTIES = {"ENABLE_CPU_PINNING": "NO", "NUM_STREAMS": "1", "PERFORMANCE_HINT": "LATENCY"}
# What a setup may say: nothing that reads or writes files.
PROPERTY_NAMES = (*PROPERTIES, "ENABLE_HYPER_THREADING", "INFERENCE_PRECISION_HINT", "SCHEDULING_CORE_TYPE")
_THREADS = "INFERENCE_NUM_THREADS"
FACTS = ("runtime", "openvino", "openvino_build", "openvino_precision")


class RuntimeMissingError(BenchError):
    """The runtime that was asked for is not installed."""


class NamedPort(NamedTuple):
    """An input or output of a model; a size that is not fixed is None."""

    name: str
    shape: tuple[int | None, ...]


def installed_version() -> str | None:
    """Without importing it."""
    try:
        return version("openvino")
    except PackageNotFoundError:
        return None


def facts() -> dict[str, Any]:
    """What tells this runtime on this host from others, by ``FACTS``. Raises RuntimeMissingError."""
    openvino = _openvino()
    # What is not integer is computed in this type unless a setup says otherwise; it goes with the processor.
    precision = _core().get_property(DEVICE, "INFERENCE_PRECISION_HINT")
    build = str(openvino.get_version())
    return dict(zip(FACTS, ("openvino", build.split("-")[0], build, precision.to_string()), strict=True))


def check_properties(names: Collection[str]) -> None:
    """Raises ValueError where one is none that a setup may say."""
    if strangers := sorted(set(names) - set(PROPERTY_NAMES)):
        raise ValueError(
            f"{', '.join(strangers)[:200]}: of OpenVINO's properties {', '.join(sorted(PROPERTY_NAMES))} can be set"
        )


class OpenvinoSession:
    """A compiled model with the methods of an ONNX Runtime session that are used here; threads may share it."""

    def __init__(self, model: bytes | Path, threads: int, properties: Mapping[str, str]) -> None:
        """``threads`` 0: as many as OpenVINO takes by itself.

        Raises RuntimeMissingError, and ValueError where OpenVINO does not take the model or a property.
        """
        check_properties(properties)
        settings = {**properties, **({_THREADS: str(threads)} if threads else {})}
        core = _core()
        try:
            read = core.read_model(model) if isinstance(model, Path) else core.read_model(model, b"")
            self._compiled = core.compile_model(read, DEVICE, settings)
        except RuntimeError as error:
            raise ValueError(f"OpenVINO refuses the model: {_reason(error)}") from error
        self._inputs, self._outputs = (
            [NamedPort(port.any_name, _sizes(port)) for port in ports]
            for ports in (self._compiled.inputs, self._compiled.outputs)
        )
        # A request serves one thread at a time.
        self._of_thread = threading.local()

    def get_inputs(self) -> Sequence[NamedPort]:
        return self._inputs

    def get_outputs(self) -> Sequence[NamedPort]:
        return self._outputs

    def run(self, names: Sequence[str] | None, feeds: Mapping[str, Any]) -> list[npt.NDArray[np.float32]]:
        """The named outputs, or all, as arrays of the caller's own. Raises ValueError where the model cannot run."""
        if not hasattr(self._of_thread, "request"):
            self._of_thread.request = self._compiled.create_infer_request()
        try:
            outputs = self._of_thread.request.infer(dict(feeds), share_inputs=True)
        except RuntimeError as error:
            raise ValueError(f"OpenVINO cannot run the model: {_reason(error)}") from error
        return [outputs[name] for name in ([port.name for port in self._outputs] if names is None else names)]


def _openvino() -> Any:
    try:
        import openvino
    except ImportError as error:
        reason = "is not installed" if installed_version() is None else f"cannot be imported ({error})"
        raise RuntimeMissingError(f"OpenVINO {reason}: {sys.executable} -m pip install openvino") from error
    return openvino


@cache
def _core() -> Any:
    return _openvino().Core()


def _sizes(port: Any) -> tuple[int | None, ...]:
    return tuple(size.get_length() if size.is_static else None for size in port.partial_shape)


def _reason(error: RuntimeError) -> str:
    """The lines that say what happened; others say where in OpenVINO's source."""
    lines = [line.strip() for line in str(error).splitlines()]
    return " ".join(line for line in lines if line and not line.startswith("Exception from ")) or "for no stated reason"
