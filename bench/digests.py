"""Digests: what names contents, so that equal ones are sent, kept and timed once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def digest_of(content: bytes) -> str:
    """SHA-256 in 64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def short_digest(document: Mapping[str, Any]) -> str:
    """12 hexadecimal digits; equal documents have equal ones, whatever the order of their keys."""
    return digest_of(json.dumps(document, sort_keys=True).encode())[:12]
