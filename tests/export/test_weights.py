from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from ortnas.export.weights import SupernetError, memory_map, read_supernet
from tests.networks import make_dimensions, make_space, random_tensors


def write_folder(folder: Path, tensors: dict[str, np.ndarray] | None = None) -> Path:
    dimensions = make_dimensions()
    save_file(tensors or random_tensors(dimensions), folder / "model.safetensors")
    description = {
        "dimensions": dimensions.to_json(),
        "space": make_space().to_json(),
        "labels": [],
        "provenance": {"checkpoint": "x"},
    }
    (folder / "supernet.json").write_text(json.dumps(description))
    return folder


def test_tensors_are_mapped_not_copied(tmp_path: Path) -> None:
    expected = random_tensors(make_dimensions())
    tensors = read_supernet(write_folder(tmp_path)).tensors
    for name, tensor in expected.items():
        np.testing.assert_array_equal(tensors[name], tensor)
        assert not tensors[name].flags.writeable
        assert not tensors[name].flags.owndata


def test_digest_changes_with_the_weights(tmp_path: Path) -> None:
    first = read_supernet(write_folder(tmp_path)).digest
    assert first == read_supernet(tmp_path).digest
    assert first != read_supernet(write_folder(tmp_path, random_tensors(make_dimensions(), seed=5))).digest


@pytest.mark.parametrize(
    "content", [b"", b"\x05", b"\xff" * 64, (9).to_bytes(8, "little") + b"not json!", b"\x02" + b"\0" * 7 + b"{}"[:1]]
)
def test_damaged_weights_get_a_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(SupernetError, match="cannot be read as safetensors"):
        memory_map(path)


def test_a_file_cut_short_is_refused(tmp_path: Path) -> None:
    path = write_folder(tmp_path) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(SupernetError, match="cannot be read"):
        read_supernet(tmp_path)


def test_missing_wrong_and_infinite_tensors_are_named(tmp_path: Path) -> None:
    tensors = random_tensors(make_dimensions())
    with pytest.raises(SupernetError, match=r"layers.1.ffn_in.bias should have shape \(64,\), found nothing"):
        read_supernet(
            write_folder(tmp_path, {key: value for key, value in tensors.items() if key != "layers.1.ffn_in.bias"})
        )
    with pytest.raises(SupernetError, match=r"found \(63,\)"):
        read_supernet(write_folder(tmp_path, tensors | {"layers.1.ffn_in.bias": np.zeros(63, np.float32)}))
    broken = tensors["layers.1.ffn_in.bias"].copy()
    broken[0] = np.inf
    with pytest.raises(SupernetError, match="not finite"):
        read_supernet(write_folder(tmp_path, tensors | {"layers.1.ffn_in.bias": broken}))


def test_missing_and_foreign_folders_get_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(SupernetError, match="make a supernet with `ortnas train`"):
        read_supernet(tmp_path)
    (tmp_path / "supernet.json").write_text('{"dimensions": {}}')
    with pytest.raises(SupernetError, match="missing or unknown keys"):
        read_supernet(tmp_path)
