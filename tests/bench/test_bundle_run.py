"""Bundles whose models are slices of one that is stored whole: read, run and damaged on their host."""

from __future__ import annotations

import shutil
import tracemalloc
import zipfile
from collections import Counter
from pathlib import Path

import pytest

from ortnas.bench.bundle import plan_digest, read_results
from ortnas.bench.bundle_run import Bundle as ReadBundle
from ortnas.bench.bundle_run import BundleError
from ortnas.bench.digests import digest_of
from ortnas.bench.host import Failure
from tests.bench.bundles import VISITS, Bundle, lines_of, run_bundle, write_lines
from tests.mutations import assert_sentence


@pytest.fixture
def unzipped(sliced_bundle: Bundle, tmp_path: Path) -> Path:
    shutil.unpack_archive(sliced_bundle[0], tmp_path / "unzipped", "zip")
    return tmp_path / "unzipped"


def test_only_the_source_and_what_shares_nothing_with_it_is_stored_whole(
    bundle: Bundle, sliced_bundle: Bundle, models: list[bytes], named: dict[str, bytes]
) -> None:
    path, plan = sliced_bundle
    with zipfile.ZipFile(path) as archive:
        stored = [Path(name) for name in archive.namelist() if name.startswith("models/")]
    whole = {file.stem for file in stored if file.suffix == ".onnx"}
    assert plan["source"] == digest_of(models[0])
    assert whole == {digest_of(models[0]), digest_of(named["bad"])}
    assert Counter(file.stem for file in stored) == dict.fromkeys(map(digest_of, named.values()), 1)
    assert path.stat().st_size < bundle[0].stat().st_size - sum(map(len, models[1:])) / 2


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_models_are_read_as_they_were_and_only_the_source_stays_in_memory(
    sliced_bundle: Bundle, unzipped: Path, models: list[bytes], named: dict[str, bytes], kind: str
) -> None:
    opened = ReadBundle(sliced_bundle[0] if kind == "file" else unzipped)
    tracemalloc.start()
    for name, digest in opened.plan["models"]:
        assert opened.model(digest) == named[name]
    held_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held_bytes < 1.5 * len(models[0])


@pytest.mark.slow
def test_models_are_timed_that_are_rebuilt_on_the_host(
    sliced_bundle: Bundle, named: dict[str, bytes], tmp_path: Path
) -> None:
    path, plan = sliced_bundle
    done = run_bundle(path, "--out", str(tmp_path / "results.jsonl"))
    assert done.returncode == 0, done.stderr
    results = read_results(tmp_path / "results.jsonl", plan)
    assert results.complete
    assert {name for name, result in results.visits if isinstance(result, Failure)} == {"bad"}
    assert Counter(name for name, _ in results.visits) == dict.fromkeys(named, VISITS) | {"bad": 1}


def test_a_source_that_is_damaged_missing_or_another_gets_a_sentence(unzipped: Path, models: list[bytes]) -> None:
    source, sliced = digest_of(models[0]), digest_of(models[1])
    file = unzipped / "models" / f"{source}.onnx"
    for content in (models[0][:-1], models[0][:-1] + b"?", models[1], b"", None):
        file.unlink()
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(BundleError, match=f"the bundle is damaged, copy it again: .*{source[:12]}") as refused:
            ReadBundle(unzipped).model(sliced)
        assert_sentence(refused.value)
        file.touch()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "Expecting value"),
        (b"[[[", "Expecting"),
        (b"{}\n", "the parts of a model are a list"),
        (b"[1000]\nshort", "the model's bytes end early"),
        (b'[{"offset": 0, "shape": [1000000000], "kept": [1]}]\n', "reaches beyond the end"),
        (b'[{"offset": 0, "shape": [300], "kept": [299]}]\n', "has other bytes"),
    ],
    ids=["empty", "no JSON", "no list", "cut short", "beyond the source", "another slice"],
)
def test_a_difference_that_is_none_gets_a_sentence(
    unzipped: Path, models: list[bytes], content: bytes, expected: str
) -> None:
    (unzipped / "models" / f"{digest_of(models[1])}.difference").write_bytes(content)
    with pytest.raises(BundleError, match=f"the bundle is damaged, copy it again: .*{expected}") as refused:
        ReadBundle(unzipped).model(digest_of(models[1]))
    assert_sentence(refused.value)


def test_results_of_bundles_that_name_no_source_are_read_as_ever(
    bundle: Bundle, measured: Path, tmp_path: Path
) -> None:
    earlier = {key: value for key, value in bundle[1].items() if key not in ("source", "digest")}
    earlier["digest"] = plan_digest(earlier)
    header, *visits = lines_of(measured)
    assert header["schema"] == 1
    write_lines(tmp_path / "results.jsonl", earlier, [header | {"plan": earlier["digest"]}, *visits])
    assert read_results(tmp_path / "results.jsonl", earlier).visits == read_results(measured, bundle[1]).visits
