"""Reading texts and labelled tasks, and splitting them into disjoint parts."""

from __future__ import annotations

import ast
import csv
import hashlib
import json
import re
import sysconfig
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from nas.files import write_aside
from nas.text import Example

PYTHON_DOCSTRINGS = "python-docstrings"
PARTS = ("training", "calibration", "search", "report")
# Directories of the standard library that hold tests or bundled third-party code.
_SKIPPED = {"site-packages", "dist-packages", "test", "tests", "idlelib", "ensurepip", "__pycache__", "lib2to3"}


class DataError(ValueError):
    """Data that cannot be used; the message names the file and what is wrong."""


@dataclass(frozen=True)
class Splits:
    """Disjoint parts of one task. ``labels`` are the label names, empty for tasks without labels."""

    training: list[Example]
    calibration: list[Example]
    search: list[Example]
    report: list[Example]
    labels: tuple[str, ...] = ()

    @cached_property
    def digest(self) -> str:
        rows = [[asdict(example) for example in getattr(self, part)] for part in PARTS]
        return hashlib.sha256(json.dumps([rows, self.labels], sort_keys=True).encode()).hexdigest()[:16]


def docstring_sentences(root: Path | None = None) -> list[str]:
    """English sentences from the docstrings of the installed Python standard library, sorted, without repeats.

    ``root`` is a folder of Python sources; by default the running interpreter's own.
    """
    root = root or Path(sysconfig.get_path("stdlib"))
    sentences: set[str] = set()
    for path in sorted(root.rglob("*.py")):
        if _SKIPPED.isdisjoint(path.relative_to(root).parts):
            try:
                tree = ast.parse(path.read_text(encoding="utf-8", errors="ignore"))
            except (SyntaxError, ValueError):
                continue
            for node in ast.walk(tree):
                if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                    sentences.update(_sentences(ast.get_docstring(node) or ""))
    return sorted(sentences)


def _sentences(text: str) -> Iterator[str]:
    """Prose sentences of 5 to 60 words; code samples, tables and markup are left out."""
    for paragraph in re.split(r"\n\s*\n", textwrap.dedent(text)):
        if ">>>" in paragraph or any(line.startswith((" ", "\t")) for line in paragraph.splitlines()[1:]):
            continue
        for sentence in re.split(r"(?<=[.!?])\s+(?=[A-Z])", " ".join(paragraph.split())):
            letters = sum(character.isalpha() or character == " " for character in sentence)
            if 5 <= len(sentence.split()) <= 60 and letters >= 0.8 * len(sentence):
                yield sentence


def read_sentences(path: Path) -> list[str]:
    """The distinct non-empty lines of a text file, in order."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as UTF-8 text: {error}") from error
    return list(dict.fromkeys(line.strip() for line in lines if line.strip()))


def read_table(path: Path, text: str, label: str, pair: str | None = None) -> list[tuple[Example, str]]:
    """Examples with their label names from a TSV or CSV file with a header.

    TSV is read without quoting, as GLUE writes it. Raises DataError for missing columns, ragged rows or no rows.
    """
    tabs = path.suffix.lower() != ".csv"
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            reader = csv.reader(
                stream, delimiter="\t" if tabs else ",", quoting=csv.QUOTE_NONE if tabs else csv.QUOTE_MINIMAL
            )
            header = next(reader, [])
            rows = list(reader)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: {error}") from error
    wanted = [name for name in (text, pair, label) if name is not None]
    if missing := [name for name in wanted if name not in header]:
        raise DataError(
            f"{path}: no column {', '.join(map(repr, missing))}; the columns are {', '.join(header) or 'none'}"
        )
    columns = {name: header.index(name) for name in wanted}
    examples = []
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise DataError(f"{path}, line {number}: {len(row)} fields where the header has {len(header)}")
        if row[columns[text]].strip():
            second = row[columns[pair]].strip() if pair else None
            examples.append((Example(row[columns[text]].strip(), second), row[columns[label]].strip()))
    if not examples:
        raise DataError(f"{path}: no rows with text")
    return examples


def split_corpus(sentences: Sequence[str], sizes: dict[str, int], seed: int) -> Splits:
    """Distinct sentences without labels, shuffled by the seed; what the sizes leave over is for training."""
    reserved = sum(sizes.values())
    if len(sentences) < reserved + 32:
        raise DataError(
            f"the corpus has {len(sentences)} distinct sentences; {reserved} are set aside for calibration, search and "
            f"report, and training needs at least 32 more. Use a larger corpus or smaller data.*_size values"
        )
    order = np.random.default_rng(seed).permutation(len(sentences))
    examples = iter([Example(sentences[row]) for row in order])
    calibration, search, report = [
        [next(examples) for _ in range(sizes[name])] for name in ("calibration", "search", "report")
    ]
    return Splits(list(examples), calibration, search, report)


def split_task(
    training: Sequence[tuple[Example, str]], report: Sequence[tuple[Example, str]], sizes: dict[str, int], seed: int
) -> Splits:
    """Labelled examples: calibration and search parts are cut from training, stratified by label; report is dev.

    Texts of the dev set and repeated texts are removed from training, so that the parts are disjoint.
    """
    labels = tuple(sorted({label for _, label in training}))
    if unknown := sorted({label for _, label in report} - set(labels)):
        raise DataError(f"the dev set has labels that training lacks: {unknown}; training has {list(labels)}")
    if len(labels) < 2:
        raise DataError(f"training has one label only: {list(labels)}; classification needs at least two")
    seen = {(example.text, example.pair) for example, _ in report}
    groups: dict[str, list[Example]] = {label: [] for label in labels}
    for example, label in training:
        if (example.text, example.pair) not in seen:
            seen.add((example.text, example.pair))
            groups[label].append(Example(example.text, example.pair, labels.index(label)))
    total = sum(map(len, groups.values()))
    wanted = {name: sizes[name] for name in ("calibration", "search")}
    if total < 2 * sum(wanted.values()):
        raise DataError(
            f"training has {total} distinct rows outside the dev set; {sum(wanted.values())} are set aside for "
            f"calibration and search. Use more data or smaller data.*_size values"
        )
    rng = np.random.default_rng(seed)
    parts: dict[str, list[Example]] = {"training": [], **{name: [] for name in wanted}}
    for group in groups.values():
        shuffled = iter([group[row] for row in rng.permutation(len(group))])
        for name, size in wanted.items():
            parts[name] += [next(shuffled) for _ in range(round(size * len(group) / total))]
        parts["training"] += shuffled
    parts = {name: [part[row] for row in rng.permutation(len(part))] for name, part in parts.items()}
    dev = [Example(example.text, example.pair, labels.index(label)) for example, label in report]
    return Splits(**parts, report=dev[: sizes["report"]], labels=labels)


def write_splits(splits: Splits, folder: Path) -> None:
    """One JSON Lines file per part, and ``labels.json``."""
    folder.mkdir(parents=True, exist_ok=True)
    for part in PARTS:
        lines = (json.dumps(asdict(example), ensure_ascii=False) for example in getattr(splits, part))
        write_aside(folder / f"{part}.jsonl", "".join(f"{line}\n" for line in lines))
    write_aside(folder / "labels.json", json.dumps({"labels": splits.labels, "digest": splits.digest}))


def read_splits(folder: Path) -> Splits:
    """Raises DataError where the folder is missing or damaged."""
    try:
        recorded = json.loads((folder / "labels.json").read_text())
        parts = {part: _read_examples((folder / f"{part}.jsonl").read_text().splitlines()) for part in PARTS}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(f"{folder}: the recorded splits cannot be read: {error}") from error
    splits = Splits(**parts, labels=tuple(recorded["labels"]))
    if splits.digest != recorded["digest"]:
        raise DataError(f"{folder}: the recorded splits were changed; remove the folder to make them anew")
    return splits


def _read_examples(lines: Iterable[str]) -> list[Example]:
    return [Example(**json.loads(line)) for line in lines]
