"""From a run's record to one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from ortnas.nas.files import write_aside
from ortnas.nas.report.record import RunRecord, read_run
from ortnas.nas.report.sections import all_sections

_HERE = Path(__file__).parent


def write_report(folder: Path, out: Path) -> Path:
    """Reads a run folder and writes one HTML file that needs no network; gives back ``out``.

    What the run has not made yet is named in it. Raises ReportError where the folder is no run folder, and OSError.
    """
    record = read_run(folder)
    write_aside(out, render(record))
    return out


def render(record: RunRecord) -> str:
    sections = all_sections(record)
    charts = {
        chart.key: {"traces": chart.traces, "layout": chart.layout} for section in sections for chart in section.charts
    }
    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["commands"] = _commands_marked
    environment.globals["figure_columns"] = _figure_columns
    return environment.get_template("page.html").render(
        title=f"{record.folder.resolve().name}: report",
        name=record.folder.resolve().name,
        subtitle=_subtitle(record),
        written=f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC",
        problems=record.problems,
        sections=sections,
        charts=charts,
        style=Markup((_HERE / "page.css").read_text(encoding="utf-8")),
        script=Markup((_HERE / "page.js").read_text(encoding="utf-8")),
        plotly=Markup(get_plotlyjs()) if charts else "",
    )


def _commands_marked(text: str) -> Markup:
    """Words in backticks as code, everything escaped."""
    pieces = text.split("`")
    if len(pieces) % 2 == 0:
        return Markup.escape(text)
    return Markup("").join(
        Markup("<code>{}</code>").format(piece) if number % 2 else piece for number, piece in enumerate(pieces)
    )


def _figure_columns(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> set[int]:
    """Numbers of the columns behind the first that hold figures only."""
    return {
        number
        for number in range(1, len(columns))
        if any(row[number] for row in rows) and all(row[number][:1] in "+-0123456789" for row in rows)
    }


def _subtitle(record: RunRecord) -> list[str]:
    configuration = record.configuration
    data = configuration.get("data") if isinstance(configuration.get("data"), dict) else {}
    assert isinstance(data, dict)
    task = data.get("task") or configuration.get("head") or ""
    parts = [f"checkpoint {configuration.get('checkpoint', 'unknown')}", str(task), record.precision.upper()]
    return [part for part in parts if part]
