from __future__ import annotations

import math

import pytest

from ortnas.search.budget import Budget


def test_a_speed_up_is_a_share_of_the_full_models_latency_and_a_number_is_ms() -> None:
    assert Budget.parse("2x").limit_ms(9.0) == 4.5
    assert Budget.parse("1.50x").limit_ms(3.0) == 2.0
    assert Budget.parse("6.5").limit_ms(100.0) == 6.5
    assert Budget.parse(5).limit_ms(100.0) == 5.0


def test_names_are_what_was_written_and_labels_have_units() -> None:
    written = ("2x", "2.0x", "6.5", 5, "5ms")
    assert [Budget.parse(item).name for item in written] == ["2x", "2.0x", "6.5", "5", "5"]
    assert [Budget.parse(item).label for item in written] == ["2x", "2.0x", "6.5ms", "5ms", "5ms"]
    assert Budget.parse("5ms") == Budget.parse(5)


@pytest.mark.parametrize(
    "written", ["fast", "0x", "0", "", "x", "-1", "1e3", "nan", math.inf, "9" * 400, "\u0663x", None]
)
def test_anything_else_is_no_budget(written: object) -> None:
    with pytest.raises(ValueError, match=r"write ms as 6\.5 or a speed-up as 2x"):
        Budget.parse(written)
