"""A run's tokenizer without the tokens that none of its texts has."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ortnas.nas.files import write_json
from ortnas.nas.text import TOKENIZER_FILE, Example, encode, load_tokenizer

if TYPE_CHECKING:
    from ortnas.nas.training.checkpoint.vocabulary import Vocabulary

_AT_ONCE = 4096
# No text is cut.
_LENGTH = 1 << 30


def prune(
    name: str, whole: Path, folder: Path, identity: Mapping[str, Any], parts: Iterable[Sequence[Example]]
) -> None:
    """Writes to ``folder`` what is left of the tokenizer in ``whole``, and beside it what that was made of.

    What was made of the same ``identity`` before is left as it is.

    Raises CheckpointError for a kind of tokenizer that cannot lose tokens.
    """
    from ortnas.nas.training.checkpoint.vocabulary import prune_tokenizer

    marker = _marker(folder)
    recorded = json.loads(marker.read_text()) if marker.is_file() else {}
    if recorded.get("identity") != identity:
        tokenizer = load_tokenizer(whole)
        vocabulary = prune_tokenizer(name, tokenizer, _used_tokens(whole, parts))
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(whole, folder)
        vocabulary.tokenizer.save(str(folder / TOKENIZER_FILE))
        write_json(marker, {"identity": dict(identity), "kept": list(vocabulary.kept)})


def read_pruned(folder: Path) -> Vocabulary:
    """What ``prune`` wrote."""
    from ortnas.nas.training.checkpoint.vocabulary import Vocabulary

    return Vocabulary(load_tokenizer(folder), tuple(json.loads(_marker(folder).read_text())["kept"]))


def _marker(folder: Path) -> Path:
    return folder.with_suffix(".json")


def _used_tokens(whole: Path, parts: Iterable[Sequence[Example]]) -> set[int]:
    """The ids of all tokens of texts, as they are encoded for a network."""
    used, tokenizer = set[int](), load_tokenizer(whole)
    for examples in parts:
        remaining = iter(examples)
        while batch := list(islice(remaining, _AT_ONCE)):
            used.update(*encode(tokenizer, batch, _LENGTH).ids)
    return used
