"""Texts as people have them, for a network of a supernet folder: as inputs, and as a part to score on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy.typing as npt

from ortnas.export.build import Exporter
from ortnas.export.inference import model_outputs
from ortnas.export.part import Part
from ortnas.export.vectors import stack_rows
from ortnas.export.weights import SupernetFolder
from ortnas.nas.architecture.heads import HEADS
from ortnas.nas.text import Example, encode, load_tokenizer, with_prompt

_BATCH = 16
Text = str | Example


def encode_texts(supernet: SupernetFolder, texts: Sequence[Text], max_length: int) -> list[dict[str, npt.NDArray[Any]]]:
    """Inputs, int64 [batch, sequence] by name, in batches of 16 texts of similar length: what ranges are measured on.

    Raises TokenizerError.
    """
    encoded = encode(load_tokenizer(supernet.path), _examples(texts, supernet.prompt), max_length)
    return [feeds for _, feeds in encoded.batches(_BATCH)]


def make_part(exporter: Exporter, texts: Sequence[Text], max_length: int) -> Part:
    """A part to score on: labelled examples, or for embeddings plain texts, which are compared with the outputs of the
    full network in float32. Raises TokenizerError, and ValueError where labels are missing.
    """
    supernet, head = exporter.supernet, exporter.supernet.dimensions.head
    examples = _examples(texts, supernet.prompt)
    encoded = encode(load_tokenizer(supernet.path), examples, max_length)
    if HEADS[head].has_labels:
        if any(isinstance(text, str) for text in texts):
            raise ValueError(f"the head {head} is scored by labels: give ortnas.Example, not plain texts")
        return Part(encoded, examples, supernet.labels)
    full = exporter.build(supernet.dimensions.full_subnet, "fp32")
    return Part(encoded, examples, teacher=stack_rows(model_outputs(full, encoded, head)))


def _examples(texts: Sequence[Text], prompt: str) -> Sequence[Example]:
    return with_prompt([Example(text) if isinstance(text, str) else text for text in texts], prompt)
