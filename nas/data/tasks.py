"""The GLUE tasks and SQuAD, in the layout in which their authors distribute them."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from ortnas.nas.architecture.heads import HEADS
from ortnas.nas.failures import DataError


@dataclass(frozen=True)
class Task:
    """Where a task keeps what. ``text``, ``pair`` and ``label`` are columns; ``columns`` names those of tables that
    have no header. The first report file is the dev set, further ones are reported beside it. ``has_unanswerable``: a
    question without an answer belongs to the task. ``judges_embeddings``: its pairs are scored by how alike their texts
    are, so that embeddings can be judged by them. ``aliases`` are other names, plain."""

    name: str
    head: str
    metric: str
    text: str
    pair: str | None
    label: str
    train_file: str = "train.tsv"
    report_files: tuple[str, ...] = ("dev.tsv",)
    columns: tuple[str, ...] | None = None
    has_unanswerable: bool = False
    judges_embeddings: bool = False
    aliases: tuple[str, ...] = ()


# Heads and metrics: Wang et al. 2018 (GLUE), table 1; columns: the headers of the files that gluebenchmark.com gives.
_TASKS = (
    Task(
        "cola",
        "classification",
        "matthews",
        "sentence",
        None,
        "label",
        columns=("source", "label", "mark", "sentence"),
    ),
    Task("sst-2", "classification", "accuracy", "sentence", None, "label"),
    Task("mrpc", "classification", "f1", "#1 String", "#2 String", "Quality"),
    Task(
        "sts-b",
        "regression",
        "pearson_spearman",
        "sentence1",
        "sentence2",
        "score",
        judges_embeddings=True,
    ),
    Task("qqp", "classification", "f1", "question1", "question2", "is_duplicate"),
    Task(
        "mnli",
        "classification",
        "accuracy",
        "sentence1",
        "sentence2",
        "gold_label",
        report_files=("dev_matched.tsv", "dev_mismatched.tsv"),
    ),
    Task("qnli", "classification", "accuracy", "question", "sentence", "label"),
    Task("rte", "classification", "accuracy", "sentence1", "sentence2", "label"),
    Task("wnli", "classification", "accuracy", "sentence1", "sentence2", "label"),
    Task(
        "squad",
        "span",
        "span_f1",
        "question",
        "context",
        "answers",
        train_file="train-v1.1.json",
        report_files=("dev-v1.1.json",),
    ),
    Task(
        "squad_v2",
        "span",
        "span_f1",
        "question",
        "context",
        "answers",
        train_file="train-v2.0.json",
        report_files=("dev-v2.0.json",),
        has_unanswerable=True,
        aliases=("squad2", "squad2.0", "squadv2.0"),
    ),
)
TASKS: dict[str, Task] = {task.name: task for task in _TASKS}


def find_task(name: str) -> Task:
    """The task of that name; case, hyphens and underscores do not matter. Raises DataError for unknown names."""
    tasks = {plain: task for task in _TASKS for plain in (_plain(task.name), *task.aliases)}
    if _plain(name) not in tasks:
        close = difflib.get_close_matches(_plain(name), tasks, 1)
        hint = f"; did you mean {tasks[close[0]].name!r}?" if close else "."
        raise DataError(f"unknown task {name!r}{hint} Tasks are {', '.join(TASKS)}")
    return tasks[_plain(name)]


def serves(task: Task, head: str) -> bool:
    """Whether the head is the task's own, or one whose embeddings the task's pairs judge."""
    return head == task.head or (task.judges_embeddings and HEADS[head].makes_embeddings)


def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")
