from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from ortnas.nas.data import Asked, DataError
from ortnas.nas.run.configuration import ConfigurationError, read_configuration
from ortnas.nas.run.starter import write_starter

NOTHING = Asked()


def test_a_starter_has_the_head_and_the_columns_of_the_data(tmp_path: Path) -> None:
    (tmp_path / "train.tsv").write_text("index\tquestion\tsentence\tlabel\n0\tis it\tit is\tyes\n")
    path = tmp_path / "run.yaml"
    write_starter(path, "a/b", str(tmp_path), NOTHING, ("2x", "5"), force=False)
    configuration = read_configuration(path, {})
    data = configuration.data
    assert (configuration.head, data.text, data.pair, data.label) == ("classification", "question", "sentence", "label")
    assert [budget.name for budget in configuration.search.budgets] == ["2x", "5"]
    assert "\n  # max_length: 128\n" in path.read_text()
    with pytest.raises(ConfigurationError, match="exists; --force"):
        write_starter(path, "a/b", str(tmp_path), NOTHING, ("2x",), force=False)
    with pytest.raises(ConfigurationError, match="--checkpoint missing"):
        write_starter(tmp_path / "other.yaml", "", str(tmp_path), NOTHING, ("2x",), force=False)


def test_several_sources_become_a_list_with_weights(tmp_path: Path) -> None:
    (tmp_path / "a, b.txt").write_text("a text\n")
    (tmp_path / "c.tsv").write_text("id\treview: x\n" + "".join(f"{row}\tthe text {row}\n" for row in range(9)))
    path, names = tmp_path / "run.yaml", [str(tmp_path / "a, b.txt"), str(tmp_path / "c.tsv"), "python-packages"]
    assumed = write_starter(path, "x", names[0], NOTHING, ("2x",), force=False, further=names[1:])
    assert "text is taken from column 'review: x'" in assumed
    data = read_configuration(path, {}).data
    assert [(source.source, source.weight, source.text) for source in data.sources] == [
        (names[0], 1, None),
        (names[1], 1, "review: x"),
        (names[2], 1, None),
    ]
    with pytest.raises(ConfigurationError, match="named twice"):
        write_starter(path, "x", names[0], NOTHING, ("2x",), force=True, further=names[:1])


@pytest.mark.parametrize(
    "name",
    [
        "a #b",
        "a: b",
        "'it's'",
        '"quoted"',
        "- x",
        "no",
        "1.0",
        "null",
        "{x}",
        "日本語 ö",
        "x" * 300,
        "a b " * 99,
        "%s",
        "&x",
        "😀",
    ],
)
def test_every_name_reads_back_as_it_is(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name[:80].strip()
    folder.mkdir()
    column = name.strip()
    (folder / "train.tsv").write_text(f"{column}\tlabel\na text\t1\n", encoding="utf-8")
    path = folder / f"{name[:80].strip()}.yaml"
    write_starter(path, name, str(folder), Asked(head="classification", text=column), ("2x",), force=False)
    configuration = read_configuration(path, {})
    assert (configuration.checkpoint, configuration.data.source) == (name, str(folder))
    assert (configuration.data.text, configuration.folder) == (column, f"runs/{path.stem}")


@pytest.mark.parametrize("name", ["a\u2028b", "trailing ", "\ufeffbom"])
def test_odd_characters_are_escaped(tmp_path: Path, name: str) -> None:
    path = tmp_path / "run.yaml"
    write_starter(path, name, str(tmp_path / name), Asked("embedding"), ("2x",), force=True)
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert (document["checkpoint"], document["data"]["source"]) == (name, str(tmp_path / name))


@pytest.mark.parametrize("name", ["two\nlines", "tab\there", "bell\a", "\x85"])
def test_control_characters_are_refused_and_nothing_is_written(tmp_path: Path, name: str) -> None:
    path = tmp_path / "run.yaml"
    with pytest.raises(ConfigurationError, match=r"checkpoint = .*: (holds a character that is no text|empty text)"):
        write_starter(path, name, str(tmp_path / "texts.txt"), Asked("embedding"), ("2x",), force=True)
    assert not path.exists()


def test_names_that_are_no_text_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    name = os.fsdecode(b"caf\xe9")
    with pytest.raises(ConfigurationError, match=r"'caf\\udce9' is no UTF-8 text; rename it"):
        write_starter(path, name, str(tmp_path / "none"), NOTHING, ("2x",), force=False)
    (tmp_path / "train.tsv").write_bytes(b"caf\xe9\tlabel\n")
    with pytest.raises(DataError, match=r"train.tsv, line 1: not UTF-8 text"):
        write_starter(path, "x", str(tmp_path), NOTHING, ("2x",), force=False)
    with pytest.raises(ConfigurationError, match="is no budget"):
        write_starter(path, "x", str(tmp_path / "none"), NOTHING, ('2x"',), force=False)
    assert not path.exists()
