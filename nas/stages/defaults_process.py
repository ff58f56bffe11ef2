"""What ``quantize_static`` makes of a model by its defaults, made and asked in a process of its own, beside ours."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Sequence
from multiprocessing.connection import Connection
from types import TracebackType

from ortnas.export.inference import model_outputs
from ortnas.export.int8.static_defaults import StaticDefaultsError, quantize_by_defaults
from ortnas.export.part import Outputs
from ortnas.nas.arrays import Feeds
from ortnas.nas.text import EncodedExamples
from ortnas.nas.wording import said

_LESS_URGENT = 10


class DefaultsProcess:
    """Starts at once, since it imports for as long as others read a checkpoint. It ends with the context."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, far_end = context.Pipe()
        self._process = context.Process(target=_serve, args=(far_end,), daemon=True)
        self._process.start()
        far_end.close()

    def __enter__(self) -> DefaultsProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.join()
        self._connection.close()

    def begin(
        self, model: bytes, calibration: Sequence[Feeds], scored: EncodedExamples, head: str, batch_size: int
    ) -> None:
        """Has a float model quantized, and the result asked about the scored texts."""
        # Where the process has ended already, it is the answer that says so.
        with contextlib.suppress(OSError):
            self._connection.send((model, calibration, scored, head, batch_size))

    def answer(self) -> tuple[bytes, Outputs]:
        """The INT8 model and its outputs. Raises StaticDefaultsError."""
        try:
            answer: tuple[bytes, Outputs] | str = self._connection.recv()
        except (EOFError, OSError):
            raise StaticDefaultsError("its process ended; was there too little memory?") from None
        if isinstance(answer, str):
            raise StaticDefaultsError(answer)
        return answer


def _serve(connection: Connection) -> None:
    # A keyboard interrupts the parent, which ends this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # What the parent computes comes first: its threads would wait for a processor that is in use here.
    os.nice(_LESS_URGENT)
    try:
        model, calibration, scored, head, batch_size = connection.recv()
    except EOFError:
        return
    try:
        quantized = quantize_by_defaults(model, calibration)
        answer: tuple[bytes, Outputs] | str = (quantized, model_outputs(quantized, scored, head, batch_size))
    except Exception as error:  # what goes wrong with another tool's model costs a row of a table, and nothing else
        answer = said(error)
    connection.send(answer)
