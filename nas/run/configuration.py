"""``run.yaml``: one configuration for all stages, checked key by key."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from ortnas.export.int8.recipes import Attention
from ortnas.nas.architecture.heads import HEADS
from ortnas.nas.architecture.ops import PoolingMode
from ortnas.nas.architecture.presets import PRESETS
from ortnas.nas.data.judged_pairs import NO_PAIRS
from ortnas.nas.data.label_sets import SEPARATOR
from ortnas.nas.data.tasks import find_task, serves
from ortnas.nas.data.unlabelled_texts import LABELS_THAT_MAY_LACK
from ortnas.nas.failures import DataError, OrtnasError
from ortnas.nas.run.configuration_values import Section, Sizes, Texts
from ortnas.nas.run.export_keys import Export, check_requests
from ortnas.nas.run.limits import MOST_ROWS, MOST_TOKENS, SEEDS
from ortnas.nas.run.search_keys import Search
from ortnas.nas.run.source_keys import LabelColumns, Source, WeightedSource
from ortnas.nas.run.target_keys import TargetHost
from ortnas.nas.run.training_keys import Refinement, Training
from ortnas.nas.run.wrong_keys import explain
from ortnas.nas.training.loss_names import choose_losses
from ortnas.nas.wording import shown
from ortnas.nas.yaml_documents import YamlError, read_yaml

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
    ``python-packages``, or ``hub:NAME``; also a list of them, with weights. Where the head has labels, they are the
    first one's, and the others have texts alone. Parts to report on, and the keys below, are the first one's.

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
    """A preset, with choices that replace the preset's own. ``drop_parts`` lets layers lack attention or FFN.
    ``keep_float: search`` lets the search decide which weight products of INT8 models stay in float."""

    preset: str = "default"
    hidden_size: Sizes | None = None
    depth: Sizes | None = None
    num_heads: Sizes | None = None
    head_size: Sizes | None = None
    ffn_size: Sizes | None = None
    uniform: Texts | None = None
    depth_order: Literal["first", "spread"] | None = None
    drop_parts: bool = False
    keep_float: Literal["none", "search"] = "none"

    @property
    def trained(self) -> dict[str, Any]:
        """The keys that training depends on."""
        return self.model_dump(exclude={"keep_float"})

    @field_validator("preset")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in PRESETS:
            raise ValueError(f"allowed are {', '.join(PRESETS)}")
        return name


class Quantization(Section):
    """``recipe``: types and ranges that suit an instruction set; ``auto`` asks the host. The other keys change it.

    ``keep_float``: patterns of weight products that stay in float, such as ``head/*`` or ``layers/3/ffn/out``.
    ``attention``: which products of two activations are integer, ``scores``, ``mixtures`` or both (``integer``).
    ``coverage``: the share of the other weight products' multiply-adds that has to run in integer kernels.
    """

    recipe: str = "auto"
    calibration: Literal["minmax", "entropy", "percentile"] = "minmax"
    per_channel: bool = True
    embeddings: bool = True
    keep_float: Texts = ()
    attention: Attention = "float"
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
    default as a sentence-transformers checkpoint says, else the mean. ``vocabulary``: whether the word table loses the
    rows of tokens that no text to train or to calibrate on has.
    """

    checkpoint: str
    head: HeadName = "embedding"
    pooling: PoolingMode | None = None
    vocabulary: Literal["keep", "prune"] = "keep"
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
    export: Export = Export()
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

    @property
    def learns_pairs(self) -> bool:
        """Whether pairs of texts teach the network: as ``training.losses`` says, or where ``search.metric`` is of
        pairs."""
        losses, head = self.training.losses, HEADS[self.head]
        if losses is not None:
            return bool(losses.get("pairs"))
        return head.learns_pairs and self.search.metric in head.judged_metrics

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
        served = ("none", *LABELS_THAT_MAY_LACK)
        if len(self.data.sources) > 1 and HEADS[self.head].labels not in served:
            of_one = "reads one corpus" if HEADS[self.head].fills_masks else "has queries, which are one source's"
            raise ValueError(f"data.source: head {self.head!r} {of_one}; name one source in place of the list")
        return self

    @model_validator(mode="after")
    def _vocabulary_fits(self) -> Configuration:
        if self.vocabulary == "prune" and HEADS[self.head].has_decoder:
            raise ValueError(f"vocabulary 'prune': head {self.head!r} has an output for every token, and needs all")
        if self.vocabulary == "prune" and self.compare:
            raise ValueError("vocabulary 'prune' makes a tokenizer that no other checkpoint has; leave compare out")
        return self

    @model_validator(mode="after")
    def _label_fits(self) -> Configuration:
        if isinstance(self.data.label, tuple) and not HEADS[self.head].takes_label_sets:
            served = [repr(name) for name, head in HEADS.items() if head.takes_label_sets]
            raise ValueError(f"data.label: several columns are for head {', '.join(served)}, not {self.head!r}")
        return self

    @model_validator(mode="after")
    def _requests_fit(self) -> Configuration:
        check_requests(self.export, self.target, self.head)
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
            raise ValueError(f"data.pairs judges the heads {' and '.join(judged)}, not {self.head!r}; leave it out")
        served = [repr(name) for name, head in HEADS.items() if head.ranking]
        if self.search.score_by == "likelihood" and not HEADS[self.head].ranking:
            raise ValueError(f"search.score_by 'likelihood' is for head {', '.join(served)}, not {self.head!r}")
        if len(self.data.sources) > 1 and losses.keys() == {"labels"}:
            raise ValueError(
                "data.source: the loss 'labels' alone learns nothing from further sources, which have none"
            )
        if self.training.teacher == "largest" and losses.keys() == {"labels"}:
            raise ValueError("training.teacher 'largest' needs a distillation loss beside 'labels'")
        if self.space.keep_float == "search" and self.precision != "int8":
            raise ValueError(f"space.keep_float 'search' is for precision 'int8', not {self.precision!r}")
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
