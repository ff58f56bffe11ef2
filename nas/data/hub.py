"""Datasets of the Hugging Face hub, or local folders that its ``datasets`` library reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ortnas.nas.data.lines import check_regular, files_below
from ortnas.nas.data.tables import Table
from ortnas.nas.failures import DataError
from ortnas.nas.wording import shortened

HUB_PREFIX = "hub:"
_REASON_CHARACTERS = 300


def local_folder(source: str) -> Path | None:
    """The folder that ``hub:FOLDER`` names; None for datasets of the hub. Raises DataError where it is missing."""
    name = source.removeprefix(HUB_PREFIX)
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if name.startswith((".", "/", "~")):
        raise DataError(f"{source}: no such folder")
    return None


def open_hub(source: str) -> dict[str, Table]:
    """The splits of ``hub:NAME`` or ``hub:NAME/CONFIG`` by name. Class labels come as their names.

    Raises DataError where the library cannot load it.
    """
    folder = local_folder(source)
    loaded = _load_name(source.removeprefix(HUB_PREFIX)) if folder is None else _load_folder(folder)
    return {split: _table(f"{source}, {split}", dataset) for split, dataset in loaded.items()}


def _load_folder(folder: Path) -> Mapping[str, Any]:
    import datasets

    for path in files_below(folder):
        if path.exists():
            check_regular(path)
    try:
        if (folder / "dataset_dict.json").is_file():
            saved: Mapping[str, Any] = datasets.load_from_disk(str(folder))
            return saved
        # The library tells files by size and time, and would go on with what an edited one held before.
        loaded: Mapping[str, Any] = datasets.load_dataset(str(folder), download_mode="force_redownload")
    except Exception as error:  # the library raises what its readers raise
        raise _failure(str(folder), error) from error
    return loaded


def _load_name(name: str) -> Mapping[str, Any]:
    import datasets

    parent, _, last = name.rpartition("/")
    # OWNER/DATASET and DATASET/CONFIG look alike; the hub's own names come first.
    attempts = [(name,), (parent, last)] if parent else [(name,)]
    failures = []
    for attempt in attempts:
        try:
            loaded: Mapping[str, Any] = datasets.load_dataset(*attempt)
            return loaded
        except Exception as error:  # the library raises what its readers and the network raise
            failures.append(error)
    raise _failure(name, failures[0]) from failures[0]


def _failure(name: str, error: Exception) -> DataError:
    reason = next(iter(str(error).splitlines()), type(error).__name__)
    return DataError(f"{HUB_PREFIX}{name}: cannot be loaded: {shortened(reason, _REASON_CHARACTERS)}")


def _table(name: str, dataset: Any) -> Table:
    label_names = {column: names for column, feature in dataset.features.items() if (names := _names(feature))}
    return Table(name, tuple(dataset.column_names), _rows(dataset, label_names), label_names)


def _names(feature: Any) -> tuple[str, ...]:
    """Names of a class label, or of the class labels that a list holds."""
    return tuple(getattr(feature, "names", None) or getattr(getattr(feature, "feature", None), "names", None) or ())


def _rows(dataset: Any, label_names: Mapping[str, tuple[str, ...]]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    number = 0
    for batch in dataset.iter(batch_size=1000):
        for values in zip(*batch.values(), strict=True):
            number += 1
            record = dict(zip(batch, values, strict=True))
            for column, names in label_names.items():
                record[column] = _named(record[column], names)
            yield f"row {number}", record


def _named(value: Any, names: tuple[str, ...]) -> Any:
    """Labels by name; -1, which stands for no label, as None."""
    if isinstance(value, list):
        return [_named(item, names) for item in value]
    return None if value is None or value < 0 else names[value]
