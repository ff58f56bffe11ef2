"""How good a search is: ``python tests/performance/search_quality.py [--quick] [--json] [--measure RUN_FOLDER]``.

Searches are replayed on recorded scores: every subnet of a part of the default space of MiniLM-L6, cut from a supernet
trained on SST-2 and scored as INT8 on 1,000 texts (``recorded/sst2_minilm.jsonl``; ``--record RUN_FOLDER`` takes it
anew from such a run, with its predictor, in about half an hour and goes on where it was killed). Ours with and without
the surrogate, random search, pymoo's NSGA-II and the seed system's evolution ask for the same genomes under the same
latencies; seeds are paired. Hypervolumes are shares of that of the whole space, above its lowest score and below its
longest latency.

The last line of ``--json`` holds ``hypervolume_100`` (ours), ``hypervolume_plain_100`` (without the surrogate),
``hypervolume_random_100``, ``hypervolume_pymoo_100``, ``hypervolume_seed_100``, their 95 % half-widths
(``..._interval``), the same after 200 and 400 scored candidates, ``random_ratio_100`` (how many times as many random
candidates cover as much as 100 of ours), ``raced_texts`` (share of the texts that a race runs) and ``race_losses``
(share of searches whose winner it changed for the worse), ``genomes_per_second`` proposed and filtered, and
``overhead_share`` of the engine beside scoring. ``--measure`` adds ``budget_hit_rate``: of the finalists of 24
searches under budgets from 1.2 to 5 times the speed of the run's full model, the share measured under theirs.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nas.configuration import read_configuration
from nas.console import Console
from nas.run import Run
from nas.space import Genomes
from predictors.latency import find_predictor
from search.constraints import Constraint
from search.evolution import Candidate, Evolution, Settings
from search.front import hypervolume, pareto_rows
from tests.performance.recorded_scores import Recording, read_recording, score_all, write_recording
from tests.performance.rival_searches import pymoo_nsga2
from tests.performance.search_cost import measure_cost
from tests.performance.search_hits import measure_hits
from tests.performance.search_races import measure_races

RECORDING = Path(__file__).parent / "recorded" / "sst2_minilm.jsonl"
SIZES = (50, 100, 200, 400)
# Of 10, 20 and 40 the best for pymoo on this recording, from 100 scored candidates on.
PYMOO_POPULATION = 10
Rows = npt.NDArray[np.int64]


def ask_and_tell(recording: Recording, settings: Settings, wanted: int, seed: int) -> Rows:
    """Rows of the recording in the order in which our engine asks for them."""
    evolution = Evolution(recording.space, [Constraint(recording)], settings, seed)
    asked: list[int] = []
    while evolution.asked < wanted:
        rows = recording.rows_of(evolution.ask(min(16, wanted - evolution.asked)).genomes)
        asked += rows.tolist()
        evolution.tell(
            [
                Candidate(
                    tuple(recording.genomes[row].tolist()),
                    float(recording.latency_ms[row]),
                    float(recording.upper_ms[row]),
                    float(recording.scores[row]),
                )
                for row in rows
            ]
        )
    return np.array(asked)


def pymoo(recording: Recording, wanted: int, seed: int) -> Rows:
    def score(genomes: Genomes) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        rows = recording.rows_of(genomes)
        return recording.scores[rows], recording.latency_ms[rows]

    return recording.rows_of(pymoo_nsga2(recording.space, score, wanted, seed, PYMOO_POPULATION))


SEARCHES: dict[str, Callable[[Recording, int, int], Rows]] = {
    "ours": lambda recording, wanted, seed: ask_and_tell(recording, Settings("front"), wanted, seed),
    "plain": lambda recording, wanted, seed: ask_and_tell(recording, Settings("front", surrogate=False), wanted, seed),
    "random": lambda recording, wanted, seed: ask_and_tell(
        recording, Settings("front", "random", surrogate=False), wanted, seed
    ),
    "pymoo": pymoo,
    "seed": lambda recording, wanted, seed: ask_and_tell(
        recording, Settings("front", "evolved", surrogate=False), wanted, seed
    ),
}
LABELS = {
    "ours": "ours",
    "plain": "ours without the surrogate",
    "random": "random",
    "pymoo": f"pymoo NSGA-II, population {PYMOO_POPULATION}",
    "seed": "seed system: half mutated, half random",
}


def covered(recording: Recording, rows: Rows, counts: Sequence[int]) -> list[float]:
    """Share of the whole front's hypervolume that the first so many of the rows reach."""
    reference = float(recording.scores.min()), float(recording.latency_ms.max())
    whole = hypervolume(recording.scores, recording.latency_ms, reference)
    return [
        hypervolume(recording.scores[rows[:count]], recording.latency_ms[rows[:count]], reference) / whole
        for count in counts
    ]


def compare(recording: Recording, seeds: int, console: Console) -> dict[str, float]:
    figures: dict[str, float] = {}
    table = []
    with console.progress("replays") as report:
        for number, (name, run_search) in enumerate(SEARCHES.items(), start=1):
            shares = np.array(
                [covered(recording, run_search(recording, max(SIZES), seed), SIZES) for seed in range(seeds)]
            )
            half = 1.96 * shares.std(0, ddof=1) / np.sqrt(seeds)
            table.append((LABELS[name], *(f"{m:.4f} ± {h:.4f}" for m, h in zip(shares.mean(0), half, strict=True))))
            prefix = "hypervolume" if name == "ours" else f"hypervolume_{name}"
            for size, mean, width in zip(SIZES, shares.mean(0), half, strict=True):
                figures[f"{prefix}_{size}"] = float(mean)
                figures[f"{prefix}_{size}_interval"] = float(width)
            report(number, len(SEARCHES), LABELS[name])
    front = len(pareto_rows(recording.scores, recording.latency_ms))
    console.table(
        f"Share of the whole front's hypervolume after so many scored candidates, mean of {seeds} seeds ± half of the "
        f"95 % interval ({len(recording.genomes)} subnets, {front} on the front)",
        ("search", *map(str, SIZES)),
        table,
    )
    counts = range(50, len(recording.genomes) + 1, 50)
    random = np.mean(
        [covered(recording, SEARCHES["random"](recording, counts[-1], seed), counts) for seed in range(seeds)], axis=0
    )
    enough = np.flatnonzero(random >= figures["hypervolume_100"])
    figures["random_ratio_100"] = (counts[int(enough[0])] if len(enough) else counts[-1]) / 100
    return figures


def open_run(folder: Path, console: Console) -> Run:
    return Run(read_configuration(folder / "run.yaml", {"folder": str(folder)}), console)


def record(folder: Path, console: Console) -> None:
    run = open_run(folder, console)
    scored = folder / "search" / "recording.jsonl"
    with console.progress("subnets") as report:
        score_all(run, scored, report)
    predictor = find_predictor(run.predictors_folder, "int8", run.target)
    write_recording(run, predictor, scored, RECORDING)
    run.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="three seeds")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--record", type=Path, metavar="RUN_FOLDER")
    parser.add_argument("--measure", type=Path, metavar="RUN_FOLDER")
    arguments = parser.parse_args()
    console = Console(to_stderr=arguments.json)
    if arguments.record:
        record(arguments.record, console)
    recording = read_recording(RECORDING)
    figures = compare(recording, 3 if arguments.quick else 10, console)
    figures |= measure_races(recording, 3 if arguments.quick else 10, console)
    figures |= measure_cost(console)
    if arguments.measure:
        run = open_run(arguments.measure, console)
        figures |= measure_hits(run, 8 if arguments.quick else 24)
        run.close()
    console.table("In short", ("figure", "value"), [(name, f"{value:.4g}") for name, value in figures.items()])
    if arguments.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
