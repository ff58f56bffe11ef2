from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from ortnas.nas.architecture.subnet import Subnet
from ortnas.nas.files import read_lines
from ortnas.search.constraints import Constraint
from ortnas.search.evolution import Evolution, Settings
from ortnas.search.loop import Scored, confirm, logged_subnets, read_log, run_search
from ortnas.search.racing import Race
from ortnas.search.scoring import Outcome, Scorer, ScoringError
from tests.networks import SizePredictor, make_space
from tests.search.landscape import Landscape, capacity, deep_space, evolve, small_space
from tests.search.test_scoring import make_exporter, part_labelled_by


def make_evolution(budget_ms: float = 3.0, goal: str = "budget", seed: int = 0) -> Evolution:
    space = deep_space()
    settings = Settings(goal, population=8, pool=512)  # type: ignore[arg-type]
    return Evolution(space, [Constraint(SizePredictor(space), budget_ms)], settings, seed)


def run(
    log: Path | None, scorer: Landscape | None = None, wanted: int = 40, inputs: str = "same", goal: str = "budget"
) -> Scored:
    return run_search(make_evolution(goal=goal), scorer or Landscape(), wanted, log, inputs, batch=6)


@pytest.mark.slow
@pytest.mark.parametrize("goal", ["budget", "front"])
def test_a_search_killed_anywhere_ends_as_one_that_was_not(tmp_path: Path, goal: str) -> None:
    whole = tmp_path / "whole.jsonl"
    keys = [candidate.subnet.key for candidate in run(whole, goal=goal).candidates[4:6]]
    whole.unlink()
    expected = run(whole, Landscape(keys), goal=goal)
    assert list(expected.failures) == keys
    assert run(None, Landscape(keys), goal=goal) == expected
    content = whole.read_bytes()
    lines = content.splitlines(keepends=True)
    assert len(lines) == 1 + 40 + 7
    for kept in range(len(lines) + 1):
        # Every other kill tears the line that was being written.
        torn = lines[kept][: len(lines[kept]) // 2] if kept % 2 and kept < len(lines) else b""
        log = tmp_path / "killed.jsonl"
        log.write_bytes(b"".join(lines[:kept]) + torn)
        scorer = Landscape(keys)
        assert run(log, scorer, goal=goal) == expected
        assert len(scorer.scored) == 40 - sum(b"subnet_key" in line for line in lines[:kept])
        assert [line for line in read_lines(log) if "genome" in line] == [
            line for line in read_lines(whole) if "genome" in line
        ]


def test_a_log_is_read_for_what_was_scored_so_far(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    assert read_log(log) == Scored()
    keys = [candidate.subnet.key for candidate in run(None, wanted=12).candidates[:2]]
    scored = run(log, Landscape(keys), wanted=12)
    assert len(scored.failures) == 2
    assert read_log(log) == scored
    subnets = [*(candidate.subnet for candidate in scored.candidates)]
    assert {subnet.key for subnet in logged_subnets(log)} == {*keys, *(subnet.key for subnet in subnets)}
    log.write_bytes(log.read_bytes()[:-20])
    assert read_log(log).candidates == scored.candidates[:-1]


def test_a_log_of_other_inputs_is_begun_anew(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    run(log, wanted=12)
    scorer = Landscape()
    run(log, scorer, wanted=12, inputs="others")
    assert len(scorer.scored) == 12
    assert read_lines(log)[0] == {"inputs": "others"}


def test_progress_counts_every_candidate_and_names_the_best() -> None:
    reports: list[tuple[int, int, str]] = []
    scored = run_search(make_evolution(), Landscape(), 20, report=lambda *report: reports.append(report), batch=6)
    assert [done for done, _, _ in reports] == list(range(1, 21))
    assert reports[-1] == (20, 20, f"best {max(candidate.score for candidate in scored.candidates):.4f}")


def test_a_search_in_which_nothing_can_be_scored_ends_with_the_reason(tmp_path: Path) -> None:
    class Broken(Landscape):
        def outcomes(self, subnets: Sequence[Subnet], _: Sequence[Subnet | None]) -> Iterator[Outcome]:
            yield from (Outcome(None, reason="the model does not load") for _ in subnets)

    with pytest.raises(ScoringError, match=r"first 8 candidates all failed.*does not load"):
        run(tmp_path / "log", Broken())


def test_a_space_with_fewer_subnets_than_wanted_ends_the_search() -> None:
    space = small_space().restrict(depth=(1,), hidden_size=(16,))
    evolution = Evolution(space, [Constraint(SizePredictor(space))])
    scored = run_search(evolution, Landscape(), 50)
    assert scored.exhausted
    assert len(scored.candidates) == space.count == 6


@pytest.mark.slow
def test_with_a_race_real_models_are_ended_early_and_the_best_are_scored_in_full(tmp_path: Path) -> None:
    exporter, space = make_exporter(), make_space()
    part = part_labelled_by(exporter, space.largest, 200)
    scorer = Scorer(exporter, part, "int8", "accuracy", tmp_path / "scores", form="sliced", race=Race())

    def again(log: str) -> Scored:
        evolution = Evolution(space, [Constraint(SizePredictor(space))], Settings(population=4))
        return run_search(evolution, scorer, 32, tmp_path / log, batch=8, keep=2)

    scored = again("first")
    ended = [candidate for candidate in scored.candidates if candidate.estimated]
    full = sorted((candidate.score for candidate in scored.candidates if not candidate.estimated), reverse=True)
    assert ended
    assert max(candidate.score for candidate in ended) < full[1]
    # With all full scores in the cache, the same candidates are ended for the same reason.
    assert again("second") == scored


def test_confirmed_candidates_carry_the_other_scorers_scores_best_first() -> None:
    space = deep_space()
    candidates = evolve(space, 3.0, 12).candidates
    keys = [candidate.subnet.key for candidate in candidates[:6]]

    class Halved(Landscape):
        def outcomes(self, subnets: Sequence[Subnet], _: Sequence[Subnet | None]) -> Iterator[Outcome]:
            for subnet in subnets:
                score = None if subnet.key in self.broken else capacity(subnet) / 2
                yield Outcome(score, reason="broken")

    confirmed, failures = confirm(candidates[:6], Halved(keys[:1]))
    assert failures == {keys[0]: "broken"}
    assert {candidate.subnet.key for candidate in confirmed} == set(keys[1:])
    assert [candidate.score for candidate in confirmed] == sorted(
        (candidate.score / 2 for candidate in candidates[1:6]), reverse=True
    )
