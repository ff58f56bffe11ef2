"""Scores: the task metric of a subnet's ONNX model, computed by ONNX Runtime, remembered across runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from export.build import Exporter, Precision, model_outputs
from export.calibration import Feeds
from export.graph import LAYOUT_VERSION
from export.metrics import METRICS, Part
from nas.files import append_line, read_lines
from nas.space import Subnet


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
                part_digest(part),
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
            outputs = model_outputs(model, self.part.encoded, self.exporter.supernet.dimensions.head)
            value = METRICS[self.metric](outputs, self.part)
            append_line(self.cache_file, {"context": self.context, "subnet_key": key, "score": value})
            self.scores[key] = value
            self.computed += 1
        return self.scores[key]


def part_digest(part: Part) -> str:
    """Names the inputs and what the outputs are compared with."""
    encoded = part.encoded
    content = json.dumps([encoded.ids, encoded.type_ids, encoded.labels, encoded.windows, part.label_names])
    teacher = b"" if part.teacher is None else part.teacher.tobytes()
    return hashlib.sha256(content.encode() + teacher).hexdigest()[:16]


def calibration_digest(batches: Sequence[Feeds]) -> str:
    digest = hashlib.sha256()
    for batch in batches:
        digest.update(batch["input_ids"].tobytes())
    return digest.hexdigest()[:16]
