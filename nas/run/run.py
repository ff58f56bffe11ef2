"""A run folder: its configuration, its files, and the things that stages share."""

from __future__ import annotations

import fnmatch
import hashlib
import importlib.util
import json
import os
import shlex
import time
from contextlib import ExitStack
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml
from filelock import FileLock, Timeout

from ortnas.bench.host import Host, StoredHost
from ortnas.bench.hosts import open_host
from ortnas.bench.request import Request
from ortnas.bench.store import Measurement, Store
from ortnas.bench.target import Target
from ortnas.bench.timing import Setup, TimingProtocol, Workload
from ortnas.export.build import Exporter
from ortnas.export.graph.encoder import weight_products
from ortnas.export.graph.model import LAYOUT_VERSION
from ortnas.export.int8.calibration import calibration_warnings
from ortnas.export.int8.recipes import Recipe, choose_recipe, recipe_named
from ortnas.export.metrics import Part, suitable_metrics
from ortnas.export.tags import describe_scheme
from ortnas.export.weights import SupernetFolder, memory_map, read_supernet
from ortnas.nas.architecture.heads import HEADS
from ortnas.nas.architecture.subnet import Subnet
from ortnas.nas.console import Console
from ortnas.nas.data import find_task
from ortnas.nas.files import append_line, digest, write_aside, write_json
from ortnas.nas.run.configuration import Configuration, ConfigurationError
from ortnas.nas.run.task_data import TaskData, prepare

_CALIBRATION_BATCH = 16
# So many quantiles stand for the lengths of the texts.
_LENGTHS = 16


class Run:
    """Paths, shared objects and events of one run. Opening it writes the resolved configuration."""

    def __init__(self, configuration: Configuration, console: Console) -> None:
        self.configuration, self.console = configuration, console
        self.folder = Path(configuration.folder)
        if self.folder.exists() and not self.folder.is_dir():
            raise ConfigurationError(f"folder = {configuration.folder!r}: a file with that name exists")
        self.supernet_folder = self.folder / "supernet"
        self.teacher_folder = self.folder / "teacher"
        self.training_folder = self.folder / "training"
        self.store_file = self.folder / "bench.sqlite"
        self.predictors_folder = self.folder / "predictor"
        self.scores_file = self.folder / "search" / "scores.jsonl"
        self.packages_folder = self.folder / "packages"
        self._lock = self._take()
        self._cluster: ExitStack | None = None
        self._left_out = 0
        if self.rank:
            console.silence()
        else:
            resolved = yaml.safe_dump(configuration.model_dump(mode="json"), sort_keys=False)
            write_aside(self.folder / "run.yaml", resolved)

    @property
    def processes(self) -> int:
        """How many processes `accelerate launch` started for this command."""
        return int(os.environ.get("WORLD_SIZE", "1"))

    @property
    def rank(self) -> int:
        """This process's number among them; the first one speaks and writes for all."""
        return int(os.environ.get("RANK", "0"))

    def _take(self) -> FileLock | None:
        """Holds the folder against other commands; processes of one distributed training share it.

        Raises ConfigurationError where another command is at work in it.
        """
        if self.rank:
            return None
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise ConfigurationError(
                f"folder = {self.configuration.folder!r}: another ortnas command is at work in it; wait for it to end, "
                f"or choose another folder"
            ) from None
        return lock

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
        try:
            spec = importlib.util.find_spec(package)
        except (ImportError, AttributeError, ValueError):  # of a package in a package that is not there
            spec = None
        if spec is None or not spec.submodule_search_locations:
            raise ConfigurationError(f"checkpoint = {name!r}: the Python package {package} is not installed")
        return str(Path(next(iter(spec.submodule_search_locations))) / inside)

    @property
    def tokenizer_folder(self) -> Path:
        """The checkpoint's tokenizer, saved once."""
        _ = self._text_settings
        return self.folder / "data" / "tokenizer"

    @property
    def max_length(self) -> int:
        """The most tokens that a text has: as configured, or as the checkpoint says."""
        return self.configuration.data.max_length or int(self._text_settings["max_length"])

    @cached_property
    def _text_settings(self) -> dict[str, Any]:
        """What was read of the checkpoint for its texts, beside the tokenizer's folder."""
        folder = self.folder / "data"
        marker = folder / "checkpoint.json"
        identity = {"name": self.checkpoint, "digest": self.checkpoint_digest, "head": self.configuration.head}
        recorded: dict[str, Any] = json.loads(marker.read_text()) if marker.is_file() else {}
        # A checkpoint that is gone since is no reason to refuse what was made of it.
        gone = recorded.get("name") == self.checkpoint and not Path(self.checkpoint).expanduser().exists()
        if not gone and {key: recorded.get(key) for key in identity} != identity:
            from ortnas.nas.training.checkpoint.reading import read_text_settings

            settings = read_text_settings(self.checkpoint, self.configuration.head)
            settings.tokenizer.save(folder / "tokenizer")
            recorded = identity | {"max_length": settings.max_length}
            write_json(marker, recorded)
        return recorded

    @cached_property
    def checkpoint_digest(self) -> str:
        """Content of a local checkpoint's files; a hub name stands for itself."""
        folder = Path(self.checkpoint).expanduser()
        if not folder.is_dir():
            return self.checkpoint
        content = hashlib.sha256()
        # Modules of sentence-transformers have folders of their own.
        for path in sorted((*folder.iterdir(), *folder.glob("*/config.json"))):
            if path.is_file() and path.suffix in (".json", ".safetensors", ".bin", ".txt", ".model"):
                content.update(path.relative_to(folder).as_posix().encode())
                with path.open("rb") as stream:
                    while block := stream.read(1 << 20):
                        content.update(block)
        return content.hexdigest()[:16]

    @cached_property
    def data(self) -> TaskData:
        """The task's parts: made once, then read back, so that every stage sees the same texts."""
        with self.console.progress("data") as report:
            return prepare(
                self.configuration, self.folder / "data", lambda: self.tokenizer_folder, report, lambda: self.max_length
            )

    @cached_property
    def supernet(self) -> SupernetFolder:
        return read_supernet(self.supernet_folder)

    @cached_property
    def teacher(self) -> SupernetFolder:
        return read_supernet(self.teacher_folder)

    @cached_property
    def recipe(self) -> Recipe:
        """The quantization recipe, named or chosen by the host's instruction sets, with what is configured otherwise.

        Raises ConfigurationError for an unknown name and for patterns that fit no weight product.
        """
        settings = self.configuration.quantization
        try:
            named = None if settings.recipe == "auto" else recipe_named(settings.recipe)
        except ValueError as error:
            raise ConfigurationError(f"quantization.recipe: {error}") from None
        products = weight_products(self.teacher.dimensions)
        for pattern in settings.keep_float:
            if not fnmatch.filter(products, pattern):
                raise ConfigurationError(
                    f"quantization.keep_float: {pattern!r} fits no weight product; they are named like "
                    f"{products[0]} and {products[-1]}"
                )
        changes = settings.model_dump(exclude={"recipe", "coverage"})
        return replace(named or choose_recipe(self.target.fingerprint["isa"]), **changes)

    @cached_property
    def trained_data(self) -> TaskData:
        """The data, if it is what the supernet was trained with: of other splits, it may have seen any part.

        Raises ConfigurationError where data or seed changed since.
        """
        provenance = self.supernet.provenance
        if (provenance.get("splits"), provenance.get("max_length")) != (self.data.digest, self.max_length):
            raise ConfigurationError("data or seed changed since the supernet was trained; run `ortnas train`")
        return self.data

    @cached_property
    def calibration(self) -> list[dict[str, npt.NDArray[np.int64]]]:
        """Inputs that ranges are measured on; what their choice risks is said once."""
        batches = [feeds for _, feeds in self.trained_data.held_out("calibration").batches(_CALIBRATION_BATCH)]
        for warning in calibration_warnings(self.configuration.quantization.calibration, batches):
            self.console.say(f"warning: {warning}")
        return batches

    @cached_property
    def exporter(self) -> Exporter:
        return Exporter(self.supernet, self.recipe, self.calibration)

    @cached_property
    def teacher_exporter(self) -> Exporter:
        return Exporter(self.teacher, self.recipe, self.calibration)

    @cached_property
    def anchor(self) -> bytes:
        """The full teacher at the run's precision: the model that all timings are taken beside."""
        return self.teacher_exporter.build(self.teacher.dimensions.full_subnet, self.configuration.precision)

    def part(self, name: str) -> Part:
        """The ``search`` part or one of the report parts, encoded, with labels or the teacher's embeddings."""
        return self.part_of(self.trained_data, name)

    def part_of(self, data: TaskData, name: str) -> Part:
        """As ``part``, while the supernet is not trained yet."""
        teacher = None
        if not HEADS[self.configuration.head].has_labels:
            teacher = memory_map(self.teacher_folder / "outputs.safetensors")[name]
        return Part(data.held_out(name), data.examples(name), data.labels, teacher)

    @property
    def metric(self) -> str:
        """The configured metric, or the task's, or the usual one of the head and its labels.

        Raises ConfigurationError for one of another head, or that does not suit the labels.
        """
        head, metric = self.configuration.head, self.configuration.search.metric
        of_head = HEADS[head].metrics
        if metric is not None and metric not in of_head:
            raise ConfigurationError(f"search.metric = {metric!r} does not fit head {head!r}; {', '.join(of_head)} do")
        if HEADS[head].labels == "tags":
            suitable = suitable_metrics(head, self.data.labels)
            if metric is not None and metric not in suitable:
                raise ConfigurationError(f"search.metric = {metric!r}: {describe_scheme(self.data.labels)}")
            return metric or suitable[0]
        task = self.configuration.data.task
        return metric or (find_task(task).metric if task else of_head[0])

    @property
    def search_metric(self) -> str:
        """What the search ranks candidates by; their finds are reported by ``metric`` all the same."""
        return self.metric if self.configuration.search.score_by == "metric" else "log_likelihood"

    @cached_property
    def host(self) -> Host:
        settings = self.configuration.target
        if settings.host.startswith("stored:"):
            return self._stored_host(settings.host.removeprefix("stored:"))
        if settings.host.startswith("ray:"):
            from ortnas.search.cluster import ClusterHost

            self.join_cluster()
            return ClusterHost(settings.host.removeprefix("ray:"))
        return open_host(settings.host, settings.python, shlex.split(settings.ssh), self.configuration.seed)

    def _stored_host(self, name: str) -> StoredHost:
        with Store(self.store_file) as store:
            targets = [(host, target.fingerprint) for target, host in store.targets()]
        known = {host: facts for host, facts in targets if "imported" not in facts}
        if name not in known:
            # Of a latency file's host nothing is known that a recipe could be chosen by.
            is_file = any(host == name for host, _ in targets)
            advice = "; a latency file is fitted to by `ortnas fit --latencies FILE`" if is_file else ""
            raise ConfigurationError(
                f"target.host = 'stored:{name}': {self.store_file} has timings of {', '.join(known) or 'no host'}"
                + advice
            )
        return StoredHost(name, known[name])

    @cached_property
    def target(self) -> Target:
        """The host as it answers now, with the configured session and workloads. Raises ConfigurationError."""
        settings = self.configuration.target
        positions, vocab_size = self.teacher.dimensions.max_positions, self.teacher.dimensions.vocab_size
        for kind in settings.requests:
            if kind.sequence > positions:
                raise ConfigurationError(f"target.sequence = {kind.sequence}: the checkpoint has {positions} positions")
        facts = self.host.hello()["fingerprint"]
        if settings.provider not in facts["providers"]:
            raise ConfigurationError(
                f"target.provider = {settings.provider!r}: ONNX Runtime on the host has {', '.join(facts['providers'])}"
            )
        cores = facts["cores"]
        if cores and settings.threads > cores:
            self.console.say(
                f"warning: target.threads = {settings.threads}: the host has {cores} processors, which more threads "
                f"than that will share; timings will be slower and scatter"
            )
        options = tuple(sorted(settings.provider_options.items()))
        setup = Setup(settings.provider, settings.threads, options, settings.spinning, settings.affinity)
        workloads = tuple(
            Workload(kind.batch, kind.sequence, vocab_size, self._lengths, kind.weight) for kind in settings.requests
        )
        return Target(facts, setup, workloads)

    @cached_property
    def _lengths(self) -> tuple[int, ...]:
        """Token counts that timed inputs have, beside their padding."""
        configured = self.configuration.target.lengths
        if configured == "full":
            return ()
        if configured != "data":
            return tuple(configured)
        quantiles = np.quantile(self.data.held_out("calibration").lengths, np.linspace(0, 1, _LENGTHS))
        return tuple(int(length) for length in quantiles.round())

    @property
    def main_workload(self) -> Workload:
        """The heaviest of the target's workloads."""
        return max(self.target.workloads, key=lambda workload: workload.weight)

    @property
    def protocol(self) -> TimingProtocol:
        return TimingProtocol(share=self.configuration.bench.confidence, cap_s=self.configuration.bench.cap_s)

    @property
    def request(self) -> Request:
        """What hosts are asked for, beside the run's anchor."""
        return Request(self.anchor, self.target.setup, self.target.workloads, self.protocol)

    @cached_property
    def timed_model(self) -> str:
        """Names what timings depend on beside the subnet: graph, dimensions and recipe, but neither the values of
        weights nor how ranges were found."""
        recipe = {key: value for key, value in self.recipe.to_json().items() if key != "calibration"}
        return digest(LAYOUT_VERSION, self.supernet.dimensions.to_json(), recipe)

    def measurements(self, store: Store) -> list[Measurement]:
        """The store's rows of this target, precision and model.

        Subnets that were in the space once and are not today are left out; how many is said once.
        """
        rows = store.measurements(self.target, self.configuration.precision, self.timed_model)
        space = self.supernet.space
        inside = {row.subnet_key: Subnet.from_json(row.subnet) in space for row in rows}
        left_out = len(inside) - sum(inside.values())
        if left_out > self._left_out:
            self._left_out = left_out
            self.console.say(f"{left_out} timed subnets are not in today's space and are left out")
        return [row for row in rows if inside[row.subnet_key]]

    def join_cluster(self) -> None:
        """Connects to the configured Ray cluster, once, until the run is closed. Raises ClusterError."""
        if self._cluster is None:
            from ortnas.search.cluster import connected

            self._cluster = ExitStack()
            self._cluster.enter_context(connected(self.configuration.search.cluster))

    def close(self) -> None:
        if "host" in self.__dict__:
            self.host.close()
        if self._cluster is not None:
            self._cluster.close()
        if self._lock is not None:
            self._lock.release()
