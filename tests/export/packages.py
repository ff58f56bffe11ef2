"""Packages of random networks, made as the export stage makes them, and what spoils them."""

from __future__ import annotations

import hashlib
import itertools
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ortnas.bench.fingerprint import fingerprint
from ortnas.bench.session import Setup
from ortnas.bench.target import Target
from ortnas.bench.timing import Workload
from ortnas.export.build import Exporter
from ortnas.export.graph.inputs import USUAL_INPUTS, ModelInputs
from ortnas.export.inference import Drift, model_outputs
from ortnas.export.int8.recipes import recipe_named
from ortnas.export.intervals import Interval, ScoreIntervals
from ortnas.export.metrics import METRICS, suitable_metrics
from ortnas.export.package.package import PackageContent, write_package
from ortnas.export.package.record import Coverage, Facts, Latency, Origin, TrainingData
from ortnas.export.package.sample import Sample
from ortnas.export.vectors import stack_rows
from ortnas.nas.architecture.heads import HEADS
from ortnas.nas.text import IGNORED, Example, encode, load_tokenizer
from ortnas.nas.training.supernet import open_checkpoint
from tests.networks import make_space, write_checkpoint

LABELS = ("<b>no</b>", "yes & no", "yes")
CASES = {
    "embedding": "bert",
    "classification": "bert",
    "multi-label": "mpnet",
    "regression": "camembert",
    "reranking": "bert",
    "sparse": "distilbert",
    "late-interaction": "bert",
    "token-classification": "roberta",
    "span": "distilbert",
    "masked-lm": "electra",
}
MAX_LENGTH = 20


def make_examples(head: str, sentences: list[str]) -> list[Example]:
    rng = np.random.default_rng(0)
    examples = []
    for number, (question, text) in enumerate(itertools.pairwise(sentences[:33])):
        words = tuple(text.split())
        tags = tuple(rng.integers(0, 3, len(words)).tolist())
        examples.append(
            {
                "embedding": Example(text),
                "classification": Example(text, label=int(rng.integers(3))),
                "multi-label": Example(text, classes=tuple(place for place in range(3) if number >> place & 1)),
                "reranking": Example("he was", text, label=float(number % 4 == 0), group=number // 4),
                "sparse": Example(text),
                "late-interaction": Example(text),
                "regression": Example(text, label=float(rng.normal())),
                "token-classification": Example("", words=words, tags=tags),
                "span": Example(question[:9], text, answers=((0, words[0]),)),
                "masked-lm": Example(text),
            }[head]
        )
    return examples


def make_content(
    folder: Path, family: str, head: str, sentences: list[str], inputs: ModelInputs = USUAL_INPUTS
) -> PackageContent:
    """What the export stage makes of a random network, by the same calls."""
    labels = LABELS if HEADS[head].has_label_names else ()
    checkpoint, space = write_checkpoint(folder / "checkpoint", family, head), make_space(num_layers=2, depth=(1, 2))
    label_names = {label: f"LABEL_{row}" for row, label in enumerate(labels)}
    supernet = open_checkpoint(str(checkpoint), head, folder / "supernet", space, labels, label_names=label_names)
    tokenizer = load_tokenizer(folder / "supernet")
    examples = make_examples(head, sentences)
    encoded = encode(tokenizer, examples, MAX_LENGTH)
    exporter = Exporter(supernet, recipe_named("avx512_vnni"), [feeds for _, feeds in encoded.batches(16)], inputs)
    model = exporter.build(space.smallest, "int8")
    metric, tokens, teacher = suitable_metrics(head, labels)[0], [], None
    if not HEADS[head].has_labels:
        teacher = stack_rows(model_outputs(model, encoded, head)).tolist()
    if head == "masked-lm":
        mask = tokenizer.token_to_id("[MASK]")
        tokens = [
            ([*row[:3], mask, *row[4:]], [IGNORED] * 3 + [row[3]] + [IGNORED] * len(row[4:])) for row in encoded.ids
        ]
        examples = []
    sample = Sample(metric, 0.0, examples, tokens, teacher)
    part = sample.part(tokenizer, MAX_LENGTH, labels)
    score = METRICS[metric](model_outputs(model, part.encoded, head), part)
    shape, is_fixed = inputs.shapes or (1, 16), inputs.shapes is not None
    workload = Workload(*shape, supernet.dimensions.vocab_size, fixed=is_fixed, mask=inputs.mask)
    target = Target(fingerprint(), Setup(), (workload,))
    facts = Facts(
        precision="int8",
        checkpoint="random",
        recipe=exporter.recipe,
        coverage=Coverage(threshold=0.99, weight_integer_share=1.0),
        drift=Drift(largest=0.1, mean=0.01, cosine=0.999, flips=0.0),
        budget_ms=1000.0,
        latency=Latency(1.0, 0.1, predicted_ms=1.1, model_digest=hashlib.sha256(model).hexdigest()),
        report={metric: score},
        intervals={metric: ScoreIntervals(Interval(score, score - 0.03, score + 0.02), Interval(-0.01, -0.02, 0.0))},
        data=TrainingData("/somewhere/texts.tsv", None, 300),
        origin=Origin(None, None),
        report_size=32,
        target=target,
    )
    return PackageContent("name", model, supernet, space.smallest, MAX_LENGTH, replace(sample, score=score), facts)


def write_exported(
    folder: Path, family: str, head: str, sentences: list[str], inputs: ModelInputs = USUAL_INPUTS
) -> Path:
    """A package of a random network."""
    write_package(folder / "package", make_content(folder, family, head, sentences, inputs))
    return folder / "package"


def copy_of(package: Path, folder: Path) -> Path:
    return Path(shutil.copytree(package, folder / "copy"))


def change_record(folder: Path, **changes: Any) -> None:
    path = folder / "ortnas.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
