from __future__ import annotations

import math

import pytest

from ortnas.search.budget import Budget, budget_of_file, file_name_of


def test_a_speed_up_is_a_share_of_the_full_models_latency_and_a_number_is_ms() -> None:
    assert Budget.parse("2x").limit_ms(9.0, 1) == 4.5
    assert Budget.parse("1.50x").limit_ms(3.0, 4) == 2.0
    assert Budget.parse("6.5").limit_ms(100.0, 4) == 6.5
    assert Budget.parse(5).limit_ms(100.0, 4) == 5.0


def test_names_are_what_was_written_and_labels_have_units() -> None:
    written = ("2x", "2.0x", "6.5", 5, "5ms")
    assert [Budget.parse(item).name for item in written] == ["2x", "2.0x", "6.5", "5", "5"]
    assert [Budget.parse(item).label for item in written] == ["2x", "2.0x", "6.5ms", "5ms", "5ms"]
    assert Budget.parse("5ms") == Budget.parse(5)


def test_a_throughput_bounds_what_each_of_so_many_requests_waits() -> None:
    budget = Budget.parse("400/s")
    assert (budget.name, budget.label, budget.is_throughput) == ("400/s", "400/s", True)
    assert budget.limit_ms(100.0, 1) == 2.5
    assert budget.limit_ms(100.0, 4) == 10.0
    assert [Budget.parse(item).is_throughput for item in ("2x", "6.5", "5ms")] == [False] * 3


@pytest.mark.parametrize("name", ["2x", "6.5", "400/s", "6.5ms"])
def test_files_are_called_by_a_budget_and_tell_it(name: str) -> None:
    assert "/" not in file_name_of(name)
    assert budget_of_file(file_name_of(name)) == name


@pytest.mark.parametrize(
    "written",
    ["fast", "0x", "0", "", "x", "-1", "1e3", "nan", math.inf, "9" * 400, "\u0663x", None, "0/s", "/s", "400/m"],
)
def test_anything_else_is_no_budget(written: object) -> None:
    with pytest.raises(ValueError, match=r"write ms as 6\.5, a speed-up as 2x or requests a second as 400/s"):
        Budget.parse(written)
