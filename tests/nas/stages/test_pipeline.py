from __future__ import annotations

from pathlib import Path

import pytest

from ortnas.nas.console import Console
from ortnas.nas.run.configuration import check_configuration
from ortnas.nas.run.run import Run
from ortnas.nas.stages import pipeline
from ortnas.nas.stages.search import SearchError


def stages(monkeypatch: pytest.MonkeyPatch, folder: Path, error: SearchError) -> list[str]:
    ran: list[str] = []

    def search(run: object) -> dict[str, object]:
        ran.append("search")
        raise error

    def other(name: str):
        return lambda run: ran.append(name) or {}

    monkeypatch.setattr(pipeline, "STAGES", {"fit": other("fit"), "search": search, "export": other("export")})
    document = {"checkpoint": "bert", "head": "embedding", "data": {"source": "texts.txt"}, "folder": str(folder)}
    run = Run(check_configuration(document, "test"), Console())
    with pytest.raises(SearchError, match="budget 1"):
        pipeline.run_all(run)
    run.close()
    assert set(run.clock.seconds()) == set(ran)
    return ran


def test_budgets_with_a_winner_are_packaged_before_the_others_are_reported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    error = SearchError("budget 1: none", successful=["2x"])
    assert stages(monkeypatch, tmp_path, error) == ["fit", "search", "export"]


def test_without_any_winner_nothing_is_packaged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert stages(monkeypatch, tmp_path, SearchError("budget 1: none")) == ["fit", "search"]
