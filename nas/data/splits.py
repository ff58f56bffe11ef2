"""Disjoint parts of a task's examples, fixed by a seed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace
from functools import cached_property

import numpy as np

from ortnas.nas.architecture.heads import HEADS, Labels
from ortnas.nas.data.judged_pairs import judged_parts
from ortnas.nas.data.judged_parts import JudgedParts, learned_part
from ortnas.nas.data.label_sets import note_repeated
from ortnas.nas.data.labels import in_order, one_spelling
from ortnas.nas.data.mixture import Mixture
from ortnas.nas.data.query_groups import (
    by_query,
    cut_queries,
    describe_groups,
    fresh_queries,
    judged_only,
    number_queries,
    usable,
)
from ortnas.nas.data.rows import Row
from ortnas.nas.data.source import DataSource, read_source
from ortnas.nas.data.strata import cut_strata, shared_first_texts, texts_to_keep_apart
from ortnas.nas.failures import DataError
from ortnas.nas.judgements import Judgements, pairs_of
from ortnas.nas.text import Example
from ortnas.nas.wording import listed, shown

# Training needs this many sentences, or sequences of a corpus, beside those that are set aside.
LEAST_TRAINING = 32


@dataclass(frozen=True)
class Sizes:
    """Examples set aside. ``report`` None stands for the whole dev set, or without one for as many as ``search``."""

    calibration: int
    search: int
    report: int | None = None


@dataclass(frozen=True)
class Splits:
    """Disjoint parts of one task: training, calibration, search and report, and further reports by name.

    Class ids and tags index ``labels``, which is empty where there are none. ``notes`` are sentences about what was
    left out, and what was found. ``mixture`` tells the sources of training, where there are several. ``judgements`` are
    of the parts that hold the texts of judged pairs, by their names; those of ``training`` can be learned from.
    """

    parts: dict[str, list[Example]]
    labels: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    mixture: Mixture | None = None
    judgements: dict[str, Judgements] = field(default_factory=dict)

    @cached_property
    def digest(self) -> str:
        """16 hexadecimal digits that name parts, labels and sources."""
        state = hashlib.sha256(json.dumps(self.labels).encode())
        for name, part in self.parts.items():
            state.update(f"\n{json.dumps(name)} {len(part)}".encode())
            for example in part:
                state.update(f"\n{json.dumps(example.to_json())}".encode())
        if self.mixture is not None:
            state.update(f"\n{json.dumps(astuple(self.mixture))}".encode())
        for name, judgements in self.judgements.items():
            state.update(f"\n{json.dumps([name, judgements.to_json()])}".encode())
        return state.hexdigest()[:16]

    @property
    def training(self) -> list[Example]:
        return self.parts["training"]

    @property
    def calibration(self) -> list[Example]:
        return self.parts["calibration"]

    @property
    def search(self) -> list[Example]:
        return self.parts["search"]

    @property
    def report(self) -> list[Example]:
        return self.parts["report"]


def make_splits(source: DataSource, head: str, sizes: Sizes, seed: int, pairs: str | None = None) -> Splits:
    """Reads a source and cuts calibration and search out of its training data, and report too where it has no dev
    set: by label and whole first texts of pairs, by quantiles of the value, or by whole contexts of a span.

    Texts of the dev sets and repeated texts are removed from training, so that the parts are disjoint. ``pairs`` says
    where embeddings have judged pairs, as in ``judged_parts``; training loses their texts too. Raises DataError.
    """
    notes: list[str] = []
    training_rows, report_rows, declared = read_source(source, head, notes)
    if not declared:
        training_rows, report_rows = _one_spelling(training_rows, report_rows, notes)
    if HEADS[head].ranks:
        return _query_splits(training_rows, report_rows, sizes, seed, notes)
    labels = _labels(head, training_rows, report_rows, declared)
    ids = {name: number for number, name in enumerate(labels)}
    if HEADS[head].takes_label_sets:
        note_repeated(training_rows, notes)
    reports = {part: [_with_ids(row, head, ids) for row in rows] for part, rows in report_rows.items()}
    judged = judged_parts([source], head, pairs, sizes.search, sizes.report, seed, notes)
    held_out = [Example(text) for text in judged.held_out] if judged is not None else []
    fresh = fresh_rows(training_rows, [*(example for part in reports.values() for example in part), *held_out])
    if removed := len(training_rows) - len(fresh):
        others = "others or the dev set" if judged is None else "others, the dev set or judged pairs"
        notes.append(f"training: {removed:,} of {len(training_rows):,} rows repeat {others} and are left out")
    training = [_with_ids(row, head, ids) for row in fresh]
    wanted = {"calibration": sizes.calibration, "search": sizes.search}
    if not reports:
        wanted["report"] = sizes.search if sizes.report is None else sizes.report
    _check_enough(len(training), sum(wanted.values()), bool(reports))
    rng = np.random.default_rng(seed)
    if HEADS[head].reads_pairs:
        parts = _cut_contexts(training, wanted, rng)
    else:
        parts = cut_strata(training, wanted, rng, texts_to_keep_apart(training, notes))
    if left_out := len(training) - sum(map(len, parts.values())):
        what = "context" if HEADS[head].reads_pairs else "first text"
        _check_left(len(parts["training"]), sum(wanted.values()), what)
        rows = "row has" if left_out == 1 else "rows have"
        notes.append(f"training: {left_out:,} {rows} the {what} of others that are set aside, and are left out")
    for name, examples in reports.items():
        if sizes.report is None or sizes.report >= len(examples):
            parts[name] = examples
        else:
            parts[name] = cut_strata(examples, {name: sizes.report}, rng)[name]
        notes += shared_first_texts(name, parts)
    _check_unanswerable(parts, notes)
    judgements = add_judged(parts, head, judged, notes)
    return Splits(parts, labels, tuple(notes), judgements=judgements)


def _query_splits(
    training_rows: list[Row], report_rows: dict[str, list[Row]], sizes: Sizes, seed: int, notes: list[str]
) -> Splits:
    """Parts of whole queries; search and report sizes count queries, and passages may be those of several of them."""
    training_rows = fresh_queries(training_rows, report_rows, notes)
    fresh = fresh_rows(training_rows, [])
    if removed := len(training_rows) - len(fresh):
        notes.append(f"training: {removed:,} of {len(training_rows):,} pairs repeat others and are left out")
    numbered, reported = number_queries(fresh, {part: fresh_rows(rows, []) for part, rows in report_rows.items()})
    rng = np.random.default_rng(seed)
    wanted = {"calibration": sizes.calibration, "search": sizes.search}
    if not reported:
        wanted["report"] = sizes.search if sizes.report is None else sizes.report
    parts = cut_queries(usable([row.example for row in numbered], "training", notes), wanted, rng, notes)
    for part, rows in reported.items():
        judged = by_query(judged_only(usable([row.example for row in rows], part, notes), part, notes))
        chosen = rng.permutation(len(judged))[: sizes.report]
        parts[part] = [example for place in sorted(chosen.tolist()) for example in judged[place]]
    notes += [f"{part}: {describe_groups(examples)}" for part, examples in parts.items()]
    return Splits(parts, notes=tuple(notes))


def add_judged(
    parts: dict[str, list[Example]], head: str, judged: JudgedParts | None, notes: list[str]
) -> dict[str, Judgements]:
    """Adds the parts of judged pairs, and to ``training`` the texts of those that the head can learn from; returns what
    is said of pairs, by the parts' names."""
    if judged is None:
        return {}
    named = {pairs_of("search"): judged.search, pairs_of("report"): judged.report}
    for name, part in named.items():
        parts[name] = [Example(text) for text in part.texts]
    judgements = {name: part.judgements for name, part in named.items()}
    if HEADS[head].learns_pairs:
        training = parts["training"]
        others = [example.text for name, part in parts.items() if name != "training" for example in part]
        learned = learned_part([example.text for example in training], judged, others)
        if learned is None:
            notes.append("too few other pairs are left to learn from, or their scores are all alike")
        else:
            parts["training"] = [*training, *map(Example, learned.texts[len(training) :])]
            judgements["training"] = learned.judgements
            notes.append(f"{len(learned.judgements.first):,} other pairs can be learned from (loss pairs)")
    return judgements


def _one_spelling(
    training: list[Row], reports: dict[str, list[Row]], notes: list[str]
) -> tuple[list[Row], dict[str, list[Row]]]:
    """The rows with every label written in one way."""
    names = (name for rows in (training, *reports.values()) for row in rows for name in row.names)
    spelling = one_spelling(names, notes)
    if not spelling:
        return training, reports

    def spelled(rows: list[Row]) -> list[Row]:
        return [row._replace(names=tuple(spelling.get(name, name) for name in row.names)) for row in rows]

    return spelled(training), {part: spelled(rows) for part, rows in reports.items()}


def _labels(
    head: str, training: Sequence[Row], reports: Mapping[str, Sequence[Row]], declared: tuple[str, ...]
) -> tuple[str, ...]:
    """Names of classes or tags: as the data declares them, or in order."""
    if not HEADS[head].has_label_names:
        return ()
    used = {name for row in training for name in row.names}
    labels = declared or in_order(used)
    for part, rows in reports.items():
        if unknown := sorted({name for row in rows for name in row.names} - set(labels)):
            raise DataError(
                f"{part}: the dev set has labels that training lacks: {listed(map(shown, unknown))}; training has "
                f"{listed(map(shown, labels))}"
            )
    if len(used) < (1 if HEADS[head].takes_label_sets else 2):
        if not used:
            raise DataError(f"training has no text with a label; {head} needs at least one")
        raise DataError(f"training has one label only: {listed(map(shown, used))}; {head} needs at least two")
    return labels


def _with_class(example: Example, ids: Sequence[int]) -> Example:
    return replace(example, label=ids[0])


def _with_classes(example: Example, ids: Sequence[int]) -> Example:
    return replace(example, classes=tuple(sorted(set(ids))))


def _with_tags(example: Example, ids: Sequence[int]) -> Example:
    return replace(example, tags=tuple(ids))


# Of heads whose labels have names.
WITH_IDS: dict[Labels, Callable[[Example, Sequence[int]], Example]] = {
    "class": _with_class,
    "classes": _with_classes,
    "tags": _with_tags,
}


def _with_ids(row: Row, head: str, ids: Mapping[str, int]) -> Example:
    if not HEADS[head].has_label_names:
        return row.example
    return WITH_IDS[HEADS[head].labels](row.example, [ids[name] for name in row.names])


def _content(example: Example) -> tuple[str, str | None, tuple[str, ...]]:
    return example.text, example.pair, example.words


def fresh_rows(training: Iterable[Row], reports: Sequence[Example]) -> list[Row]:
    """The training rows whose text neither an earlier one nor a report has; a context of a report's spans counts as
    its text."""
    seen = {_content(example) for example in reports}
    contexts = {example.pair for example in reports if example.answers is not None}
    fresh = []
    for row in training:
        if (content := _content(row.example)) not in seen and (not contexts or row.example.pair not in contexts):
            seen.add(content)
            fresh.append(row)
    return fresh


def _check_enough(total: int, reserved: int, dev: bool) -> None:
    if dev and total < 2 * reserved:
        raise DataError(
            f"training has {total} distinct rows outside the dev set; {reserved} are set aside for calibration and "
            f"search, and at least as many have to be left. Use more data or smaller data.*_size values"
        )
    if not dev and total < reserved + LEAST_TRAINING:
        raise DataError(
            f"the corpus has {total} distinct sentences; {reserved} are set aside for calibration, search and report, "
            f"and training needs at least {LEAST_TRAINING} more. Use a larger corpus or smaller data.*_size values"
        )


def _check_left(left: int, reserved: int, what: str) -> None:
    if left < reserved:
        raise DataError(
            f"all rows of a {what} are kept in one part: {reserved} are set aside, and {left} are left to train with, "
            f"fewer than that. Use more data or smaller data.*_size values"
        )


def _check_unanswerable(parts: Mapping[str, Sequence[Example]], notes: list[str]) -> None:
    """When to give no answer is found on the search part, so that it has to have such questions where reports do."""
    counts = {name: sum(example.is_unanswerable for example in part) for name, part in parts.items()}
    if any(count for name, count in counts.items() if name.startswith("report")) and not counts["search"]:
        remedy = "raise data.search_size" if counts["training"] else "train on data that has some"
        raise DataError(
            f"the dev set has questions without an answer, and the search part, on which it is found when a model "
            f"gives none, has no such question; {remedy}, or name another dev set as data.report_file"
        )
    if any(counts.values()):
        total = sum(map(len, parts.values()))
        notes.append(f"{sum(counts.values()):,} of {total:,} questions have no answer in their context, and are kept")


def _cut_contexts(
    examples: Sequence[Example], wanted: Mapping[str, int], rng: np.random.Generator
) -> dict[str, list[Example]]:
    """Parts of the wanted sizes out of whole contexts; questions of a part's last context that are too many for it
    belong to no part."""
    by_context: dict[str | None, list[Example]] = {}
    for example in examples:
        by_context.setdefault(example.pair, []).append(example)
    contexts = list(by_context.values())
    shuffled = iter([contexts[place] for place in rng.permutation(len(contexts))])
    parts: dict[str, list[Example]] = {"training": []}
    for name, size in wanted.items():
        parts[name] = []
        while len(parts[name]) < size and (questions := next(shuffled, None)):
            parts[name] += questions[: size - len(parts[name])]
    parts["training"] = [example for questions in shuffled for example in questions]
    if len(parts["training"]) < sum(wanted.values()):
        raise DataError(
            f"training has {len(contexts)} distinct contexts outside the dev set, too few to keep calibration, search "
            f"and training apart. Use more data or smaller data.*_size values"
        )
    return {name: [part[place] for place in rng.permutation(len(part))] for name, part in parts.items()}
