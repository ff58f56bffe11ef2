"""How good a search is: ``python tests/performance/search_quality.py [--quick] [--json] [--live RUN] [--measure RUN]``.

Searches are replayed on recorded scores: every subnet of a part of the default space of MiniLM-L6, cut from a supernet
trained on SST-2 and scored as INT8 on 1,000 texts (``recorded/sst2_minilm.jsonl``; ``--record RUN`` takes it anew from
such a run folder, with its predictor, in about half an hour, and goes on where it was killed). Ours with and without
the surrogate, random search, pymoo's NSGA-II and the seed system's evolution ask for genomes of that space under the
same latencies. Hypervolumes are shares of that of the whole space's front, above the lowest score and below the longest
latency.

The last line of ``--json`` holds ``hypervolume_100`` (ours), ``hypervolume_plain_100`` (without the surrogate),
``hypervolume_random_100``, ``hypervolume_pymoo_100``, ``hypervolume_seed_100``, the halves of their 95 % intervals
(``..._interval``), the same after 50, 200 and 400 scored candidates, ``random_ratio_100`` (how many times as many
random candidates cover as much as 100 of ours), ``raced_texts`` (share of the texts that a race runs),
``race_losses`` (share of searches whose winner it made worse), ``genomes_per_second`` proposed and filtered, and
``overhead_share`` of the engine beside scoring.

``--live RUN`` lets the searches score real models of a trained run over its whole space, 100 each for 3 seeds
(``live_...``; shares of what all of them found together). ``--measure RUN`` adds ``budget_hit_rate``: of the finalists
of 24 searches under budgets from 1.2 to 5 times the speed of the run's full model, the share measured under theirs.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ortnas.nas.architecture.space import Genomes
from ortnas.nas.console import Console
from ortnas.nas.run.configuration import read_configuration
from ortnas.nas.run.run import Run
from ortnas.predictors.fitting import find_predictor
from ortnas.search.front import hypervolume, pareto_rows
from tests.performance.recorded_scores import Recording, read_recording, score_all, write_recording
from tests.performance.rival_searches import LABELS, SEARCHES, Field
from tests.performance.search_cost import measure_cost
from tests.performance.search_hits import measure_hits
from tests.performance.search_live import RunField
from tests.performance.search_races import measure_races

RECORDING = Path(__file__).parent / "recorded" / "sst2_minilm.jsonl"
SIZES, LIVE_SIZES = (50, 100, 200, 400), (50, 100)
Vector = npt.NDArray[np.float64]


def covered(
    points: tuple[Vector, Vector], everything: tuple[Vector, Vector], counts: Sequence[int]
) -> npt.NDArray[np.float64]:
    """Share of the hypervolume of everything that the first so many of the points (scores, latencies in ms) reach."""
    scores, latency_ms = everything
    reference = float(scores.min()), float(latency_ms.max())
    whole = hypervolume(scores, latency_ms, reference)
    return np.array([hypervolume(points[0][:count], points[1][:count], reference) / whole for count in counts])


def run_all(field: Field, wanted: int, seeds: int, console: Console) -> dict[str, list[Genomes]]:
    """What every search asks for, by name and seed."""
    asked: dict[str, list[Genomes]] = {name: [] for name in SEARCHES}
    with console.progress("searches") as report:
        for seed in range(seeds):
            for number, (name, search) in enumerate(SEARCHES.items(), start=1):
                asked[name].append(search(field, wanted, seed))
                report(seed * len(SEARCHES) + number, seeds * len(SEARCHES), LABELS[name])
    return asked


def points_of(field: Field, genomes: Genomes) -> tuple[Vector, Vector]:
    return field.score(genomes), field.predict(genomes)[0]


def tabulate(shares: Mapping[str, npt.NDArray[np.float64]], sizes: Sequence[int], prefix: str) -> dict[str, float]:
    """Means and half-intervals by key; shares are (seeds, sizes) by search."""
    figures = {}
    for name, of_search in shares.items():
        key = prefix if name == "ours" else f"{prefix}_{name}"
        half = 1.96 * of_search.std(0, ddof=1) / np.sqrt(len(of_search))
        for size, mean, width in zip(sizes, of_search.mean(0), half, strict=True):
            figures[f"{key}_{size}"], figures[f"{key}_{size}_interval"] = float(mean), float(width)
    return figures


def show(figures: Mapping[str, float], sizes: Sequence[int], prefix: str, title: str, console: Console) -> None:
    rows = []
    for name, label in LABELS.items():
        key = prefix if name == "ours" else f"{prefix}_{name}"
        cells = (f"{figures[f'{key}_{size}']:.4f} ± {figures[f'{key}_{size}_interval']:.4f}" for size in sizes)
        rows.append((label, *cells))
    console.table(title, ("search", *map(str, sizes)), rows)


def replay(recording: Recording, seeds: int, console: Console) -> dict[str, float]:
    everything = recording.scores, recording.latency_ms
    asked = run_all(recording, max(SIZES), seeds, console)
    shares = {
        name: np.array([covered(points_of(recording, genomes), everything, SIZES) for genomes in by_seed])
        for name, by_seed in asked.items()
    }
    figures = tabulate(shares, SIZES, "hypervolume")
    front = len(pareto_rows(*everything))
    title = (
        f"Share of the whole front's hypervolume after so many scored candidates, mean of {seeds} seeds ± half of the "
        f"95 % interval ({len(recording.genomes)} subnets, {front} on the front)"
    )
    show(figures, SIZES, "hypervolume", title, console)
    counts = range(50, len(recording.genomes) + 1, 50)
    random = np.mean(
        [
            covered(points_of(recording, SEARCHES["random"](recording, counts[-1], seed)), everything, counts)
            for seed in range(seeds)
        ],
        axis=0,
    )
    enough = np.flatnonzero(random >= figures["hypervolume_100"])
    return figures | {"random_ratio_100": (counts[int(enough[0])] if len(enough) else counts[-1]) / 100}


def live(run: Run, seeds: int, console: Console) -> dict[str, float]:
    field = RunField(run)
    asked = run_all(field, max(LIVE_SIZES), seeds, console)
    everything = points_of(field, np.concatenate([genomes for by_seed in asked.values() for genomes in by_seed]))
    shares = {
        name: np.array([covered(points_of(field, genomes), everything, LIVE_SIZES) for genomes in by_seed])
        for name, by_seed in asked.items()
    }
    figures = tabulate(shares, LIVE_SIZES, "live")
    title = (
        f"Share of the hypervolume of all {len(everything[0])} together, in a space of "
        f"{run.models.supernet.space.count:.2g}"
    )
    show(figures, LIVE_SIZES, "live", title, console)
    return figures


def open_run(folder: Path, console: Console) -> Run:
    return Run(read_configuration(folder / "resolved.yaml", {"folder": str(folder)}), console)


def record(run: Run, console: Console) -> None:
    scored = run.folder.path / "search" / "recording.jsonl"
    with console.progress("subnets") as report:
        score_all(run, scored, report)
    write_recording(run, find_predictor(run.folder.predictors, "int8", run.models.target), scored, RECORDING)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="three seeds")
    parser.add_argument("--json", action="store_true")
    for option in ("--record", "--live", "--measure"):
        parser.add_argument(option, type=Path, metavar="RUN")
    arguments = parser.parse_args()
    console = Console(to_stderr=arguments.json)
    if arguments.record:
        run = open_run(arguments.record, console)
        record(run, console)
        run.close()
    recording, seeds = read_recording(RECORDING), 3 if arguments.quick else 10
    figures = replay(recording, seeds, console)
    figures |= measure_races(recording, seeds, console)
    figures |= measure_cost(console)
    if arguments.live:
        run = open_run(arguments.live, console)
        figures |= live(run, 2 if arguments.quick else 3, console)
        run.close()
    if arguments.measure:
        run = open_run(arguments.measure, console)
        figures |= measure_hits(run, 8 if arguments.quick else 24)
        run.close()
    shown = [(name, f"{value:.4g}") for name, value in figures.items() if not name.startswith(("hypervolume", "live"))]
    console.table("In short", ("figure", "value"), shown)
    if arguments.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
