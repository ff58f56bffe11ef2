"""A run's target: the host where subnets are timed, its session and its workloads."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from contextlib import ExitStack
from functools import cached_property
from typing import Any

import numpy as np

from ortnas.bench import fastmath
from ortnas.bench.fingerprint import runtime_of
from ortnas.bench.host import Host, StoredHost
from ortnas.bench.hosts import open_host
from ortnas.bench.load import overload
from ortnas.bench.session import ONNXRUNTIME, RUNTIMES
from ortnas.bench.store import Store
from ortnas.bench.target import Target
from ortnas.bench.timing import TimingProtocol, Workload
from ortnas.export.int8.recipes import check_architecture
from ortnas.nas.architecture.dimensions import Dimensions
from ortnas.nas.console import Console
from ortnas.nas.run.configuration import Configuration, ConfigurationError
from ortnas.nas.run.folder import RunFolder
from ortnas.nas.run.memory import check_attention
from ortnas.nas.run.texts import Texts

# So many quantiles stand for the lengths of the texts.
_LENGTHS = 16


class RunTarget:
    """Opens the host when it is first asked for.

    ``is_elsewhere``: what is made goes to a host that is not known, so nothing is asked of this one's processor.
    """

    def __init__(self, configuration: Configuration, console: Console, run_folder: RunFolder, texts: Texts) -> None:
        self._configuration, self._console = configuration, console
        self._folder, self._texts = run_folder, texts
        self._cluster: ExitStack | None = None
        self.is_elsewhere = False

    @cached_property
    def host(self) -> Host:
        settings = self._configuration.target
        if settings.host.startswith("stored:"):
            return self._stored_host(settings.host.removeprefix("stored:"))
        if settings.host.startswith("ray:"):
            from ortnas.search.cluster import ClusterHost

            self.join_cluster()
            return ClusterHost(settings.host.removeprefix("ray:"), runtime=settings.runtime)
        ssh = shlex.split(settings.ssh)
        return open_host(settings.host, settings.python, ssh, self._configuration.seed, settings.runtime)

    def check(self) -> None:
        """Asks the host for what not every one has, before a training: raises HostError where a runtime is missing,
        ConfigurationError where recipe or session do not suit its processor."""
        settings = self._configuration.target
        if settings.runtime != ONNXRUNTIME or settings.fastmath_bfloat16 or self._named_recipe is not None:
            self._check_processor(self.host.hello()["fingerprint"])

    @property
    def _named_recipe(self) -> str | None:
        name = self._configuration.quantization.recipe
        return None if name == "auto" or self._configuration.precision != "int8" else name

    def _check_processor(self, fingerprint: Mapping[str, Any]) -> None:
        """Raises ConfigurationError."""
        if self.is_elsewhere:
            return
        if self._configuration.target.fastmath_bfloat16 and (obstacle := fastmath.obstacle(fingerprint)):
            raise ConfigurationError(f"target.fastmath_bfloat16: {obstacle}")
        if (name := self._named_recipe) is None:
            return
        try:
            check_architecture(name, fingerprint.get("machine", ""))
        except ValueError as error:
            raise ConfigurationError(f"quantization.recipe: {error}") from None

    def _stored_host(self, name: str) -> StoredHost:
        targets: list[tuple[str, dict[str, Any]]] = []
        if self._folder.store_file.is_file():
            with Store(self._folder.store_file) as store:
                targets = [(host, target.fingerprint) for target, host in store.targets()]
        runtime = self._configuration.target.runtime
        fingerprints = {
            host: fingerprint
            for host, fingerprint in targets
            if "imported" not in fingerprint and runtime_of(fingerprint) == runtime
        }
        if name not in fingerprints:
            # Of a latency file's host nothing is known that a recipe could be chosen by.
            is_file = any(host == name for host, _ in targets)
            advice = "; a latency file is fitted to by `ortnas fit --latencies FILE`" if is_file else ""
            raise ConfigurationError(
                f"target.host = 'stored:{name}': {self._folder.store_file} has timings of "
                f"{', '.join(fingerprints) or 'no host'} with {RUNTIMES[runtime]}" + advice
            )
        return StoredHost(name, fingerprints[name])

    def of(self, network: Dimensions) -> Target:
        """The host as it answers now, with the configured session and workloads, for the full network.

        Raises ConfigurationError.
        """
        settings = self._configuration.target
        for kind in settings.requests:
            if kind.sequence > network.max_positions:
                raise ConfigurationError(
                    f"target.sequence = {kind.sequence}: the checkpoint has {network.max_positions} positions"
                )
            if settings.host == "local":
                check_attention(network, kind.batch, kind.sequence, f"target.sequence = {kind.sequence}")
        fingerprint = self.host.hello()["fingerprint"]
        if settings.runtime == ONNXRUNTIME and settings.provider not in fingerprint["providers"]:
            raise ConfigurationError(
                f"target.provider = {settings.provider!r}: ONNX Runtime on the host has "
                f"{', '.join(fingerprint['providers'])}"
            )
        self._check_processor(fingerprint)
        cores = fingerprint["cores"]
        if cores and settings.threads > cores:
            self._console.say(
                f"warning: target.threads = {settings.threads}: the host has {cores} processors, which more threads "
                f"than that will share; timings will be slower and scatter"
            )
        processors = len(settings.affinity) or cores
        if problem := overload(settings.concurrency, settings.threads, processors):
            raise ConfigurationError(f"target.concurrency = {settings.concurrency}: {problem}")
        inputs = self._configuration.export
        workloads = tuple(
            Workload(
                kind.batch,
                kind.sequence,
                network.vocab_size,
                self._lengths if inputs.mask else (),
                kind.weight,
                fixed=inputs.shapes is not None,
                mask=inputs.mask,
            )
            for kind in settings.requests
        )
        return Target(fingerprint, settings.setup, workloads)

    @cached_property
    def _lengths(self) -> tuple[int, ...]:
        """Token counts that timed inputs have, beside their padding."""
        configured = self._configuration.target.lengths
        if configured == "full":
            return ()
        if configured != "data":
            return tuple(configured)
        quantiles = np.quantile(self._texts.data.held_out("calibration").lengths, np.linspace(0, 1, _LENGTHS))
        return tuple(int(length) for length in quantiles.round())

    @property
    def protocol(self) -> TimingProtocol:
        return TimingProtocol(share=self._configuration.bench.confidence, cap_s=self._configuration.bench.cap_s)

    def join_cluster(self) -> None:
        """Connects to the configured Ray cluster, once, until the run is closed. Raises ClusterError."""
        if self._cluster is None:
            from ortnas.search.cluster import connected

            self._cluster = ExitStack()
            self._cluster.enter_context(connected(self._configuration.search.cluster))

    def close(self) -> None:
        if "host" in self.__dict__:
            self.host.close()
        if self._cluster is not None:
            self._cluster.close()
