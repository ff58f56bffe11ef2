"""Running models with ONNX Runtime, and what they answer row by row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import onnxruntime

from ortnas.bench import fastmath
from ortnas.bench.conditions import usable_processors
from ortnas.bench.session import ONNXRUNTIME, Session, Setup, make_session
from ortnas.export.graph.heads import ALIAS
from ortnas.export.model_requests import MASK, requests_of
from ortnas.nas.architecture.heads import HEADS
from ortnas.nas.arrays import Array, Feeds
from ortnas.nas.text import IGNORED, EncodedExamples


def split_rows(head: str, output: Array, examples: EncodedExamples, rows: Sequence[int]) -> list[Array]:
    """One float32 array per row of a batch.

    [width] for heads with one output a text; [tokens, width] without padding, and of the tokens that are compared
    alone where examples tell them, for heads with one a token; for masked-lm
    [masked tokens, 2]: log-probability of the true token, and 1 where it ranks first. Masked-lm takes logits of all
    tokens [batch, sequence, vocabulary] or of the masked ones [masked tokens, vocabulary].
    """
    if HEADS[head].fills_masks:
        return _masked_rows(output, examples, rows)
    if HEADS[head].is_token_level:
        own = [output[position, : examples.lengths[row]] for position, row in enumerate(rows)]
        compared = examples.compared
        if compared is None:
            return own
        return [vectors[list(compared[row])] for vectors, row in zip(own, rows, strict=True)]
    return list(output)


def _masked_rows(output: Array, examples: EncodedExamples, rows: Sequence[int]) -> list[Array]:
    labels = examples.label_array(rows)
    assert labels is not None
    masked = labels != IGNORED
    logits = output if output.ndim == 2 else output[:, : masked.shape[1]][masked]
    truth = labels[masked]
    largest = logits.max(1, keepdims=True)
    normaliser = largest[:, 0] + np.log(np.exp(logits - largest).sum(1))
    chosen = logits[np.arange(len(truth)), truth]
    answers = np.stack([chosen - normaliser, logits.argmax(1) == truth], axis=1).astype(np.float32)
    return np.split(answers, np.cumsum(masked.sum(1))[:-1])


BATCH_SIZE = 16


def open_model(model: bytes) -> Session:
    """A session of one thread: candidates are spread over the processors, one each."""
    return make_session(model, Setup())


def outputs_of(
    session: Session, examples: EncodedExamples, head: str, rows: npt.NDArray[np.int64] | Sequence[int]
) -> list[Array]:
    """Outputs of the chosen rows, in their order, as ``export.inference.split_rows`` gives them.

    Rows of similar length share a batch, so that little of it is padding.
    """
    chosen = np.asarray(rows, np.int64)
    answers: list[Array] = [np.empty(0, np.float32)] * len(chosen)
    order = np.argsort(examples.lengths[chosen], kind="stable")
    for start in range(0, len(order), BATCH_SIZE):
        places = order[start : start + BATCH_SIZE].tolist()
        batch = chosen[places].tolist()
        outputs = split_rows(head, run(session, examples.feeds(batch)), examples, batch)
        for place, output in zip(places, outputs, strict=True):
            answers[place] = output
    return answers


@dataclass(frozen=True)
class Drift:
    """How far INT8 outputs lie from float outputs: largest and mean absolute difference, mean cosine, and the share of
    rows whose largest entry, the label of logits, is another."""

    largest: float
    mean: float
    cosine: float
    flips: float


def load(model: bytes, fastmath_bfloat16: bool = False) -> onnxruntime.InferenceSession:
    """A session with default optimizations and a thread for each processor that is granted."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = usable_processors()
    options.log_severity_level = 3
    if fastmath_bfloat16:
        options.add_session_config_entry(fastmath.ENTRY, "1")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def load_for(model: bytes, setup: Setup) -> Session:
    """As ``load``, with the runtime of a target: of ONNX Runtime the CPU provider and what float products are computed
    in, of OpenVINO the setup's properties.

    Raises RuntimeMissingError.
    """
    if setup.runtime == ONNXRUNTIME:
        session: Session = load(model, setup.fastmath_bfloat16)
        return session
    return make_session(model, replace(setup, threads=usable_processors()))


def run(session: Session, feeds: Feeds) -> Array:
    """The model's output for one batch, given what it asks for; start and end logits of a span on the last axis.

    A model of a fixed shape, or without a mask, is asked more than once where it has to be; what it gives no output
    for, behind the ends of texts, is 0 then. Raises RequestError for texts that do not fit a fixed shape.
    """
    # A package repeats its first output for other loaders.
    names = [item.name for item in session.get_outputs() if item.name != ALIAS]
    count, longest = feeds[MASK].shape
    answers = np.empty(0, np.float32)
    for rows, request in requests_of(session, feeds):
        outputs: list[Array] = session.run(names, request)
        output = outputs[0] if len(outputs) == 1 else np.stack(outputs, axis=-1)
        is_token_level = output.ndim == 3
        if len(rows) == count == len(output) and (not is_token_level or output.shape[1] == longest):
            return output
        if not answers.size:
            rows_shape = (longest, output.shape[2]) if is_token_level else output.shape[1:]
            answers = np.zeros((count, *rows_shape), np.float32)
        if is_token_level:
            answers[rows, : output.shape[1]] = output[: len(rows), :longest]
        else:
            answers[rows] = output[: len(rows)]
    return answers


def model_outputs(
    model: bytes, examples: EncodedExamples, head: str, batch_size: int = 16, setup: Setup | None = None
) -> list[Array]:
    """Outputs of an ONNX model row by row, in order, as ``export.inference.split_rows`` gives them.

    ONNX Runtime computes them, or the runtime of ``setup`` as ``load_for`` opens it.
    """
    if not len(examples):
        raise ValueError("the part to score on is empty")
    session = load_for(model, setup or Setup())
    result: list[Array] = [np.empty(0, np.float32)] * len(examples)
    for rows, feeds in examples.batches(batch_size):
        for row, output in zip(rows, split_rows(head, run(session, feeds), examples, rows), strict=True):
            result[row] = output
    return result


def drift(quantized: Array, float_output: Array) -> Drift:
    """Both float32 [..., width]."""
    quantized, float_output = (item.reshape(-1, item.shape[-1]) for item in (quantized, float_output))
    difference = np.abs(quantized - float_output)
    norms = np.linalg.norm(quantized, axis=1) * np.linalg.norm(float_output, axis=1)
    cosine = ((quantized * float_output).sum(1) / np.maximum(norms, 1e-12)).mean()
    flips = (quantized.argmax(1) != float_output.argmax(1)).mean()
    return Drift(float(difference.max()), float(difference.mean()), float(cosine), float(flips))
