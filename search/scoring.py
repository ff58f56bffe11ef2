"""Scores: the task metric of a subnet's ONNX model, computed by ONNX Runtime, remembered across runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from export.build import Exporter, Precision, model_outputs
from export.graph import LAYOUT_VERSION
from export.metrics import METRICS
from export.quantize import Feeds
from nas.files import append_line, read_lines
from nas.space import Subnet
from nas.text import EncodedExamples

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Part:
    """One split to score on: encoded texts and what the outputs are compared with (labels, teacher embeddings)."""

    examples: EncodedExamples
    reference: npt.NDArray[np.generic]

    @property
    def digest(self) -> str:
        content = json.dumps([self.examples.ids, self.examples.type_ids]).encode() + self.reference.tobytes()
        return hashlib.sha256(content).hexdigest()[:16]


class Scorer:
    """Scores subnets on one split at one precision; a score once computed is never computed again.

    ``cache_file`` is JSON Lines; entries of other supernets, splits, recipes or metrics are left alone.
    """

    def __init__(self, exporter: Exporter, part: Part, precision: Precision, metric: str, cache_file: Path) -> None:
        self.exporter, self.part, self.precision = exporter, part, precision
        self.metric, self.cache_file = metric, cache_file
        identity = json.dumps(
            [
                LAYOUT_VERSION,
                exporter.supernet.digest,
                part.digest,
                precision,
                exporter.recipe.to_json() if precision == "int8" else None,
                calibration_digest(exporter.calibration) if precision == "int8" else None,
                metric,
            ]
        )
        self.context = hashlib.sha256(identity.encode()).hexdigest()[:16]
        self.scores: dict[str, float] = {
            entry["subnet_key"]: entry["score"] for entry in read_lines(cache_file) if entry["context"] == self.context
        }
        self.computed = 0

    def score(self, subnet: Subnet) -> float:
        key = subnet.key
        if key not in self.scores:
            model = self.exporter.build(subnet, self.precision)
            value = METRICS[self.metric](model_outputs(model, self.part.examples), self.part.reference)
            append_line(self.cache_file, {"context": self.context, "subnet_key": key, "score": value})
            self.scores[key] = value
            self.computed += 1
        return self.scores[key]


def calibration_digest(batches: Sequence[Feeds]) -> str:
    digest = hashlib.sha256()
    for batch in batches:
        digest.update(batch["input_ids"].tobytes())
    return digest.hexdigest()[:16]
