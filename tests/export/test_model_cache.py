from __future__ import annotations

import pickle

import pytest

from ortnas.export.model_cache import ModelCache


class Builder:
    def __init__(self) -> None:
        self.built: list[int] = []

    def model(self, cache: ModelCache, key: int, size: int = 4) -> bytes:
        def build() -> bytes:
            self.built.append(key)
            return bytes([key]) * size

        return cache.get(key, build)


def test_a_model_is_built_once() -> None:
    cache, builder = ModelCache(), Builder()
    assert [builder.model(cache, key) for key in (1, 2, 1)] == [b"\1" * 4, b"\2" * 4, b"\1" * 4]
    assert builder.built == [1, 2]


def test_what_was_used_longest_ago_makes_room() -> None:
    cache, builder = ModelCache(most_bytes=8), Builder()
    for key in (1, 2, 1, 3, 1, 2):
        builder.model(cache, key)
    assert builder.built == [1, 2, 3, 2]


def test_a_model_larger_than_the_cache_is_given_but_not_kept() -> None:
    cache, builder = ModelCache(most_bytes=8), Builder()
    assert len(builder.model(cache, 1, size=9)) == 9
    builder.model(cache, 1, size=9)
    assert builder.built == [1, 1]


def test_a_failure_is_not_kept() -> None:
    cache, builder = ModelCache(), Builder()

    def fail() -> bytes:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        cache.get(1, fail)
    assert builder.model(cache, 1) == b"\1" * 4


def test_other_processes_get_no_models() -> None:
    cache, builder = ModelCache(most_bytes=100), Builder()
    builder.model(cache, 1)
    copy = pickle.loads(pickle.dumps(cache))
    builder.model(copy, 1)
    assert (copy.most_bytes, builder.built) == (100, [1, 1])
