"""Splits in a folder: an Arrow file for each part, and ``splits.json``, which comes last and vouches for them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ortnas.nas.data.mixture import Mixture
from ortnas.nas.data.splits import Splits
from ortnas.nas.failures import DataError
from ortnas.nas.files import aside, write_json
from ortnas.nas.judgements import Judgements
from ortnas.nas.text import Example

SPLITS_FILE = "splits.json"
# The number of its source for each training row, where there are several sources.
ORIGINS_FILE = "origins.npy"
_FORMAT = 3
_ROWS_AT_ONCE = 4096


def write_splits(splits: Splits, folder: Path) -> None:
    """Replaces what the folder records. A kill on the way leaves no ``splits.json``, and with it no splits."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SPLITS_FILE).unlink(missing_ok=True)
    for path in (*folder.glob("*.arrow"), folder / ORIGINS_FILE):
        path.unlink(missing_ok=True)
    for name, part in splits.parts.items():
        _write_part(folder / f"{name}.arrow", part)
    document: dict[str, Any] = {
        "format": _FORMAT,
        "counts": {name: len(part) for name, part in splits.parts.items()},
        "labels": splits.labels,
        "notes": splits.notes,
        "judgements": {name: judgements.to_json() for name, judgements in splits.judgements.items()},
        "digest": splits.digest,
    }
    if splits.mixture is not None:
        document["mixture"] = {name: value for name, value in asdict(splits.mixture).items() if name != "origins"}
        _write_origins(folder / ORIGINS_FILE, splits.mixture.origins)
    write_json(folder / SPLITS_FILE, document)


def _write_origins(path: Path, origins: Sequence[int]) -> None:
    with aside(path) as temporary, temporary.open("wb") as file:
        np.save(file, np.array(origins, np.int16))


def _read_mixture(folder: Path, recorded: Mapping[str, Any]) -> Mixture:
    origins = np.load(folder / ORIGINS_FILE, allow_pickle=False).tolist()
    return Mixture(**{name: tuple(value) for name, value in recorded.items()}, origins=tuple(origins))


def _write_part(path: Path, part: Sequence[Example]) -> None:
    import pyarrow

    schema = _schema(part)
    with aside(path) as temporary, pyarrow.ipc.new_stream(str(temporary), schema) as writer:
        for start in range(0, len(part), _ROWS_AT_ONCE):
            columns = _columns(part[start : start + _ROWS_AT_ONCE], schema.names)
            writer.write_batch(pyarrow.RecordBatch.from_pydict(columns, schema))


def _schema(part: Sequence[Example]) -> Any:
    """The columns that the fields of the examples need."""
    import pyarrow

    numbers = any(isinstance(example.label, float) for example in part)
    answer = pyarrow.struct({"start": pyarrow.int64(), "text": pyarrow.string()})
    kinds = {
        "text": pyarrow.string(),
        "pair": pyarrow.string(),
        "label": pyarrow.float64() if numbers else pyarrow.int64(),
        "words": pyarrow.list_(pyarrow.string()),
        "tags": pyarrow.list_(pyarrow.int64()),
        "answers": pyarrow.list_(answer),
        "classes": pyarrow.list_(pyarrow.int64()),
        "group": pyarrow.int64(),
    }
    used = {"text"}.union(*(example.to_json() for example in part[:1]))
    return pyarrow.schema({name: kind for name, kind in kinds.items() if name in used})


def _columns(part: Sequence[Example], names: Sequence[str]) -> dict[str, list[Any]]:
    """Of texts without labels, classes and answers are None."""
    columns = {name: [getattr(example, name) for example in part] for name in names}
    if "answers" in columns:
        columns["answers"] = [
            None if row is None else [{"start": start, "text": text} for start, text in row]
            for row in columns["answers"]
        ]
    return columns


def read_splits(folder: Path) -> Splits:
    """Raises DataError where the folder is missing or damaged."""
    remedy = "remove the folder to make them anew"
    try:
        recorded = json.loads((folder / SPLITS_FILE).read_text(encoding="utf-8"))
        if recorded["format"] != _FORMAT:
            raise DataError(f"{folder}: the recorded splits are of another version; {remedy}")
        parts = {name: _read_part(folder / f"{name}.arrow") for name in recorded["counts"]}
        mixture = _read_mixture(folder, recorded["mixture"]) if "mixture" in recorded else None
        judgements = {name: Judgements.from_json(entry) for name, entry in recorded["judgements"].items()}
        splits = Splits(parts, tuple(recorded["labels"]), tuple(recorded["notes"]), mixture, judgements)
        unchanged = splits.digest == recorded["digest"]
    except DataError:
        raise
    except Exception as error:  # a damaged Arrow file raises whatever pyarrow does
        raise DataError(f"{folder}: the recorded splits cannot be read: {error}; {remedy}") from error
    if not unchanged:
        raise DataError(f"{folder}: the recorded splits were changed; {remedy}")
    return splits


def _read_part(path: Path) -> list[Example]:
    import pyarrow

    # In memory, because a file that is still mapped cannot be replaced everywhere.
    with pyarrow.OSFile(str(path)) as file, pyarrow.ipc.open_stream(file) as reader:
        columns = reader.read_all().to_pydict()
    if "answers" in columns:
        columns["answers"] = [
            None if row is None else tuple((item["start"], item["text"]) for item in row) for row in columns["answers"]
        ]
    for name in {"words", "tags", "classes"} & set(columns):
        columns[name] = [None if row is None else tuple(row) for row in columns[name]]
    return [Example(**dict(zip(columns, values, strict=True))) for values in zip(*columns.values(), strict=True)]
