"""JSON as data files hold it."""

from __future__ import annotations

import json
from typing import Any

from ortnas.nas.data.failures import shown
from ortnas.nas.failures import DataError


def parse_json(text: str, place: str) -> Any:
    """The value of a text. Raises DataError, which names the place, also where an object has two values for a key."""
    try:
        return json.loads(text, object_pairs_hook=_object)
    except RecursionError:
        raise DataError(f"{place}: lists or objects are nested too deeply") from None
    except ValueError as error:
        reason = "an integer has too many digits" if "digits" in str(error) else error
        raise DataError(f"{place}: no JSON: {reason}") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"an object has the key {shown(twice)} twice")
    return values
