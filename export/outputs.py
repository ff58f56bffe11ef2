"""Model outputs row by row, whatever the head, from ONNX Runtime or from torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from nas.text import IGNORED, EncodedExamples

Array = npt.NDArray[np.float32]
_TOKEN_HEADS = ("token-classification", "span")


def split_rows(head: str, output: Array, examples: EncodedExamples, rows: Sequence[int]) -> list[Array]:
    """One float32 array per row of a batch.

    [width] for heads with one output a text; [tokens, width] without padding for heads with one a token; for masked-lm
    [masked tokens, 2]: log-probability of the true token, and 1 where it ranks first. Masked-lm takes logits of all
    tokens [batch, sequence, vocabulary] or of the masked ones [masked tokens, vocabulary].
    """
    if head == "masked-lm":
        return _masked_rows(output, examples, rows)
    if head in _TOKEN_HEADS:
        return [output[position, : examples.lengths[row]] for position, row in enumerate(rows)]
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
