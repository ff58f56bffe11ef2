from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import plotly.graph_objects
import pytest
import yaml

from ortnas.nas.report import ReportError, write_report
from ortnas.nas.report.front_charts import front_chart, shown_searches
from ortnas.nas.report.record import read_run
from ortnas.nas.report.sections import Section, all_sections
from tests.nas.report.runs import CHARTS, LABELS

HEADINGS = (
    "Result",
    "Architectures",
    "Search",
    "Latency predictor",
    "Timings",
    "Data and training",
    "Environment and reproduction",
)
# Every text that a file of a run may hold, and a browser must not read as HTML.
HOSTILE = ("<script>alert(1)", "</style><b>ja", "<img src=x", "<script>alert(3)", "<i>CPU</i>", "<b>bert</b>")


class Elements(HTMLParser):
    """Elements with their attributes, and the text outside of scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self._inside = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._inside = tag

    def handle_data(self, data: str) -> None:
        if self._inside not in ("script", "style"):
            self.text.append(data)


def rendered(folder: Path, out: Path) -> str:
    return write_report(folder, out / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_finished_run_has_every_section_and_chart(run_folder: Path, page: Path, sections: list[Section]) -> None:
    assert read_run(run_folder).problems == []
    assert tuple(section.title for section in sections) == HEADINGS
    assert {chart.key for section in sections for chart in section.charts} == CHARTS
    content = page.read_text(encoding="utf-8")
    assert "What is missing" not in content
    assert "1.40 ms" in content
    assert len(re.findall('<svg class="network"', content)) == 3


@pytest.mark.slow
def test_figures_are_what_plotly_draws(sections: list[Section]) -> None:
    """Plotly's own schema refuses unknown keys and values; colours are named by the page."""
    for section in sections:
        for chart in section.charts:
            document = json.dumps({"data": chart.traces, "layout": chart.layout})
            figure = plotly.graph_objects.Figure(json.loads(re.sub(r"var\(--[a-z0-9-]+\)", "#123456", document)))
            assert len(figure.data) == len(chart.traces) > 0
            assert all(len(row) == len(chart.columns) for row in chart.rows)


def test_the_page_begins_with_the_rival_that_is_as_good_and_draws_every_kind(run_folder: Path) -> None:
    record = read_run(run_folder)
    result = all_sections(record)[0]
    assert result.lead.startswith("Under 2x, ready-made <b>L3</b>, INT8 is as good as the winner and takes no search")
    assert [table.title for table in result.tables] == ["All models", "Winners and their rivals"]
    assert result.tables[1].rows[0] == (
        "winner 2x, INT8",
        "ready-made <b>L3</b>, INT8",
        "99.3%",
        "+0.0050 (-0.0200 to +0.0300)",
    )
    names = [trace["name"] for trace in result.charts[0].traces]
    assert names == ["evenly shrunk", "ready-made", "full model", "winners"]


def test_embeddings_are_set_beside_static_ones(run_folder: Path) -> None:
    record = read_run(run_folder)
    assert record.dimensions is not None
    assert "potion" not in str(all_sections(record)[0])
    embeddings = replace(
        record, dimensions=replace(record.dimensions, head="embedding", num_labels=0, embedding_size=8)
    )
    compared = record.comparisons["int8"]
    rows = tuple(
        replace(row, scores={"spearman": row.scores["accuracy"] - 0.07 * (row.kind == "winner")})
        for row in compared.rows
    )
    embeddings.comparisons = {"int8": replace(compared, metric="spearman", rows=rows)}
    result = all_sections(embeddings)[0]
    assert "winner 2x, INT8: below 0.8633" in result.lead
    assert result.charts[0].layout["shapes"][0]["y0"] == pytest.approx(0.93 * 73.24 / 78.90)
    assert "potion-base-8M" in result.charts[0].caption


def test_the_finalist_that_is_shipped_is_the_winner(run_folder: Path) -> None:
    search = read_run(run_folder).searches[0]
    assert search.refinement is not None
    assert search.winner == search.finalists[1]
    other = replace(search, refinement=replace(search.refinement, subnet=search.finalists[2].subnet))
    assert other.winner == search.finalists[2]


def test_the_page_tells_how_winners_were_trained_alone(run_folder: Path) -> None:
    search = next(section for section in all_sections(read_run(run_folder)) if section.key == "search")
    table = next(table for table in search.tables if table.title == "Finalists trained alone")
    assert len(table.rows) == 2
    _, rungs, minutes, before, alone, shipped = table.rows[0]
    assert (rungs, minutes, shipped) == ("2 × 100 steps, 1 × 800 steps", "5.0", "trained for 900 steps")
    assert float(alone) == pytest.approx(float(before) + 0.01, abs=2e-4)


@pytest.mark.slow
def test_the_page_asks_for_nothing_and_holds_plotly_once(page: Path) -> None:
    content = page.read_text(encoding="utf-8")
    elements = Elements(content).elements
    for tag, attributes in elements:
        for name in ("src", "href", "action", "data", "srcset", "poster"):
            assert (attributes.get(name) or "#").startswith("#"), (tag, attributes)
    assert not {tag for tag, _ in elements} & {"link", "iframe", "object", "embed", "base", "img"}
    policy = next(a["content"] for tag, a in elements if tag == "meta" and a.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert not re.search(r"https?:", policy)
    assert content.count("plotly.js v") == 1


@pytest.mark.slow
def test_texts_of_the_run_are_never_read_as_html(page: Path) -> None:
    content = page.read_text(encoding="utf-8")
    read = Elements(content)
    assert [attributes.get("type") for tag, attributes in read.elements if tag == "script"] == [
        "application/json",
        None,
        None,
    ]
    assert not [tag for tag, _ in read.elements if tag in ("img", "b", "i")]
    text = "".join(read.text)
    for label in LABELS:
        assert label in text
    for piece in HOSTILE:
        assert piece in text
        assert piece not in content


@pytest.mark.slow
def test_paths_with_spaces_and_other_letters_are_quoted(page: Path, run_folder: Path) -> None:
    text = "".join(Elements(page.read_text(encoding="utf-8")).text)
    assert f"ortnas run '{run_folder}'" in text
    assert f"ortnas verify '{run_folder / 'packages' / 'int8-2x'}'" in text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("missing", "sentence"),
    [
        ("data", "The data is not prepared yet: <code>ortnas data</code>"),
        ("supernet", "There is no supernet yet: <code>ortnas train</code>"),
        ("bench.sqlite", "Nothing is timed yet: <code>ortnas bench</code>"),
        ("search", "There is no search yet: <code>ortnas search</code>"),
        ("packages", "No winner is packaged yet: <code>ortnas export</code>"),
    ],
)
def test_a_run_that_lacks_a_part_shows_the_others(copied: Path, tmp_path: Path, missing: str, sentence: str) -> None:
    path = copied / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    content = rendered(copied, tmp_path)
    assert sentence in content
    assert "There is no latency predictor yet: <code>ortnas fit</code>" in content
    assert content.count("<section") == len(HEADINGS) + 1
    assert "chart-training-loss" in content


def test_a_run_that_only_began_has_a_report(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    folder.mkdir()
    (folder / "resolved.yaml").write_text("checkpoint: bert\n")
    content = rendered(folder, tmp_path)
    assert content.count("<li>") >= 6 + len(HEADINGS)
    assert "plotly.js v" not in content
    assert "checkpoint: bert" in content


def test_a_search_that_was_killed_shows_what_it_scored(copied: Path, tmp_path: Path) -> None:
    (copied / "search" / "int8-1.5" / "search.json").unlink()
    with (copied / "search" / "int8-1.5" / "candidates.jsonl").open("a") as stream:
        stream.write('{"asked": {}}\n{"subnet_key": "torn')
    content = rendered(copied, tmp_path)
    assert "The search for 1.5 is not finished: 12 subnets are scored; <code>ortnas search</code> goes on." in content
    chart = front_chart(read_run(copied))
    assert chart is not None
    assert len(chart.rows) == 24


def test_one_search_for_a_list_of_budgets_is_no_unfinished_one(copied: Path) -> None:
    before = read_run(copied)
    [first, *_] = sorted((copied / "search").glob("int8-*"))
    for name in ("int8-front", "scratch"):
        (copied / "search" / name).mkdir()
        shutil.copy(first / "candidates.jsonl", copied / "search" / name)
    after = read_run(copied)
    assert after.problems == before.problems
    assert [search.name for search in after.searches] == [search.name for search in before.searches]


def test_the_chart_keeps_to_the_runs_precision(copied: Path) -> None:
    [first, *_] = sorted((copied / "search").glob("int8-*"))
    shown = {search.name for search in shown_searches(read_run(copied))}
    shutil.copytree(first, copied / "search" / first.name.replace("int8", "fp32"))
    record = read_run(copied)
    assert {search.name for search in shown_searches(record)} == shown
    assert record.searches[-1].precision == "fp32"
    record.configuration["precision"] = "fp32"
    assert [search.precision for search in shown_searches(record)] == ["fp32"]


def test_a_search_without_a_winner_says_so(copied: Path, tmp_path: Path) -> None:
    path = copied / "search" / "int8-1.5" / "search.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"winner": None}))
    assert "The search for 1.5 ended without a winner." in rendered(copied, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("data/splits/splits.json", "{"),
        ("data/splits/splits.json", "[]"),
        ("supernet/supernet.json", "{"),
        ("supernet/supernet.json", '{"dimensions": 3}'),
        ("bench.sqlite", "no database " * 20),
        ("search/int8-2x/search.json", "{"),
        ("search/int8-2x/search.json", '{"candidates": [3]}'),
        ("search/int8-2x/search.json", '{"winner": null}'),
        ("packages/comparison-int8.json", '{"rows": 3}'),
        ("packages/comparison-int8.json", '{"rows": []}'),
        ("packages/int8-2x/ortnas.json", "[]"),
    ],
)
def test_a_damaged_file_is_named_and_the_rest_is_shown(copied: Path, tmp_path: Path, path: str, content: str) -> None:
    for extra in copied.glob("bench.sqlite-*"):
        extra.unlink()
    (copied / path).write_text(content)
    page = rendered(copied, tmp_path)
    named = path.removesuffix("/search.json")
    assert f"{named} is left out, it cannot be read" in page
    assert "chart-training-loss" in page


def test_a_damaged_predictor_is_named(copied: Path, run_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(run_folder / "predictor", copied / "predictor")
    path = next(copied.glob("predictor/*/predictor.json"))
    path.write_text("{")
    assert f"{path.parent.relative_to(copied)} is left out, it cannot be read" in rendered(copied, tmp_path)


def test_odd_values_in_the_configuration_do_no_harm(copied: Path, tmp_path: Path) -> None:
    (copied / "resolved.yaml").write_text(yaml.safe_dump({"checkpoint": None, "data": 3, "precision": None}))
    assert rendered(copied, tmp_path)


def test_folders_that_are_no_run_get_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="no such run folder"):
        write_report(tmp_path / "none", tmp_path / "report.html")
    with pytest.raises(ReportError, match=r"it holds no resolved\.yaml"):
        write_report(tmp_path, tmp_path / "report.html")
    (tmp_path / "resolved.yaml").write_text("a: [")
    with pytest.raises(ReportError, match=r"resolved\.yaml cannot be read"):
        write_report(tmp_path, tmp_path / "report.html")


@pytest.mark.slow
def test_a_place_that_cannot_be_written_leaves_nothing(run_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        write_report(run_folder, tmp_path / "file" / "report.html")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_estimated_scores_and_failures_are_told_apart(copied: Path, tmp_path: Path) -> None:
    path = copied / "search" / "int8-2x" / "candidates.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[0] |= {"score": 1.0, "estimated": True}
    lines[1] = {key: lines[1][key] for key in ("subnet_key", "subnet", "genome")} | {"failed": "<i>no memory</i>"}
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (path.parent / "search.json").unlink()
    content = rendered(copied, tmp_path)
    assert "Candidates that could not be scored" in content
    assert "&lt;i&gt;no memory&lt;/i&gt;" in content
    assert "1.0000 (estimated)" in content
    chart = front_chart(read_run(copied))
    assert chart is not None
    front = next(trace for trace in chart.traces if trace["name"] == "Pareto front")
    assert max(front["y"]) < 1
