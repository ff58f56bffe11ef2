"""Kinds of numpy arrays by the names that all modules have for them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

# Figures, float64: (n,) and (n, k).
Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
# Numbers of rows of another array, (n,).
Rows = npt.NDArray[np.int64]
# What networks are made of and answer, float32 of any shape.
Array = npt.NDArray[np.float32]
# A network's inputs by name, [batch, sequence] each.
Feeds = Mapping[str, npt.NDArray[np.int64]]
