"""Latency files of AutoTinyBERT and its successors: a line per timing, ``repr`` of a dictionary, a tab, milliseconds.

The keys are ``sample_layer_num``, ``sample_hidden_size``, and one entry per layer of ``sample_num_attention_heads``,
``sample_intermediate_sizes`` and ``sample_qkv_sizes``. Lines are read by a grammar of exactly that; nothing is
evaluated.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ortnas.nas.failures import OrtnasError

_LAYERS, _HIDDEN, _HEADS = "sample_layer_num", "sample_hidden_size", "sample_num_attention_heads"
_FFN, _QKV = "sample_intermediate_sizes", "sample_qkv_sizes"
_KEYS = (_LAYERS, _HEADS, _HIDDEN, _FFN, _QKV)
_LONGEST_LINE = 16_384
_MOST_LAYERS, _LARGEST_SIZE = 256, 65_536
_LEAST_MS, _MOST_MS = 1e-3, 1e7
_PAIR = re.compile(r" *'(\w{1,40})' *: *(?:(\d{1,6})|\[([\d, ]*)\]) *", re.ASCII)
_SIZE = re.compile(r" *\d{1,6} *", re.ASCII)
_MILLISECONDS = re.compile(r" *\d{1,12}(?:\.\d{0,20})?(?:[eE][+-]?\d{1,2})? *", re.ASCII)

Sizes = dict[str, int | list[int]]


class LatencyFileError(OrtnasError):
    """A latency file that cannot be read; the message names the line."""


def read_latency_file(path: Path) -> list[tuple[dict[str, Any], float]]:
    """JSON of each line's subnet (``nas.architecture.subnet.Subnet``) and its latency in ms; duplicates are kept.

    A number stands for a list of equal entries, missing ``sample_qkv_sizes`` for the hidden size. Layers are cut from
    the first ones of the supernet. Raises LatencyFileError.
    """
    rows = []
    number = 0
    try:
        with path.open("rb") as stream:
            while line := stream.readline(_LONGEST_LINE + 1):
                number += 1
                if line.strip():
                    rows.append(_row(line))
    except OSError as error:
        raise LatencyFileError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise LatencyFileError(f"{path}, line {number}: {error}") from None
    if not rows:
        raise LatencyFileError(f"{path} holds no timings")
    return rows


def write_latency_file(path: Path, rows: Iterable[tuple[Mapping[str, Any], float]]) -> None:
    """Writes subnets' JSON and latencies in ms. The format has no place for which layers a subnet is cut from."""
    temporary = path.with_name(f".{path.name}.part")
    try:
        with temporary.open("w", encoding="ascii") as stream:
            for subnet, latency_ms in rows:
                stream.write(f"{_sizes_of(subnet)!r}\t{float(latency_ms)!r}\n")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _sizes_of(subnet: Mapping[str, Any]) -> Sizes:
    layers = subnet["layers"]
    return {
        _LAYERS: len(layers),
        _HEADS: [layer["num_heads"] for layer in layers],
        _HIDDEN: subnet["hidden_size"],
        _FFN: [layer["ffn_size"] for layer in layers],
        _QKV: [layer["num_heads"] * layer["head_size"] for layer in layers],
    }


def _row(line: bytes) -> tuple[dict[str, Any], float]:
    """Raises ValueError with what is wrong."""
    if len(line) > _LONGEST_LINE:
        raise ValueError(f"longer than {_LONGEST_LINE} characters")
    text, tab, milliseconds = line.decode("ascii", "replace").strip("\r\n").partition("\t")
    if not tab:
        raise ValueError("a dictionary, a tab and milliseconds are expected; there is no tab")
    sizes = _parse(text.strip(" "))
    if not _MILLISECONDS.fullmatch(milliseconds):
        raise ValueError(f"{milliseconds[:40]!r} is no number of milliseconds")
    latency_ms = float(milliseconds)
    if not _LEAST_MS <= latency_ms <= _MOST_MS:
        raise ValueError(f"{latency_ms:g} ms is no plausible latency; {_LEAST_MS:g} to {_MOST_MS:g} ms are")
    return _subnet(sizes), latency_ms


def _parse(text: str) -> Sizes:
    """The dictionary of a line."""
    if not (text.startswith("{") and text.endswith("}")):
        raise ValueError(f"{text[:40]!r} is no dictionary in braces")
    sizes: Sizes = {}
    position, end = 1, len(text) - 1
    while True:
        pair = _PAIR.match(text, position, end)
        if pair is None:
            raise ValueError(f"{text[position : position + 40]!r} is no 'key': number or 'key': [number, ...]")
        key, number, entries = pair.groups()
        if key not in _KEYS:
            raise ValueError(f"unknown key {key!r}; allowed are {', '.join(_KEYS)}")
        if key in sizes:
            raise ValueError(f"{key} occurs twice")
        sizes[key] = int(number) if number else [_size(entry, key) for entry in entries.split(",")]
        position = pair.end()
        if position == end:
            return sizes
        if text[position] != ",":
            raise ValueError(f"a comma or the closing brace is expected at {text[position : position + 40]!r}")
        position += 1


def _size(text: str, key: str) -> int:
    if not _SIZE.fullmatch(text):
        raise ValueError(f"{key} holds {text[:40]!r} where a whole number of up to six digits is expected")
    return int(text)


def _subnet(sizes: Sizes) -> dict[str, Any]:
    for key in (_LAYERS, _HIDDEN, _HEADS, _FFN):
        if key not in sizes:
            raise ValueError(f"{key} is missing")
    layers, hidden = sizes[_LAYERS], sizes[_HIDDEN]
    if isinstance(layers, list) or isinstance(hidden, list):
        raise ValueError(f"{_LAYERS} and {_HIDDEN} are single numbers")
    if not 1 <= layers <= _MOST_LAYERS:
        raise ValueError(f"{_LAYERS} is {layers}; 1 to {_MOST_LAYERS} are possible")
    heads, ffn, qkv = (_per_layer(key, sizes.get(key, hidden), layers) for key in (_HEADS, _FFN, _QKV))
    for key, entries in ((_HIDDEN, [hidden]), (_HEADS, heads), (_FFN, ffn), (_QKV, qkv)):
        for entry in entries:
            if not 1 <= entry <= _LARGEST_SIZE:
                raise ValueError(f"{key} holds {entry}; 1 to {_LARGEST_SIZE} are possible")
    for width, num_heads in zip(qkv, heads, strict=True):
        if width % num_heads:
            raise ValueError(f"{num_heads} heads cannot share {_QKV} of {width} evenly")
    return {
        "hidden_size": hidden,
        "layers": [
            {"source": source, "num_heads": num_heads, "head_size": width // num_heads, "ffn_size": ffn_size}
            for source, (num_heads, width, ffn_size) in enumerate(zip(heads, qkv, ffn, strict=True))
        ],
    }


def _per_layer(key: str, value: int | list[int], layers: int) -> list[int]:
    if isinstance(value, int):
        return [value] * layers
    if len(value) != layers:
        raise ValueError(f"{key} has {len(value)} entries for {layers} layers")
    return value
