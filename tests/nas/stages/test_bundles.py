"""Bundles that cannot be written, as the command line tells it."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ortnas.nas.cli import app
from tests.mutations import assert_sentence


@pytest.mark.slow
@pytest.mark.parametrize(
    ("bundle", "expected"),
    [
        ("", ". is a folder; name the file that the bundle is to be"),
        ("folder", "folder is a folder; name the file that the bundle is to be"),
        ("file/bundle.pyz", "file/bundle.pyz cannot be written: "),
        ("n" * 300, "cannot be written: "),
        ("too-large.pyz", "too-large.pyz would be larger than 2 GiB; bundle fewer models at a time"),
    ],
    ids=["empty", "a folder", "below a file", "too long a name", "too large"],
)
def test_a_bundle_that_cannot_be_written_ends_with_a_sentence(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bundle: str, expected: str
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    if "too-large" in bundle:
        # Beyond it, zip files need the 64-bit extension; it is 2 GiB.
        monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 100_000)
    done = CliRunner().invoke(app, ["bench", str(trained / "run.yaml"), "--bundle", bundle], catch_exceptions=False)
    assert done.exit_code == 1
    said = done.stderr.splitlines()[-1]
    assert said.startswith("error: ")
    assert expected in said
    assert_sentence(said)
    assert sorted(os.listdir()) == ["file", "folder"]
