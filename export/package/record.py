"""A package's record, ``ortnas.json``: what the package is, what was measured of it, and the digests of its files."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from ortnas.bench.target import Target
from ortnas.export.inference import Drift
from ortnas.export.int8.recipes import Recipe
from ortnas.export.intervals import ScoreIntervals
from ortnas.export.package.entries import (
    NUMBER,
    NUMBER_OR_NONE,
    TEXT_OR_NONE,
    DamagedError,
    entry_of,
    numbers_of,
    part_of,
    texts_of,
)
from ortnas.nas.architecture.heads import HEADS
from ortnas.nas.architecture.subnet import Subnet
from ortnas.nas.failures import OrtnasError
from ortnas.nas.files import parse_json, write_json
from ortnas.nas.wording import said, shown

FORMAT = 5
RECORD_FILE = "ortnas.json"
MODEL_FILE = "model.onnx"
_LONGEST_NAME = 200
# Here None says something: no budget, no threshold, not predicted. What else is None is not known, and left out.
_TELLING_NONES = (
    "budget",
    "budget_ms",
    "activation",
    "default_prompt",
    "null_threshold",
    "predicted_ms",
    "threshold",
    "task",
    "base_model",
    "licence",
)


class PackageError(OrtnasError, ValueError):
    """A folder that is no usable package."""


class _TargetError(ValueError):
    """An entry that describes no target; the message says why."""


@dataclass(frozen=True)
class Latency:
    """What the model took where the package was made: median, half the interquartile range, 95th percentile.

    ``predicted_ms`` is None where no predictor was asked. ``speed_up`` is to the full model at the same precision.
    ``visits`` are the raw samples, as ``bench.timing.Samples`` writes them. ``model_digest`` is the SHA-256 of the
    model that was timed.
    """

    measured_ms: float
    spread_ms: float
    p95_ms: float | None = None
    predicted_ms: float | None = None
    speed_up: float | None = None
    visits: Sequence[Mapping[str, Any]] | None = None
    model_digest: str | None = None

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Latency:
        return cls(
            entry_of(document, "latency.measured_ms", NUMBER),
            entry_of(document, "latency.spread_ms", NUMBER),
            entry_of(document, "latency.p95_ms", NUMBER_OR_NONE, None),
            entry_of(document, "latency.predicted_ms", NUMBER_OR_NONE, None),
            entry_of(document, "latency.speed_up", NUMBER_OR_NONE, None),
            entry_of(document, "latency.visits", (list, type(None)), None),
            entry_of(document, "latency.model_digest", TEXT_OR_NONE, None),
        )


@dataclass(frozen=True)
class Coverage:
    """What of the model runs in integer kernels, as shares of multiply-adds, and what is demanded of the weight
    products (``threshold``, None where nothing is)."""

    threshold: float | None = None
    integer_share: float | None = None
    weight_integer_share: float | None = None
    operators: Mapping[str, int] | None = None
    float_weight_products: Sequence[str] | None = None

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Coverage:
        return cls(
            entry_of(document, "coverage.threshold", NUMBER_OR_NONE),
            entry_of(document, "coverage.integer_share", NUMBER_OR_NONE, None),
            entry_of(document, "coverage.weight_integer_share", NUMBER_OR_NONE, None),
            entry_of(document, "coverage.operators", (dict, type(None)), None),
            entry_of(document, "coverage.float_weight_products", (list, type(None)), None),
        )


@dataclass(frozen=True)
class TrainingData:
    """Where the supernet's texts came from, ``task`` None where they belong to none. ``further``: other sources;
    ``labelled``: how many texts have labels, where others lack them."""

    source: str
    task: str | None
    texts: int
    further: Sequence[str] = ()
    labelled: int | None = None


@dataclass(frozen=True)
class Origin:
    """``base_model``: the checkpoint's name on the hub, None for a local folder. ``licence``: the hub's identifier of
    it as the checkpoint's own card states it, None where it states none."""

    base_model: str | None
    licence: str | None


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is known of a packaged model beside its network.

    ``report`` are the scores on the ``report_size`` texts that nothing was chosen on, by metric, and on judged pairs
    where ``judged`` says what those are. ``budget`` is as it was asked for (``2x``), ``budget_ms`` what it came to;
    ``search_score`` the winner's while it was searched. ``null_threshold``: by how much the score of no answer has to
    exceed the best answer's, None where there always is one. ``label_thresholds``: the probability of each label from
    which on a text has it, where it may have several. ``provenance`` is the supernet's. ``activation`` is what a
    cross-encoder's library makes of its logit. ``prompts``, ``default_prompt`` and ``similarity`` (how embeddings are
    compared) are those of sentence-transformers. ``calibration`` says, of a checkpoint that was quantized as it is,
    what ranges were measured on. ``drift`` is how far the outputs lie from the float model's, ``runtime_drift`` how far
    the target's runtime computes from ONNX Runtime, which computed the scores; None where that was not measured.
    """

    precision: str
    recipe: Recipe
    target: Target
    latency: Latency
    checkpoint: str | None = None
    provenance: Mapping[str, Any] | None = None
    budget: str | None = None
    budget_ms: float | None = None
    search_score: float | None = None
    metric: str | None = None
    null_threshold: float | None = None
    label_thresholds: tuple[float, ...] | None = None
    activation: str | None = None
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt: str | None = None
    similarity: str | None = None
    calibration: str | None = None
    report: Mapping[str, float] = field(default_factory=dict)
    report_size: int | None = None
    judged: str | None = None
    intervals: Mapping[str, ScoreIntervals] = field(default_factory=dict)
    drift: Drift | None = None
    runtime_drift: Drift | None = None
    coverage: Coverage = Coverage()
    data: TrainingData | None = None
    origin: Origin | None = None

    @property
    def is_throughput(self) -> bool:
        """Whether the budget is in requests a second: it is then about the mean latency under load."""
        return (self.budget or "").endswith("/s")


@dataclass(frozen=True, kw_only=True)
class PackageRecord(Facts):
    """All of ``ortnas.json``. ``release`` is that of ortnas that wrote it; ``file_digests`` holds the SHA-256 of every
    other file; ``token_digest`` is what ``export.package.sample.token_digest`` gives."""

    release: str
    name: str
    subnet: Subnet
    head: str
    labels: tuple[str, ...]
    max_length: int
    token_digest: str
    file_digests: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """Without what is not known."""
        facts = {item.name: _plain(getattr(self, item.name)) for item in fields(Facts)}
        return {
            "format": FORMAT,
            "ortnas": self.release,
            "name": self.name,
            "subnet_key": self.subnet.key,
            "subnet": self.subnet.to_json(),
            "head": self.head,
            "labels": list(self.labels),
            "max_length": self.max_length,
            "token_digest": self.token_digest,
            **_without_unknown(facts),
            "recipe": self.recipe.to_json(),
            "target": self.target.to_json(),
            "provenance": dict(self.provenance or {}),
            "checksums": dict(self.file_digests),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> PackageRecord:
        """Raises ValueError with what is missing or damaged."""
        return cls(
            release=entry_of(document, "ortnas", str, "?"),
            name=entry_of(document, "name", str, ""),
            subnet=part_of(document, "subnet", Subnet.from_json),
            head=_head(document),
            labels=tuple(texts_of(document, "labels")),
            max_length=entry_of(document, "max_length", int),
            token_digest=entry_of(document, "token_digest", str),
            file_digests=_digests(document),
            precision=entry_of(document, "precision", str),
            recipe=_recipe(document),
            target=_target(document),
            latency=Latency.from_json(document),
            checkpoint=entry_of(document, "checkpoint", TEXT_OR_NONE, None),
            provenance=entry_of(document, "provenance", dict, {}),
            budget=entry_of(document, "budget", TEXT_OR_NONE, None),
            budget_ms=entry_of(document, "budget_ms", NUMBER_OR_NONE),
            search_score=entry_of(document, "search_score", NUMBER_OR_NONE, None),
            metric=entry_of(document, "metric", TEXT_OR_NONE, None),
            null_threshold=entry_of(document, "null_threshold", NUMBER_OR_NONE, None),
            label_thresholds=_thresholds(document),
            activation=entry_of(document, "activation", TEXT_OR_NONE, None),
            prompts=_prompts(document),
            default_prompt=entry_of(document, "default_prompt", TEXT_OR_NONE, None),
            similarity=entry_of(document, "similarity", TEXT_OR_NONE, None),
            calibration=entry_of(document, "calibration", TEXT_OR_NONE, None),
            report=numbers_of(document, "report"),
            report_size=entry_of(document, "report_size", (int, type(None)), None),
            judged=entry_of(document, "judged", TEXT_OR_NONE, None),
            intervals=_intervals(document),
            drift=part_of(document, "drift", lambda part: Drift(**part), None),
            runtime_drift=part_of(document, "runtime_drift", lambda part: Drift(**part), None),
            coverage=Coverage.from_json(document),
            data=part_of(document, "data", lambda part: TrainingData(**part), None),
            origin=part_of(document, "origin", lambda part: Origin(**part), None),
        )


def write_record(folder: Path, record: PackageRecord) -> None:
    write_json(folder / RECORD_FILE, record.to_json())


def read_record(folder: Path) -> PackageRecord:
    """Raises PackageError where the folder is no package, or one of another format."""
    file = folder / RECORD_FILE
    try:
        document: Any = parse_json(file.read_text(encoding="utf-8"))
        number = document["format"]
        if type(number) is not int:
            raise TypeError(f"its format is {shown(number)}")
    except FileNotFoundError:
        raise PackageError(f"{folder} is not a package: it holds no {RECORD_FILE}") from None
    except NotADirectoryError:
        raise PackageError(f"{folder} is a file; a package is a folder") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PackageError(f"{file} cannot be read: {said(error)}") from error
    if number > FORMAT:
        raise PackageError(
            f"{folder}: package format {shown(number)} is newer than this release's {FORMAT}; update ortnas"
        )
    if number < FORMAT:
        raise PackageError(f"{folder}: package format {shown(number)} is of an older release; export it again")
    try:
        return PackageRecord.from_json(document)
    except DamagedError as error:
        raise PackageError(f"{file}: {error}") from error
    except _TargetError as error:
        raise PackageError(f"{folder}: its record names no target that can be read: {error}") from error


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _plain(value: Any) -> Any:
    """JSON of a fact: values with fields become objects without what is not known."""
    if isinstance(value, Latency | Coverage | Drift | TrainingData | Origin | ScoreIntervals):
        return _without_unknown(asdict(value))
    return {name: _plain(part) for name, part in value.items()} if isinstance(value, Mapping) else value


def _without_unknown(entries: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in entries.items() if value is not None or name in _TELLING_NONES}


def _target(document: Any) -> Target:
    try:
        target = Target.from_json(entry_of(document, "target", dict))
    except DamagedError:
        raise
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise _TargetError(said(error)) from error
    if not target.workloads:
        raise _TargetError("it has no workloads")
    return target


def _recipe(document: Any) -> Recipe:
    texts_of(document, "recipe.keep_float")
    recipe: Recipe = part_of(document, "recipe", Recipe.from_json)
    return recipe


def _head(document: Any) -> str:
    head: str = entry_of(document, "head", str)
    if head not in HEADS:
        raise DamagedError("head")
    return head


def _prompts(document: Any) -> dict[str, str]:
    prompts: dict[str, str] = entry_of(document, "prompts", dict, {})
    if not all(isinstance(text, str) for text in prompts.values()):
        raise DamagedError("prompts")
    return prompts


def _thresholds(document: Any) -> tuple[float, ...] | None:
    """One a label, or none."""
    thresholds = entry_of(document, "label_thresholds", (list, type(None)), None)
    if thresholds is None:
        return None
    if len(thresholds) != len(texts_of(document, "labels")) or not all(type(entry) in NUMBER for entry in thresholds):
        raise DamagedError("label_thresholds")
    return tuple(map(float, thresholds))


def _intervals(document: Any) -> dict[str, ScoreIntervals]:
    def read(part: Mapping[str, Any]) -> dict[str, ScoreIntervals]:
        return {name: ScoreIntervals.from_json(both) for name, both in part.items()}

    intervals: dict[str, ScoreIntervals] = part_of(document, "intervals", read, {})
    return intervals


def _digests(document: Any) -> dict[str, str]:
    digests: dict[str, str] = entry_of(document, "checksums", dict)
    if not all(map(_is_file_name, digests)):
        raise DamagedError("checksums")
    return digests


def _is_file_name(name: str) -> bool:
    """Of a file in the package, as file systems take it."""
    parts = name.split("/")
    return name.isprintable() and len(name) <= _LONGEST_NAME and all(parts) and ".." not in parts
