"""A teacher's signals of the training texts, kept on disk: computed when a text is first seen, read from then on."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ortnas.nas.architecture.dimensions import Dimensions
from ortnas.nas.architecture.heads import HEADS
from ortnas.nas.files import aside, digest
from ortnas.nas.training.batches import Batch, EncodedSource
from ortnas.nas.training.loss_names import ATTENTION_LOSSES, HIDDEN_LOSSES, LABEL_LOSSES, OUTPUT_LOSSES
from ortnas.nas.training.objective import Objective, Signals

# Of the free disk, so much may be taken.
_SHARE_OF_DISK = 0.5


class KeptSignals:
    """The head's outputs, float32, and hidden states in the teacher's channels, float16, of every text that was seen.

    ``inputs`` names teacher, texts and how they are encoded; signals of other inputs in ``folder`` are removed. Once
    ``limit_bytes`` are taken, or half of the free disk, the other texts are computed every time. Processes of one
    training, told apart by ``rank``, share the files. ``seen`` marks the texts that are kept. What a
    text's signals are does not depend on where they come from: what is computed is rounded as what is kept. Raises
    OSError where the folder cannot be written to.
    """

    def __init__(
        self,
        folder: Path,
        inputs: str,
        objective: Objective,
        examples: EncodedSource,
        limit_bytes: int,
        rank: int = 0,
    ) -> None:
        tables = _tables(objective)
        own = folder / digest(inputs, objective.dimensions.to_json(), sorted(tables), len(examples))
        if rank == 0 and folder.is_dir():
            for other in set(folder.iterdir()) - {own}:
                shutil.rmtree(other, ignore_errors=True)
        own.mkdir(parents=True, exist_ok=True)
        self._files = {name: _SignalFile(own / name, examples.lengths, *shape) for name, shape in tables.items()}
        self._marks = own / f"seen-{rank}.npy"
        self.seen = np.zeros(len(examples), bool)
        for path in own.glob("seen-*.npy"):
            if all(file.is_whole for file in self._files.values()):
                self.seen |= _read_marks(path, len(examples))
            else:
                path.unlink(missing_ok=True)
        # Only now, so that no process takes up marks of what was lost.
        for file in self._files.values():
            file.make_whole()
        self._bytes: npt.NDArray[np.int64] = np.sum([file.row_bytes for file in self._files.values()], axis=0)
        self.limit_bytes = limit_bytes
        free = _SHARE_OF_DISK * shutil.disk_usage(own).free
        self._room = min(limit_bytes - self.kept_bytes, int(free))

    @property
    def has_room(self) -> bool:
        """For the signals of all texts."""
        return int(self._bytes[~self.seen].sum()) <= self._room

    @property
    def kept_bytes(self) -> int:
        return int(self._bytes[self.seen].sum())

    def signals(self, batch: Batch, compute: Callable[[Batch], Signals]) -> Signals:
        """The signals of a batch with ``rows``; ``compute`` is called for the texts that are not kept, if any."""
        rows = batch["rows"].tolist()
        unseen = [place for place, row in enumerate(rows) if not self.seen[row]]
        arrays = {name: file.empty(len(rows), batch["input_ids"].shape[1]) for name, file in self._files.items()}
        device = batch["input_ids"].device
        if unseen:
            places = torch.tensor(unseen).to(device)
            part = {name: tensor[places] for name, tensor in batch.items()}
            computed = compute(part)
            for name, file in self._files.items():
                arrays[name][unseen] = file.rounded(getattr(computed, name), part["attention_mask"])
        for place, row in enumerate(rows):
            if self.seen[row]:
                for name, file in self._files.items():
                    file.read(row, arrays[name][place])
        self._keep([(place, rows[place]) for place in unseen], arrays)
        tensors = {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}
        return Signals(tensors.get("output"), tensors.get("projected"), None)

    def _keep(self, places: Sequence[tuple[int, int]], arrays: dict[str, npt.NDArray[Any]]) -> None:
        for place, row in places:
            if not self.seen[row] and self._bytes[row] <= self._room:
                for name, file in self._files.items():
                    file.write(row, arrays[name][place])
                self._room -= int(self._bytes[row])
                self.seen[row] = True

    def flush(self) -> None:
        """Sees what is kept to the disk. The marks come last: a text that has one is there whole."""
        for file in self._files.values():
            file.flush()
        with aside(self._marks) as temporary, temporary.open("wb") as stream:
            np.save(stream, self.seen, allow_pickle=False)


class _SignalFile:
    """A file of one signal: a vector for each text, or for each of its tokens. Rows lie where they would if all were
    there; what was never written takes no room on most file systems."""

    def __init__(
        self, path: Path, lengths: npt.NDArray[np.int64], width: int, is_of_tokens: bool, dtype: type[np.floating[Any]]
    ) -> None:
        self._width, self._is_of_tokens, self._dtype = width, is_of_tokens, np.dtype(dtype)
        self._vectors = lengths if is_of_tokens else np.ones_like(lengths)
        self.row_bytes = self._vectors * width * self._dtype.itemsize
        self._starts = np.cumsum(self.row_bytes) - self.row_bytes
        path.touch()
        # Without a buffer, so that processes see what others have written.
        self._file = FileIO(path, "r+")

    @property
    def is_whole(self) -> bool:
        return os.fstat(self._file.fileno()).st_size == int(self.row_bytes.sum())

    def make_whole(self) -> None:
        self._file.truncate(int(self.row_bytes.sum()))

    def empty(self, batch: int, sequence: int) -> npt.NDArray[Any]:
        """[batch, width] or [batch, sequence, width], zeros."""
        return np.zeros((batch, sequence, self._width) if self._is_of_tokens else (batch, self._width), self._dtype)

    def rounded(self, signal: Tensor, attention_mask: Tensor) -> npt.NDArray[Any]:
        """As it is read: of the file's type, zero at padding."""
        if self._is_of_tokens:
            signal = signal.masked_fill(attention_mask[..., None] == 0, 0)
        return signal.float().cpu().numpy().astype(self._dtype)

    def write(self, row: int, values: npt.NDArray[Any]) -> None:
        self._file.seek(int(self._starts[row]))
        content = self._of_row(row, values).tobytes()
        while content:
            content = content[self._file.write(content) :]

    def read(self, row: int, values: npt.NDArray[Any]) -> None:
        """Into ``values``, [width] or [sequence, width]."""
        self._file.seek(int(self._starts[row]))
        content = self._file.read(int(self.row_bytes[row]))
        if len(content) != self.row_bytes[row]:
            raise OSError(f"{self._file.name} was cut while it was in use")
        place = self._of_row(row, values)
        place[...] = np.frombuffer(content, self._dtype).reshape(place.shape)

    def _of_row(self, row: int, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The part of an array that a text's tokens fill."""
        return values[: self._vectors[row]] if self._is_of_tokens else values

    def flush(self) -> None:
        os.fsync(self._file.fileno())


def can_be_kept(objective: Objective) -> bool:
    """Whether all that the losses want of a teacher is a function of the text, and small: not its queries, keys and
    values, nor what is masked anew every time."""
    fills_masks = HEADS[objective.dimensions.head].fills_masks
    return objective.needs_teacher and not fills_masks and not objective.losses.keys() & ATTENTION_LOSSES


def signal_bytes(objective: Objective, examples: EncodedSource) -> int:
    """What the signals of all texts take."""
    vectors = {True: int(examples.lengths.sum()), False: len(examples)}
    return sum(
        vectors[is_of_tokens] * width * np.dtype(dtype).itemsize
        for width, is_of_tokens, dtype in _tables(objective).values()
    )


def _tables(objective: Objective) -> dict[str, tuple[int, bool, type[np.floating[Any]]]]:
    """Width, whether there is a vector for every token, and type, by name of the signal."""
    dimensions, losses = objective.dimensions, objective.losses.keys()
    tables: dict[str, tuple[int, bool, type[np.floating[Any]]]] = {}
    if losses & (OUTPUT_LOSSES - LABEL_LOSSES):
        tables["output"] = (_output_width(dimensions), HEADS[dimensions.head].is_token_level, np.float32)
    if losses & HIDDEN_LOSSES:
        tables["projected"] = (dimensions.hidden_size, True, np.float16)
    return tables


def _output_width(dimensions: Dimensions) -> int:
    head = HEADS[dimensions.head]
    if head.makes_vectors:
        return dimensions.embedding_size
    return dimensions.vocab_size if head.weighs_vocabulary else dimensions.num_labels


def _read_marks(path: Path, count: int) -> npt.NDArray[np.bool_]:
    """Which texts are there; none where the file cannot be read."""
    try:
        marks = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return np.zeros(count, bool)
    if marks.shape != (count,) or marks.dtype != bool:
        return np.zeros(count, bool)
    return np.asarray(marks, bool)
