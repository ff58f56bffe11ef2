"""What the SparseEncoder of sentence-transformers does around a masked LM (SPLADE)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ortnas.nas.failures import CheckpointError
from ortnas.nas.training.checkpoint.config import CheckpointConfig
from ortnas.nas.training.checkpoint.folder import MODULES_FILE, read_file
from ortnas.nas.training.checkpoint.sentence_texts import SentenceTexts, read_sentence_texts
from ortnas.nas.wording import listed, shown

_MODULES = ("MLMTransformer", "SpladePooling")
# What packages compute: log(1 + relu(logits)), the largest of all tokens.
_SETTINGS = {"pooling_strategy": "max", "activation_function": "relu"}


@dataclass(frozen=True)
class SparseEncoder:
    texts: SentenceTexts


def read_sparse_encoder(config: CheckpointConfig, folder: Path) -> SparseEncoder | None:
    """None where the folder is no model of sentence-transformers. Raises CheckpointError for one that makes other
    vectors."""
    name = config.name
    if not (folder / MODULES_FILE).is_file():
        return None
    modules = read_file(name, folder, MODULES_FILE, list)
    entries = [entry if isinstance(entry, dict) else {} for entry in modules]
    kinds = tuple(str(entry.get("type")).rpartition(".")[2] for entry in entries)
    if kinds != _MODULES:
        raise CheckpointError(
            f"checkpoint {name}: {MODULES_FILE} lists {listed(kinds)}; of sparse encoders, {listed(_MODULES)} are "
            f"served"
        )
    place = Path(str(entries[1].get("path"))) / "config.json"
    if place.is_absolute() or ".." in place.parts:
        raise CheckpointError(
            f"checkpoint {name}: {MODULES_FILE} has a module in {shown(str(place))}, not in the folder"
        )
    settings = read_file(name, folder, str(place)) if (folder / place).is_file() else {}
    for key, served in _SETTINGS.items():
        if (value := settings.get(key, served)) != served:
            raise CheckpointError(f"checkpoint {name}: {key} = {shown(value)} in {place}; packages know {served!r}")
    return SparseEncoder(read_sentence_texts(config, folder, "fill-mask"))
