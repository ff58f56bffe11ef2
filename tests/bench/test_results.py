"""Results files that come back cut short, edited or forged."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ortnas.bench.bundle import ResultsError, read_header, read_results, write_bundle
from ortnas.bench.host import Failure
from ortnas.bench.request import Request
from ortnas.bench.timing import Samples, Setup, TimingProtocol
from tests.bench.bundles import VISITS, WORKLOADS, Bundle, Document, lines_of, run_bundle, write_lines


@pytest.mark.slow
def test_results_cut_anywhere_count_as_far_as_they_go(bundle: Bundle, measured: Path, tmp_path: Path) -> None:
    content, path, plan = measured.read_bytes(), tmp_path / "results.jsonl", bundle[1]
    whole = read_results(measured, plan)
    ends = [at + 1 for at, byte in enumerate(content) if byte == 10]
    for cut in sorted({*ends, *(end - 1 for end in ends), *(end + 9 for end in ends), 0} - {len(content)}):
        path.write_bytes(content[:cut])
        if cut < ends[0]:
            with pytest.raises(ResultsError, match="holds no results"):
                read_results(path, plan)
            continue
        results = read_results(path, plan)
        lines = sum(end <= cut for end in ends)
        assert results.complete == (cut >= len(content))
        assert results.visits == whole.visits[: lines - 1]
        assert results.size_bytes == ends[lines - 1]


@pytest.mark.slow
@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_a_byte_changed_by_hand_is_noticed(bundle: Bundle, measured: Path, data: st.DataObject) -> None:
    """Wherever it is: what is read then is the same, or a cut of it where the last line's end is gone."""
    plan, content = bundle[1], bytearray(measured.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] = data.draw(st.integers(0, 255))
    path = measured.with_name("edited.jsonl")
    path.write_bytes(content)
    whole = read_results(measured, plan)
    with contextlib.suppress(ResultsError):
        results = read_results(path, plan)
        assert (results.visits, results.fingerprint) == (whole.visits, whole.fingerprint)


def change_first_sample(document: Document, value: Any) -> None:
    document["model_ns"][0][0] = value


# Which line is changed (0 is the header), how, and what is said; checksums are sound, as those of a skilled forger.
FORGERIES: dict[str, tuple[int, Callable[[Document], Any], str]] = {
    "another schema": (0, lambda line: line.update(schema=99), "line 1: not a bundle's results of schema 1"),
    "another plan": (0, lambda line: line.update(plan="0" * 64), "line 1: results of another bundle"),
    "no host": (0, lambda line: line.update(host=""), "line 1: the host has no name"),
    "a host that is no text": (0, lambda line: line.update(host=7), "line 1: the host has no name"),
    "no fingerprint": (0, lambda line: line.update(fingerprint="x86"), "line 1: fingerprint, versions and conditions"),
    "a fact too few": (0, lambda line: line["fingerprint"].pop("isa"), "line 1: a fingerprint with keys of .*: isa"),
    "a fact too many": (0, lambda line: line["fingerprint"].update(gpu="x"), "line 1: a fingerprint .*: gpu"),
    "a deep fact": (0, lambda line: line["fingerprint"].update(cpu={"a": {}}), "line 1: a fingerprint of more than"),
    "an unknown name": (3, lambda line: line.update(name="x"), "line 4: a model that is not in the bundle: x"),
    "another model": (3, lambda line: line.update(model="0" * 64), "line 4: a model that is not in the bundle"),
    "a name that is no text": (3, lambda line: line.update(name=["x"]), "line 4: a model that is not in the bundle"),
    "no samples": (3, lambda line: line.pop("model_ns"), "line 4: samples are lists"),
    "a negative sample": (3, lambda line: change_first_sample(line, -5), "line 4: samples are positive"),
    "a sample of text": (3, lambda line: change_first_sample(line, "9"), "line 4: samples are positive"),
    "a fraction": (3, lambda line: change_first_sample(line, 1e6), "line 4: samples are positive"),
    "a truth value": (3, lambda line: change_first_sample(line, True), "line 4: samples are positive"),
    "too quick": (3, lambda line: change_first_sample(line, 999), "line 4: an inference of less than a microsecond"),
    "too slow": (3, lambda line: change_first_sample(line, 4 * 10**12), "line 4: .* more than an hour"),
    "all equal": (3, lambda line: line["model_ns"].__setitem__(0, [10**6] * 6), "line 4: samples that are all equal"),
    "a round missing": (
        3,
        lambda line: [line[key][0].pop() for key in ("model_ns", "anchor_ns")],
        "line 4: 5 rounds; the bundle makes 6 to 6",
    ),
    "a round too many": (
        3,
        lambda line: [line[key][1].append(10**6) for key in ("model_ns", "anchor_ns")],
        "line 4: 7 rounds; the bundle makes 6 to 6",
    ),
    "an anchor's round missing": (3, lambda line: line["anchor_ns"][0].pop(), "line 4: a model and its anchor"),
    "a workload missing": (
        3,
        lambda line: [line[key].pop() for key in ("model_ns", "anchor_ns")],
        "line 4: samples of 1 workloads; the bundle has 2",
    ),
    "a failure without a reason": (3, lambda line: line.update(failed=None), "line 4: a failure without a reason"),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_implausible_results_are_refused(bundle: Bundle, measured: Path, tmp_path: Path, forgery: str) -> None:
    number, change, expected = FORGERIES[forgery]
    path, documents = tmp_path / "results.jsonl", [line for line in lines_of(measured) if "failed" not in line]
    change(documents[number])
    write_lines(path, bundle[1], documents)
    with pytest.raises(ResultsError, match=f"results.jsonl, {expected}") as caught:
        read_results(path, bundle[1])
    assert "\n" not in str(caught.value)


def test_lines_moved_left_out_or_added_are_noticed(bundle: Bundle, measured: Path, tmp_path: Path) -> None:
    path, lines, plan = tmp_path / "results.jsonl", measured.read_text().splitlines(keepends=True), bundle[1]
    swapped = [lines[0], lines[2], lines[1], *lines[3:]]
    for edited in (swapped, [lines[0], *lines[2:]], [*lines[:2], lines[1], *lines[2:]], [lines[0], "{}\n", *lines[1:]]):
        path.write_text("".join(edited))
        with pytest.raises(ResultsError, match=r"line [23]: not as the bundle wrote it"):
            read_results(path, plan)
    path.write_text("".join([*lines, "\n"]))
    with pytest.raises(ResultsError, match=f"line {len(lines) + 1}: nothing follows"):
        read_results(path, plan)
    documents = lines_of(measured)
    good = next(line for line in documents[1:] if "model_ns" in line)
    write_lines(path, plan, [documents[0], *[good] * (VISITS + 1)])
    with pytest.raises(ResultsError, match="line 4: more visits to"):
        read_results(path, plan)
    write_lines(path, plan, [documents[0], documents[-1]])
    with pytest.raises(ResultsError, match="claims to be complete"):
        read_results(path, plan)


@pytest.mark.parametrize(
    "line", ["[" * 100_000, "NaN", '{"a": NaN}', "[1]", "\udcff", "9" * 10_000, '{"a": 1', "import os"], ids=range(8)
)
def test_lines_that_are_no_json_object_are_refused(bundle: Bundle, measured: Path, tmp_path: Path, line: str) -> None:
    path, first = tmp_path / "results.jsonl", measured.read_bytes().splitlines(keepends=True)[0]
    content = line.encode(errors="surrogateescape") + b"\n"
    path.write_bytes(first + content)
    with pytest.raises(ResultsError, match="line 2: not a"):
        read_results(path, bundle[1])
    path.write_bytes(content)
    with pytest.raises(ResultsError, match="line 1: not a"):
        read_header(path)


def test_a_failures_reason_holds_nothing_that_a_terminal_obeys(bundle: Bundle, measured: Path, tmp_path: Path) -> None:
    header, *entries = lines_of(measured)
    failed = next(line for line in entries if "failed" in line)
    write_lines(tmp_path / "results.jsonl", bundle[1], [header, failed | {"failed": "\x1b[2Jlong " + "x" * 9999}])
    ((name, result),) = read_results(tmp_path / "results.jsonl", bundle[1]).visits
    assert name == "bad"
    assert isinstance(result, Failure)
    assert result.reason.startswith(" [2Jlong xxx")
    assert len(result.reason) == 500


def test_a_file_that_is_not_there_gets_a_sentence(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="cannot be read: No such file"):
        read_results(tmp_path / "nothing.jsonl", bundle[1])


@pytest.mark.slow
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="two requests at a time need two processors")
def test_results_of_several_requests_at_a_time_are_counted_by_rounds(named: dict[str, bytes], tmp_path: Path) -> None:
    setup = Setup(concurrency=2)
    request = Request(named["model 0"], setup, WORKLOADS, TimingProtocol.fixed(4))
    plan = json.loads(json.dumps(write_bundle(tmp_path / "b.pyz", {"a": named["model 1"]}, request, 1)))
    done = run_bundle(tmp_path / "b.pyz")
    assert done.returncode == 0, done.stderr
    results = tmp_path / "results.jsonl"
    ((name, samples),) = read_results(results, plan).visits
    assert name == "a"
    assert isinstance(samples, Samples)
    assert [len(row) for row in samples.model_ns] == [4 * setup.samples_a_turn(1)] * 2
    documents = lines_of(results)
    # A burst that lacks a sample is none.
    for key in ("model_ns", "anchor_ns"):
        documents[1][key][0].pop()
    write_lines(results, plan, documents)
    with pytest.raises(ResultsError, match="rounds; the bundle makes 4 to 4"):
        read_results(results, plan)
