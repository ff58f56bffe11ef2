"""Scores: the task metric of a subnet's ONNX model, computed by ONNX Runtime, remembered across runs."""

from __future__ import annotations

import hashlib
import json
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from ortnas.bench.conditions import usable_processors
from ortnas.export.build import Exporter, Precision
from ortnas.export.graph.inputs import USUAL_INPUTS
from ortnas.export.graph.model import LAYOUT_VERSION
from ortnas.export.inference import open_model, outputs_of
from ortnas.export.metrics import METRICS
from ortnas.export.part import Part
from ortnas.nas.architecture.subnet import Subnet
from ortnas.nas.arrays import Array, Feeds, Rows, Vector
from ortnas.nas.failures import OrtnasError
from ortnas.nas.files import digest
from ortnas.search.cache import CachedScore, ScoreCache
from ortnas.search.racing import Race, expected_score, text_values

Form = Literal["own", "sliced"]
# Building a model calls ONNX Runtime's quantizer, which is not made for threads; running it is.
_building = threading.Lock()


class ScoringError(OrtnasError):
    """Scores that cannot be computed at all; one candidate that fails is an Outcome."""


@dataclass(frozen=True)
class Outcome:
    """What scoring one subnet gave: a score, or the reason why there is none.

    ``estimated``: it was ended early, behind its rival, and the score is what it was heading for. ``texts`` were run.
    """

    score: float | None
    values: Vector | None = None
    estimated: bool = False
    reason: str = ""
    texts: int = 0


class Scoring(Protocol):
    """What a search needs: outcomes of subnets, in their order; a rival is a subnet scored before, or None."""

    def outcomes(self, subnets: Sequence[Subnet], rivals: Sequence[Subnet | None]) -> Iterator[Outcome]: ...


@dataclass(frozen=True)
class Evaluation:
    """Scores one model after the other; what they are made of and run on can be sent to other processes."""

    exporter: Exporter
    part: Part
    precision: Precision
    metric: str
    form: Form
    race: Race | None

    def __call__(self, subnet: Subnet, rival: Vector | None) -> Outcome:
        """The outcome, in which ``values`` are there for metrics that are means over texts.

        ``rival`` holds what each text adds to a score that has to be reached.
        """
        try:
            return self._evaluate(subnet, rival)
        except Exception as error:  # one candidate, whatever is wrong with it, must not end a search of hours
            return Outcome(None, reason=f"{type(error).__name__}: {error}".splitlines()[0])

    @property
    def is_sliced(self) -> bool:
        """Float models have nothing that is calibrated: there is but one form."""
        return self.form == "sliced" and self.precision == "int8"

    @cached_property
    def order(self) -> Rows:
        """The order in which a race sees the texts: any beginning of it is a sample."""
        return np.random.default_rng(0).permutation(len(self.part.encoded))

    def _evaluate(self, subnet: Subnet, rival: Vector | None) -> Outcome:
        examples, head = self.part.encoded, self.exporter.supernet.dimensions.head
        texts = len(examples)
        session = open_model(self._model(subnet))
        outputs: list[Array] = [np.empty(0, np.float32)] * texts
        looks = [] if rival is None or self.race is None else self.race.looks(texts)
        done = 0
        for count in [*looks, texts]:
            rows = self.order[done:count]
            for row, output in zip(rows, outputs_of(session, examples, head, rows), strict=True):
                if not np.isfinite(output).all():
                    raise ScoringError("the model's outputs are not finite")
                outputs[row] = output
            done = count
            if rival is None or self.race is None or done == texts:
                continue
            seen = self.order[:done]
            values = text_values(self.metric, [outputs[row] for row in seen], self.part, seen)
            assert values is not None
            differences = values - rival[seen]
            if self.race.is_hopeless(differences, texts, len(looks)):
                return Outcome(expected_score(rival, differences), estimated=True, texts=done)
        score = METRICS[self.metric](outputs, self.part)
        if not math.isfinite(score):
            raise ScoringError(f"{self.metric} is not a number")
        return Outcome(score, text_values(self.metric, outputs, self.part, np.arange(texts)), texts=texts)

    def _model(self, subnet: Subnet) -> bytes:
        with _building:
            if self.is_sliced:
                return self.exporter.sliced(subnet)
            return self.exporter.build(subnet, self.precision)


Jobs = Sequence[tuple[Subnet, Vector | None]]
# Runs an evaluation on many jobs, on processors of this machine or of others, and yields outcomes in their order.
Dispatch = Callable[[Evaluation, Jobs], Iterator[Outcome]]


def in_threads(workers: int | None = None) -> Dispatch:
    """So many models at once, one processor each; as many as this process may use by default."""
    count = workers or usable_processors()

    def dispatch(evaluation: Evaluation, jobs: Jobs) -> Iterator[Outcome]:
        if count == 1:
            yield from (evaluation(*job) for job in jobs)
            return
        with ThreadPoolExecutor(count) as pool:
            yield from pool.map(lambda job: evaluation(*job), jobs)

    return dispatch


class Scorer:
    """Scores subnets on one part at one precision; a score once computed is never computed again.

    ``form``: INT8 models of their ``own`` calibration, as they are shipped, or ``sliced`` from the quantized full
    network, which takes a tenth of the time to build and ranks nearly alike. ``race`` ends the scoring of candidates
    that cannot reach their rival. ``cache_file`` is JSON Lines. Raises ScoringError for an empty part.
    """

    def __init__(
        self,
        exporter: Exporter,
        part: Part,
        precision: Precision,
        metric: str,
        cache_file: Path,
        form: Form = "own",
        race: Race | None = None,
        dispatch: Dispatch | None = None,
    ) -> None:
        if not len(part.encoded):
            raise ScoringError("the search part is empty, so nothing can be scored; raise data.search_size")
        self.evaluation = Evaluation(exporter, part, precision, metric, form, race)
        self.dispatch = dispatch or in_threads()
        identity = [
            LAYOUT_VERSION,
            exporter.supernet.digest,
            part_digest(part),
            precision,
            exporter.recipe.to_json() if precision == "int8" else None,
            calibration_digest(exporter.calibration) if precision == "int8" else None,
            metric,
        ]
        if exporter.inputs != USUAL_INPUTS:
            identity.append(exporter.inputs.to_json())
        if self.evaluation.is_sliced:
            identity.append(form)
        self.context = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]
        self.cache = ScoreCache(cache_file, self.context)
        self.computed = 0

    def score(self, subnet: Subnet) -> float:
        """The score of one subnet. Raises ScoringError where it has none."""
        outcome = next(self.outcomes([subnet], [None]))
        if outcome.score is None:
            raise ScoringError(f"{subnet.describe()}: {outcome.reason}")
        return outcome.score

    def outcomes(self, subnets: Sequence[Subnet], rivals: Sequence[Subnet | None]) -> Iterator[Outcome]:
        """One outcome per subnet, in their order; only what is not in the cache is computed.

        A rival whose values are not known holds nobody back.
        """
        scores = [self.cache.get(subnet.key) for subnet in subnets]
        jobs = [
            (subnet, self._values(rival))
            for subnet, rival, cached in zip(subnets, rivals, scores, strict=True)
            if cached is None
        ]
        if jobs and self.evaluation.is_sliced:
            _ = self.evaluation.exporter.quantized_supernet  # once, before threads ask for it
        fresh = self.dispatch(self.evaluation, jobs) if jobs else iter(())
        for subnet, cached in zip(subnets, scores, strict=True):
            if cached is not None:
                yield Outcome(cached.score, cached.values)
                continue
            outcome = next(fresh)
            self.computed += 1
            if outcome.score is not None and not outcome.estimated:
                self.cache.put(subnet.key, CachedScore(outcome.score, outcome.values))
            yield outcome

    def _values(self, rival: Subnet | None) -> Vector | None:
        cached = None if rival is None else self.cache.get(rival.key)
        return None if cached is None else cached.values


class FitnessScorer:
    """Scores by a given function, such as a brief training of each subnet (AutoTinyBERT's way), remembered likewise.

    ``identity`` names, ready for JSON, what the function's results depend on beside the subnet.
    """

    def __init__(self, fitness: Callable[[Subnet], float], identity: Any, cache_file: Path) -> None:
        self.fitness = fitness
        self.context = digest("fitness", identity)
        self.cache = ScoreCache(cache_file, self.context)
        self.computed = 0

    def outcomes(self, subnets: Sequence[Subnet], rivals: Sequence[Subnet | None]) -> Iterator[Outcome]:  # noqa: ARG002
        """As ``Scorer.outcomes``; one after the other, and nothing is ended early."""
        for subnet in subnets:
            cached = self.cache.get(subnet.key)
            yield Outcome(cached.score) if cached else self._compute(subnet)

    def _compute(self, subnet: Subnet) -> Outcome:
        self.computed += 1
        try:
            score = float(self.fitness(subnet))
            if not math.isfinite(score):
                raise ScoringError(f"the fitness is {score}")
        except Exception as error:  # as in Evaluation
            return Outcome(None, reason=f"{type(error).__name__}: {error}".splitlines()[0])
        self.cache.put(subnet.key, CachedScore(score))
        return Outcome(score)


def part_digest(part: Part) -> str:
    """Names the inputs and what the outputs are compared with."""
    encoded = part.encoded
    # Words that were cut off are in no input, but their tags count.
    tags = [example.tags for example in part.examples] if encoded.words else None
    answers = [example.answers for example in part.examples if example.answers is not None]
    labels = [encoded.labels, encoded.windows, part.label_names, tags, answers]
    judgements = [] if part.judgements is None else [part.judgements.to_json()]
    tokens = [] if encoded.compared is None else [encoded.attended, encoded.compared]
    content = json.dumps([encoded.ids, encoded.type_ids, *labels, *judgements, *tokens])
    teacher = b"" if part.teacher is None else part.teacher.tobytes()
    return hashlib.sha256(content.encode() + teacher).hexdigest()[:16]


def calibration_digest(batches: Sequence[Feeds]) -> str:
    calibration = hashlib.sha256()
    for batch in batches:
        calibration.update(batch["input_ids"].tobytes())
    return calibration.hexdigest()[:16]
