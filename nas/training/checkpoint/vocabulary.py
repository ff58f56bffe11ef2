"""A tokenizer and a word table without the tokens that texts never have.

Texts whose tokens are all kept have the same tokens as before, with new ids. Others are made of smaller pieces, and
nothing becomes unknown that was not: characters stay, and so do pieces with a character that is no piece of its own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tokenizers import Tokenizer

from ortnas.nas.failures import CheckpointError
from ortnas.nas.wording import shown

if TYPE_CHECKING:
    from ortnas.nas.training.checkpoint.reading import Checkpoint


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer that knows some of another's tokens; ``kept`` are their ids there, ascending: the new id is the place
    in it."""

    tokenizer: Tokenizer
    kept: tuple[int, ...]


def prune_tokenizer(name: str, tokenizer: Tokenizer, used: set[int]) -> Vocabulary:
    """Without the tokens that are neither used nor needed. ``name`` is the checkpoint's.

    Raises CheckpointError for a kind of tokenizer in which tokens are made of each other.
    """
    document = json.loads(tokenizer.to_str())
    model = document["model"]
    kind = _KINDS.get(model.get("type"))
    if kind is None:
        raise CheckpointError(
            f"checkpoint {name}: vocabulary: prune is for WordPiece and Unigram tokenizers, and this is "
            f"{shown(model.get('type'))}: its tokens are merged from others, step by step, so that none can go alone; "
            f"leave vocabulary at keep"
        )
    pieces, needed, write = kind(model)
    added = {int(token["id"]) for token in document["added_tokens"]}
    kept = tuple(sorted(used | added | needed))
    ids = {old: new for new, old in enumerate(kept)}
    write(model, {old: pieces[old] for old in kept if old in pieces}, ids)
    for token in document["added_tokens"]:
        token["id"] = ids[int(token["id"])]
    _renumber(document.get("post_processor"), ids)
    return Vocabulary(Tokenizer.from_str(json.dumps(document)), kept)


def prune_checkpoint(checkpoint: Checkpoint, vocabulary: Vocabulary) -> Checkpoint:
    """The checkpoint with the rows of its word table that the vocabulary keeps, and its tokenizer."""
    kept, dimensions = list(vocabulary.kept), checkpoint.dimensions
    tensors = checkpoint.tensors | {"embeddings.word": checkpoint.tensors["embeddings.word"][kept].clone()}
    padding = vocabulary.kept.index(dimensions.padding_id) if dimensions.padding_id in vocabulary.kept else 0
    return replace(
        checkpoint,
        tensors=tensors,
        dimensions=replace(dimensions, vocab_size=len(kept), padding_id=padding),
        tokenizer=replace(checkpoint.tokenizer, backend=vocabulary.tokenizer),
    )


# Pieces by id, the ids of those that may not go, and what writes the others back.
_Parts = tuple[dict[int, Any], set[int], Callable[[dict[str, Any], dict[int, Any], Mapping[int, int]], None]]


def _word_piece(model: Mapping[str, Any]) -> _Parts:
    prefix = model.get("continuing_subword_prefix") or ""
    pieces = {int(row): piece for piece, row in model["vocab"].items()}
    vocabulary = set(model["vocab"])

    def forms(piece: str) -> list[str]:
        """Of each character alone, as it stands in the piece."""
        inside, text = (True, piece[len(prefix) :]) if prefix and piece.startswith(prefix) else (False, piece)
        return [f"{prefix}{letter}" if inside or place else letter for place, letter in enumerate(text)]

    needed = {row for row, piece in pieces.items() if _is_needed(forms(piece), vocabulary)}
    unknown = model["vocab"].get(model.get("unk_token"))

    def write(model: dict[str, Any], kept: dict[int, str], ids: Mapping[int, int]) -> None:
        model["vocab"] = {piece: ids[row] for row, piece in kept.items()}

    return pieces, needed | ({int(unknown)} if unknown is not None else set()), write


def _unigram(model: Mapping[str, Any]) -> _Parts:
    pieces = dict(enumerate(model["vocab"]))
    vocabulary = {piece for piece, _ in model["vocab"]}
    needed = {row for row, (piece, _) in pieces.items() if _is_needed(list(piece), vocabulary) or _is_byte(piece)}
    # What is unknown costs a fixed sum more than the least likely piece.
    needed.add(min(pieces, key=lambda row: float(pieces[row][1])))
    if model.get("unk_id") is not None:
        needed.add(int(model["unk_id"]))

    def write(model: dict[str, Any], kept: dict[int, Any], ids: Mapping[int, int]) -> None:
        # Added tokens that are no pieces come behind all that are.
        model["vocab"] = list(kept.values())
        if model.get("unk_id") is not None:
            model["unk_id"] = ids[int(model["unk_id"])]

    return pieces, needed, write


_KINDS: dict[str, Callable[[Mapping[str, Any]], _Parts]] = {"WordPiece": _word_piece, "Unigram": _unigram}


def _is_needed(characters: Sequence[str], vocabulary: set[str]) -> bool:
    """Whether a piece is a character, or has one that no piece is."""
    return len(characters) <= 1 or not vocabulary.issuperset(characters)


def _is_byte(piece: str) -> bool:
    """What stands for a byte of characters that have no piece."""
    return len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">")


def _renumber(processor: Any, ids: Mapping[int, int]) -> None:
    """Ids of the special tokens that are put around texts, wherever a post-processor keeps them."""
    if isinstance(processor, dict):
        for key in ("sep", "cls"):
            if isinstance(processor.get(key), list):
                processor[key][1] = ids[int(processor[key][1])]
        for token in (processor.get("special_tokens") or {}).values():
            token["ids"] = [ids[int(row)] for row in token["ids"]]
        for part in processor.get("processors") or ():
            _renumber(part, ids)
