"""``run.yaml``: one configuration for all stages, checked key by key."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, ValidationError, field_serializer, field_validator, model_validator

from ortnas.nas.architecture.heads import HEADS
from ortnas.nas.architecture.ops import PoolingMode
from ortnas.nas.architecture.presets import PRESETS
from ortnas.nas.data.judged_pairs import NO_PAIRS
from ortnas.nas.data.label_sets import SEPARATOR
from ortnas.nas.data.tasks import find_task, serves
from ortnas.nas.failures import DataError, OrtnasError
from ortnas.nas.run.configuration_values import LearningRate, Section, Sizes, Texts
from ortnas.nas.run.limits import MOST_ROWS, MOST_STEPS, MOST_THREADS, MOST_TOKENS, SEEDS
from ortnas.nas.run.source_keys import LabelColumns, Source, WeightedSource
from ortnas.nas.run.target_keys import TargetHost
from ortnas.nas.run.wrong_keys import explain
from ortnas.nas.training.loss_names import choose_losses
from ortnas.nas.wording import shown
from ortnas.nas.yaml_documents import YamlError, read_yaml
from ortnas.search.budget import Budget

_PACKAGE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")
# A choice among the rows of the table, which a type checker cannot read.
if TYPE_CHECKING:
    HeadName = str
else:
    HeadName = Literal[tuple(HEADS)]


class ConfigurationError(OrtnasError):
    """A configuration that cannot be used; the message names the key and what is allowed."""


class Data(Section):
    """``source``: a folder with training and dev files, a text file, a corpus, ``python-docstrings``,
    ``python-packages``, or ``hub:NAME``; of texts without labels also a list of them, with weights. The first one's
    report part is ``report``, and the keys below are about it.

    ``task`` names a GLUE task, ``squad`` or ``squad_v2`` and fills in files, columns and metric. ``pairs`` is a file or
    folder of pairs of texts that embeddings are judged by; ``none`` looks for none in the source. ``label_names`` says
    which of the checkpoint's labels a label of the data is, where names do not tell. Where a text may have several
    labels, they are a list, or stand in one text with ``separator`` between them, or ``label`` lists one column of 0
    and 1 for each of them. ``max_length`` in tokens is by default that of a sentence-transformers checkpoint, else 128.
    """

    source: Source
    task: str | None = None
    train_file: str | None = None
    report_file: str | None = None
    text: str | None = None
    pair: str | None = None
    label: LabelColumns | None = None
    separator: str = Field(SEPARATOR, max_length=10)
    pairs: str | None = None
    label_names: dict[str, str] = Field(default={})
    lower: bool = False
    max_length: int | None = Field(None, ge=8, le=MOST_TOKENS)
    calibration_size: int = Field(64, ge=1, le=MOST_ROWS)
    search_size: int = Field(256, ge=2, le=MOST_ROWS)
    report_size: int | None = Field(None, ge=2, le=MOST_ROWS)

    @field_validator("task")
    @classmethod
    def _known(cls, name: str | None) -> str | None:
        return None if name is None else find_task(name).name

    @property
    def sources(self) -> tuple[WeightedSource, ...]:
        return (WeightedSource(source=self.source),) if isinstance(self.source, str) else self.source


class Space(Section):
    """A preset, with choices that replace the preset's own. ``drop_parts`` lets layers lack attention or FFN."""

    preset: str = "default"
    hidden_size: Sizes | None = None
    depth: Sizes | None = None
    num_heads: Sizes | None = None
    head_size: Sizes | None = None
    ffn_size: Sizes | None = None
    uniform: Texts | None = None
    depth_order: Literal["first", "spread"] | None = None
    drop_parts: bool = False

    @field_validator("preset")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in PRESETS:
            raise ValueError(f"allowed are {', '.join(PRESETS)}")
        return name


class Training(Section):
    """``minutes``: what all stages together may take; steps that are not configured are then chosen to fit.

    ``teacher``: the checkpoint's full network, or the ``largest`` subnet of each step (in-place distillation).
    ``new_head`` trains a head from the start where the checkpoint has one for other labels. ``signals_gb`` bounds what
    is kept on disk of the teacher's signals, so that they are computed once a text.
    """

    minutes: float | None = Field(None, gt=0, le=10**6)
    steps: int | None = Field(None, ge=0, le=MOST_STEPS)
    batch_size: int = Field(32, ge=2, le=MOST_TOKENS)
    accumulation: int = Field(1, ge=1)
    learning_rate: LearningRate = 3e-4
    sampling: Literal["sandwich", "uniform", "progressive"] = "sandwich"
    random_subnets: int = Field(2, ge=0, le=1000)
    balance: Literal["multiply_adds", "latency", "genome"] = "multiply_adds"
    teacher: Literal["checkpoint", "largest"] = "checkpoint"
    losses: dict[str, Annotated[float, Field(ge=0, le=1e6)]] | None = None
    mixed_precision: Literal["auto", "no", "bf16", "fp16"] = "auto"
    signals_gb: float = Field(4.0, ge=0, le=10**6)
    compile: bool = False
    importance_texts: int = Field(128, ge=1, le=MOST_ROWS)
    teacher_steps: int | None = Field(None, ge=0, le=MOST_STEPS)
    teacher_learning_rate: LearningRate = 5e-5
    new_head: bool = False
    checkpoint_every: int = Field(100, ge=1, le=MOST_STEPS)
    probe_every: int = Field(200, ge=0, le=MOST_STEPS)
    probe_texts: int = Field(256, ge=2, le=MOST_ROWS)

    @model_validator(mode="after")
    def _fits(self) -> Training:
        if self.teacher == "largest" and self.sampling == "uniform":
            raise ValueError("teacher 'largest' needs the largest subnet in every step; sampling 'uniform' lacks it")
        if self.accumulation > self.batch_size:
            raise ValueError(f"accumulation {self.accumulation} exceeds batch_size {self.batch_size}")
        return self


class Refinement(Section):
    """Training of the finalists alone, by successive halving: the last of them takes so many ``steps``.

    With 0 winners stay as they are in the supernet. ``quantization_aware`` puts the quantizer's rounding into the loop.
    """

    steps: int | None = Field(None, ge=0, le=MOST_STEPS)
    finalists: int = Field(2, ge=1, le=1000)
    batch_size: int = Field(64, ge=2, le=MOST_TOKENS)
    learning_rate: LearningRate | None = None
    quantization_aware: bool = False


class Quantization(Section):
    """``recipe``: types and ranges that suit an instruction set; ``auto`` asks the host. The other keys change it.

    ``keep_float``: patterns of weight products that stay in float, such as ``head/*`` or ``layers/3/ffn/out``.
    ``coverage``: the share of the other weight products' multiply-adds that has to run in integer kernels.
    """

    recipe: str = "auto"
    calibration: Literal["minmax", "entropy", "percentile"] = "minmax"
    per_channel: bool = True
    embeddings: bool = True
    keep_float: Texts = ()
    coverage: float = Field(0.99, ge=0, le=1)


class Bench(Section):
    """``subnets`` are timed in ``visits`` sessions each.

    A visit ends when the median is known within ± ``confidence``, or after ``cap_s`` seconds a subnet. ``until_error``
    and ``minutes`` time more where the predictor is least sure, until its error on held-out timings (``0.03`` or
    ``3%``) or the time is reached. ``new_target`` allows a second host of the same name in the store.
    """

    subnets: int = Field(120, ge=10, le=10**6)
    visits: int = Field(2, ge=1, le=1000)
    confidence: float = Field(0.01, gt=0, lt=1)
    cap_s: float = Field(0.4, gt=0, le=86_400)
    until_error: float | None = Field(None, gt=0, lt=1)
    minutes: float | None = Field(None, gt=0, le=10**6)
    new_target: bool = False

    @field_validator("until_error", mode="before")
    @classmethod
    def _share(cls, value: Any) -> Any:
        if isinstance(value, str) and value.endswith("%"):
            try:
                return float(value[:-1]) / 100
            except ValueError:
                return value
        return value


class OtherTarget(Section):
    """A second target that winners have to suit: the folder of its predictor, and its budget in ms."""

    predictor: str
    budget_ms: float = Field(gt=0, le=1e9)


class Search(Section):
    """Budgets are ms (``6.5``) or speed-ups over the full model at the same precision (``2x``).

    ``goal``: one search per budget, or one over the whole ``front`` of score against latency, of which every budget
    takes its winner. ``method`` proposes: ``evolution``, or ``random``, ``fast`` and ``evolved`` as in earlier systems.
    ``screen`` scores INT8 candidates cut from the quantized full network and the best of them again as they would be
    shipped. ``rule`` names the winner: the ``best`` score, the ``fastest`` within ``tolerance`` of it, or the ``knee``.
    ``score_by``: candidates are ranked by a likelihood where the head has one, which tells near candidates apart, or by
    the task's ``metric``. ``percentile``: what of the latency the budget holds. ``workers``: how
    many candidates are scored at a time, as many as there are processors by default. ``fitness_steps``: train each
    candidate alone for so long before it is scored (slow; earlier systems did). ``engine``: where candidates are
    scored; ``cluster`` is the address of a Ray cluster, and without it one of this machine alone is started.
    ``targets``: others that have to be met as well, by prediction. ``max_size_mb``: what a model file may take.
    """

    budgets: tuple[Budget, ...] = (Budget.parse("2x"),)
    candidates: int = Field(100, ge=1, le=10**6)
    population: int = Field(16, ge=2, le=10**5)
    finalists: int = Field(4, ge=1, le=1000)
    metric: str | None = None
    score_by: Literal["likelihood", "metric"] | None = None
    goal: Literal["budget", "front"] = "budget"
    method: Literal["evolution", "random", "fast", "evolved"] = "evolution"
    surrogate: bool = True
    screen: bool = True
    race: bool = True
    rule: Literal["best", "fastest", "knee"] = "best"
    tolerance: float = Field(0.0, ge=0, le=1e6)
    max_size_mb: float | None = Field(None, gt=0, le=1e6)
    percentile: Literal[50, 95] = 50
    workers: int | None = Field(None, ge=1, le=MOST_THREADS)
    fitness_steps: int = Field(0, ge=0, le=MOST_STEPS)
    engine: Literal["local", "ray"] = "local"
    cluster: str | None = None
    targets: Annotated[tuple[OtherTarget, ...], Field(max_length=100)] = ()

    @field_validator("budgets", mode="before")
    @classmethod
    def _parsed(cls, value: Any) -> tuple[Budget, ...]:
        budgets = tuple(map(_budget, value if isinstance(value, list | tuple) else [value]))
        if not budgets:
            raise ValueError("at least one budget is needed")
        if len(set(budgets)) < len(budgets):
            raise ValueError("the same budget twice; name each once")
        return budgets

    @field_serializer("budgets")
    def _written(self, budgets: tuple[Budget, ...]) -> list[str]:
        return [budget.name for budget in budgets]


def _budget(value: Any) -> Budget:
    try:
        return value if isinstance(value, Budget) else Budget.parse(value)
    except ValueError as error:
        raise ValueError(f"{shown(str(value))} is no budget; {error}") from None


def _place(name: str) -> str:
    """The name of a checkpoint. Raises ValueError for a folder of a package that cannot be one."""
    if not name.startswith("package:"):
        return name
    package, _, inside = name.removeprefix("package:").partition("/")
    if not _PACKAGE.fullmatch(package):
        raise ValueError("write package:NAME/FOLDER, where NAME is what Python imports, such as a_package.models")
    if inside.startswith("/") or ".." in PurePosixPath(inside.replace("\\", "/")).parts:
        raise ValueError("the folder has to be inside the package; leave out '..' and a leading '/'")
    return name


class Configuration(Section):
    """Everything a run needs. ``checkpoint``: a folder, a hub name, or ``package:NAME/FOLDER`` (installed package).

    ``compare`` names more of them, which winners are compared with as they come. ``rivals`` compares every winner with
    subnets of its latency that nobody had to search, trained as long. ``pooling`` makes one vector of a text; by
    default as a sentence-transformers checkpoint says, else the mean.
    """

    checkpoint: str
    head: HeadName = "embedding"
    pooling: PoolingMode | None = None
    data: Data
    compare: Texts = ()
    rivals: bool = False
    folder: str = "runs/default"
    seed: int = Field(0, ge=0, lt=SEEDS)
    precision: Literal["int8", "fp32"] = "int8"
    space: Space = Space()
    training: Training = Training()
    refinement: Refinement = Refinement()
    target: TargetHost = TargetHost()
    quantization: Quantization = Quantization()
    bench: Bench = Bench()
    search: Search = Search()

    @field_validator("folder")
    @classmethod
    def _in_home(cls, folder: str) -> str:
        try:
            return str(Path(folder).expanduser()) if folder.startswith("~") else folder
        except RuntimeError:
            raise ValueError(f"{shown(folder)}: there is no such user on this machine") from None

    @field_validator("checkpoint")
    @classmethod
    def _is_place(cls, name: str) -> str:
        return _place(name)

    @field_validator("compare", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("compare")
    @classmethod
    def _are_places(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(names)) < len(names):
            raise ValueError("the same checkpoint twice; name each once")
        return tuple(map(_place, names))

    @model_validator(mode="before")
    @classmethod
    def _head_of_task(cls, document: Any) -> Any:
        """The head is the task's, or has to be named."""
        if not isinstance(document, dict):
            return document
        data = document.get("data")
        task = data.get("task") if isinstance(data, dict) else None
        if task is None:
            if "head" not in document:
                raise ValueError(f"the key 'head' is missing; it is one of {', '.join(HEADS)}")
            return document
        try:
            named = find_task(str(task))
        except DataError:
            return document  # the key itself reports it
        head = document.get("head", named.head)
        if head not in HEADS or not serves(named, head):
            raise ValueError(f"head {shown(head)} does not fit task {shown(task)}, whose head is {named.head!r}")
        return document | {"head": head}

    @model_validator(mode="after")
    def _sources_fit(self) -> Configuration:
        if len(self.data.sources) > 1 and HEADS[self.head].labels != "none":
            of_one = "reads one corpus" if HEADS[self.head].fills_masks else "has labels, which are one source's"
            raise ValueError(f"data.source: head {self.head!r} {of_one}; name one source in place of the list")
        return self

    @model_validator(mode="after")
    def _label_fits(self) -> Configuration:
        if isinstance(self.data.label, tuple) and not HEADS[self.head].takes_label_sets:
            served = [repr(name) for name, head in HEADS.items() if head.takes_label_sets]
            raise ValueError(f"data.label: several columns are for head {', '.join(served)}, not {self.head!r}")
        return self

    @model_validator(mode="after")
    def _losses_and_metric_fit(self) -> Configuration:
        try:
            losses = choose_losses(self.head, self.training.losses)
        except ValueError as error:
            raise ValueError(f"training.losses: {error}") from None
        if self.training.teacher == "largest" and not HEADS[self.head].has_labels:
            raise ValueError(f"training.teacher 'largest' needs labels, and head {self.head!r} has none")
        if self.data.pairs not in (None, NO_PAIRS) and not HEADS[self.head].judged_metrics:
            judged = [repr(name) for name, head in HEADS.items() if head.judged_metrics]
            raise ValueError(f"data.pairs judges the head {', '.join(judged)}, not {self.head!r}; leave it out")
        served = [repr(name) for name, head in HEADS.items() if head.ranking]
        if self.search.score_by == "likelihood" and not HEADS[self.head].ranking:
            raise ValueError(f"search.score_by 'likelihood' is for head {', '.join(served)}, not {self.head!r}")
        if self.training.teacher == "largest" and losses.keys() == {"labels"}:
            raise ValueError("training.teacher 'largest' needs a distillation loss beside 'labels'")
        if self.refinement.quantization_aware and self.quantization.calibration != "minmax":
            calibration = self.quantization.calibration
            raise ValueError(f"refinement.quantization_aware rounds by minmax ranges, not by {calibration!r} ones")
        return self


def read_configuration(path: Path, overrides: Mapping[str, Any]) -> Configuration:
    """Reads YAML and applies overrides given as dotted keys. Raises ConfigurationError."""
    try:
        document = read_yaml(path)
    except FileNotFoundError:
        raise ConfigurationError(f"{path}: no such file; `ortnas init` writes one") from None
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from error
    except YamlError as error:
        raise ConfigurationError(f"{path}: {error}") from error
    if not isinstance(document, dict):
        raise ConfigurationError(f"{path}: expected keys and values")
    for key, value in overrides.items():
        section = document
        *parents, last = key.split(".")
        for parent in parents:
            section = section.setdefault(parent, {})
            if not isinstance(section, dict):
                raise ConfigurationError(f"{shown(key)}: {parent[:40]} is a value, not a section")
        section[last] = value
    return check_configuration(document, str(path))


def check_configuration(document: Mapping[str, Any], origin: str) -> Configuration:
    """Raises ConfigurationError with one line that names the wrong keys."""
    try:
        return Configuration.model_validate(document)
    except ValidationError as error:
        raise ConfigurationError(f"{origin}: {explain(error, Configuration)}") from None
    except RecursionError:
        raise ConfigurationError(f"{origin}: nested without end") from None
