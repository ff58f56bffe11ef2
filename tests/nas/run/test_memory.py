from __future__ import annotations

from pathlib import Path

import pytest

from ortnas.nas.run.configuration import ConfigurationError
from ortnas.nas.run.memory import check_attention, memory_bytes, tokens_at_a_time
from tests.networks import make_dimensions


def test_the_smallest_limit_that_is_told_counts(tmp_path: Path) -> None:
    machine = memory_bytes(tmp_path)
    assert machine is not None
    assert machine > 1e8
    limit = tmp_path / "sys/fs/cgroup/memory.max"
    limit.parent.mkdir(parents=True)
    limit.write_text("max\n")
    assert memory_bytes(tmp_path) == machine
    limit.write_text("50000000\n")
    assert memory_bytes(tmp_path) == 50_000_000


def test_texts_whose_attention_no_memory_holds_are_refused(tmp_path: Path) -> None:
    limit = tmp_path / "sys/fs/cgroup/memory.max"
    limit.parent.mkdir(parents=True)
    limit.write_text("4000000000")
    network = make_dimensions(num_heads=12, max_positions=8192)
    check_attention(network, 1, 4096, "data.max_length = 4096", tmp_path)
    with pytest.raises(
        ConfigurationError, match=r"max_length = 8192: .* 1 x 8192 .* 12 heads takes 6\.4 GB .* 4\.0 GB"
    ):
        check_attention(network, 1, 8192, "data.max_length = 8192", tmp_path)


def test_a_usual_batch_is_split_at_base_size_alone() -> None:
    base = make_dimensions(hidden_size=768, num_layers=12, num_heads=12, head_size=64, ffn_size=3072)
    small = make_dimensions(hidden_size=384, num_layers=6, num_heads=12, head_size=32, ffn_size=1536)
    assert 16 * 128 < tokens_at_a_time(base.full_subnet) < 32 * 128
    assert tokens_at_a_time(small.full_subnet) > 64 * 128
