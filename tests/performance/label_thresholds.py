"""Which thresholds of several labels a text hold on new texts: 0.5, one for all, each label's own, or a package's.

``python tests/performance/label_thresholds.py [--quick] [--json]``. Classifiers are simulated: labels of falling
frequency, told apart more or less well, with logits that lie too low and too close together, as those of networks that
are trained briefly. Thresholds are found on few texts and scored on 20,000 others. The last line of ``--json`` is one
object with ``least_ratio_micro`` and ``least_ratio_macro``: the F1 of a package's thresholds over the best other's,
where that is least.
"""

from __future__ import annotations

import argparse
import json

import numpy as np

from ortnas.export import label_sets
from ortnas.export.label_sets import count_labels, find_thresholds, label_flags, macro_f1, micro_f1, probabilities
from ortnas.nas.arrays import Array, Matrix
from ortnas.nas.console import Console

LABELS, TEXTS, REPETITIONS, NEW_TEXTS = (6, 28), (64, 256, 1000, 4000), 30, 20_000


def simulate(labels: int, rng: np.random.Generator, texts: int, nature: Matrix) -> tuple[list[Array], list[list[int]]]:
    """Logits and the labels of each text; ``nature`` has, by label, its share and the logits' separation, scale and
    shift."""
    share, separation, scale, shift = nature
    has_label = rng.random((texts, labels)) < share
    evidence = rng.standard_normal((texts, labels)) + has_label * separation
    logits = separation * evidence - separation**2 / 2 + np.log(share / (1 - share))
    return list((logits * scale + shift).astype(np.float32)), [np.flatnonzero(row).tolist() for row in has_label]


def candidates(outputs: list[Array], sets: list[list[int]]) -> dict[str, tuple[float, ...]]:
    flags, scores = label_flags(sets, len(outputs[0])), probabilities(outputs)
    shared = label_sets._best_threshold(scores.ravel(), flags.ravel())
    own = [
        label_sets._best_threshold(column, has) if has.any() else shared
        for column, has in zip(scores.T, flags.T, strict=True)
    ]
    size = len(outputs[0])
    return {
        "half": (0.5,) * size,
        "one": (shared,) * size,
        "own": tuple(own),
        "package": find_thresholds(outputs, sets),
    }


def measure(labels: int, texts: int, repetitions: int) -> dict[str, tuple[float, float]]:
    """Mean micro and macro F1 on new texts, by kind of thresholds."""
    figures: dict[str, list[tuple[float, float]]] = {}
    for repetition in range(repetitions):
        rng = np.random.default_rng([labels, repetition])
        share = np.clip(0.3 / np.arange(1, labels + 1) ** 0.8, 0.01, 1)
        nature = np.stack(
            [share, rng.uniform(1.2, 3.5, labels), rng.uniform(0.6, 1.2, labels), rng.normal(-0.7, 0.7, labels)]
        )
        new, searched = simulate(labels, rng, NEW_TEXTS, nature), simulate(labels, rng, texts, nature)
        for name, thresholds in candidates(*searched).items():
            counts = count_labels(*new, thresholds)
            figures.setdefault(name, []).append((micro_f1(counts), macro_f1(counts)))
    return {name: tuple(np.mean(values, axis=0).tolist()) for name, values in figures.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a third of the repetitions")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    repetitions = REPETITIONS // 3 if arguments.quick else REPETITIONS
    rows, worst = [], {"micro": np.inf, "macro": np.inf}
    for labels in LABELS:
        for texts in TEXTS:
            figures = measure(labels, texts, repetitions)
            rows.append((f"{labels}", f"{texts}", *(f"{micro:.3f} / {macro:.3f}" for micro, macro in figures.values())))
            for place, name in enumerate(worst):
                best = max(values[place] for kind, values in figures.items() if kind != "package")
                worst[name] = min(worst[name], figures["package"][place] / best)
    if arguments.json:
        print(json.dumps({f"least_ratio_{name}": round(value, 4) for name, value in worst.items()}))
        return
    Console().table("Micro / macro F1 on new texts", ("labels", "search texts", "0.5", "one", "own", "package"), rows)
    print(f"the package's over the best other: at least {worst['micro']:.3f} (micro), {worst['macro']:.3f} (macro)")


if __name__ == "__main__":
    main()
