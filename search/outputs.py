"""What an ONNX model answers to some texts of a split, on one thread."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from bench.timing import Session, Setup, make_session
from export.build import run
from export.outputs import Array, split_rows
from nas.text import EncodedExamples

BATCH_SIZE = 16


def open_model(model: bytes) -> Session:
    """A session of one thread: candidates are spread over the processors, one each."""
    return make_session(model, Setup())


def outputs_of(
    session: Session, examples: EncodedExamples, head: str, rows: npt.NDArray[np.int64] | Sequence[int]
) -> list[Array]:
    """Outputs of the chosen rows, in their order, as ``export.outputs.split_rows`` gives them.

    Rows of similar length share a batch, so that little of it is padding.
    """
    chosen = np.asarray(rows, np.int64)
    found: list[Array] = [np.empty(0, np.float32)] * len(chosen)
    order = np.argsort(examples.lengths[chosen], kind="stable")
    for start in range(0, len(order), BATCH_SIZE):
        places = order[start : start + BATCH_SIZE].tolist()
        batch = chosen[places].tolist()
        outputs = split_rows(head, run(session, examples.feeds(batch)), examples, batch)
        for place, output in zip(places, outputs, strict=True):
            found[place] = output
    return found
