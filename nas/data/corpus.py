"""A packed corpus in a folder: sequences of token ids in an Arrow file, and ``corpus.json``, which vouches for it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ortnas.nas.data.documents import corpus_files, documents
from ortnas.nas.data.packing import Ids, Tally, pack, special_ids
from ortnas.nas.data.sequences import PackedSequences
from ortnas.nas.data.splits import LEAST_TRAINING, Sizes
from ortnas.nas.failures import DataError
from ortnas.nas.files import aside, write_json
from ortnas.nas.text import EncodedExamples, load_tokenizer

CORPUS_FILE, SEQUENCES_FILE = "corpus.json", "sequences.arrow"
_FORMAT = 1
# Sequences in a record batch of the Arrow file; written at once.
_BATCH_ROWS = 8192
_MEGABYTE = 1_000_000

Report = Callable[[int, int, str], None]


@dataclass(frozen=True)
class PackedCorpus:
    """Sequences of one corpus without labels. ``training`` stays on the disk; the others, chosen by seed among all
    sequences, are in memory. ``counts`` has documents, sequences and tokens (without special ones)."""

    training: PackedSequences
    calibration: EncodedExamples
    search: EncodedExamples
    report: EncodedExamples
    digest: str
    counts: Mapping[str, int]
    notes: tuple[str, ...] = ()


def prepare_corpus(
    source: str,
    tokenizer_folder: Path,
    folder: Path,
    max_length: int,
    sizes: Sizes,
    seed: int,
    lower: bool = False,
    text_field: str = "text",
    report: Report | None = None,
) -> PackedCorpus:
    """Tokenises and packs a corpus into the folder, in bounded memory, and replaces what the folder recorded.

    ``report`` is told megabytes read, megabytes in all, and a note. Raises DataError, and TokenizerError where the
    tokenizer's folder holds none.
    """
    tokenizer = load_tokenizer(tokenizer_folder)
    path = Path(source).expanduser()
    files = corpus_files(path)
    folder.mkdir(parents=True, exist_ok=True)
    for stale in (CORPUS_FILE, SEQUENCES_FILE, f".{SEQUENCES_FILE}.*"):
        for left in folder.glob(stale):
            left.unlink()
    total, tally = sum(file.stat().st_size for file in files), Tally()

    def position(done: int) -> None:
        if report is not None:
            report(done // _MEGABYTE, max(1, total // _MEGABYTE), f"{tally.tokens:,} tokens")

    try:
        special_ids(tokenizer)
    except ValueError as error:
        raise DataError(f"{tokenizer_folder}: {error}, and masked-lm needs them") from None
    with aside(folder / SEQUENCES_FILE) as temporary:
        texts = documents(path, text_field, position)
        sequences = pack(texts, tokenizer, max_length, tally, lower)
        count, content = _write(sequences, temporary, max(tokenizer.get_vocab().values()))
        held_out = _choose_held_out(source, count, sizes, seed)
        recorded = {
            "format": _FORMAT,
            "counts": {"documents": tally.documents, "sequences": count, "tokens": tally.tokens},
            "notes": _notes(tally),
            "max_length": max_length,
            "lower": lower,
            "seed": seed,
            "sizes": asdict(sizes),
            "digest": hashlib.sha256(json.dumps([content, held_out]).encode()).hexdigest()[:16],
            "bytes": temporary.stat().st_size,
            "held_out": held_out,
        }
    write_json(folder / CORPUS_FILE, recorded)
    position(total)
    return read_corpus(folder)


def _write(sequences: Iterable[Ids], path: Path, largest_id: int) -> tuple[int, str]:
    """Writes the sequences; returns how many there are and the SHA-256 of lengths and ids."""
    import pyarrow

    # Ids of two bytes, where they suffice, halve the file.
    dtype = np.dtype(np.uint16 if largest_id < 1 << 16 else np.int32)
    state, count, iterator = hashlib.sha256(dtype.name.encode()), 0, iter(sequences)
    schema = pyarrow.schema({"ids": pyarrow.list_(pyarrow.from_numpy_dtype(dtype))})
    with pyarrow.ipc.new_stream(str(path), schema) as writer:
        while batch := list(islice(iterator, _BATCH_ROWS)):
            offsets = np.cumsum([0, *map(len, batch)], dtype=np.int32)
            values = np.concatenate(batch).astype(dtype)
            state.update(offsets.tobytes())
            state.update(values.tobytes())
            writer.write_batch(pyarrow.record_batch([pyarrow.ListArray.from_arrays(offsets, values)], schema=schema))
            count += len(batch)
    return count, state.hexdigest()


def _choose_held_out(source: str, count: int, sizes: Sizes, seed: int) -> dict[str, list[int]]:
    wanted = {
        "calibration": sizes.calibration,
        "search": sizes.search,
        "report": sizes.search if sizes.report is None else sizes.report,
    }
    reserved = sum(wanted.values())
    if count == 0:
        raise DataError(f"{source}: the corpus has no text of a sequence's length")
    if count < reserved + LEAST_TRAINING:
        raise DataError(
            f"{source}: the corpus has {count:,} sequences; {reserved:,} are set aside for calibration, search and "
            f"report, and training needs at least {LEAST_TRAINING} more. Use a larger corpus or smaller data.*_size "
            f"values"
        )
    chosen: Iterator[int] = iter(np.random.default_rng(seed).choice(count, reserved, replace=False).tolist())
    return {name: list(islice(chosen, size)) for name, size in wanted.items()}


def _notes(tally: Tally) -> list[str]:
    if not tally.ends_left_out:
        return []
    return [
        f"{tally.ends_left_out:,} ends of documents, too short for a sequence, are left out: "
        f"{tally.tokens_left_out:,} tokens beside {tally.tokens:,}"
    ]


def read_corpus(folder: Path) -> PackedCorpus:
    """Raises DataError where the folder is missing or damaged; of the token ids only count and size are verified."""
    remedy = "remove the folder to make it anew"
    try:
        recorded: dict[str, Any] = json.loads((folder / CORPUS_FILE).read_text(encoding="utf-8"))
        if recorded["format"] != _FORMAT:
            raise DataError(f"{folder}: the packed corpus is of another version; {remedy}")
        if (folder / SEQUENCES_FILE).stat().st_size != recorded["bytes"]:
            raise DataError(f"{folder}: the packed corpus was changed; {remedy}")
        everything = PackedSequences(folder / SEQUENCES_FILE)
        held_out: dict[str, list[int]] = recorded["held_out"]
        parts = {name: _in_memory(everything, rows) for name, rows in held_out.items()}
        training = PackedSequences(folder / SEQUENCES_FILE, [row for rows in held_out.values() for row in rows])
        return PackedCorpus(
            training, **parts, digest=recorded["digest"], counts=recorded["counts"], notes=tuple(recorded["notes"])
        )
    except DataError:
        raise
    except Exception as error:  # a damaged Arrow file raises whatever pyarrow does
        raise DataError(f"{folder}: the packed corpus cannot be read: {error}; {remedy}") from error


def _in_memory(sequences: PackedSequences, rows: list[int]) -> EncodedExamples:
    ids = [sequences.ids(row).tolist() for row in rows]
    return EncodedExamples(ids, [[0] * len(row) for row in ids])
