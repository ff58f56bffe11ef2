from __future__ import annotations

import pytest

from ortnas.nas.stages import pipeline
from ortnas.nas.stages.search import SearchError


def stages(monkeypatch: pytest.MonkeyPatch, error: SearchError) -> list[str]:
    ran: list[str] = []

    def search(run: object) -> dict[str, object]:
        ran.append("search")
        raise error

    def other(name: str):
        return lambda run: ran.append(name) or {}

    monkeypatch.setattr(pipeline, "STAGES", {"fit": other("fit"), "search": search, "export": other("export")})
    with pytest.raises(SearchError, match="budget 1"):
        pipeline.run_all(None)  # type: ignore[arg-type]
    return ran


def test_budgets_with_a_winner_are_packaged_before_the_others_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    assert stages(monkeypatch, SearchError("budget 1: none", successful=["2x"])) == ["fit", "search", "export"]


def test_without_any_winner_nothing_is_packaged(monkeypatch: pytest.MonkeyPatch) -> None:
    assert stages(monkeypatch, SearchError("budget 1: none")) == ["fit", "search"]
