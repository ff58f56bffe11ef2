"""Scores of every subnet of a small space, recorded once, so that any search over it can be replayed in seconds.

The file is JSON Lines: a header, then ``[genome, latency_ms, upper_ms, right]`` per subnet, where ``right`` holds a bit
(hexadecimal) for each of the texts that not all subnets answer alike.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ortnas.export.inference import open_model, outputs_of
from ortnas.nas.architecture.space import Genomes, SearchSpace
from ortnas.nas.files import append_line, read_lines, write_aside
from ortnas.nas.run.run import Run
from ortnas.search.constraints import LatencyBound
from ortnas.search.operators import enumerate_space

# All of a kind's choices would be more subnets than can be scored: 3,240 of them take about 20 minutes.
CHOICES: dict[str, Any] = {
    "hidden_size": (128, 256, 384),
    "depth": (2, 3, 4, 5),
    "num_heads": (4, 8, 12),
    "ffn_size": (256, 768, 1536),
    "uniform": ("num_heads", "head_size"),
}
Report = Callable[[int, int, str], None]
Vector = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Recording:
    """``genomes`` (n, genes) with predicted latency and bound (n,) and what each answers rightly (n, texts)."""

    space: SearchSpace
    genomes: Genomes
    latency_ms: Vector
    upper_ms: Vector
    right: npt.NDArray[np.bool_]
    header: dict[str, Any]

    @cached_property
    def scores(self) -> Vector:
        """Accuracy (n,) over all texts, those that all answer alike included."""
        scores: Vector = (self.header["always_right"] + self.right.sum(1)) / self.header["text_count"]
        return scores

    @cached_property
    def rows(self) -> dict[bytes, int]:
        return {genome.tobytes(): row for row, genome in enumerate(self.genomes)}

    def rows_of(self, genomes: Genomes) -> npt.NDArray[np.int64]:
        """Where genomes (m, genes) are. Raises KeyError for one that is not of the space."""
        return np.array([self.rows[genome.tobytes()] for genome in genomes.astype(np.int16)], np.int64)

    def score(self, genomes: Genomes) -> Vector:
        return self.scores[self.rows_of(genomes)]

    def predict(self, genomes: Genomes) -> tuple[Vector, Vector]:
        """As a predictor does: ``latency_ms`` and ``upper_ms``."""
        rows = self.rows_of(genomes)
        return self.latency_ms[rows], self.upper_ms[rows]


def score_all(run: Run, file: Path, report: Report) -> None:
    """Adds what ``file`` lacks of the scores of sliced INT8 models on the run's search part; may be killed any time."""
    space, part, head = run.models.supernet.space.restrict(**CHOICES), run.models.part("search"), run.configuration.head
    genomes = enumerate_space(space)
    done = {tuple(entry["genome"]) for entry in read_lines(file)}
    # In random order, so that any beginning of the file is a sample of the space.
    for number, row in enumerate(np.random.default_rng(0).permutation(len(genomes)), start=1):
        genome = tuple(genomes[row].tolist())
        if genome in done:
            continue
        session = open_model(run.models.exporter.sliced(space.decode(genomes[row])))
        outputs = np.stack(outputs_of(session, part.encoded, head, range(len(part.encoded))))
        right = outputs.argmax(1) == part.labels
        append_line(file, {"genome": genome, "right": np.packbits(right).tobytes().hex()})
        report(number, len(genomes), f"{right.mean():.4f}")


def write_recording(run: Run, predictor: LatencyBound, scored: Path, file: Path) -> None:
    """The compact file of what ``score_all`` wrote, with the predictor's latencies. Raises ValueError if any lacks."""
    space, texts = run.models.supernet.space.restrict(**CHOICES), len(run.models.part("search").encoded)
    entries = {tuple(entry["genome"]): entry["right"] for entry in read_lines(scored)}
    genomes = enumerate_space(space)
    if missing := len(genomes) - len(entries):
        raise ValueError(f"{scored} lacks {missing} of {len(genomes)} subnets; record the rest first")
    bits = [np.frombuffer(bytes.fromhex(entries[tuple(genome)]), np.uint8) for genome in genomes.tolist()]
    right = np.unpackbits(np.stack(bits), axis=1)[:, :texts].astype(bool)
    differ = right.any(0) & ~right.all(0)
    within = np.stack([run.models.supernet.space.encode(space.decode(genome)) for genome in genomes])
    latency_ms, upper_ms = predictor.predict(within)
    header = {
        "space": space.to_json(),
        "checkpoint": run.configuration.checkpoint,
        "task": run.configuration.data.task,
        "supernet": run.models.supernet.digest,
        "metric": "accuracy",
        "form": "sliced INT8",
        "onnxruntime": run.models.target.fingerprint["onnxruntime"],
        "target": {name: run.models.target.to_json()[name] for name in ("setup", "workloads")},
        "text_count": texts,
        "always_right": int(right.all(0).sum()),
        "differing_texts": int(differ.sum()),
    }
    rows = [
        [genome, round(float(latency), 4), round(float(upper), 4), np.packbits(answers).tobytes().hex()]
        for genome, latency, upper, answers in zip(
            genomes.tolist(), latency_ms, upper_ms, right[:, differ], strict=True
        )
    ]
    write_aside(file, "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in [header, *rows]))


def read_recording(file: Path) -> Recording:
    header, *rows = read_lines(file)
    genomes, latency_ms, upper_ms, answers = zip(*rows, strict=True)
    bits = np.unpackbits(np.stack([np.frombuffer(bytes.fromhex(text), np.uint8) for text in answers]), axis=1)
    return Recording(
        SearchSpace.from_json(header["space"]),
        np.array(genomes, np.int16),
        np.array(latency_ms),
        np.array(upper_ms),
        bits[:, : header["differing_texts"]].astype(bool),
        header,
    )
