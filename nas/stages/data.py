"""Source -> disjoint parts, and what is in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ortnas.export.tags import describe_scheme
from ortnas.nas.architecture.heads import HEADS
from ortnas.nas.console import Console
from ortnas.nas.data import LABELS_THAT_MAY_LACK, Mixture, PackedCorpus
from ortnas.nas.run.configuration import Configuration
from ortnas.nas.run.fitting_texts import check_lengths
from ortnas.nas.run.folder import RunFolder
from ortnas.nas.run.task_data import TaskData
from ortnas.nas.run.texts import Texts
from ortnas.nas.text import Example

# Of fewer texts a training of minutes sees each of them many times over.
_FEW_TEXTS = 10_000


def data(configuration: Configuration, console: Console, run_folder: RunFolder, texts: Texts) -> dict[str, Any]:
    """Prepares the data, or recognises that it is prepared, and shows it."""
    console.heading(
        "data: texts in disjoint parts",
        "Training teaches, calibration sets integer ranges, search chooses, report is looked at once, at the end.",
    )
    content = texts.data
    for note in content.content.notes:
        console.say(f"note: {note}")
    metric = texts.metric  # refused here where it does not suit the labels
    check_lengths(configuration, texts)
    if HEADS[configuration.head].labels == "tags":
        console.say(f"note: {describe_scheme(content.labels)}")
    rows = []
    longest = texts.max_length
    facts: dict[str, dict[str, float]] = {}
    for part, count in content.counts.items():
        lengths = content.encoded(part).lengths
        facts[part] = {
            "rows": count,
            "median_tokens": float(np.median(lengths)),
            "longest_tokens": int(lengths.max()),
            "share_at_max_length": float((lengths >= longest).mean()),
        }
        if missed := _words_cut_off(content, part):
            facts[part]["words_cut_off"] = missed
            console.say(
                f"note: {part.replace('_', ' ')}: {missed:,} words lie beyond data.max_length = {longest}; training "
                f"does not see them, and scores count them as missed"
            )
        balance = ""
        if content.labels and content.examples(part):
            balance = _balance(content.labels, content.examples(part))
        values = facts[part]
        rows.append(
            (
                part.replace("_", " "),
                f"{count}",
                f"{values['median_tokens']:.0f}",
                f"{values['longest_tokens']}",
                f"{values['share_at_max_length']:.1%}",
                balance,
            )
        )
    columns = ("part", "rows", "median tokens", "longest", f"at {longest} or cut", "labels")
    console.table(f"Parts ({content.apart})", columns, rows)
    sources = _show_sources(console, content.mixture, HEADS[configuration.head].has_labels)
    count = content.counts["training"]
    if HEADS[configuration.head].labels in LABELS_THAT_MAY_LACK and content.mixture is None and count < _FEW_TEXTS:
        console.say(
            f"note: {count:,} texts are few for subnets to learn from; texts without labels, your own or general ones, "
            f"as further entries of data.source bring them nearer to the full model"
        )
    if isinstance(content.content, PackedCorpus):
        console.say("rows are packed sequences of the corpus")
    run_folder.event("data", digest=content.digest, counts=content.counts)
    return {
        "parts": facts,
        "labels": list(content.labels),
        "metric": metric,
        "notes": list(content.content.notes),
        "sources": sources,
    }


def _balance(labels: Sequence[str], examples: Sequence[Example]) -> str:
    """Shares of the texts that have each label; empty where words have labels."""
    class_sets = [(int(example.label),) if example.label is not None else example.classes for example in examples]
    labelled = [classes for classes in class_sets if classes is not None]
    if not labelled:
        return ""
    ids = [number for classes in labelled for number in classes]
    shares = np.bincount(np.array(ids, np.int64), minlength=len(labels)) / len(labelled)
    none = sum(not classes for classes in labelled) / len(labelled)
    named = [*zip(labels, shares.tolist(), strict=True), *([("none of them", none)] if none else [])]
    return ", ".join(f"{name} {share:.0%}" for name, share in named)


def _show_sources(console: Console, mixture: Mixture | None, has_labels: bool) -> dict[str, dict[str, float]]:
    """Training rows of each of several sources, its share of the batches, and of what is learned; labels are the first
    one's."""
    if mixture is None:
        return {}
    facts: dict[str, dict[str, float]] = {
        name: {"rows": rows, "share": share}
        for name, rows, share in zip(mixture.names, mixture.counts, mixture.shares, strict=True)
    }
    rows = [
        (name, f"{own['rows']}", f"{own['share']:.1%}", "labels, teacher" if has_labels and not number else "teacher")
        for number, (name, own) in enumerate(facts.items())
    ]
    console.table("Sources of training", ("source", "rows", "share of the batches", "learned from"), rows)
    return facts


def _words_cut_off(content: TaskData, part: str) -> int:
    """Words with tags that did not become tokens."""
    words = content.held_out(part).words if content.examples(part) else None
    if words is None:
        return 0
    return sum(len(example.tags) - len(kept) for example, kept in zip(content.examples(part), words, strict=True))
