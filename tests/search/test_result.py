from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from ortnas.search.result import SearchResult, SearchResultError, read_result
from tests.networks import make_space
from tests.search.results import make_result


@pytest.fixture
def result() -> SearchResult:
    return make_result(make_space(), make_space().largest)


def test_what_is_written_is_read_back(tmp_path: Path, result: SearchResult) -> None:
    result.write(tmp_path)
    assert read_result(tmp_path) == result
    without = replace(result, finalists=result.finalists[1:], winner=None)
    without.write(tmp_path)
    assert read_result(tmp_path) == without


def test_the_file_has_the_figures_by_name(result: SearchResult) -> None:
    document = result.to_json()
    assert (document["budget"], document["budget_ms"], document["hit_rate"]) == ("2x", 1.6, 0.5)
    assert document["winner"] == {key: value for key, value in document["finalists"][0].items() if key != "report"}
    assert [candidate["estimated"] for candidate in document["candidates"]] == [False, True]


def test_a_search_that_has_not_ended_has_no_result(tmp_path: Path) -> None:
    assert read_result(tmp_path) is None


@pytest.mark.parametrize("key", ["budget", "candidates", "finalists", "resolution", "winner"])
@pytest.mark.parametrize("value", [3, "x", [3], {"genome": []}])
def test_a_damaged_file_is_named(tmp_path: Path, result: SearchResult, key: str, value: object) -> None:
    document = result.to_json() | {key: value}
    if (key, value) == ("budget", 3):
        document["budget"] = None
    (tmp_path / "search.json").write_text(json.dumps(document))
    with pytest.raises(SearchResultError, match=r"search\.json cannot be read"):
        read_result(tmp_path)


def test_a_winner_that_is_no_finalist_is_refused(tmp_path: Path, result: SearchResult) -> None:
    document = result.to_json()
    document["finalists"].pop(0)
    (tmp_path / "search.json").write_text(json.dumps(document))
    with pytest.raises(SearchResultError, match="none of its finalists"):
        read_result(tmp_path)
