"""Stores, bundles, their results and latency files as they arrive: used rightly, or refused in one sentence."""

from __future__ import annotations

import ast
import json
import random
import shutil
import sqlite3
from pathlib import Path

import pytest

from ortnas.bench.bundle import ResultsError, read_results
from ortnas.bench.bundle_run import Bundle as ReadBundle
from ortnas.bench.bundle_run import BundleError
from ortnas.bench.session import Setup
from ortnas.bench.store import Measurement, Store, StoreError
from ortnas.bench.target import Target
from ortnas.bench.timing import Samples, Workload
from ortnas.predictors.latency_files import LatencyFileError, read_latency_file, write_latency_file
from tests.bench.bundles import Bundle, lines_of, write_lines
from tests.mutations import assert_sentence, damaged, mutated, seeds
from tests.networks import make_space, random_subnets

TARGET = Target({"cpu": "one"}, Setup(), (Workload(),))


def make_store(path: Path) -> list[Measurement]:
    rows = [
        Measurement(
            subnet.key,
            subnet.to_json(),
            "failed" if number % 9 == 8 else "ok",
            "why" * (number % 9 == 8),
            None if number % 9 == 8 else Samples(((1_000_000 + number,) * 8,), ((2_000_000,) * 8,)),
        )
        for number, subnet in enumerate(random_subnets(make_space(), 40))
    ]
    with Store(path) as store:
        store.add(TARGET, "here", "int8", "m", rows)
    return rows


def look_at(path: Path) -> None:
    """Everything that a store is asked."""
    with Store(path) as store:
        for target, host in store.targets():
            assert isinstance(host, str)
            for row in store.measurements(target, "int8", "m"):
                assert row.state in ("ok", "unstable", "failed")
                assert isinstance(row.subnet, dict)
        store.subnets()
        store.summary()
        store.add(TARGET, "here", "int8", "m", [])


@pytest.mark.slow
def test_damaged_stores_are_read_as_they_are_or_refused_in_one_sentence(tmp_path: Path) -> None:
    whole = tmp_path / "whole.sqlite"
    make_store(whole)
    content, refused = whole.read_bytes(), 0
    for seed in seeds():
        path = tmp_path / f"{seed}.sqlite"
        path.write_bytes(damaged(content, random.Random(seed)))
        try:
            look_at(path)
        except StoreError as error:
            assert_sentence(error)
            refused += 1
        for left in tmp_path.glob(f"{seed}.sqlite*"):
            left.unlink()
    assert refused > len(seeds()) / 10


@pytest.mark.slow
def test_stores_with_other_values_are_read_as_they_are_or_refused_in_one_sentence(tmp_path: Path) -> None:
    whole, path = tmp_path / "whole.sqlite", tmp_path / "store.sqlite"
    make_store(whole)
    columns = [("target", name) for name in ("fingerprint", "setup", "workloads", "host")]
    columns += [("measurement", name) for name in ("subnet_key", "subnet", "reason", "samples_ns", "measured_at")]
    for seed in seeds():
        shutil.copyfile(whole, path)
        rng = random.Random(seed)
        table, column = rng.choice(columns)
        with sqlite3.connect(path) as connection:
            (value,) = connection.execute(f"SELECT {column} FROM {table} LIMIT 1").fetchone()
            changed = mutated(json.loads(value), rng) if str(value).startswith(("[", "{")) else mutated([value], rng)
            binary = rng.choice((True, False))
            connection.execute(
                f"UPDATE {table} SET {column} = ? WHERE rowid = 1",
                (changed if binary else changed.decode("utf-8", "replace"),),
            )
        connection.close()
        try:
            look_at(path)
        except StoreError as error:
            assert_sentence(error)


def test_what_is_no_store_is_refused_in_one_sentence(tmp_path: Path) -> None:
    make_store(tmp_path / "whole.sqlite")
    (tmp_path / "folder").mkdir()
    (tmp_path / "text").write_text("no database")
    newer, other = tmp_path / "newer.sqlite", tmp_path / "other.sqlite"
    for path, statement in ((newer, "PRAGMA user_version=99"), (other, "CREATE TABLE mine (x)")):
        with sqlite3.connect(path) as connection:
            connection.execute(statement)
        connection.close()
    for path in (tmp_path / "folder", tmp_path / "text", newer, other, tmp_path / "text" / "below"):
        with pytest.raises(StoreError) as failure:
            look_at(path)
        assert_sentence(failure.value)


@pytest.mark.parametrize("kind", ["bundle", "sliced_bundle"])
def test_mutated_bundles_give_their_models_or_one_sentence(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str
) -> None:
    written: Bundle = request.getfixturevalue(kind)
    content, plan = written[0].read_bytes(), written[1]
    # Most bytes are weights: changes near the directory at the end are tried as often as others.
    for seed in seeds():
        rng, path = random.Random(seed), tmp_path / "bundle.pyz"
        split = rng.choice((0, len(content) - 1500))
        path.write_bytes(content[:split] + damaged(content[split:], rng))
        try:
            opened = ReadBundle(path)
            assert opened.plan == plan
            for _, digest in plan["models"]:
                opened.model(digest)
        except BundleError as error:
            assert_sentence(error)


def test_mutated_plans_are_noticed(bundle: Bundle, tmp_path: Path) -> None:
    plan = bundle[1]
    for seed in seeds():
        content = mutated(plan, random.Random(seed))
        (tmp_path / "plan.json").write_bytes(content)
        try:
            assert ReadBundle(tmp_path).plan == plan
        except BundleError as error:
            assert_sentence(error)


def test_mutated_results_are_read_right_or_refused_in_one_sentence(
    bundle: Bundle, measured: Path, tmp_path: Path
) -> None:
    plan, path, lines = bundle[1], tmp_path / "results.jsonl", lines_of(measured)
    whole = read_results(measured, plan)
    for seed in seeds():
        rng = random.Random(seed)
        if rng.random() < 0.5:
            path.write_bytes(damaged(measured.read_bytes(), rng))
        else:
            # With sound checksums, as those of a skilled forger.
            try:
                changed = json.loads(mutated(lines, rng).decode())
                write_lines(path, plan, changed)
            except (ValueError, TypeError, RecursionError, AttributeError):
                continue  # no list of JSON objects, which results with checksums are
        try:
            read = read_results(path, plan)
        except ResultsError as error:
            assert_sentence(error)
            continue
        names = {name for name, _ in plan["models"]}
        assert all(name in names for name, _ in read.visits)
        assert len(read.visits) <= len(whole.visits)


def test_mutated_latency_files_are_read_right_or_refused_in_one_sentence(tmp_path: Path) -> None:
    path, rng = tmp_path / "latencies.txt", random.Random(0)
    rows = [(subnet.to_json(), rng.uniform(1, 20)) for subnet in random_subnets(make_space(), 20)]
    write_latency_file(path, rows)
    content, refused = path.read_bytes(), 0
    for seed in seeds():
        path.write_bytes(damaged(content, random.Random(seed)))
        try:
            read = read_latency_file(path)
        except LatencyFileError as error:
            assert_sentence(error)
            refused += 1
            continue
        lines = [line.split("\t") for line in path.read_text("ascii", "replace").split("\n") if line.strip()]
        assert [latency_ms for _, latency_ms in read] == [float(text) for _, text in lines]
        for (subnet, _), (text, _) in zip(read, lines, strict=True):
            sizes = ast.literal_eval(text.strip())
            assert subnet["hidden_size"] == sizes["sample_hidden_size"]
            assert [layer["ffn_size"] for layer in subnet["layers"]] == sizes["sample_intermediate_sizes"]
    assert 0 < refused < len(seeds())
