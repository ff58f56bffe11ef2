"""Timing models: interleaved rounds beside an anchor model, until the median is known well enough; raw samples kept."""

from __future__ import annotations

import gc
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .load import Clients, Latencies
from .session import Session, Setup, fixed_shapes, is_count

# More tokens are a slip, and would stall the machine that tries.
_MOST_TOKENS = 2**20
# 97.5 % point of the normal distribution: both tails of a 95 % interval.
Z_TWO_SIDED = 1.96
# Different inputs that rounds take in turn, so that no row of the embedding table stays in cache for all of them.
_INPUT_VARIANTS = 4
_CHECK_EVERY = 10
# A session is warm when a window of runs is no more than this faster than the window before it.
_WARM_WINDOW, _WARM_SHARE, _WARM_RUNS = 3, 0.02, 24

Array = npt.NDArray[np.float64]
Feeds = dict[str, npt.NDArray[np.int64]]
# One list per workload, one entry per inference, in ns.
Nanoseconds = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Workload:
    """One kind of request: ``batch`` sequences padded to ``sequence`` tokens, ids drawn below ``vocab_size``.

    ``lengths`` are token counts that the sequences' own lengths are drawn from; without them there is no padding.
    ``weight`` is the share of this kind among a target's requests, relative to the others'. ``fixed``: models are built
    for this shape alone. ``mask``: they are told what is padding.
    """

    batch: int = 1
    sequence: int = 128
    vocab_size: int = 30522
    lengths: tuple[int, ...] = ()
    weight: float = 1.0
    fixed: bool = False
    mask: bool = True

    def to_json(self) -> dict[str, Any]:
        """``fixed`` and ``mask`` are named where they are not as usual."""
        document = asdict(self) | {"lengths": list(self.lengths)}
        usual = {"fixed": False, "mask": True}
        return {name: value for name, value in document.items() if name not in usual or value != usual[name]}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Workload:
        """Raises TypeError or ValueError where the document describes no kind of request."""
        workload = cls(**{**document, "lengths": tuple(document.get("lengths", ()))})
        sizes = (workload.batch, workload.sequence, workload.vocab_size, *workload.lengths)
        if not all(is_count(number) and number > 0 for number in sizes):
            raise ValueError("batch, sequence, vocab_size and lengths are whole numbers above 0")
        if workload.batch * workload.sequence > _MOST_TOKENS:
            raise ValueError(f"a request has at most {_MOST_TOKENS} tokens")
        if not isinstance(workload.fixed, bool) or not isinstance(workload.mask, bool):
            raise ValueError("fixed and mask are true or false")
        if isinstance(workload.weight, bool) or not isinstance(workload.weight, int | float):
            raise ValueError("weight is a number")
        if not 0 < workload.weight < math.inf:
            raise ValueError("weight is above 0")
        return workload

    def describe(self) -> str:
        return f"{self.batch} x {self.sequence} tokens"


@dataclass(frozen=True)
class TimingProtocol:
    """When to stop: a model leaves the rounds when the 95 % confidence interval of its median, as a share of it, is
    within ± ``share``. All leave after ``max_rounds``, or when the rounds, anchor included, have taken ``cap_s``
    seconds for each model (None: no cap). ``runs``: inferences in a row at each turn."""

    share: float = 0.01
    min_rounds: int = 30
    max_rounds: int = 1000
    cap_s: float | None = 0.4
    runs: int = 1

    @classmethod
    def fixed(cls, rounds: int, runs: int = 1) -> TimingProtocol:
        """So many rounds, whatever they show."""
        return cls(share=0.0, min_rounds=rounds, max_rounds=rounds, cap_s=None, runs=runs)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> TimingProtocol:
        """Raises TypeError where the document describes no protocol."""
        return cls(**document)


@dataclass(frozen=True)
class Samples:
    """Raw samples of one model and of the anchor in the same rounds, in ns, [workloads][rounds * runs]."""

    model_ns: Nanoseconds
    anchor_ns: Nanoseconds

    def to_json(self) -> dict[str, Any]:
        return {"model_ns": [list(row) for row in self.model_ns], "anchor_ns": [list(row) for row in self.anchor_ns]}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Samples:
        """Raises ValueError where the document holds anything but as many positive whole numbers for both."""
        model, anchor = (_rows(document.get(part)) for part in ("model_ns", "anchor_ns"))
        if [len(row) for row in model] != [len(row) for row in anchor] or not all(model):
            raise ValueError("a model and its anchor need as many samples as each other")
        if not all(type(value) is int and value > 0 for part in (model, anchor) for row in part for value in row):
            raise ValueError("samples are positive whole numbers of nanoseconds")
        return cls(model, anchor)


def _rows(document: Any) -> tuple[tuple[Any, ...], ...]:
    if not isinstance(document, list) or not document or not all(isinstance(row, list) for row in document):
        raise ValueError("samples are lists of lists of nanoseconds")
    return tuple(map(tuple, document))


def make_inputs(session: Session, workload: Workload, seed: int) -> Feeds:
    """Random token ids (never all zeros: embedding rows would stay in cache) for the inputs that the model has.

    Raises ValueError where the model takes requests of another shape alone.
    """
    shapes = fixed_shapes(session)
    if shapes is not None and shapes != (workload.batch, workload.sequence):
        raise ValueError(f"the model takes {shapes[0]} x {shapes[1]} tokens a request, not {workload.describe()}")
    rng = np.random.default_rng(seed)
    shape = (workload.batch, workload.sequence)
    ids = rng.integers(1, workload.vocab_size, shape)
    mask = np.ones(shape, np.int64)
    if workload.lengths:
        lengths = np.clip(rng.choice(workload.lengths, workload.batch), 1, workload.sequence)
        mask = (np.arange(workload.sequence) < lengths[:, None]).astype(np.int64)
    values = {"input_ids": ids * mask, "attention_mask": mask, "token_type_ids": np.zeros(shape, np.int64)}
    return {item.name: values[item.name] for item in session.get_inputs()}


def time_interleaved(
    sessions: Mapping[str, Session],
    anchor: str,
    workloads: Sequence[Workload],
    protocol: TimingProtocol,
    concurrency: int = 1,
) -> dict[str, Samples]:
    """Samples of each named session, the anchor among them.

    In every round the anchor and all models that are not done run once per workload, so that drift of the host falls
    on all alike. With ``concurrency`` above 1, a model's turn is a burst of that many clients.
    """
    feeds = {
        name: [[make_inputs(session, workload, seed) for seed in range(_INPUT_VARIANTS)] for workload in workloads]
        for name, session in sessions.items()
    }
    taken: dict[str, list[list[int]]] = {name: [[] for _ in workloads] for name in sessions}
    active = [name for name in sessions if name != anchor]
    cap_ns = math.inf if protocol.cap_s is None else protocol.cap_s * 1e9 * max(1, len(active))
    turn_samples = Setup(concurrency=concurrency).samples_a_turn(protocol.runs)
    block = turn_samples if concurrency > 1 else 1
    with _no_garbage_collection(), Clients(concurrency) as clients:
        for name, session in sessions.items():
            for part in range(len(workloads)):
                _warm_up(session, feeds[name][part][0])
        began = time.perf_counter_ns()
        for number in range(protocol.max_rounds):
            for name in (anchor, *active):
                session, rows = sessions[name], taken[name]
                for part, variants in enumerate(feeds[name]):
                    if concurrency > 1:
                        rows[part] += _burst(session, variants, clients, turn_samples // concurrency)
                        continue
                    feed = variants[number % _INPUT_VARIANTS]
                    for _ in range(protocol.runs):
                        start = time.perf_counter_ns()
                        session.run(None, feed)
                        rows[part].append(time.perf_counter_ns() - start)
            rounds = number + 1
            if rounds < protocol.min_rounds:
                continue
            if time.perf_counter_ns() - began >= cap_ns:
                break
            if protocol.share and (rounds - protocol.min_rounds) % _CHECK_EVERY == 0:
                active = [name for name in active if not _known(taken[name], taken[anchor], protocol.share, block)]
                if not active:
                    break
    anchor_rows = taken[anchor]
    return {
        name: Samples(
            tuple(tuple(row) for row in rows),
            tuple(tuple(beside[: len(row)]) for row, beside in zip(rows, anchor_rows, strict=True)),
        )
        for name, rows in taken.items()
    }


def half_width(values: Array) -> float:
    """Half of the 95 % confidence interval of the median, as a share of it (order statistics; binomial, normal form).

    Infinite for fewer than 6 values: their extremes do not enclose the median that often.
    """
    ordered, n = np.sort(values), len(values)
    reach = Z_TWO_SIDED * math.sqrt(n) / 2
    low, high = math.floor(n / 2 - reach), math.ceil(n / 2 + reach)
    if low < 0 or high > n - 1:
        return math.inf
    return float((ordered[high] - ordered[low]) / 2 / np.median(ordered))


@contextmanager
def affinity(processors: Sequence[int]) -> Iterator[None]:
    """Holds this process, and the threads that it starts, to some processors. Raises ValueError where that fails."""
    if not processors:
        yield
        return
    if not hasattr(os, "sched_setaffinity"):
        raise ValueError("this operating system does not let a process choose its processors; leave affinity empty")
    before = os.sched_getaffinity(0)
    # The system itself passes over those that are not allowed, as long as one is.
    if not before.issuperset(processors):
        raise ValueError(f"affinity {list(processors)} is not allowed here, only some of {sorted(before)}")
    os.sched_setaffinity(0, processors)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _burst(session: Session, variants: Sequence[Feeds], clients: Clients, requests: int) -> list[int]:
    """Latencies in ns of each client's first ``requests``, client by client. All go on until the last one has that
    many, so that none is answered while others rest."""

    def send(client: int, position: int) -> None:
        session.run(None, variants[(client + position) % len(variants)])

    def is_over(_: int, latencies_ns: Latencies) -> bool:
        return all(len(row) >= requests for row in latencies_ns)

    return [latency_ns for row in clients.drive(send, is_over).latencies_ns for latency_ns in row[:requests]]


def is_known(ratios: Array, share: float, block: int) -> bool:
    """Whether the median of model / anchor is known to ± ``share``. So many samples as a burst leaves, ``block``, share
    their luck and count as one."""
    return half_width(ratios.reshape(-1, block).mean(1)) <= share


def _known(model_ns: Sequence[Sequence[int]], anchor_ns: Sequence[Sequence[int]], share: float, block: int) -> bool:
    pairs = zip(model_ns, anchor_ns, strict=True)
    return all(is_known(np.divide(row, beside[: len(row)]), share, block) for row, beside in pairs)


def _warm_up(session: Session, feed: Feeds) -> None:
    """Runs until they no longer get faster: allocations are made, weights are in cache, the clock is up."""
    taken: list[int] = []
    while len(taken) < _WARM_RUNS:
        start = time.perf_counter_ns()
        session.run(None, feed)
        taken.append(time.perf_counter_ns() - start)
        if len(taken) >= 2 * _WARM_WINDOW:
            earlier, later = np.median(taken[-2 * _WARM_WINDOW : -_WARM_WINDOW]), np.median(taken[-_WARM_WINDOW:])
            if later >= earlier * (1 - _WARM_SHARE):
                return


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
