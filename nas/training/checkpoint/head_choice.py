"""What becomes of a checkpoint's head: it is kept, with the rows that the task's labels need, or made anew."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from ortnas.nas.architecture.dimensions import Dimensions
from ortnas.nas.architecture.heads import HEADS
from ortnas.nas.failures import CheckpointError
from ortnas.nas.training.checkpoint.canonical import stored_head_names, stored_names
from ortnas.nas.training.checkpoint.config import CheckpointConfig
from ortnas.nas.training.checkpoint.folder import CONFIG_FILE
from ortnas.nas.training.checkpoint.labels import match_labels
from ortnas.nas.wording import listed, shown

# What transformers calls classifiers of several labels a text.
_LABEL_SETS = "multi_label_classification"


@dataclass(frozen=True)
class HeadChoice:
    """What becomes of the checkpoint's head: the rows of its classifier to take (None: all), and their names."""

    labels: tuple[str, ...]
    is_trained: bool
    size: int = 0
    rows: tuple[int, ...] | None = None
    order_is_open: bool = False
    notes: tuple[str, ...] = ()


def choose_head(
    config: CheckpointConfig,
    state: Mapping[str, Tensor],
    dimensions: Dimensions,
    labels: tuple[str, ...],
    label_names: Mapping[str, str],
    new_head: bool,
) -> HeadChoice:
    head = HEADS[dimensions.head]
    if not head.has_classifier:
        # An embedding has no weights of its own.
        is_trained = head.makes_vectors or _holds_head(config, state, dimensions)
        if not is_trained and not head.has_labels:
            raise CheckpointError(
                f"checkpoint {config.name}: it has no head of a masked LM, and {dimensions.head} needs one that is "
                f"trained, since nothing else says what is right"
            )
        return HeadChoice((), is_trained)
    size = head.label_rows or len(labels)
    fresh = HeadChoice(labels, False, size)
    if new_head or not _holds_head(config, state, dimensions):
        return fresh
    own_rows = len(state[stored_names(config, dimensions)["head.classifier.weight"]])
    if head.label_rows:
        if own_rows == size:
            _check_problem_type(config, dimensions.head)
            return replace(fresh, is_trained=True)
        return replace(
            fresh, notes=(f"the checkpoint's head gives {own_rows} numbers, {dimensions.head} needs {size}",)
        )
    own = config.label_names() or tuple(f"LABEL_{row}" for row in range(own_rows))
    if len(own) != own_rows:
        raise CheckpointError(
            f"checkpoint {config.name}: config.json names {len(own)} labels, its classifier has {own_rows} rows"
        )
    if not labels:
        _check_problem_type(config, dimensions.head)
        return HeadChoice(own, True, own_rows)
    matched = match_labels(config.name, own, labels, label_names)
    if matched is None:
        other = f"the checkpoint's head is for other labels: {listed(own)}"
        return replace(fresh, notes=(other,))
    _check_problem_type(config, dimensions.head)
    return HeadChoice(matched.names, True, own_rows, matched.rows, matched.rows is None, matched.notes)


def _check_problem_type(config: CheckpointConfig, head: str) -> None:
    """Raises CheckpointError where the checkpoint's classifier gives several labels to a text and the head one, or the
    other way round. A file that says nothing is of one label a text: training for several writes it down."""
    own = config.document.get("problem_type")
    gives_several = own == _LABEL_SETS
    if not HEADS[head].problem_type or HEADS[head].takes_label_sets == gives_several:
        return
    stated = f"problem_type: {shown(own)}" if own else "it states no problem_type"
    if gives_several:
        of_sets = next(name for name, row in HEADS.items() if row.takes_label_sets)
        raise CheckpointError(
            f"checkpoint {config.name}: its head gives several labels to a text ({stated}); head: {of_sets} keeps "
            f"them, training.new_head: true trains another head in its place"
        )
    raise CheckpointError(
        f"checkpoint {config.name}: its head gives one label to a text ({stated}), and {head} several; "
        f"training.new_head: true trains a head for them. A head that does give several says so in {CONFIG_FILE}: "
        f'"problem_type": "{_LABEL_SETS}"'
    )


def _holds_head(config: CheckpointConfig, state: Mapping[str, Tensor], dimensions: Dimensions) -> bool:
    """Whether all tensors of the head are there, and those of a head of this kind.

    Classifiers of texts and of tokens may have the same name and shape: the architectures tell, and where there are
    none, whether there is all that another head has beside them.
    """
    head, family = dimensions.head, config.family
    if not all(theirs in state for theirs in stored_head_names(config, dimensions).values()):
        return False
    if architectures := config.architectures:
        brought = family.also_trained.get(head, ())
        return any(kind.endswith(HEADS[head].class_suffix) or kind in brought for kind in architectures)
    own = set(stored_head_names(config, dimensions).values())
    larger = (set(stored_head_names(config, replace(dimensions, head=other)).values()) for other in HEADS)
    return not any(own < names <= state.keys() for names in larger)
