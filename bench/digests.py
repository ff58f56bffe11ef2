"""Digests: what names contents, so that equal ones are sent, kept and timed once."""

from __future__ import annotations

import hashlib


def digest_of(content: bytes) -> str:
    """SHA-256 in 64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()
