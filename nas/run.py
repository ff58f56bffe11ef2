"""A run folder: its configuration, its files, and the things that stages share."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import time
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from bench.hosts import LocalHost
from bench.store import Target
from bench.timing import Protocol, Setup, Workload
from export.build import Exporter
from export.graph import LAYOUT_VERSION
from export.metrics import DEFAULT_METRIC
from export.recipes import Recipe, choose_recipe, recipe_named
from export.weights import SupernetFolder, memory_map, read_supernet
from nas.configuration import Configuration, ConfigurationError
from nas.console import Console
from nas.data import (
    PYTHON_DOCSTRINGS,
    DataError,
    Splits,
    docstring_sentences,
    read_sentences,
    read_splits,
    read_table,
    split_corpus,
    split_task,
    write_splits,
)
from nas.files import append_line, write_aside, write_json
from nas.text import EncodedExamples, Example, encode, load_tokenizer
from search.scoring import Part

_CALIBRATION_BATCH = 16


class Run:
    """Paths, shared objects and events of one run. Opening it writes the resolved configuration."""

    def __init__(self, configuration: Configuration, console: Console) -> None:
        self.configuration, self.console = configuration, console
        self.folder = Path(configuration.folder)
        if self.folder.exists() and not self.folder.is_dir():
            raise ConfigurationError(f"folder = {configuration.folder!r}: a file with that name exists")
        write_aside(self.folder / "run.yaml", yaml.safe_dump(configuration.model_dump(mode="json"), sort_keys=False))
        self.supernet_folder = self.folder / "supernet"
        self.teacher_folder = self.folder / "teacher"
        self.training_folder = self.folder / "training"
        self.store_file = self.folder / "bench.sqlite"
        self.predictor_folder = self.folder / "predictor"
        self.scores_file = self.folder / "search" / "scores.jsonl"
        self.packages_folder = self.folder / "packages"

    def search_folder(self, budget: str) -> Path:
        return self.folder / "search" / f"{self.configuration.precision}-{budget}"

    def event(self, stage: str, **figures: Any) -> None:
        append_line(self.folder / "events.jsonl", {"time": time.time(), "stage": stage, **figures})

    @property
    def checkpoint(self) -> str:
        """The checkpoint's folder or hub name, with ``package:`` names resolved to the installed package."""
        name = self.configuration.checkpoint
        if not name.startswith("package:"):
            return name
        package, _, inside = name.removeprefix("package:").partition("/")
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            raise ConfigurationError(f"checkpoint = {name!r}: the Python package {package} is not installed")
        return str(Path(next(iter(spec.submodule_search_locations))) / inside)

    @cached_property
    def splits(self) -> Splits:
        """The task's parts: made once, then read back, so that every stage sees the same texts."""
        configuration, folder = self.configuration, self.folder / "data"
        marker = folder / "inputs.json"
        asked = digest(configuration.data.model_dump(), configuration.head, configuration.seed)
        recorded = json.loads(marker.read_text()) if marker.is_file() else {}
        try:
            inputs = {"asked": asked, "source": self._source_identity()}
        except DataError:
            if recorded.get("asked") != asked:
                raise
            inputs = recorded  # the source is gone; what was made of it is not
        if recorded == inputs:
            return read_splits(folder)
        splits = self._make_splits()
        write_splits(splits, folder)
        write_json(marker, inputs)
        return splits

    def _source_identity(self) -> str:
        """What names the content of the data source: size and time of every file, or the corpus's own name."""
        data = self.configuration.data
        if data.source == PYTHON_DOCSTRINGS:
            return PYTHON_DOCSTRINGS
        source = Path(data.source)
        files = [source / data.train_file, source / data.report_file] if source.is_dir() else [source]
        if missing := [str(file) for file in files if not file.is_file()]:
            raise DataError(f"data.source = {data.source!r}: no such file: {', '.join(missing)}")
        return digest([[str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in files])

    def _make_splits(self) -> Splits:
        data, seed = self.configuration.data, self.configuration.seed
        sizes = {"calibration": data.calibration_size, "search": data.search_size}
        if self.configuration.head == "classification":
            source = Path(data.source)
            if not source.is_dir():
                raise DataError(f"data.source = {data.source!r}: classification needs a folder with {data.train_file}")
            tables = [
                read_table(source / name, data.text, data.label, data.pair)
                for name in (data.train_file, data.report_file)
            ]
            return split_task(tables[0], tables[1], sizes | {"report": data.report_size or len(tables[1])}, seed)
        if data.source == PYTHON_DOCSTRINGS:
            sentences = docstring_sentences()
        elif Path(data.source).is_dir():
            raise DataError(f"data.source = {data.source!r}: embedding needs a text file with a sentence a line")
        else:
            sentences = read_sentences(Path(data.source))
        return split_corpus(sentences, sizes | {"report": data.report_size or data.search_size}, seed)

    @cached_property
    def supernet(self) -> SupernetFolder:
        return read_supernet(self.supernet_folder)

    @cached_property
    def teacher(self) -> SupernetFolder:
        return read_supernet(self.teacher_folder)

    @cached_property
    def recipe(self) -> Recipe:
        name = self.configuration.target.recipe
        if name == "auto":
            return choose_recipe(self.target.fingerprint["isa"])
        try:
            return recipe_named(name)
        except ValueError as error:
            raise ConfigurationError(f"target.recipe: {error}") from None

    def encoded(self, examples: list[Example]) -> EncodedExamples:
        return encode(load_tokenizer(self.teacher_folder), examples, self.configuration.data.max_length)

    @cached_property
    def trained_splits(self) -> Splits:
        """The splits, if they are those that the supernet was trained with: of others, it may have seen any part.

        Raises ConfigurationError where data or seed changed since.
        """
        provenance, max_length = self.supernet.provenance, self.configuration.data.max_length
        if (provenance.get("splits"), provenance.get("max_length")) != (self.splits.digest, max_length):
            raise ConfigurationError("data or seed changed since the supernet was trained; run `ortnas train`")
        return self.splits

    @cached_property
    def _calibration(self) -> list[dict[str, npt.NDArray[np.int64]]]:
        return [feeds for _, feeds in self.encoded(self.trained_splits.calibration).batches(_CALIBRATION_BATCH)]

    @cached_property
    def exporter(self) -> Exporter:
        return Exporter(self.supernet, self.recipe, self._calibration)

    @cached_property
    def teacher_exporter(self) -> Exporter:
        return Exporter(self.teacher, self.recipe, self._calibration)

    @cached_property
    def anchor(self) -> bytes:
        """The full teacher at the run's precision: the model that all timings are taken beside."""
        return self.teacher_exporter.build(self.teacher.dimensions.full_subnet, self.configuration.precision)

    def part(self, name: str) -> Part:
        """The ``search`` or ``report`` split, encoded, with labels or the teacher's embeddings."""
        examples = getattr(self.trained_splits, name)
        if self.configuration.head == "classification":
            reference: npt.NDArray[np.generic] = np.array([example.label for example in examples], np.int64)
        else:
            reference = memory_map(self.teacher_folder / "outputs.safetensors")[name]
        return Part(self.encoded(examples), reference)

    @property
    def metric(self) -> str:
        """The configured metric, or the head's usual one. Raises ConfigurationError for one of the other head."""
        head, metric = self.configuration.head, self.configuration.search.metric
        if metric is not None and (metric == "accuracy") != (head == "classification"):
            raise ConfigurationError(f"search.metric = {metric!r} does not fit head {head!r}")
        return metric or DEFAULT_METRIC[head]

    @cached_property
    def host(self) -> LocalHost:
        return LocalHost()

    @cached_property
    def target(self) -> Target:
        host = self.configuration.target
        workload = Workload(host.batch, host.sequence, self.teacher.dimensions.vocab_size)
        if host.sequence > self.teacher.dimensions.max_positions:
            positions = self.teacher.dimensions.max_positions
            raise ConfigurationError(f"target.sequence = {host.sequence}: the checkpoint has {positions} positions")
        facts = self.host.fingerprint()
        if host.provider not in facts["providers"]:
            raise ConfigurationError(
                f"target.provider = {host.provider!r}: ONNX Runtime on the host has {', '.join(facts['providers'])}"
            )
        return Target(facts, Setup(host.provider, host.threads), workload)

    @property
    def protocol(self) -> Protocol:
        bench = self.configuration.bench
        return Protocol(bench.warmup, bench.rounds, bench.runs)

    @cached_property
    def timed_model(self) -> str:
        """Names what timings depend on beside the subnet: graph, dimensions and recipe, not the values of weights."""
        return digest(LAYOUT_VERSION, self.supernet.dimensions.to_json(), self.recipe.to_json())

    def close(self) -> None:
        if "host" in self.__dict__:
            self.host.close()


def digest(*parts: Any) -> str:
    """16 hexadecimal digits that name JSON-ready inputs."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]
