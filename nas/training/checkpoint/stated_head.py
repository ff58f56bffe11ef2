"""Which heads a checkpoint says that it has, before its weights are read."""

from __future__ import annotations

from ortnas.nas.architecture.heads import HEADS
from ortnas.nas.training.checkpoint.config import CheckpointConfig, read_config
from ortnas.nas.training.checkpoint.folder import MODULES_FILE, encoder_folder, find_folder, read_file
from ortnas.nas.training.checkpoint.late_interaction import is_stanford

# The module of sentence-transformers that makes vectors over the vocabulary.
_SPARSE = "SpladePooling"
# PyLate's own modules are of late interaction.
_LATE = "pylate."


def stated_heads(name: str) -> tuple[str, ...]:
    """Heads by the classes of transformers that ``config.json`` names; several where one class serves them all.

    A folder of sentence-transformers makes embeddings or sparse ones, one of PyLate or Stanford's ColBERT vectors of
    tokens. Empty for a bare encoder, and for one that fills masks: any encoder may have learnt that way. Raises
    CheckpointError.
    """
    folder = find_folder(name)
    config = read_config(name, encoder_folder(name, folder))
    if is_stanford(config, folder):
        return tuple(head for head, row in HEADS.items() if row.makes_token_vectors)
    fitting = {
        head: row
        for head, row in HEADS.items()
        if row.has_labels
        and not row.fills_masks
        and any(kind.endswith(row.class_suffix) for kind in config.architectures)
    }
    own = config.document.get("problem_type")
    of_kind = {head: row for head, row in fitting.items() if row.problem_type and row.problem_type == own}
    fitting = of_kind or {head: row for head, row in fitting.items() if not row.takes_label_sets}
    if not fitting and (folder / MODULES_FILE).is_file():
        modules = read_file(name, folder, MODULES_FILE, list)
        is_sparse = any(isinstance(entry, dict) and str(entry.get("type")).endswith(_SPARSE) for entry in modules)
        is_late = any(isinstance(entry, dict) and str(entry.get("type")).startswith(_LATE) for entry in modules)
        return tuple(
            head
            for head, row in HEADS.items()
            if (row.weighs_vocabulary if is_sparse else row.makes_token_vectors if is_late else row.makes_embeddings)
        )
    size = _num_labels(config)
    of_size = [head for head, row in fitting.items() if row.label_rows == size]
    of_any_size = [head for head, row in fitting.items() if not row.label_rows]
    return tuple(of_size or of_any_size or fitting)


def _num_labels(config: CheckpointConfig) -> int | None:
    names = config.label_names()
    stated = config.document.get("num_labels")
    return len(names) or (stated if isinstance(stated, int) else None)
