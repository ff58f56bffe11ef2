"""What a checkpoint says of itself: its name on the hub and its licence."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import yaml

from ortnas.export.package.record import Origin

_CARD_FILE = "README.md"
_HUB_NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
# The hub's identifiers of licences, such as apache-2.0.
_IDENTIFIER = re.compile(r"[a-z0-9][a-z0-9.-]*")
_NETWORK_S = 5.0


def read_origin(checkpoint: str) -> Origin:
    """Of a local folder or a hub name. A card that cannot be read or reached states nothing."""
    folder = Path(checkpoint).expanduser()
    if folder.is_dir():
        return Origin(None, _licence(folder / _CARD_FILE))
    if not _HUB_NAME.fullmatch(checkpoint):
        return Origin(None, None)
    card = _card_on_the_hub(checkpoint)
    return Origin(checkpoint, _licence(card) if card else None)


@cache
def _card_on_the_hub(name: str) -> Path | None:
    """The card from the hub's cache on this machine, else from the hub, which is asked once."""
    import huggingface_hub

    cached = huggingface_hub.try_to_load_from_cache(name, _CARD_FILE)
    if isinstance(cached, str):
        return Path(cached)
    try:
        return Path(huggingface_hub.hf_hub_download(name, _CARD_FILE, etag_timeout=_NETWORK_S))
    except Exception:  # no network, no such card, no right to it: the library has a type for each
        return None


def _licence(card: Path) -> str | None:
    """The ``license`` of the card's YAML front matter."""
    try:
        text = card.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    front = re.match(r"\ufeff?---\s*\n(.*?)\n---\s*(\n|$)", text, re.DOTALL)
    try:
        document = yaml.safe_load(front[1]) if front else None
    except (yaml.YAMLError, ValueError, RecursionError):  # others than YAML's own come of odd dates and deep nesting
        return None
    stated = document.get("license") if isinstance(document, dict) else None
    if isinstance(stated, list) and len(stated) == 1:
        (stated,) = stated
    return stated if isinstance(stated, str) and _IDENTIFIER.fullmatch(stated) else None
