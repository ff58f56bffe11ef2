"""The worker's messages, as they come on its stream: whatever is wrong with one, the next is read."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from ortnas.bench.difference import find_difference
from ortnas.bench.digests import digest_of
from ortnas.bench.worker import Worker

PAYLOAD = bytes(range(256)) * 9_000  # more than two blocks, and no pipe holds as much


def put(worker: Worker, payload: bytes, **message: Any) -> None:
    """Sees to it that nothing of the payload, and nothing behind it, is left or taken."""
    stream = io.BytesIO(payload + b"the next message")
    try:
        worker.answer({"do": "put", "size_bytes": len(payload), **json.loads(json.dumps(message))}, stream)
    finally:
        assert stream.read() == b"the next message"


@pytest.fixture
def worker(tmp_path: Path) -> Worker:
    return Worker(tmp_path)


def test_what_was_put_whole_or_as_slices_is_there(worker: Worker, models: list[bytes]) -> None:
    put(worker, models[0], digest=digest_of(models[0]))
    for model in models[1:]:
        difference = find_difference(model, models[0])
        assert difference.has_slices
        parts, source = difference.parts_to_json(), digest_of(models[0])
        put(worker, difference.content, digest=digest_of(model), source=source, parts=parts)
    stored = {path.name: path.read_bytes() for path in worker.folder.iterdir()}
    assert stored == {f"{digest_of(model)}.onnx": model for model in models}


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"digest": "../escape"}, "is no SHA-256 digest"),
        ({"digest": "0" * 64}, "do not match its digest"),
        ({"digest": "0" * 64, "source": "1" * 64, "parts": [3]}, "the model 111111111111, from which this one is cut"),
        ({"digest": "0" * 64, "source": "../escape", "parts": [3]}, "is no SHA-256 digest"),
        ({"digest": "0" * 64, "source": digest_of(b"source"), "parts": [3]}, "do not match its digest"),
        ({"digest": "0" * 64, "source": digest_of(b"source"), "parts": [1 << 30]}, "end early"),
        ({"digest": "0" * 64, "source": digest_of(b"source"), "parts": "all"}, "parts of a model are a list"),
        (
            {
                "digest": "0" * 64,
                "source": digest_of(b"source"),
                "parts": [{"offset": 4, "shape": [4], "kept": [2]}],
            },
            "reaches beyond the end",
        ),
    ],
)
def test_the_payload_is_taken_off_the_stream_whatever_is_wrong(
    worker: Worker, message: dict[str, Any], expected: str
) -> None:
    put(worker, b"source", digest=digest_of(b"source"))
    with pytest.raises(ValueError, match=expected):
        put(worker, PAYLOAD, **message)
    assert [path.name for path in worker.folder.iterdir()] == [f"{digest_of(b'source')}.onnx"]


def test_a_folder_that_is_gone_leaves_the_stream_in_step(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        put(Worker(tmp_path / "gone"), PAYLOAD, digest=digest_of(PAYLOAD))
