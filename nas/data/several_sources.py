"""Splits out of several sources of texts without labels, in the shares that their weights ask for."""

from __future__ import annotations

import re
from collections.abc import Container, Sequence
from itertools import islice
from pathlib import PurePath

import numpy as np

from ortnas.nas.data.hub import HUB_PREFIX
from ortnas.nas.data.judged_pairs import judged_parts
from ortnas.nas.data.mixture import Mixture, apportion, interleave
from ortnas.nas.data.source import DataSource, SourceRows, read_source
from ortnas.nas.data.splits import LEAST_TRAINING, Sizes, Splits, add_judged, fresh_rows
from ortnas.nas.failures import DataError
from ortnas.nas.judgements import pairs_of
from ortnas.nas.text import Example
from ortnas.nas.wording import shown

_LONGEST_PART = 40


def mix_sources(
    sources: Sequence[DataSource],
    weights: Sequence[float],
    head: str,
    sizes: Sizes,
    seed: int,
    pairs: str | None = None,
) -> Splits:
    """Reads the sources and cuts calibration and search out of them by their shares. ``report`` is the first source's;
    every further one has a report part of its own, ``report_NAME``.

    A text of several sources is the first one's; those of judged pairs (``pairs`` as in ``judged_parts``) are none's.
    Raises DataError, also where a source has too few texts.
    """
    notes: list[str] = []
    names = source_names(sources)
    read = [read_source(source, head, notes) for source in sources]
    judged = judged_parts(sources, head, pairs, sizes.search, sizes.report, seed, notes)
    held_out = [Example(text) for text in judged.held_out] if judged is not None else []
    rng = np.random.default_rng(seed)
    report_size = sizes.search if sizes.report is None else sizes.report
    calibration, search = apportion(sizes.calibration, weights), apportion(sizes.search, weights)
    parts: dict[str, list[Example]] = {"training": [], "calibration": [], "search": []}
    for part, rows in read[0].reports.items():
        chosen = rng.permutation(len(rows))[: sizes.report]
        parts[part] = [rows[place].example for place in chosen]
    left, report_parts = [], []
    for number, own in enumerate(_distinct_texts(read, names, held_out, notes)):
        wanted = {"calibration": calibration[number], "search": search[number]}
        report_parts.append(_report_part(names[number], {*parts, pairs_of("report")}) if number else "report")
        if number or not read[0].reports:
            wanted[report_parts[-1]] = report_size
        _check_enough(names[number], len(own), sum(wanted.values()))
        shuffled = (own[place] for place in rng.permutation(len(own)))
        for part, size in wanted.items():
            parts[part] = [*parts.get(part, []), *islice(shuffled, size)]
        left.append(list(shuffled))
    origins = interleave([len(own) for own in left], weights)
    texts = [iter(own) for own in left]
    parts["training"] = [next(texts[origin]) for origin in origins]
    for part in ("calibration", "search"):
        parts[part] = [parts[part][place] for place in rng.permutation(len(parts[part]))]
    judgements = add_judged(parts, head, judged, notes)
    # Texts of pairs to learn from count as the first source's.
    origins += [0] * (len(parts["training"]) - len(origins))
    mixture = Mixture(names, tuple(weights), tuple(report_parts), tuple(origins))
    return Splits(parts, notes=tuple(notes), mixture=mixture, judgements=judgements)


def source_names(sources: Sequence[DataSource]) -> tuple[str, ...]:
    """The last parts of paths, where that tells them apart; all other sources are called as they are."""
    names = tuple(
        source.source if source.source.startswith(HUB_PREFIX) else PurePath(source.source).name for source in sources
    )
    return names if len(set(names)) == len(names) else tuple(source.source for source in sources)


def _report_part(name: str, taken: Container[str]) -> str:
    """``report_general`` of ``general.txt``, with a number where there is one already."""
    stem = PurePath(name.removeprefix(HUB_PREFIX)).name.partition(".")[0]
    plain = re.sub(r"\W+", "_", stem).strip("_")[:_LONGEST_PART] or "other"
    part, number = f"report_{plain}", 1
    while part in taken:
        number += 1
        part = f"report_{plain}_{number}"
    return part


def _distinct_texts(
    read: Sequence[SourceRows], names: Sequence[str], held_out: Sequence[Example], notes: list[str]
) -> list[list[Example]]:
    """Of every source the texts that neither it had before, nor an earlier one, nor a dev set, nor judged pairs."""
    earlier = [*(row.example for rows in read[0].reports.values() for row in rows), *held_out]
    others = ", the dev set or judged pairs" if held_out else " or the dev set"
    texts = []
    for name, source in zip(names, read, strict=True):
        own = [row.example for row in fresh_rows(source.training, earlier)]
        if removed := len(source.training) - len(own):
            notes.append(
                f"{name}: {removed:,} of {len(source.training):,} rows repeat others, an earlier source{others} and "
                f"are left out"
            )
        earlier += own
        texts.append(own)
    return texts


def _check_enough(name: str, total: int, reserved: int) -> None:
    if total < reserved + LEAST_TRAINING:
        raise DataError(
            f"data.source: {shown(name)} has {total} texts that no earlier source has; {reserved} of them are set "
            f"aside for calibration, search and report, and training needs at least {LEAST_TRAINING} more. Use a "
            f"larger source or smaller data.*_size values"
        )
