from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from ortnas.nas.data import DataError, DataSource, Sizes, Splits, mix_sources, read_splits, write_splits

SIZES = Sizes(calibration=12, search=24, report=30)


def write_texts(path: Path, start: str, count: int, others: Sequence[str] = ()) -> DataSource:
    texts = [f"{start} {number}" for number in range(count)]
    path.write_text("".join(f"{text}\n" for text in (*texts, *others)))
    return DataSource(str(path))


def starts(splits: Splits, part: str) -> list[str]:
    return [example.text.split()[0] for example in splits.parts[part]]


def test_parts_are_cut_by_shares_and_every_source_has_a_report(tmp_path: Path) -> None:
    sources = [write_texts(tmp_path / "own.txt", "own", 200), write_texts(tmp_path / "general texts.txt", "other", 900)]
    splits = mix_sources(sources, [1, 2], "embedding", SIZES, seed=1)
    assert {name: len(part) for name, part in splits.parts.items()} == {
        "training": 200 + 900 - 12 - 24 - 60,
        "calibration": 12,
        "search": 24,
        "report": 30,
        "report_general_texts": 30,
    }
    assert starts(splits, "calibration").count("own") == 4
    assert starts(splits, "search").count("own") == 8
    assert set(starts(splits, "report")) == {"own"}
    assert set(starts(splits, "report_general_texts")) == {"other"}
    assert splits.mixture is not None
    assert splits.mixture.names == ("own.txt", "general texts.txt")
    assert splits.mixture.report_parts == ("report", "report_general_texts")
    expected = [("own", "other")[origin] for origin in splits.mixture.origins]
    assert starts(splits, "training") == expected
    assert splits == mix_sources(sources, [1, 2], "embedding", SIZES, seed=1)
    digests = {mix_sources(sources, weights, "embedding", SIZES, 1).digest for weights in ([1, 2], [2, 4], [2, 1])}
    assert len(digests) == 3


def test_a_text_of_several_sources_is_the_first_ones(tmp_path: Path) -> None:
    shared = [f"shared {number}" for number in range(50)]
    sources = [write_texts(tmp_path / "own.txt", "own", 100, shared), write_texts(tmp_path / "b.txt", "b", 200, shared)]
    splits = mix_sources(sources, [1, 1], "embedding", SIZES, seed=0)
    texts = [example.text for part in splits.parts.values() for example in part]
    assert len(texts) == len(set(texts)) == 350
    assert "shared" not in starts(splits, "report_b")
    assert splits.notes == ("b.txt: 50 of 250 rows repeat others, an earlier source or the dev set and are left out",)


def test_the_first_source_may_have_a_dev_set(tmp_path: Path) -> None:
    write_texts(tmp_path / "train.txt", "own", 100, ["dev 3"])
    write_texts(tmp_path / "dev.txt", "dev", 20)
    other = write_texts(tmp_path / "other.txt", "other", 150, ["dev 4"])
    source = DataSource(str(tmp_path), report_file="dev.txt")
    splits = mix_sources([source, other], [1, 1], "embedding", SIZES, seed=0)
    assert sorted(example.text for example in splits.report) == sorted(f"dev {number}" for number in range(20))
    assert len(splits.parts["report_other"]) == 30
    assert {"dev 3", "dev 4"}.isdisjoint(example.text for example in splits.training)


def test_kinds_of_sources_mix_and_names_tell_them_apart(tmp_path: Path) -> None:
    rows = "".join(f"{row}\tthe sentence {row} of it\n" for row in range(200))
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "texts.tsv").write_text(f"id\treview\n{rows}")
    table = DataSource(str(tmp_path / "a" / "texts.tsv"), text="review")
    own = write_texts(tmp_path / "texts.tsv.txt", "own", 200)
    splits = mix_sources(
        [own, table, DataSource("python-docstrings")], [1, 1, 1], "embedding", SIZES, seed=0, pairs="none"
    )
    assert list(splits.parts)[3:] == ["report", "report_texts", "report_python_docstrings"]
    (tmp_path / "texts.tsv").write_text("text\n" + "".join(f"another {row}\n" for row in range(200)))
    twins = [table, DataSource(str(tmp_path / "texts.tsv")), own]
    splits = mix_sources(twins, [1, 1, 1], "embedding", SIZES, seed=0, pairs="none")
    assert splits.mixture is not None
    assert splits.mixture.names == tuple(source.source for source in twins)
    assert splits.mixture.report_parts == ("report", "report_texts", "report_texts_2")


def test_no_report_part_takes_the_name_of_the_judged_pairs(tmp_path: Path) -> None:
    sources = [write_texts(tmp_path / "own.txt", "own", 200), write_texts(tmp_path / "pairs.txt", "other", 200)]
    splits = mix_sources(sources, [1, 1], "embedding", SIZES, seed=0)
    assert list(splits.parts)[-1] == "report_pairs_2"


def test_too_few_texts_and_missing_files_get_a_sentence(tmp_path: Path) -> None:
    own = write_texts(tmp_path / "own.txt", "own", 200)
    few = write_texts(tmp_path / "few.txt", "few", 79, ["own 3"])
    with pytest.raises(DataError, match=r"'few.txt' has 79 texts that no earlier source has; 48 of them .* 32 more"):
        mix_sources([own, few], [1, 1], "embedding", SIZES, seed=0)
    with pytest.raises(DataError, match=r"none\.txt: no such file"):
        mix_sources([own, DataSource(str(tmp_path / "none.txt"))], [1, 1], "embedding", SIZES, seed=0)


def test_the_sources_of_rows_are_read_back_and_damage_is_noticed(tmp_path: Path) -> None:
    sources = [write_texts(tmp_path / "own.txt", "own", 200), write_texts(tmp_path / "b.txt", "b", 300)]
    splits = mix_sources(sources, [1, 2.5], "embedding", SIZES, seed=1)
    write_splits(splits, tmp_path / "data")
    read = read_splits(tmp_path / "data")
    assert read == splits
    assert read.digest == splits.digest
    origins = np.load(tmp_path / "data" / "origins.npy")
    np.save(tmp_path / "data" / "origins.npy", origins[::-1])
    with pytest.raises(DataError, match="were changed"):
        read_splits(tmp_path / "data")
    write_splits(Splits({"training": splits.training}), tmp_path / "data")
    assert not (tmp_path / "data" / "origins.npy").exists()
