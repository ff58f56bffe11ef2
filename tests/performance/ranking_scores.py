"""Which score of a subnet foretells how good it is once it is trained alone.

``python tests/performance/ranking_scores.py RUN [--quick] [--steps N] [--json]``. RUN is a run of classification or
embeddings whose teacher is trained (`ortnas train`). Random subnets of three shares of the multiply-adds are scored as
slices of the teacher, trained alone, scored again, and scored on the report part. The last line of ``--json`` holds the
Kendall correlation of every score with the last one, within each share and averaged, as ``slice`` and ``trained``. What
is done is kept in RUN/ranking.jsonl.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path

import numpy as np
from scipy.stats import kendalltau

from ortnas.export.metrics import METRICS
from ortnas.export.part import Outputs
from ortnas.nas.architecture.heads import HEADS
from ortnas.nas.architecture.presets import default_space
from ortnas.nas.architecture.subnet import Subnet
from ortnas.nas.console import Console
from ortnas.nas.files import append_line, read_lines
from ortnas.nas.run.naming import configuration_of
from ortnas.nas.run.run import Run
from ortnas.nas.stages.courses import keep_signals, load_network, make_batches
from ortnas.nas.stages.further_training import alone_for
from ortnas.nas.stages.train import losses_under
from ortnas.nas.text import EncodedExamples
from ortnas.nas.training.alone import train_subnet
from ortnas.nas.training.engine import StateFiles, choose_accelerator
from ortnas.nas.training.objective import Objective
from ortnas.nas.training.steps import Course, network_outputs
from ortnas.nas.training.supernet import Supernet

SHARES, POOL = (0.45, 0.28, 0.19), 20_000
UNLABELLED = 2000


def draw(network: Supernet, share: float, count: int, seed: int) -> list[Subnet]:
    """Random subnets of 95 to 100 % of a share of the full network's multiply-adds."""
    space = default_space(network.dimensions)
    genomes = space.sample(POOL, np.random.default_rng(seed))
    shares = space.expand(genomes).multiply_adds / space.largest.multiply_adds
    return [space.decode(genome) for genome in genomes[(shares <= share) & (shares >= 0.95 * share)][:count]]


class Scores:
    """Of one run's networks, by name; those of the search part, and what they shall foretell."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.head = HEADS[run.configuration.head]
        self.teacher = load_network(run.folder.teacher)
        data = run.texts.data
        self.texts = data.held_out("search")
        if self.head.has_labels:
            training = data.held_out("training")
            self.texts = EncodedExamples(training.ids[:UNLABELLED], training.type_ids[:UNLABELLED])
            full = self.teacher.dimensions.full_subnet
            self.taught = log_softmax(network_outputs(self.teacher, self.texts, full))

    def cheap(self, network: Supernet, subnet: Subnet) -> dict[str, float]:
        part = self.run.texts.part("search")
        outputs = network_outputs(network, part.encoded, subnet)
        names = dict.fromkeys((*self.head.metrics, self.head.ranking))
        scores = {name: METRICS[name](outputs, part) for name in names if name}
        if self.head.has_labels:
            scores["margin"] = margin(outputs, part.labels)
            answers = log_softmax(network_outputs(network, self.texts, subnet))
            scores["agreement_unlabelled"] = -float((np.exp(self.taught) * (self.taught - answers)).sum(1).mean())
        elif self.run.texts.data.judgements:
            scores["judged"] = self.judged(network, subnet, "search")
        return scores

    def final(self, network: Supernet, subnet: Subnet) -> float:
        if not self.head.has_labels and self.run.texts.data.judgements:
            return self.judged(network, subnet, "report")
        part = self.run.texts.part("report")
        return METRICS[self.run.texts.metric](network_outputs(network, part.encoded, subnet), part)

    def judged(self, network: Supernet, subnet: Subnet, name: str) -> float:
        judgements = next(iter(self.run.texts.data.judgements.values()))
        metric = "spearman" if judgements.are_scored else "mrr_at_10"
        part = self.run.texts.part(name, metric)
        return METRICS[metric](network_outputs(network, part.encoded, subnet), part)


def log_softmax(outputs: Outputs) -> np.ndarray:
    logits = np.stack(outputs).astype(np.float64)
    shifted = logits - logits.max(1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(1, keepdims=True)))


def margin(outputs: Outputs, labels: np.ndarray) -> float:
    """Mean difference of the label's logit to the largest other one."""
    logits = np.stack(outputs).astype(np.float64)
    rows = np.arange(len(logits))
    right = logits[rows, labels].copy()
    logits[rows, labels] = -np.inf
    return float((right - logits.max(1)).mean())


def train(run: Run, network: Supernet, teacher: Supernet, subnet: Subnet, steps: int) -> None:
    """Alone, as winners are, from the slice as it is."""
    configuration = run.configuration
    settings = alone_for(configuration, steps)
    accelerator = choose_accelerator(configuration.training.mixed_precision)
    objective = Objective(losses_under(configuration, None), network.dimensions)
    data = run.texts.data
    batches = make_batches(
        configuration, data, accelerator, subnet, settings.steps, settings.batch_size, settings.learning_rate
    )
    kept = keep_signals(configuration, run.console, run.folder, data, accelerator, objective)
    with tempfile.TemporaryDirectory() as folder:
        states = StateFiles(Path(folder), "ranking", "")
        course = Course(accelerator, batches, states, lambda _step, _losses: None, kept)
        train_subnet(network, subnet, teacher, objective, course)


def record(run: Run, count: int, steps: int) -> list[dict[str, object]]:
    file = run.folder.path / "ranking.jsonl"
    rows = [row for row in read_lines(file) if row["steps"] == steps]
    done = {row["key"] for row in rows}
    scores = Scores(run)
    subnets = [
        (share, subnet) for seed, share in enumerate(SHARES) for subnet in draw(scores.teacher, share, count, seed)
    ]
    for number, (share, subnet) in enumerate(subnets, start=1):
        if subnet.key in done:
            continue
        network = load_network(run.folder.teacher)
        row = {"key": subnet.key, "share": share, "steps": steps, "slice": scores.cheap(network, subnet)}
        train(run, network, scores.teacher, subnet, steps)
        row |= {"trained": scores.cheap(network, subnet), "final": scores.final(network, subnet)}
        append_line(file, row)
        rows.append(row)
        run.console.say(f"{number} of {len(subnets)}: {subnet.describe()}: {row['final']:.4f}")
    keys = {subnet.key for _, subnet in subnets}
    return [row for row in rows if row["key"] in keys]


def correlations(rows: list[dict[str, object]], when: str) -> dict[str, float]:
    """Kendall's tau with the final score within each share, averaged."""
    names = list(rows[0][when])  # type: ignore[call-overload]
    result = {}
    for name in names:
        by_share = []
        for share in SHARES:
            alike = [row for row in rows if row["share"] == share]
            by_share.append(kendalltau([row[when][name] for row in alike], [row["final"] for row in alike])[0])
        result[name] = statistics.fmean(by_share)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--quick", action="store_true", help="three subnets a share, 30 steps")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    run = Run(configuration_of(arguments.run, {}), Console(to_stderr=arguments.json))
    try:
        count, steps = (3, 30) if arguments.quick else (7, arguments.steps)
        rows = record(run, count, steps)
    finally:
        run.close()
    slices, trained = correlations(rows, "slice"), correlations(rows, "trained")
    run.console.table(
        f"Kendall correlation with the report part's score after {steps} steps alone, {len(rows)} subnets",
        ("score", "of the slice", "of the trained subnet"),
        [(name.replace("_", " "), f"{slices[name]:.2f}", f"{trained[name]:.2f}") for name in slices],
    )
    if arguments.json:
        print(json.dumps({"slice": slices, "trained": trained, "subnets": len(rows), "steps": steps}))


if __name__ == "__main__":
    main()
