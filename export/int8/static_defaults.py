"""What ``onnxruntime.quantization.quantize_static`` makes of a float model by its own defaults: the usual way, to be
compared with."""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import onnx
from onnxruntime.quantization import CalibrationDataReader, quantize_static

from ortnas.nas.arrays import Feeds
from ortnas.nas.failures import OrtnasError
from ortnas.nas.wording import said


class StaticDefaultsError(OrtnasError):
    """A model that ``quantize_static`` cannot take."""


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, batches: Iterator[Feeds]) -> None:
        self.batches = batches

    def get_next(self) -> Feeds | None:
        return next(self.batches, None)


def quantize_by_defaults(model: bytes, batches: Sequence[Feeds]) -> bytes:
    """Signed activations and weights, one scale a tensor, every operator that it knows, ranges of these batches.

    Raises StaticDefaultsError with what ONNX Runtime says.
    """
    proto = onnx.ModelProto.FromString(model)
    names = [item.name for item in proto.graph.input]
    feeds = ({name: batch[name] for name in names} for batch in batches)
    with tempfile.TemporaryDirectory() as folder, _quiet():
        path = Path(folder) / "quantized.onnx"
        try:
            quantize_static(proto, path, _Reader(feeds))
        except Exception as error:  # the tool raises whatever its parts raise
            raise StaticDefaultsError(f"quantize_static gives up: {said(error)}") from error
        return path.read_bytes()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the tool's advice. Standard output is not touched, as other threads may write to it."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(disabled)
