"""A checkpoint as it is -> an INT8 package: calibrated, proven, audited, timed beside what others make of it."""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ortnas.bench.estimates import Timing
from ortnas.bench.session import Setup
from ortnas.bench.target import Target
from ortnas.bench.timing import Workload
from ortnas.bench.worker_host import LocalHost
from ortnas.export.build import Exporter, Precision
from ortnas.export.graph.inputs import USUAL_INPUTS, ModelInputs
from ortnas.export.inference import Drift
from ortnas.export.int8.calibration import calibration_warnings
from ortnas.export.int8.recipes import Attention, Recipe, check_architecture
from ortnas.export.package.coverage import measure_coverage
from ortnas.export.package.from_texts import latency_of
from ortnas.export.package.package import PackageContent, write_package
from ortnas.export.package.record import Coverage, Facts
from ortnas.export.part import Outputs
from ortnas.nas.architecture.heads import HEADS
from ortnas.nas.console import Console
from ortnas.nas.failures import CheckpointError
from ortnas.nas.run.checkpoints import checkpoint_folder
from ortnas.nas.run.configuration import ConfigurationError, Quantization
from ortnas.nas.run.models import recipe_for
from ortnas.nas.stages.defaults_process import DefaultsProcess
from ortnas.nas.stages.origin import read_origin
from ortnas.nas.stages.packaging import announce, make_sample
from ortnas.nas.stages.quantize_gate import check_loss
from ortnas.nas.stages.quantize_texts import QuantizeTexts, TextChoice, choose_head, read_texts
from ortnas.nas.stages.quantized_models import (
    FP32,
    INT8,
    QuantizedModels,
    make_models,
    show_table,
    table_rows,
    time_in_turn,
)
from ortnas.nas.stages.replaceable_folder import check_replaceable
from ortnas.nas.stages.teacher_labels import labelled_by

if TYPE_CHECKING:
    from ortnas.export.weights import SupernetFolder
    from ortnas.nas.training.checkpoint.reading import Checkpoint

COMMAND = "quantize"
# Texts that models are scored on: a table tells enough with a few, a gate asks for more.
_SCORED_TEXTS, _GATED_TEXTS = 256, 1000
_USUAL_SEQUENCE = 128
_NO_TEXTS = (
    "no --data: ranges are measured on a few built-in sentences. Activations of your texts that exceed those are cut "
    "off, which may cost accuracy that nothing here measures; give --data TEXTS before you rely on this package"
)


@dataclass(frozen=True)
class Order:
    """What is asked for. ``texts.source`` None calibrates on texts of our own; ``max_loss`` is the most that the score
    may fall, in its own unit; None does not ask."""

    checkpoint: str
    texts: TextChoice
    out: Path
    max_length: int | None = None
    sequence: int | None = None
    threads: int = 1
    recipe: str = "auto"
    keep_float: tuple[str, ...] = ()
    attention: Attention = "float"
    inputs: ModelInputs = USUAL_INPUTS
    with_fp32: bool = False
    max_loss: float | None = None

    @property
    def packages(self) -> dict[Precision, Path]:
        """Where the package of each precision goes."""
        out = self.out.resolve()
        folders: dict[Precision, Path] = {"int8": out}
        return folders | ({"fp32": out.with_name(f"{out.name}-fp32")} if self.with_fp32 else {})


def quantize(order: Order, console: Console) -> dict[str, Any]:
    """Writes ``order.out`` and prints the comparison; nothing is written where the gate is not passed.

    Raises CheckpointError, DataError, ConfigurationError, CalibrationError, ExportError, CoverageError and HostError.
    """
    for folder in order.packages.values():
        check_replaceable(folder, COMMAND)
    console.heading(
        f"quantize: {order.checkpoint} as it is",
        "Calibrated, proven equal to the checkpoint's network, quantized, and timed in turn with the float model and "
        "with what ONNX Runtime's quantizer makes of it by default.",
    )
    place = checkpoint_folder(order.checkpoint)
    with (
        tempfile.TemporaryDirectory(prefix="ortnas-") as scratch,
        LocalHost() as host,
        DefaultsProcess() as defaults,
        ThreadPoolExecutor(1) as pool,
    ):
        # The worker starts while libraries are imported here.
        greeting, folder = pool.submit(host.hello), Path(scratch)
        head, source = choose_head(place, order.texts, console)
        _check_inputs(order, head)
        checkpoint, supernet, max_length = _open_network(order, place, head, folder)
        target = _target(order, greeting.result()["fingerprint"], supernet)
        settings = Quantization(recipe=order.recipe, keep_float=order.keep_float, attention=order.attention)
        isa, options = target.fingerprint["isa"], ("--recipe", "--keep-float")
        recipe = recipe_for(settings, supernet.dimensions, isa, options)
        _check_architecture(recipe, target)
        size = _SCORED_TEXTS if order.max_loss is None else _GATED_TEXTS
        texts = read_texts(source, checkpoint, folder, size, max_length, console)
        for warning in calibration_warnings(recipe.calibration, texts.batches) if source else [_NO_TEXTS]:
            console.say(f"warning: {warning}")
        models = make_models(Exporter(supernet, recipe, texts.batches, order.inputs), texts, defaults, console)
        coverage = {
            kind: measure_coverage(models.content[kind], kind, target, recipe, settings.coverage)
            for kind in order.packages
        }
        drift = models.drift
        timings = time_in_turn(models, host, target, console)
        rows = table_rows(models, timings)
        _say_proofs(console, texts, coverage["int8"], drift)
        show_table(console, models, rows, target)
        gate = None
        if order.max_loss is not None:
            loss = models.sampled.difference(INT8, FP32)
            gate = check_loss(order.max_loss, loss, models.exporter, models.texts, host, target, folder, console)
        packages = order.packages if gate is None or gate.is_passed else {}
        for precision, package in packages.items():
            facts = _facts(order, place, models, target, precision, timings[precision], coverage[precision], drift)
            _write(package, facts, models, max_length)
    announce(console, list(packages.values()))
    return {
        "checkpoint": order.checkpoint,
        "head": head,
        "labels": list(supernet.labels),
        "max_length": max_length,
        "recipe": recipe.to_json(),
        "target": target.to_json(),
        "texts": {"source": order.texts.source, **models.texts.to_json()},
        "rows": rows,
        "coverage": asdict(coverage["int8"]),
        "drift": asdict(drift),
        "gate": None if gate is None else gate.to_json(),
        "packages": [str(package) for package in packages.values()],
    }


def _open_network(order: Order, place: str, head: str, folder: Path) -> tuple[Checkpoint, SupernetFolder, int]:
    """With the most tokens of a text. Raises CheckpointError for a checkpoint without a trained head of that kind, and
    ConfigurationError for more tokens than it has positions."""
    from ortnas.nas.training.checkpoint.reading import read_checkpoint, read_text_settings
    from ortnas.nas.training.supernet import network_as_it_is

    checkpoint = read_checkpoint(place, head)
    if not checkpoint.head_is_trained:
        raise CheckpointError(
            f"checkpoint {order.checkpoint} has no trained head for {head}, and its answers would be random; "
            f"`ortnas run` trains one and makes the package (ortnas init run.yaml --checkpoint ... --data ...), or "
            f"--head names what it is trained for"
        )
    positions = checkpoint.dimensions.max_positions
    tokens = order.inputs.shapes and order.inputs.shapes[1]
    for option, value in (
        ("--max-length", order.max_length),
        ("--sequence", order.sequence),
        ("--shapes", tokens),
    ):
        if value is not None and value > positions:
            raise ConfigurationError(f"{option} {value}: the checkpoint has {positions} positions")
    max_length = order.max_length or read_text_settings(place, head).max_length
    if order.inputs.shapes is not None and order.max_length is None:
        max_length = min(max_length, order.inputs.shapes[1])
    return checkpoint, network_as_it_is(checkpoint, folder), max_length


def _check_inputs(order: Order, head: str) -> None:
    """Raises ConfigurationError where texts and timed requests do not suit what the model is to take."""
    shapes, mask = order.inputs.shapes, order.inputs.mask
    if not mask and HEADS[head].makes_token_vectors:
        raise ConfigurationError(f"--no-mask: head {head!r} fills queries up with tokens that a mask leaves out")
    if shapes is None:
        return
    batch, tokens = shapes
    if not mask:
        raise ConfigurationError(
            f"--no-mask: texts of less than {tokens} tokens are padded to --shapes, and that needs a mask"
        )
    if order.sequence not in (None, tokens):
        raise ConfigurationError(f"--sequence {order.sequence}: --shapes has it timed with {batch} x {tokens} tokens")
    if order.max_length is not None and order.max_length > tokens:
        raise ConfigurationError(
            f"--max-length {order.max_length}: the model takes requests of {batch} x {tokens} tokens alone"
        )


def _target(order: Order, fingerprint: dict[str, Any], supernet: SupernetFolder) -> Target:
    inputs, dimensions = order.inputs, supernet.dimensions
    usual = 1, order.sequence or min(_USUAL_SEQUENCE, dimensions.max_positions)
    batch, sequence = inputs.shapes or usual
    is_fixed = inputs.shapes is not None
    workload = Workload(batch, sequence, dimensions.vocab_size, fixed=is_fixed, mask=inputs.mask)
    return Target(fingerprint, Setup(threads=order.threads), (workload,))


def _check_architecture(recipe: Recipe, target: Target) -> None:
    """Raises ConfigurationError for a recipe of other processors than this machine's."""
    try:
        check_architecture(recipe.name, target.fingerprint["machine"])
    except ValueError as error:
        raise ConfigurationError(f"--recipe: {error}") from None


def _say_proofs(console: Console, texts: QuantizeTexts, coverage: Coverage, drift: Drift) -> None:
    shared = ", the same" if texts.are_shared else ""
    console.say(
        f"calibrated on {texts.calibration.size} texts, scored on {texts.part.size}{shared}; float ONNX equals the "
        f"checkpoint's network within 1e-4; {coverage.weight_integer_share or 0:.1%} of the weight products' "
        f"multiply-adds run in integers; INT8 outputs have a cosine of {drift.cosine:.4f} with the float model's"
    )


def _facts(
    order: Order,
    place: str,
    models: QuantizedModels,
    target: Target,
    precision: Precision,
    timing: Timing,
    coverage: Coverage,
    drift: Drift,
) -> Facts:
    texts = models.texts
    # Scores on the very texts that ranges were measured on, or to the float model's own answers, are no report.
    is_report = texts.are_labelled and not texts.are_shared
    judgements = texts.part.judgements
    return Facts(
        precision=precision,
        recipe=models.exporter.recipe,
        target=target,
        latency=latency_of(timing, models.content[precision]),
        checkpoint=order.checkpoint,
        provenance={**models.exporter.supernet.provenance, "checkpoint": order.checkpoint, "command": COMMAND},
        metric=texts.metric,
        **models.thresholds[precision]._asdict(),
        calibration=_calibration(order, texts),
        report=models.scores(precision) if is_report else {},
        report_size=texts.part.size if is_report else None,
        judged=None if judgements is None else str(judgements),
        drift=drift if precision == "int8" else None,
        coverage=coverage,
        origin=read_origin(place),
    )


def _calibration(order: Order, texts: QuantizeTexts) -> str:
    """Where texts lay on a machine is nobody's business."""
    source = order.texts.source
    return (
        "built-in sentences" if source is None else f"{texts.calibration.size} texts of {Path(source).name or source}"
    )


def _write(package: Path, facts: Facts, models: QuantizedModels, max_length: int) -> None:
    model, part, texts = models.content[facts.precision], models.scored_part(facts.precision), models.texts
    metric = texts.metric if part.judgements is None else HEADS[models.head].metrics[0]
    outputs: Outputs | None = models.outputs[facts.precision]
    if part.encoded.compared is not None:
        # Packages are verified on texts that are read as any other.
        part, outputs = labelled_by(models.head, texts.calibration, models.calibration_outputs), None
    sample = make_sample(model, part, models.head, metric, outputs)
    write_package(
        package, PackageContent(package.name, model, models.exporter.supernet, models.subnet, max_length, sample, facts)
    )
