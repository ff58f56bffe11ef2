from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from ortnas.nas.console import Console
from ortnas.nas.run.configuration import ConfigurationError, check_configuration
from ortnas.nas.run.naming import configuration_of, folder_of
from ortnas.nas.run.run import Run


def write(path: Path, **keys: object) -> Path:
    document = {"checkpoint": "bert", "head": "embedding", "data": {"source": "texts.txt"}, **keys}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"# mine\n{yaml.safe_dump(document)}")
    return path


def test_a_run_is_named_by_its_file_or_its_folder(tmp_path: Path) -> None:
    mine = write(tmp_path / "run.yaml", folder=str(tmp_path / "runs" / "a"))
    write(tmp_path / "runs" / "a" / "resolved.yaml", folder="runs/where-it-was-made", seed=3)
    by_file = configuration_of(mine, {"precision": "fp32"})
    assert (by_file.folder, by_file.seed, by_file.precision) == (str(tmp_path / "runs" / "a"), 0, "fp32")
    by_folder = configuration_of(tmp_path / "runs" / "a", {})
    assert (by_folder.folder, by_folder.seed) == (str(tmp_path / "runs" / "a"), 3)
    assert configuration_of(tmp_path / "runs" / "a" / "resolved.yaml", {}) == by_folder
    assert configuration_of(tmp_path / "runs" / "a", {"folder": "other"}).folder == "other"
    # The folder of the project, in which the user's file lies.
    assert configuration_of(tmp_path, {}).folder == str(tmp_path / "runs" / "a")
    for name in (mine, tmp_path, tmp_path / "runs" / "a", tmp_path / "runs" / "a" / "resolved.yaml"):
        assert folder_of(name) == tmp_path / "runs" / "a"


def test_the_users_own_file_in_the_run_folder_comes_first_and_is_never_written(tmp_path: Path) -> None:
    mine = write(tmp_path / "a" / "run.yaml", folder=str(tmp_path / "a"), seed=1)
    content = mine.read_bytes()
    Run(configuration_of(mine, {"seed": 2}), Console()).close()
    assert mine.read_bytes() == content
    assert yaml.safe_load((tmp_path / "a" / "resolved.yaml").read_text())["seed"] == 2
    assert configuration_of(tmp_path / "a", {}).seed == 1
    assert folder_of(tmp_path / "a") == tmp_path / "a"


def test_what_names_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"is no run folder: it holds neither run\.yaml nor resolved\.yaml"):
        configuration_of(tmp_path, {})
    for read in (lambda name: configuration_of(name, {}), folder_of):
        with pytest.raises(ConfigurationError, match="no such file"):
            read(tmp_path / "nothing")


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    document = {"checkpoint": "bert", "head": "embedding", "data": {"source": "texts.txt"}}
    configuration = check_configuration(document | {"folder": "~/runs/a"}, "test")
    assert configuration.folder == str(tmp_path / "home" / "runs" / "a")
    with pytest.raises(ConfigurationError, match="no such user"):
        check_configuration(document | {"folder": "~nobody-of-that-name/a"}, "test")


def test_looking_at_a_run_makes_no_folder(tmp_path: Path) -> None:
    configuration = configuration_of(write(tmp_path / "run.yaml", folder=str(tmp_path / "a")), {})
    Run(configuration, Console(), only_looks=True).close()
    assert not (tmp_path / "a").exists()
