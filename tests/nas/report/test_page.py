from __future__ import annotations

from pathlib import Path

import pytest

from tests.nas.report.browser import CHROMIUM, look
from tests.nas.report.runs import CHARTS

pytestmark = pytest.mark.slow


@pytest.mark.slow
@pytest.mark.skipif(not CHROMIUM, reason="no Chromium is installed")
def test_a_browser_draws_every_chart_without_errors_or_requests(page: Path, tmp_path: Path) -> None:
    seen = look(page, tmp_path, _EXPLORE, 1280)
    assert (seen["errors"], seen["violations"], seen["requests"], seen["console"]) == ([], [], [], [])
    told = seen["told"]
    assert told["drawn"] == len(CHARTS)
    assert told["theme"] == "light"
    assert told["before"] != told["after"]
    assert told["toggled"] == "dark"
    assert "accuracy" in told["live"]
    assert "scored for" in told["live"]
    assert not told["uploads"]
    assert told["unreachable"] == []


@pytest.mark.skipif(not CHROMIUM, reason="no Chromium is installed")
def test_a_phone_shows_the_whole_width_in_the_dark(page: Path, tmp_path: Path) -> None:
    seen = look(page, tmp_path, _MEASURE, 360, dark=True)
    assert (seen["errors"], seen["console"]) == ([], [])
    assert seen["told"] == {"theme": "dark", "overflow": 0, "wide": []}


@pytest.mark.skipif(not CHROMIUM, reason="no Chromium is installed")
@pytest.mark.parametrize("width", [360, 390, 1280])
def test_no_label_of_a_chart_is_cut_off_and_nothing_is_wider_than_the_screen(
    page: Path, tmp_path: Path, width: int
) -> None:
    told = look(page, tmp_path, _LABELS, width)["told"]
    assert told["scrollWidth"] <= told["clientWidth"] == width
    assert told["texts"] > 10 * len(CHARTS)
    assert told["cut"] == []


# Texts of charts that lie outside of their chart, or of the screen.
_LABELS = """
  const root = document.documentElement;
  const texts = [...document.querySelectorAll(".plot svg text")].filter((item) => item.textContent.trim() &&
    getComputedStyle(item).visibility !== "hidden" && item.getBoundingClientRect().width > 0);
  const cut = texts.filter((item) => {
    const own = item.getBoundingClientRect(), box = item.closest(".plot").getBoundingClientRect();
    return own.left < box.left - 1 || own.right > Math.min(box.right, root.clientWidth) + 1 ||
      own.top < box.top - 1 || own.bottom > box.bottom + 1;
  }).map((item) => `${item.closest(".plot").id}: ${item.textContent} (${item.getAttribute("class")})`);
  return {scrollWidth: root.scrollWidth, clientWidth: root.clientWidth, texts: texts.length, cut};
"""
# Everything that a keyboard must reach: charts, tables, summaries, the button and the links.
_EXPLORE = """
  const plots = [...document.querySelectorAll(".plot")], front = document.getElementById("chart-front");
  const paint = () => getComputedStyle(front.querySelector(".xtitle")).fill;
  const before = paint(), theme = document.documentElement.dataset.theme;
  for (const key of ["ArrowRight", "ArrowRight"]) front.dispatchEvent(new KeyboardEvent("keydown", {key}));
  const live = document.getElementById("live").textContent;
  document.getElementById("theme").click();
  await new Promise((done) => setTimeout(done, 300));
  const wanted = [...document.querySelectorAll(".plot, .scroll, summary, button#theme, nav a, pre")];
  return {
    drawn: plots.filter((plot) => plot.querySelector(".main-svg .trace, .main-svg .points, .main-svg .bars")).length,
    theme, before, after: paint(), toggled: document.documentElement.dataset.theme, live,
    uploads: plots.some((plot) => plot._context.showSendToCloud || plot._context.plotlyServerURL),
    unreachable: wanted.filter((item) => item.tabIndex < 0).map((item) => item.outerHTML.slice(0, 80)),
  };
"""
_MEASURE = """
  const width = document.documentElement.clientWidth;
  const wide = [...document.querySelectorAll("main *")].filter((item) => !item.closest(".scroll, pre, .plot") &&
    item.getBoundingClientRect().right > width + 1).map((item) => item.outerHTML.slice(0, 80));
  return {theme: document.documentElement.dataset.theme, overflow: document.documentElement.scrollWidth - width, wide};
"""
