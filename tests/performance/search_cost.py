"""What a search costs beside scoring: genomes proposed and filtered a second, and the engine's share of the time."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ortnas.bench.fingerprint import fingerprint
from ortnas.bench.session import Setup
from ortnas.bench.simulated import cost_ms
from ortnas.bench.target import Target
from ortnas.bench.timing import Workload
from ortnas.export.build import Exporter
from ortnas.export.inference import model_outputs
from ortnas.export.part import Part
from ortnas.nas.architecture.space import SearchSpace
from ortnas.nas.console import Console
from ortnas.nas.text import EncodedExamples
from ortnas.predictors.fitting import Predictor, fit_predictor
from ortnas.search.candidate import Candidate
from ortnas.search.constraints import Constraint, Proposals
from ortnas.search.evolution import Evolution, Settings
from ortnas.search.loop import run_search
from ortnas.search.scoring import Scorer, in_threads
from tests.performance.export_speed import make_exporter, write_minilm

TIMED_SUBNETS, CANDIDATES, ROUNDS = 150, 96, 20
# As many texts as a search part usually has, of lengths as in SST-2's dev part.
TEXTS, LENGTHS = 1000, (8, 40)
WORKLOAD = Workload()


class _Timed(Evolution):
    """Counts the seconds spent in the engine."""

    seconds = 0.0

    def ask(self, n: int) -> Proposals:
        start = time.perf_counter()
        proposals = super().ask(n)
        self.seconds += time.perf_counter() - start
        return proposals

    def tell(self, candidates: Sequence[Candidate]) -> None:
        start = time.perf_counter()
        super().tell(candidates)
        self.seconds += time.perf_counter() - start


def measure_cost(console: Console) -> dict[str, float]:
    """``genomes_per_second``, ``overhead_share`` and ``engine_ms_per_candidate`` in MiniLM-L6's default space."""
    with tempfile.TemporaryDirectory() as folder:
        write_minilm(Path(folder))
        exporter = make_exporter(Path(folder))
        predictor = simulated_predictor(exporter.supernet.space)
        figures = {"genomes_per_second": genomes_per_second(exporter.supernet.space, predictor)}
        start, evolution = time.perf_counter(), front_search(exporter.supernet.space, predictor, surrogate=True)
        scorer = Scorer(
            exporter,
            make_part(exporter),
            "int8",
            "mean_cosine",
            Path(folder) / "scores",
            "sliced",
            dispatch=in_threads(),
        )
        _ = exporter.quantized_supernet
        start = time.perf_counter()
        with console.progress("scoring in MiniLM-L6's default space") as report:
            run_search(evolution, scorer, CANDIDATES, Path(folder) / "log", "", report)
        taken_s = time.perf_counter() - start
    return figures | {
        "overhead_share": evolution.seconds / taken_s,
        "engine_ms_per_candidate": 1000 * evolution.seconds / CANDIDATES,
        "seconds_per_candidate": taken_s / CANDIDATES,
    }


def genomes_per_second(space: SearchSpace, predictor: Predictor) -> float:
    """Of generations without a surrogate: proposed, bounded by the predictor, compared with all that were seen."""
    evolution = front_search(space, predictor, surrogate=False)
    rng = np.random.default_rng(0)
    for _ in range(ROUNDS + 1):
        proposals = evolution.ask(16)
        rows = zip(proposals.genomes.tolist(), proposals.latency_ms, proposals.upper_ms, strict=True)
        evolution.tell([Candidate.of(evolution.space, genome, ms, upper, rng.normal(ms)) for genome, ms, upper in rows])
        if evolution.asked == 16:
            evolution.seconds = 0.0  # the first pool was made while the engine was
    return ROUNDS * evolution.settings.pool / evolution.seconds


def front_search(space: SearchSpace, predictor: Predictor, surrogate: bool) -> _Timed:
    """A budget that half of the space meets."""
    budget_ms = float(np.median(predictor.predict(space.sample(2000, np.random.default_rng(0)))[1]))
    return _Timed(space, [Constraint(predictor, budget_ms)], Settings("front", surrogate=surrogate))


def simulated_predictor(space: SearchSpace) -> Predictor:
    """Fitted to the simulated host, whose latencies need no measuring."""
    genomes = space.sample(TIMED_SUBNETS, np.random.default_rng(1))
    latency_ms = np.array([cost_ms(space.decode(genome).to_json(), WORKLOAD, Setup()) for genome in genomes])
    target = Target(fingerprint(), Setup(), (WORKLOAD,))
    return fit_predictor(space, genomes, latency_ms, None, target, "int8", None, "simulated")


def make_part(exporter: Exporter) -> Part:
    """Random texts with the full network's embeddings as teacher."""
    rng = np.random.default_rng(2)
    vocab_size = exporter.supernet.dimensions.vocab_size
    ids = [rng.integers(1000, vocab_size, length).tolist() for length in rng.integers(*LENGTHS, TEXTS)]
    encoded = EncodedExamples(ids, [[0] * len(row) for row in ids])
    full = exporter.sliced(exporter.supernet.dimensions.full_subnet)
    return Part(encoded, teacher=np.stack(model_outputs(full, encoded, "embedding")))
