"""Token sequences that stay in a file and are read row by row."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ortnas.nas.text import Feeds


class PackedSequences:
    """A memory-mapped view of an Arrow file of token ids, without the rows that are left out.

    It reads like EncodedExamples; its rows have no labels.
    """

    def __init__(self, path: Path, left_out: Sequence[int] = ()) -> None:
        """Raises what pyarrow raises where the file is damaged."""
        import pyarrow

        with pyarrow.ipc.open_stream(pyarrow.memory_map(str(path))) as reader:
            column = reader.read_all().column("ids")
        # Views of the map: offsets [rows + 1] and token ids of each record batch.
        self._offsets: list[npt.NDArray[np.int32]] = [chunk.offsets.to_numpy() for chunk in column.chunks]
        self._values: list[npt.NDArray[Any]] = [chunk.values.to_numpy() for chunk in column.chunks]
        self._starts = np.cumsum([0, *(len(offsets) - 1 for offsets in self._offsets)], dtype=np.int64)
        self._left_out = np.sort(np.array(left_out, np.int64))
        # How many rows of this view lie before each row that is left out.
        self._before = self._left_out - np.arange(len(self._left_out))

    def __len__(self) -> int:
        return int(self._starts[-1]) - len(self._left_out)

    @cached_property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Ids in each row, special tokens included."""
        every = np.concatenate([np.diff(offsets) for offsets in self._offsets]).astype(np.int64)
        return np.delete(every, self._left_out)

    def ids(self, row: int) -> npt.NDArray[Any]:
        """The token ids of a row, as they are stored."""
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        stored = row + int(np.searchsorted(self._before, row, side="right"))
        batch = int(np.searchsorted(self._starts, stored, side="right")) - 1
        offsets = self._offsets[batch]
        place = stored - int(self._starts[batch])
        return self._values[batch][offsets[place] : offsets[place + 1]]

    def feeds(self, rows: Sequence[int]) -> Feeds:
        """The chosen rows as int64 arrays [batch, sequence], padded to the longest of them."""
        sequences = [self.ids(row) for row in rows]
        shape = (len(rows), max(map(len, sequences)))
        feeds = {name: np.zeros(shape, np.int64) for name in ("input_ids", "attention_mask", "token_type_ids")}
        for position, ids in enumerate(sequences):
            feeds["input_ids"][position, : len(ids)] = ids
            feeds["attention_mask"][position, : len(ids)] = 1
        return feeds

    def labelled_array(self, rows: Sequence[int]) -> npt.NDArray[np.bool_] | None:  # noqa: ARG002 one of two kinds
        return None

    def label_array(self, rows: Sequence[int]) -> npt.NDArray[Any] | None:  # noqa: ARG002
        return None
